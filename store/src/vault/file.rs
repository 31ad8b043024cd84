//! The key of one file, and its chunks.
//!
//! A file is sealed in chunks of [`CHUNK`] bytes, so that a part of it can be opened without the rest.
//! The last chunk is shorter; a file without bytes has one chunk without any. Each is AES-256-GCM under
//! the file's own key, with its number as the nonce, so that none can stand in another's place: the key
//! is drawn for one file and seals every number once. How many there are is not said here: whoever
//! keeps the file binds that to each of them.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;

use super::DataKey;
use crate::error::{Error, Result};

/// Bytes of a file that are sealed together.
pub const CHUNK: usize = 64 * 1024;

/// What sealing adds to a chunk.
pub const TAG: usize = 16;

/// Seals and opens the chunks of one file.
pub struct FileKey(LessSafeKey);

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey")
    }
}

impl FileKey {
    fn new(bytes: &[u8]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, bytes)
            .map_err(|_| Error::Sealed("a file's key has the wrong length"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Appends a chunk, sealed and bound to `place`.
    pub fn seal(&self, number: u32, place: &[u8], chunk: &[u8], to: &mut Vec<u8>) {
        let begin = to.len();
        to.extend_from_slice(chunk);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(number), Aad::from(place), &mut to[begin..])
            .expect("a chunk is far below the cipher's limit");
        to.extend_from_slice(tag.as_ref());
    }

    /// Opens a chunk that was sealed under this number for this place.
    pub fn open(&self, number: u32, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let mut chunk = sealed.to_vec();
        let length = self
            .0
            .open_in_place(nonce(number), Aad::from(place), &mut chunk)
            .map_err(|_| Error::Sealed("wrong key or altered content"))?
            .len();
        chunk.truncate(length);
        Ok(chunk)
    }
}

fn nonce(number: u32) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

impl DataKey {
    /// A new key for one file, and the same sealed under this one.
    pub fn file_key(&self) -> (FileKey, String) {
        let mut bytes = [0u8; 32];
        rand::fill(&mut bytes).expect("the operating system's random source works");
        let key = FileKey::new(&bytes).expect("32 bytes are a key");
        (key, self.seal_bytes(&bytes))
    }

    /// The key of a file that was sealed under this one.
    pub fn open_file_key(&self, sealed: &str) -> Result<FileKey> {
        FileKey::new(&self.open_bytes(sealed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_chunk_opens_under_its_number_and_place_only() {
        let day = DataKey::new(&[7; 32], Uuid::from_u128(1), None).unwrap();
        let (key, kept) = day.file_key();
        let mut sealed = b"head".to_vec();
        key.seal(1, b"here", b"a picture", &mut sealed);
        let sealed = &sealed[4..];
        assert_eq!(sealed.len(), 9 + TAG);
        assert!(!sealed.windows(9).any(|it| it == b"a picture"));
        let again = day.open_file_key(&kept).unwrap();
        assert_eq!(again.open(1, b"here", sealed).unwrap(), b"a picture");
        assert!(again.open(2, b"here", sealed).is_err());
        assert!(again.open(1, b"there", sealed).is_err());
        assert!(again.open(1, b"here", &sealed[..sealed.len() - 1]).is_err());
        assert!(again.open(1, b"here", b"").is_err());
        let (other, _) = day.file_key();
        assert!(other.open(1, b"here", sealed).is_err());
        let elsewhere = DataKey::new(&[8; 32], Uuid::from_u128(1), None).unwrap();
        assert!(elsewhere.open_file_key(&kept).is_err());
    }
}
