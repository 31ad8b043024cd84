//! Files that the hub hands over, for an id that messages of the same Page name.

use serde_json::json;

use super::{Messenger, NAME};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::platform::graph::{self, Answer, GraphError, Kind, Product};
use crate::upload::{File, Waiting};

/// The largest file.
const FILE_BYTES_MAX: usize = 25 * 1024 * 1024;

impl Messenger {
    /// The attachment upload API.
    pub(super) async fn upload(&self, call: &Call, node: &str) -> Answer {
        let token = self.bearer(call)?;
        if token.kind != Kind::Page || (node != "me" && node != token.page) {
            return Err(graph::not_found(node));
        }
        let message = call.value("message").unwrap_or_default();
        let attachment = &message["attachment"];
        let kind = attachment["type"].as_str().unwrap_or_default();
        let file = call.file("filedata");
        let file = file.ok_or_else(|| GraphError::new(100, "(#100) No file was uploaded"))?;
        if let Some(words) = objection(kind, file) {
            let words = format!("(#100) Upload attachment failure: {words}");
            return Err(GraphError::new(100, words).sub(2_018_047));
        }
        let fault = self.world.faults.hit(NAME, Op::Upload);
        if let Some(fault @ (Fault::Status { .. } | Fault::Hang)) = fault {
            return Ok(graph::suffer(fault, Product::Messenger, &token.page, call).await);
        }
        let id = self.world.upload_number();
        let sent = self.world.shelve(kind, file);
        let owner = token.page.clone();
        self.world.uploads.keep(&id, Waiting { owner, sent });
        if fault.is_some() {
            return Ok(call.leave_unanswered(graph::HANG).await);
        }
        Ok(graph::ok(&token.page, &json!({ "attachment_id": id })))
    }
}

/// What is wrong with a file.
fn objection(kind: &str, file: &File) -> Option<&'static str> {
    let fits = match kind {
        "image" | "video" => file.family() == kind,
        "audio" => file.mime.starts_with("audio/"),
        "file" => true,
        _ => return Some("the type is not known"),
    };
    if file.bytes.is_empty() || file.bytes.len() > FILE_BYTES_MAX {
        Some("the file is too large")
    } else if file.name.is_empty() || file.mime.is_empty() || !fits {
        Some("the file is not of its type")
    } else {
        None
    }
}
