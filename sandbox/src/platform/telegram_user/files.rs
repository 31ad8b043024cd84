//! Files of people's accounts: handed over in parts before their message, and read in pieces from a
//! place that is good for a while.
//!
//! As strict as Telegram where a client can be wrong: parts have one size, a big file says how many
//! there are, a piece begins at a multiple of its length, and a message with a file of which a part is
//! missing is refused. Parts are the account's own.

use std::collections::{BTreeMap, HashMap, HashSet};

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Answer, NAME, Refused, Users, chat};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::platform::Attached;
use crate::upload::{File, SentFile};

/// Bytes of a part and of a piece, at most.
const PART_BYTES_MAX: usize = 512 * 1024;

/// Parts of one file, at most.
const PARTS_MAX: i64 = 4_000;

/// Above this, a file has to be handed over as a big one, and is no picture.
const SMALL_BYTES_MAX: usize = 10 * 1024 * 1024;

/// UTF-16 units of a text beside a file.
const CAPTION_MAX: usize = 1024;

/// Files that wait for their message; when there are more, the oldest accounts' go.
const WAITING_MAX: usize = 200;

/// What is known of files.
#[derive(Default)]
pub(super) struct Files {
    /// By account and number.
    waiting: BTreeMap<(i64, i64), Waiting>,
    /// Places that are good no more.
    expired: HashSet<String>,
    /// How often a place was asked for.
    asked: u64,
}

/// A file of which parts have come.
#[derive(Default)]
struct Waiting {
    is_big: bool,
    total: i64,
    parts: HashMap<i64, Bytes>,
}

/// A file in a message.
#[derive(Clone)]
pub(super) struct InMessage {
    /// Its number.
    id: String,
    /// In the hub's words for what a session hears.
    kind: &'static str,
    mime: String,
    name: String,
    size: usize,
    /// Its name on the shelf.
    shelf: String,
}

impl InMessage {
    /// As a session is told of it.
    pub(super) fn shown(&self) -> Value {
        let mut shown = json!({ "kind": self.kind, "id": self.id });
        // Of a picture Telegram keeps sizes of its own, and neither name nor type.
        if self.kind != "image" {
            shown["mime"] = json!(self.mime);
            shown["name"] = json!(self.name);
            shown["size"] = json!(self.size);
        }
        shown
    }
}

fn refused(name: &'static str) -> Refused {
    Refused(400, name, None)
}

impl Users {
    /// A part of a file comes.
    pub(super) fn save_part(&self, key: &str, call: &Call) -> Answer {
        let account = self.account(key)?;
        let number = |name| call.param(name).and_then(|it| it.parse::<i64>().ok());
        let (file, part) = (number("file"), number("part"));
        let bytes = call.param("bytes").and_then(|it| STANDARD.decode(it).ok());
        let (Some(file), Some(part), Some(bytes)) = (file, part, bytes) else {
            return Err(refused("FILE_PART_EMPTY"));
        };
        if !(0..PARTS_MAX).contains(&part) {
            return Err(refused("FILE_PART_INVALID"));
        }
        if bytes.len() > PART_BYTES_MAX {
            return Err(refused("FILE_PART_TOO_BIG"));
        }
        let is_lost = self.world.faults.loses_part(NAME);
        let mut memory = self.memory();
        let files = &mut memory.files;
        if files.waiting.len() >= WAITING_MAX && !files.waiting.contains_key(&(account, file)) {
            files.waiting.pop_first();
        }
        let waiting = files.waiting.entry((account, file)).or_default();
        waiting.is_big = call.param("is_big").as_deref() == Some("true");
        waiting.total = number("parts").unwrap_or_default();
        if !is_lost {
            waiting.parts.insert(part, bytes.into());
        }
        Ok(json!({ "ok": true }))
    }

    /// The file that a message names, when all of it is there and may be sent so.
    pub(super) fn handed_over(
        &self,
        account: i64,
        named: &Value,
        text: &str,
    ) -> Result<(InMessage, SentFile), Refused> {
        let number = |name: &str| named[name].as_i64().unwrap_or_default();
        let (id, parts) = (number("id"), number("parts"));
        let is_big = named["is_big"] == true;
        if text.encode_utf16().count() > CAPTION_MAX {
            return Err(refused("MEDIA_CAPTION_TOO_LONG"));
        }
        let bytes = self.memory().files.whole(account, id, parts, is_big)?;
        let word = |name: &str| named[name].as_str().unwrap_or_default().to_owned();
        let shape = named["shape"]["as"].as_str().unwrap_or_default();
        let file = File {
            field: "file".to_owned(),
            name: word("name"),
            mime: word("mime"),
            bytes: bytes.into(),
        };
        let kind = match shape {
            "photo" if file.bytes.len() > SMALL_BYTES_MAX => {
                return Err(refused("PHOTO_SAVE_FILE_INVALID"));
            }
            "photo" if file.family() != "image" => return Err(refused("IMAGE_PROCESS_FAILED")),
            "photo" => "image",
            "animation" => "animation",
            "video" => "video",
            "audio" => "audio",
            "voice" => "voice",
            "file" => "file",
            _ => return Err(refused("MEDIA_INVALID")),
        };
        if file.mime.is_empty() || file.name.is_empty() {
            return Err(refused("MEDIA_INVALID"));
        }
        let sent = self.world.shelve(shape, &file);
        let in_message = InMessage {
            id: self.world.upload_number(),
            kind,
            mime: file.mime,
            name: file.name,
            size: file.bytes.len(),
            shelf: sent.file.clone(),
        };
        Ok((in_message, sent))
    }

    /// Where the file of a message is.
    pub(super) fn locate(&self, key: &str, call: &Call) -> Answer {
        let account = self.account(key)?;
        let chat = chat(call)?;
        let id = call.param("id").and_then(|it| it.parse::<i64>().ok());
        let mut memory = self.memory();
        let all = memory.accounts.get(&account).map(|it| &it.messages);
        let mut all = all.into_iter().flatten();
        let message = all.find(|it| it.chat == chat && Some(it.id) == id);
        let Some(file) = message.and_then(|it| it.file.clone()) else {
            return Ok(json!({ "file": null }));
        };
        memory.files.asked += 1;
        let place = format!("{}#{}", file.shelf, memory.files.asked);
        Ok(json!({ "file": { "id": file.id, "size": file.size, "place": place } }))
    }

    /// A piece of a file.
    pub(super) fn read(&self, key: &str, call: &Call) -> Answer {
        self.account(key)?;
        let place = call.param("place").unwrap_or_default();
        let cuts_off = self.world.faults.cuts_off(NAME);
        let fault = match cuts_off {
            true => None,
            false => self.world.faults.hit(NAME, Op::Media),
        };
        match fault {
            Some(Fault::Status { status: 400, .. }) => {
                self.memory().files.expired.insert(place.clone());
            }
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => return Err(super::refusal(status, retry_after_s)),
            Some(Fault::Hang | Fault::AcceptNoReply) | None => {}
        }
        if self.memory().files.expired.contains(&place) {
            return Err(refused("FILE_REFERENCE_EXPIRED"));
        }
        let number = |name| call.param(name).and_then(|it| it.parse::<usize>().ok());
        let (offset, limit) = (number("offset").unwrap_or(1), number("limit").unwrap_or(0));
        if limit == 0 || limit > PART_BYTES_MAX || !limit.is_multiple_of(4096) {
            return Err(refused("LIMIT_INVALID"));
        }
        if !offset.is_multiple_of(limit) {
            return Err(refused("OFFSET_INVALID"));
        }
        let name = place.split('#').next().unwrap_or_default();
        let bytes = self.world.shelf.get(name);
        let bytes = bytes.ok_or(refused("LOCATION_INVALID"))?;
        let end = bytes.len().min(offset + limit);
        let mut piece = bytes.slice(offset.min(end)..end);
        if cuts_off {
            piece.truncate(piece.len() / 2);
        }
        Ok(json!({ "bytes": STANDARD.encode(piece) }))
    }

    /// What somebody attached, if it is on the shelf.
    pub(super) fn attached(
        &self,
        attached: Option<&Attached>,
    ) -> Result<Option<InMessage>, String> {
        let Some(attached) = attached else {
            return Ok(None);
        };
        let bytes = self.world.shelf.get(&attached.name);
        let bytes = bytes.ok_or("there is no such file: PUT /control/media/<name> first")?;
        let (kind, mime) = match attached.kind.as_str() {
            "image" => ("image", "image/jpeg"),
            "video" => ("video", "video/mp4"),
            "audio" => ("voice", "audio/ogg"),
            _ => ("file", "application/pdf"),
        };
        Ok(Some(InMessage {
            id: self.world.upload_number(),
            kind,
            mime: mime.to_owned(),
            name: attached.name.clone(),
            size: bytes.len(),
            shelf: attached.name.clone(),
        }))
    }
}

impl Files {
    /// All bytes of a file, which then waits no longer for a message.
    fn whole(
        &mut self,
        account: i64,
        id: i64,
        parts: i64,
        is_big: bool,
    ) -> Result<Vec<u8>, Refused> {
        let waiting = self.waiting.get(&(account, id));
        let waiting = waiting.ok_or(refused("FILE_PARTS_INVALID"))?;
        if waiting.is_big != is_big || !(1..=PARTS_MAX).contains(&parts) {
            return Err(refused("FILE_PARTS_INVALID"));
        }
        if is_big && waiting.total != parts {
            return Err(refused("FILE_PARTS_INVALID"));
        }
        let mut bytes = Vec::new();
        for number in 0..parts {
            let missing = || Refused(400, "FILE_PART_MISSING", u64::try_from(number).ok());
            let part = waiting.parts.get(&number).ok_or_else(missing)?;
            if part.len() != PART_BYTES_MAX && number + 1 < parts {
                return Err(refused("FILE_PART_SIZE_CHANGED"));
            }
            bytes.extend_from_slice(part);
        }
        if bytes.len() > SMALL_BYTES_MAX && !is_big {
            return Err(refused("FILE_PARTS_INVALID"));
        }
        self.waiting.remove(&(account, id));
        Ok(bytes)
    }
}
