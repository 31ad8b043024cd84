//! Files that the hub hands over: with a message, or before it for an id.
//!
//! A platform believes what a file's bytes say, not what it is called. What it took is laid on the
//! shelf, so that whoever looks at what was sent can load it: `GET /control/media/<file>`.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use axum::body::Bytes;
use serde::Serialize;

use crate::ledger::hold;
use crate::world::World;

/// Uploads that wait for their message; the oldest go first.
const WAITING_MAX: usize = 1_000;

/// A file in a form.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// The field it is in.
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) mime: String,
    pub(crate) bytes: Bytes,
}

impl File {
    /// `image/png` and so on, by the first bytes; empty for what nobody here knows.
    pub(crate) fn looks_like(&self) -> &'static str {
        let begins =
            |at: usize, magic: &[u8]| self.bytes.get(at..).is_some_and(|it| it.starts_with(magic));
        if begins(0, b"\x89PNG") {
            "image/png"
        } else if begins(0, b"\xFF\xD8\xFF") {
            "image/jpeg"
        } else if begins(0, b"GIF8") {
            "image/gif"
        } else if begins(8, b"WEBP") {
            "image/webp"
        } else if begins(4, b"ftyp") {
            "video/mp4"
        } else if begins(0, b"OggS") {
            "audio/ogg"
        } else if begins(0, b"%PDF") {
            "application/pdf"
        } else {
            ""
        }
    }

    /// The first word of [`File::looks_like`].
    pub(crate) fn family(&self) -> &'static str {
        self.looks_like().split('/').next().unwrap_or_default()
    }
}

/// A file that came with a message.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SentFile {
    /// In the platform's words.
    pub(crate) kind: String,
    pub(crate) mime_type: String,
    pub(crate) name: String,
    pub(crate) size: usize,
    /// Its name on the shelf.
    pub(crate) file: String,
}

/// A file that waits for its message.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// Who may send it.
    pub(crate) owner: String,
    pub(crate) sent: SentFile,
}

/// What was handed over before its message.
#[derive(Default)]
pub(crate) struct Uploads {
    waiting: Mutex<(HashMap<String, Waiting>, VecDeque<String>)>,
}

impl Uploads {
    /// Keeps a file under this id.
    pub(crate) fn keep(&self, id: &str, waiting: Waiting) {
        let mut all = hold(&self.waiting);
        if all.1.len() == WAITING_MAX
            && let Some(oldest) = all.1.pop_front()
        {
            all.0.remove(&oldest);
        }
        all.0.insert(id.to_owned(), waiting);
        all.1.push_back(id.to_owned());
    }

    /// The file of this id, if it is this owner's.
    pub(crate) fn get(&self, id: &str, owner: &str) -> Option<SentFile> {
        let all = hold(&self.waiting);
        let found = all.0.get(id).filter(|it| it.owner == owner)?;
        Some(found.sent.clone())
    }
}

impl World {
    /// Lays a file that the hub handed over on the shelf.
    pub(crate) fn shelve(&self, kind: &str, file: &File) -> SentFile {
        let place = format!("sent-{}", self.unique());
        self.shelf.put(&place, file.bytes.clone());
        SentFile {
            kind: kind.to_owned(),
            mime_type: file.mime.clone(),
            name: file.name.clone(),
            size: file.bytes.len(),
            file: place,
        }
    }

    /// A number that names an upload.
    pub(crate) fn upload_number(&self) -> String {
        let unique = u64::from_str_radix(&self.unique()[4..], 16).unwrap_or_default();
        unique.to_string()
    }
}
