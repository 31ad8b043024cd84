//! Stored values of earlier installations: three forms side by side, told apart value by value
//! (contract 6.8).
//!
//! AES-256-CBC as `hex(iv):hex(ciphertext)`, AES-256-GCM as base64 of nonce, ciphertext and tag, and
//! plain text. Ordinary text may look like either: what does not open is taken as it is. Nothing is
//! written in these forms any more.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub_domain::secret::Secret;

use crate::error::{Error, Result};
use crate::vault::installation_key;

/// What an installation without an ENCRYPTION_KEY encrypted with.
const UNSET: &str = "default-key-change-in-production!!";

/// Hexadecimal digits of an initialisation vector, and of every block.
const BLOCK_DIGITS: usize = 32;

/// Shortest GCM value: nonce, tag and one byte.
const GCM_BYTES_MIN: usize = NONCE_LEN + 16 + 1;

/// How a value was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// Encrypted, and opened with the key.
    Opened,
    /// It looks encrypted in the older form, and the key does not open it.
    Unopened,
}

/// The key of an earlier installation.
pub(super) struct OldKey {
    cbc: PaddedBlockDecryptingKey,
    gcm: LessSafeKey,
}

impl OldKey {
    /// The key that follows from an installation's `ENCRYPTION_KEY`; from none, what was used then.
    pub(super) fn new(encryption_key: Option<&Secret>) -> Result<Self> {
        let unset = Secret::new(UNSET);
        let bytes = installation_key(encryption_key.unwrap_or(&unset));
        let wrong = |_| Error::Sealed("the old key is none");
        let cbc = UnboundCipherKey::new(&AES_256, &bytes).map_err(wrong)?;
        let gcm = UnboundKey::new(&AES_256_GCM, &bytes).map_err(wrong)?;
        Ok(Self {
            cbc: PaddedBlockDecryptingKey::cbc_pkcs7(cbc).map_err(wrong)?,
            gcm: LessSafeKey::new(gcm),
        })
    }

    /// The text that was stored, and how.
    pub(super) fn read(&self, stored: &str) -> (String, Form) {
        if let Some((iv, blocks)) = cbc_parts(stored) {
            return match self.open_cbc(iv, blocks) {
                Some(text) => (text, Form::Opened),
                None => (stored.to_owned(), Form::Unopened),
            };
        }
        match gcm_parts(stored).and_then(|bytes| self.open_gcm(bytes)) {
            Some(text) => (text, Form::Opened),
            None => (stored.to_owned(), Form::Plain),
        }
    }

    fn open_cbc(&self, iv: &str, blocks: &str) -> Option<String> {
        let mut vector = [0u8; 16];
        hex::decode_to_slice(iv, &mut vector).ok()?;
        let mut bytes = hex::decode(blocks).ok()?;
        let context = DecryptionContext::Iv128(FixedLength::from(vector));
        let plain = self.cbc.decrypt(&mut bytes, context).ok()?;
        String::from_utf8(plain.to_vec()).ok()
    }

    fn open_gcm(&self, bytes: Vec<u8>) -> Option<String> {
        let (nonce, sealed) = bytes.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = self.gcm.open_in_place(nonce, Aad::empty(), &mut sealed);
        String::from_utf8(plain.ok()?.to_vec()).ok()
    }
}

/// Whether a value has the form of either encryption; ordinary text hardly ever has.
pub(super) fn looks_encrypted(stored: &str) -> bool {
    cbc_parts(stored).is_some() || gcm_parts(stored).is_some()
}

fn cbc_parts(stored: &str) -> Option<(&str, &str)> {
    let (iv, blocks) = stored.split_once(':')?;
    let is_hex = |text: &str| {
        text.bytes()
            .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
    };
    let has_form = iv.len() == BLOCK_DIGITS
        && !blocks.is_empty()
        && blocks.len() % BLOCK_DIGITS == 0
        && is_hex(iv)
        && is_hex(blocks);
    has_form.then_some((iv, blocks))
}

fn gcm_parts(stored: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(stored).ok()?;
    (bytes.len() >= GCM_BYTES_MIN).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: &str = "0123456789abcdef0123456789abcdef";
    const SAMPLE: &str = "your-32-character-encryption-key";
    const TOKEN: &str = "ya29.test-access-token";
    const GREETING: &str = "Hello, wörld 👋";

    /// The vectors of contract 6.8.
    const VECTORS: [(&str, &str, &str); 7] = [
        (
            EXACT,
            TOKEN,
            "b65ffaa6ff5095164baef4dc82ab745c:082124a3d1fbc318a85dc75d987b653d3d067b2729b389f584ad10008ea981bf",
        ),
        (
            UNSET,
            GREETING,
            "3ef437ef00db5acc4d509fd742bb4c9e:907f690e4839c578ab388999a72dc2d7d38bde1e1d4f4ae8311abf78fa41c7f3",
        ),
        (
            EXACT,
            TOKEN,
            "000102030405060708090a0b0c0d0e0f:eb6531e8a463dda8bdfa521caeceb302a5eb9232d4f09874677912c45450f9e9",
        ),
        (
            UNSET,
            GREETING,
            "000102030405060708090a0b0c0d0e0f:fb0158c50c0ebb4ae1d00430d3041a0067923d7bac5958ab61dbf9fe74dba2f5",
        ),
        (
            SAMPLE,
            GREETING,
            "47c543cb65ac6d71361b1f16fc965dcf:7183306ed8577b965fdf6dd570001e9961c2a0ff299d9f6541cbe17bae56bb49",
        ),
        (
            EXACT,
            TOKEN,
            "AAECAwQFBgcICQoLVISJRfdst9/c8RDdEqqid8t8bOxZ0oe7V0Uj9ZLvDTzjTfFO+08=",
        ),
        (
            UNSET,
            GREETING,
            "AAECAwQFBgcICQoLzbrJaHMKItT/wm5raJvQz7UkxLsop1SQAZ37Mfeqb41i9w==",
        ),
    ];

    #[test]
    fn every_form_of_every_generation_is_read() {
        for (key, plain, stored) in VECTORS {
            let own = OldKey::new(Some(&Secret::new(key))).unwrap();
            assert_eq!(own.read(stored), (plain.to_owned(), Form::Opened));
            assert!(looks_encrypted(stored));
        }
        let unset = OldKey::new(None).unwrap();
        assert_eq!(unset.read(VECTORS[1].2).0, GREETING);
    }

    #[test]
    fn what_does_not_open_is_taken_as_it_is() {
        let other = OldKey::new(Some(&Secret::new("another key"))).unwrap();
        for (_, _, stored) in VECTORS {
            let form = match stored.contains(':') {
                true => Form::Unopened,
                false => Form::Plain,
            };
            assert_eq!(other.read(stored), (stored.to_owned(), form));
        }
        let long = "VGhpcyBpcyBvcmRpbmFyeSB0ZXh0IHRoYXQgc29tZWJvZHkgcGFzdGVkLg==";
        let block = "0".repeat(32);
        let texts = [
            "",
            "hi",
            "12:30",
            "a b:c",
            long,
            &format!("{block}:"),
            &format!("{block}:{}", "F".repeat(32)),
            &format!("{block}:{}", "0".repeat(31)),
        ];
        for text in texts {
            assert_eq!(other.read(text), (text.to_owned(), Form::Plain), "{text}");
        }
    }
}
