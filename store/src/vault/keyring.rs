//! The keys that open a page of one person's content.

use std::collections::HashMap;

use chrono::NaiveDate;
use hub_domain::event::Sealed;

use super::key::Envelope;
use super::{DataKey, Opened};
use crate::error::{Error, Result};

/// A person's keys: their own, and those of the days it was made for. It makes none: a key that
/// is not there opens nothing any more.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: HashMap<Option<NaiveDate>, DataKey>,
    asked: Vec<Option<NaiveDate>>,
}

impl Keyring {
    /// `keys` are those that were found of those that were `asked` for.
    pub(super) fn new(
        asked: Vec<Option<NaiveDate>>,
        keys: HashMap<Option<NaiveDate>, DataKey>,
    ) -> Self {
        Self { keys, asked }
    }

    /// Opens a text. [`Error::Sealed`] when it was altered, or is of a day that this keyring was
    /// not made for.
    pub fn open(&self, sealed: &str) -> Result<Opened> {
        match self.key(sealed)? {
            Some(key) => key.open(&Sealed(sealed.to_owned())).map(Opened::Text),
            None => Ok(Opened::Erased),
        }
    }

    /// The key that opens a text, or whatever begins like it; `None` when it was erased. Errors as
    /// [`Keyring::open`].
    pub fn key(&self, sealed: &str) -> Result<Option<&DataKey>> {
        let period = match Envelope::parse(sealed)? {
            Envelope::Nothing => return Ok(None),
            Envelope::Under(period, _) => period,
        };
        match self.keys.get(&period) {
            None if !self.asked.contains(&period) => {
                Err(Error::Sealed("nobody asked for the key of that day"))
            }
            found => Ok(found),
        }
    }
}

/// The periods these texts are sealed under, each once, and the person's own in any case.
pub(super) fn periods<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Option<NaiveDate>> {
    let mut periods = vec![None];
    for text in texts {
        // What is malformed needs no key: opening it says so.
        if let Ok(Envelope::Under(period, _)) = Envelope::parse(text)
            && !periods.contains(&period)
        {
            periods.push(period);
        }
    }
    periods
}
