//! One key, and the envelope of what it sealed.
//!
//! `h1.<content>` is sealed under its subject's own key, `h2.<day>.<content>` under the key of a
//! day, and `h0.` is nothing: content that was already too old when it came. So an envelope says
//! which key opens it, and nobody needs to know where it was found.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::NaiveDate;
use hub_domain::event::Sealed;
use uuid::Uuid;

use crate::error::{Error, Result};

/// What stands for content that was never kept.
const NOTHING: &str = "h0.";

const MALFORMED: Error = Error::Sealed("the envelope is malformed");

/// A key that seals and opens, with what it is bound to.
#[derive(Clone)]
pub struct DataKey {
    key: Arc<LessSafeKey>,
    subject: Uuid,
    period: Option<NaiveDate>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.subject)
    }
}

impl DataKey {
    pub(super) fn new(bytes: &[u8], subject: Uuid, period: Option<NaiveDate>) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, bytes)
            .map_err(|_| Error::Sealed("a data key has the wrong length"))?;
        Ok(Self {
            key: Arc::new(LessSafeKey::new(key)),
            subject,
            period,
        })
    }

    /// Seals a text.
    pub fn seal(&self, text: &str) -> Sealed {
        Sealed(self.seal_bytes(text.as_bytes()))
    }

    /// Seals bytes.
    pub fn seal_bytes(&self, bytes: &[u8]) -> String {
        let mut nonce = [0u8; NONCE_LEN];
        rand::fill(&mut nonce).expect("the operating system's random source works");
        let mut sealed = Vec::with_capacity(NONCE_LEN + bytes.len() + 16);
        sealed.extend_from_slice(bytes);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.subject.as_bytes()),
                &mut sealed,
            )
            .expect("content is far below the cipher's limit");
        let mut content = nonce.to_vec();
        content.extend_from_slice(&sealed);
        content.extend_from_slice(tag.as_ref());
        let content = URL_SAFE_NO_PAD.encode(content);
        format!("{}{content}", self.envelope())
    }

    /// What a sealed text begins with that this key opens.
    pub fn envelope(&self) -> String {
        match self.period {
            None => "h1.".to_owned(),
            Some(day) => format!("h2.{day}."),
        }
    }

    /// Seals a file in one piece, bound to `place`, without an envelope. Objects of earlier builds are
    /// sealed so; see [`super::file`] for how they are now.
    pub fn seal_file(&self, place: &[u8], mut bytes: Vec<u8>) -> Vec<u8> {
        let mut nonce = [0u8; NONCE_LEN];
        rand::fill(&mut nonce).expect("the operating system's random source works");
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.bound_to(place)),
                &mut bytes,
            )
            .expect("content is far below the cipher's limit");
        bytes.extend_from_slice(&nonce);
        bytes
    }

    /// Opens a file that was sealed with this key for this place.
    pub fn open_file(&self, place: &[u8], mut sealed: Vec<u8>) -> Result<Vec<u8>> {
        let at = sealed.len().checked_sub(NONCE_LEN).ok_or(MALFORMED)?;
        let nonce = sealed.split_off(at);
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| MALFORMED)?;
        let length = self
            .key
            .open_in_place(nonce, Aad::from(self.bound_to(place)), &mut sealed)
            .map_err(|_| Error::Sealed("wrong key or altered content"))?
            .len();
        sealed.truncate(length);
        Ok(sealed)
    }

    fn bound_to(&self, place: &[u8]) -> Vec<u8> {
        [self.subject.as_bytes(), place].concat()
    }

    /// Opens a text sealed with this key.
    pub fn open(&self, sealed: &Sealed) -> Result<String> {
        String::from_utf8(self.open_bytes(&sealed.0)?)
            .map_err(|_| Error::Sealed("the content is not text"))
    }

    /// Opens bytes sealed with this key.
    pub fn open_bytes(&self, sealed: &str) -> Result<Vec<u8>> {
        let content = match Envelope::parse(sealed)? {
            Envelope::Under(period, content) if period == self.period => content,
            Envelope::Under(..) => return Err(Error::Sealed("sealed under another key")),
            Envelope::Nothing => return Err(Error::Erased),
        };
        let content = URL_SAFE_NO_PAD
            .decode(content)
            .ok()
            .filter(|bytes| bytes.len() >= NONCE_LEN)
            .ok_or(MALFORMED)?;
        let (nonce, content) = content.split_at(NONCE_LEN);
        let mut content = content.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| MALFORMED)?;
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(self.subject.as_bytes()), &mut content)
            .map_err(|_| Error::Sealed("wrong key or altered content"))?;
        Ok(plain.to_vec())
    }
}

/// True of a text that was sealed, or that stands for content that was never kept.
pub fn is_sealed(text: &str) -> bool {
    Envelope::parse(text).is_ok()
}

/// A sealed text taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Envelope<'a> {
    /// There was nothing to keep.
    Nothing,
    /// Content under the subject's own key, or under the key of a day.
    Under(Option<NaiveDate>, &'a str),
}

impl<'a> Envelope<'a> {
    pub(super) fn parse(sealed: &'a str) -> Result<Self> {
        if sealed == NOTHING {
            return Ok(Self::Nothing);
        }
        if let Some(content) = sealed.strip_prefix("h1.") {
            return Ok(Self::Under(None, content));
        }
        let (day, content) = sealed
            .strip_prefix("h2.")
            .and_then(|rest| rest.split_once('.'))
            .ok_or(MALFORMED)?;
        let day = day.parse().map_err(|_| MALFORMED)?;
        Ok(Self::Under(Some(day), content))
    }
}

/// Seals content of one day of one person.
#[derive(Clone, Debug)]
pub enum Sealer {
    /// Under the key of that day.
    Under(DataKey),
    /// Not at all: that day is erased or past its time, and stays so whatever still comes from it.
    Nothing,
}

impl Sealer {
    /// Seals a text.
    pub fn seal(&self, text: &str) -> Sealed {
        match self {
            Self::Under(key) => key.seal(text),
            Self::Nothing => Sealed(NOTHING.to_owned()),
        }
    }
}

/// What opening gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The text.
    Text(String),
    /// Its key is gone for good.
    Erased,
}

impl Opened {
    /// The text, unless it was erased.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Erased => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, subject: u128, period: Option<&str>) -> DataKey {
        let period = period.map(|day| day.parse().unwrap());
        DataKey::new(&[byte; 32], Uuid::from_u128(subject), period).unwrap()
    }

    #[test]
    fn opens_only_what_it_sealed() {
        for period in [None, Some("2026-01-31")] {
            let own = key(7, 1, period);
            let sealed = own.seal("Grüße ☕");
            assert_eq!(own.open(&sealed).unwrap(), "Grüße ☕");
            assert_ne!(sealed, own.seal("Grüße ☕"));
            assert!(!sealed.0.contains("Gr"));

            assert!(key(7, 2, period).open(&sealed).is_err());
            assert!(key(7, 1, Some("2026-02-01")).open(&sealed).is_err());
            let mut altered = sealed.0.clone();
            let at = sealed.0.rfind('.').unwrap() + 5;
            let other = if &altered[at..=at] == "A" { "B" } else { "A" };
            altered.replace_range(at..=at, other);
            assert!(own.open(&Sealed(altered)).is_err());
        }
        let own = key(7, 1, None);
        for odd in ["plain", "", "h1", "h1.", "h2.", "h2.today.AAAA", "h0"] {
            assert!(own.open(&Sealed(odd.to_owned())).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_file_opens_at_its_place_only() {
        let own = key(7, 1, Some("2026-01-31"));
        let bytes = b"\xFF\xD8 a picture".to_vec();
        let sealed = own.seal_file(b"here", bytes.clone());
        assert!(!sealed.windows(9).any(|it| it == b"a picture"));
        assert_eq!(own.open_file(b"here", sealed.clone()).unwrap(), bytes);
        assert!(own.open_file(b"there", sealed.clone()).is_err());
        assert!(
            key(7, 2, Some("2026-01-31"))
                .open_file(b"here", sealed.clone())
                .is_err()
        );
        for cut in [0, 5, sealed.len() - 1] {
            assert!(own.open_file(b"here", sealed[..cut].to_vec()).is_err());
        }
    }

    #[test]
    fn an_envelope_says_which_key_opens_it() {
        let sealed = key(7, 1, Some("2026-01-31")).seal("x").0;
        assert!(sealed.starts_with("h2.2026-01-31."), "{sealed}");
        let Envelope::Under(Some(day), _) = Envelope::parse(&sealed).unwrap() else {
            panic!("{sealed}");
        };
        assert_eq!(day.to_string(), "2026-01-31");
        let nothing = Sealer::Nothing.seal("x").0;
        assert_eq!(Envelope::parse(&nothing).unwrap(), Envelope::Nothing);
    }
}
