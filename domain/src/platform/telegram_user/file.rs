//! Files of people's accounts, on their way to Telegram: what it takes, in which parts, and as what.
//!
//! Promise: whatever [`MEDIA`] lets through has parts that Telegram takes, and is shown there as what
//! the client called it where Telegram can: a picture that is too big to be one goes as a file. Only
//! what the bytes say is believed, and nothing is said of them that is not known. It cannot fail: what
//! is not understood goes as a file.

use serde::{Deserialize, Serialize};

use crate::event::MessageType;
use crate::platform::media::upload::Takes;

/// Bytes of one part, and of one piece of a file that is read. The last one may be shorter.
pub const PART_BYTES: usize = 512 * 1024;

/// Parts of one file.
const PARTS_MAX: usize = 4_000;

/// A file with more bytes is handed over in another way.
const SMALL_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// A picture with more bytes is a file.
const PHOTO_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// Longest text beside a file, in UTF-16 units, of people who do not pay for more.
const CAPTION_MAX: usize = 1024;

/// Samples of Opus in a second, whatever it was recorded with.
const OPUS_RATE: u64 = 48_000;

/// Where the first packet of an Ogg stream begins: one segment makes the shortest header.
const OGG_PACKET_AT: usize = 28;

const fn any(kind: MessageType, types: &'static [&'static str]) -> Takes {
    Takes {
        kind,
        types,
        bytes_max: (PARTS_MAX * PART_BYTES) as u64,
        caption_max: CAPTION_MAX,
    }
}

/// What a person's account may send (<https://core.telegram.org/api/files>).
pub const MEDIA: [Takes; 3] = [
    any(
        MessageType::Image,
        &["image/jpeg", "image/png", "image/webp", "image/gif"],
    ),
    any(MessageType::Video, &["video/mp4", "video/quicktime"]),
    any(MessageType::File, &[]),
];

/// What Telegram shows a file as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "as")]
pub enum Shape {
    /// A picture, in the sizes Telegram makes of it.
    Photo,
    /// A clip without sound that goes round.
    Animation,
    /// A film that plays while it loads.
    Video,
    /// A piece of sound with a player.
    Audio,
    /// A voice message.
    Voice {
        /// How long it plays.
        seconds: u32,
    },
    /// A file.
    File,
}

impl Shape {
    /// What a file of this kind, type and size is shown as.
    pub fn of(kind: MessageType, content_type: &str, size: u64) -> Self {
        match (kind, content_type) {
            (MessageType::Image, "image/gif") => Self::Animation,
            (MessageType::Image, _) if size <= PHOTO_BYTES_MAX => Self::Photo,
            (MessageType::Video, _) => Self::Video,
            (MessageType::File, "audio/mpeg" | "audio/mp4" | "audio/aac" | "audio/ogg") => {
                Self::Audio
            }
            _ => Self::File,
        }
    }
}

/// A file of ours that is being handed over, or has been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// The number it is handed over under.
    pub id: i64,
    /// How many parts it has.
    pub parts: i32,
    /// How many of them Telegram has, the first ones.
    pub done: i32,
    /// It has so many bytes that its parts go another way.
    pub is_big: bool,
    /// What it is called.
    pub name: String,
    /// What its bytes are.
    pub mime: String,
    /// What it is shown as.
    pub shape: Shape,
}

impl Handed {
    /// A file of which Telegram has nothing yet. `None` for one that it does not take.
    pub fn new(id: i64, kind: MessageType, mime: &str, size: u64) -> Option<Self> {
        let parts = size.div_ceil(PART_BYTES as u64);
        let parts = usize::try_from(parts).ok();
        let parts = parts.filter(|parts| (1..=PARTS_MAX).contains(parts))?;
        Some(Self {
            id,
            parts: i32::try_from(parts).ok()?,
            done: 0,
            is_big: size > SMALL_BYTES_MAX,
            name: String::new(),
            mime: mime.to_owned(),
            shape: Shape::of(kind, mime, size),
        })
    }

    /// Whether Telegram has all of it.
    pub fn is_whole(&self) -> bool {
        self.done == self.parts
    }

    /// How many bytes Telegram has, of a file that is not whole there.
    pub fn offset(&self) -> u64 {
        u64::try_from(self.done).unwrap_or_default() * PART_BYTES as u64
    }

    /// Telegram has taken the next part, which were these bytes: the first and the last one tell whether
    /// a sound is a voice, and for how long it speaks.
    pub fn took(&mut self, part: &[u8]) {
        if self.done == 0 && self.shape == Shape::Audio && is_opus(part) {
            self.shape = Shape::Voice { seconds: 0 };
        }
        self.done += 1;
        if self.is_whole()
            && let Shape::Voice { seconds } = &mut self.shape
        {
            *seconds = opus_seconds(part).unwrap_or_default();
        }
    }
}

/// Whether these are the first bytes of Opus in Ogg, which is what voices are sent in.
fn is_opus(head: &[u8]) -> bool {
    let packet = head.get(OGG_PACKET_AT..);
    head.starts_with(b"OggS") && packet.is_some_and(|it| it.starts_with(b"OpusHead"))
}

/// For how long Opus plays, by where the last page says that it ends.
fn opus_seconds(tail: &[u8]) -> Option<u32> {
    let begins = tail.windows(4).rposition(|it| it == b"OggS")?;
    let position = tail.get(begins + 6..)?.first_chunk::<8>()?;
    let samples = u64::from_le_bytes(*position);
    u32::try_from(samples.div_ceil(OPUS_RATE)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn handed(size: u64) -> Option<Handed> {
        Handed::new(7, MessageType::File, "application/pdf", size)
    }

    #[test]
    fn a_file_has_the_parts_that_telegram_takes() {
        let parts = |size| handed(size).map(|it| (it.parts, it.is_big));
        assert_eq!(parts(1), Some((1, false)));
        assert_eq!(parts(PART_BYTES as u64), Some((1, false)));
        assert_eq!(parts(PART_BYTES as u64 + 1), Some((2, false)));
        assert_eq!(parts(10 * MIB), Some((20, false)));
        assert_eq!(parts(10 * MIB + 1), Some((21, true)));
        assert_eq!(parts(2_000 * MIB), Some((4_000, true)));
        assert_eq!(parts(2_000 * MIB + 1), None);
        assert_eq!(parts(0), None);
        assert!(MEDIA.iter().all(|it| parts(it.bytes_max).is_some()));
        // Telegram divides a part into equal ones and counts in thousands of them.
        assert_eq!((PART_BYTES % 1024, 524_288 % PART_BYTES), (0, 0));
    }

    #[test]
    fn a_file_is_shown_as_what_it_is() {
        use MessageType::{File, Image, Video};
        for (kind, content_type, size, expected) in [
            (Image, "image/png", 10 * MIB, Shape::Photo),
            (Image, "image/png", 10 * MIB + 1, Shape::File),
            (Image, "image/gif", 11 * MIB, Shape::Animation),
            (Video, "video/mp4", 1, Shape::Video),
            (File, "video/mp4", 1, Shape::File),
            (File, "image/png", 1, Shape::File),
            (File, "audio/mpeg", 1, Shape::Audio),
            (File, "application/pdf", 1, Shape::File),
        ] {
            assert_eq!(
                Shape::of(kind, content_type, size),
                expected,
                "{content_type}"
            );
        }
    }

    /// One page of an Ogg stream.
    fn page(samples: u64, packet: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\0\0".to_vec();
        page.extend(samples.to_le_bytes());
        page.extend([0; 12]);
        page.extend([1, u8::try_from(packet.len()).unwrap()]);
        page.extend(packet);
        page
    }

    #[test]
    fn a_voice_is_known_by_its_bytes_and_its_length_by_its_end() {
        let sound = |first: Vec<u8>, last: &[u8]| {
            let size = PART_BYTES as u64 + 1;
            let mut handed = Handed::new(7, MessageType::File, "audio/ogg", size).unwrap();
            handed.took(&first);
            handed.took(last);
            assert!(handed.is_whole());
            handed.shape
        };
        let opus = page(0, b"OpusHead\x01");
        let end = [page(48_000, b"a"), page(4 * 48_000 + 1, b"b")].concat();
        assert_eq!(sound(opus.clone(), &end), Shape::Voice { seconds: 5 });
        assert_eq!(sound(opus.clone(), b"no page"), Shape::Voice { seconds: 0 });
        assert_eq!(
            sound(opus.clone(), b"OggS\0\0"),
            Shape::Voice { seconds: 0 }
        );
        // No position: nothing of it ends there.
        let none = page(u64::MAX, b"c");
        assert_eq!(sound(opus, &none), Shape::Voice { seconds: 0 });
        assert_eq!(sound(page(0, b"\x01vorbis"), &end), Shape::Audio);
        assert_eq!(sound(b"Ogg".to_vec(), &end), Shape::Audio);
    }

    #[test]
    fn a_file_goes_on_where_it_stopped_and_is_remembered_as_text() {
        let mut handed = handed(2 * PART_BYTES as u64).unwrap();
        assert_eq!((handed.offset(), handed.is_whole()), (0, false));
        handed.took(b"");
        assert_eq!(handed.offset(), PART_BYTES as u64);
        let text = serde_json::to_string(&handed).unwrap();
        assert_eq!(serde_json::from_str::<Handed>(&text).unwrap(), handed);
        handed.took(b"");
        assert!(handed.is_whole());
    }
}
