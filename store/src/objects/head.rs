//! The first line of an object: what it is, and the key of its file.
//!
//! `hub-media-2 <key> <content type> <size>`: the key of the file ([`crate::vault::file`]), sealed as
//! any text under the key of the message's day (`h2.<day>.…`), so that erasing the day erases the file.
//! Chunks follow. `hub-media-1 <envelope> <content type> <size>` is how earlier builds wrote objects:
//! only which key of a day opens it, and after the line the file in one piece. Both are bound to line
//! and place, and so to their size.

use std::ops::Range;

use hub_domain::id::{ObjectId, UserId};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::vault::file::{CHUNK, TAG};

/// A first line is shorter than this.
pub(super) const HEAD_BYTES_MAX: u64 = 512;

const MALFORMED: Error = Error::Sealed("an object does not begin as one");

/// How an object is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// In one piece.
    Whole,
    /// In chunks.
    Chunks,
}

impl Format {
    fn magic(self) -> &'static str {
        match self {
            Self::Whole => "hub-media-1",
            Self::Chunks => "hub-media-2",
        }
    }
}

/// What is known of an object without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What the bytes are.
    pub content_type: String,
    /// How many there are.
    pub size: u64,
    /// The sealed key of the file, or what a text begins with that the same key opens.
    pub(super) sealed_under: String,
    pub(super) format: Format,
}

impl About {
    /// The first line.
    pub(super) fn line(&self) -> String {
        let Self {
            content_type,
            size,
            sealed_under,
            format,
        } = self;
        format!("{} {sealed_under} {content_type} {size}\n", format.magic())
    }

    /// Reads the first line; also how long it is.
    pub(super) fn read(content: &[u8]) -> Result<(Self, usize)> {
        let end = content.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or(MALFORMED)?;
        let line = std::str::from_utf8(&content[..end]).map_err(|_| MALFORMED)?;
        let words: Vec<&str> = line.split(' ').collect();
        let [magic, sealed_under, content_type, size] = words[..] else {
            return Err(MALFORMED);
        };
        let mut formats = [Format::Whole, Format::Chunks].into_iter();
        let about = Self {
            content_type: content_type.to_owned(),
            size: size.parse().map_err(|_| MALFORMED)?,
            sealed_under: sealed_under.to_owned(),
            format: formats.find(|it| it.magic() == magic).ok_or(MALFORMED)?,
        };
        Ok((about, end + 1))
    }

    /// A name for these bytes that other bytes do not have, as HTTP writes an entity tag.
    pub fn etag(&self) -> String {
        let digest = Sha256::digest(self.line());
        format!("\"{}\"", hex::encode(&digest[..16]))
    }

    /// What the content is bound to.
    pub(super) fn bound_to(&self, user: UserId, object: ObjectId) -> Vec<u8> {
        format!("{user}/{object}\n{}", self.line()).into_bytes()
    }

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> u64 {
        self.size.div_ceil(CHUNK as u64).max(1)
    }

    /// Where these chunks are behind the first line.
    pub(super) fn place_of(&self, chunks: &Range<u64>) -> Range<u64> {
        let sealed = (CHUNK + TAG) as u64;
        let end = match chunks.end >= self.chunks() {
            true => self.size + self.chunks() * TAG as u64,
            false => chunks.end * sealed,
        };
        chunks.start * sealed..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(size: u64) -> About {
        About {
            content_type: "image/png".into(),
            size,
            sealed_under: "h2.2026-01-31.AAAA".into(),
            format: Format::Chunks,
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for format in [Format::Whole, Format::Chunks] {
            let written = About { format, ..about(7) };
            let line = written.line();
            assert!((line.len() as u64) < HEAD_BYTES_MAX);
            let content = [line.as_bytes(), b"\nrest"].concat();
            assert_eq!(About::read(&content).unwrap(), (written, line.len()));
        }
        for odd in [
            "",
            "\n",
            "hub-media-2 a b\n",
            "hub-media-3 a b 1\n",
            "hub-media-2 a b c\n",
        ] {
            assert!(About::read(odd.as_bytes()).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn chunks_follow_each_other_without_a_gap() {
        let (chunk, sealed) = (CHUNK as u64, (CHUNK + TAG) as u64);
        for (size, chunks, bytes) in [
            (0, 1, 16),
            (1, 1, 17),
            (chunk, 1, sealed),
            (chunk + 1, 2, sealed + 17),
            (3 * chunk, 3, 3 * sealed),
        ] {
            let about = about(size);
            assert_eq!(about.chunks(), chunks, "{size}");
            assert_eq!(about.place_of(&(0..chunks)), 0..bytes, "{size}");
            let split = about.place_of(&(0..1)).end..about.place_of(&(1..chunks)).start;
            assert!(chunks == 1 || split.is_empty() && split.start == sealed);
        }
    }
}
