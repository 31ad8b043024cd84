//! Media that the hub hands over: in one call, or announced, sent in pieces, finished and worked on.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answers::{self, Answer, Problem};
use super::{HANG, NAME, X};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::ledger::hold;
use crate::upload::{File, Waiting};

const MB: usize = 1_000_000;
/// The largest piece.
const PIECE_BYTES_MAX: usize = 5 * 1024 * 1024;

/// An upload in pieces.
struct Begun {
    user: String,
    mime: String,
    category: String,
    total: usize,
    pieces: Vec<Vec<u8>>,
    /// How often somebody asked about the work on it.
    looks: u32,
}

/// Uploads in pieces that are not done.
#[derive(Default)]
pub(super) struct Pieces(Mutex<HashMap<String, Begun>>);

impl X {
    /// The upload edge; `path` is what follows it.
    pub(super) async fn upload(&self, call: &Call, path: &[&str]) -> Answer {
        let user = self.caller(call)?;
        let fault = self.world.faults.hit(NAME, Op::Upload);
        match fault {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => return Ok(answers::refuse(status, retry_after_s)),
            Some(Fault::Hang) => return Ok(call.leave_unanswered(HANG).await),
            Some(Fault::AcceptNoReply) | None => {}
        }
        let answer = match path {
            [] => self.whole(call, user)?,
            ["initialize"] => self.begin(call, user)?,
            [id, "append"] => self.append(call, id)?,
            [id, "finalize"] => self.finish(id)?,
            _ => return Err(Problem::not_found("path")),
        };
        if fault.is_some() {
            return Ok(call.leave_unanswered(HANG).await);
        }
        Ok(answers::reply(StatusCode::OK, &json!({ "data": answer })))
    }

    fn whole(&self, call: &Call, user: String) -> Result<Value, Problem> {
        let file = call.file("media");
        let file = file.ok_or_else(|| Problem::invalid("media is required."))?;
        let category = call.param("media_category").unwrap_or_default();
        if category != "dm_image" && category != "dm_gif" {
            return Err(Problem::invalid(
                "media_category is not valid for this upload.",
            ));
        }
        let id = self.new_id();
        self.keep(&id, user, &category, file)?;
        Ok(json!({"id": id, "media_key": format!("3_{id}"), "expires_after_secs": 86_400}))
    }

    fn keep(&self, id: &str, owner: String, category: &str, file: &File) -> Result<(), Problem> {
        let (most, fits) = match category {
            "dm_image" => (5 * MB, file.family() == "image"),
            "dm_gif" => (15 * MB, file.looks_like() == "image/gif"),
            "dm_video" => (512 * MB, file.family() == "video"),
            _ => return Err(Problem::invalid("media_category is not valid.")),
        };
        if !fits {
            return Err(Problem::invalid("The media type is not supported."));
        }
        if file.bytes.is_empty() || file.bytes.len() > most {
            return Err(Problem::invalid("The media is too large."));
        }
        let kind = category.trim_start_matches("dm_");
        let sent = self.world.shelve(kind, file);
        self.world.uploads.keep(id, Waiting { owner, sent });
        Ok(())
    }

    fn begin(&self, call: &Call, user: String) -> Result<Value, Problem> {
        let param = |name: &str| call.param(name).unwrap_or_default();
        let total = param("total_bytes")
            .parse::<usize>()
            .ok()
            .filter(|it| *it > 0);
        let total = total.ok_or_else(|| Problem::invalid("total_bytes is required."))?;
        let begun = Begun {
            user,
            mime: param("media_type"),
            category: param("media_category"),
            total,
            pieces: Vec::new(),
            looks: 0,
        };
        let id = self.new_id();
        hold(&self.pieces.0).insert(id.clone(), begun);
        Ok(json!({"id": id, "media_key": format!("7_{id}"), "expires_after_secs": 86_400}))
    }

    fn append(&self, call: &Call, id: &str) -> Result<Value, Problem> {
        let piece = call.file("media");
        let piece = piece.ok_or_else(|| Problem::invalid("media is required."))?;
        if piece.bytes.len() > PIECE_BYTES_MAX {
            return Err(Problem::invalid("The segment is too large."));
        }
        let mut all = hold(&self.pieces.0);
        let begun = all.get_mut(id).ok_or_else(|| Problem::not_found("media"))?;
        if call.param("segment_index") != Some(begun.pieces.len().to_string()) {
            return Err(Problem::invalid("segment_index is not the next one."));
        }
        begun.pieces.push(piece.bytes.to_vec());
        Ok(json!({ "expires_at": 0 }))
    }

    fn finish(&self, id: &str) -> Result<Value, Problem> {
        let (file, user, category) = {
            let all = hold(&self.pieces.0);
            let begun = all.get(id).ok_or_else(|| Problem::not_found("media"))?;
            let bytes = begun.pieces.concat();
            if bytes.len() != begun.total {
                return Err(Problem::invalid(
                    "Segments do not add up to provided total file size.",
                ));
            }
            let file = File {
                field: String::new(),
                name: String::new(),
                mime: begun.mime.clone(),
                bytes: bytes.into(),
            };
            (file, begun.user.clone(), begun.category.clone())
        };
        self.keep(id, user, &category, &file)?;
        Ok(json!({"id": id, "processing_info": {"state": "pending", "check_after_secs": 1}}))
    }

    /// What became of the work on a medium: in progress when first asked, done from then on.
    pub(super) fn upload_status(&self, call: &Call) -> Answer {
        self.caller(call)?;
        let id = call.param("media_id").unwrap_or_default();
        let mut all = hold(&self.pieces.0);
        let begun = all
            .get_mut(&id)
            .ok_or_else(|| Problem::not_found("media"))?;
        begun.looks += 1;
        let work = match begun.looks {
            1 => json!({"state": "in_progress", "check_after_secs": 1, "progress_percent": 50}),
            _ => json!({"state": "succeeded", "progress_percent": 100}),
        };
        Ok(answers::ok(
            &json!({"data": {"id": id, "processing_info": work}}),
        ))
    }
}
