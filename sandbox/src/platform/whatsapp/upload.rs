//! Files that the hub hands over, for an id that one of its messages names.

use serde_json::json;

use super::{Cloud, NAME};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::platform::graph::{self, Answer, GraphError, Product};
use crate::upload::{File, Waiting};

const MB: usize = 1024 * 1024;

impl Cloud {
    /// The media edge of a number.
    pub(super) async fn upload(&self, call: &Call, number: &str) -> Answer {
        let token = self.token_for(call, number)?;
        let bad = |words: &str| GraphError::new(100, format!("(#100) {words}"));
        if call
            .param("messaging_product")
            .is_none_or(|name| name != NAME)
        {
            return Err(bad("The parameter messaging_product is required."));
        }
        let file = call.file("file");
        let file = file.ok_or_else(|| bad("The parameter file is required."))?;
        let said = call.param("type");
        let said = said.ok_or_else(|| bad("The parameter type is required."))?;
        if file.name.is_empty() || file.mime != said {
            return Err(bad(
                "Param file must be a file with one of the following types",
            ));
        }
        if let Some(words) = objection(file) {
            let words = format!("(#131053) Media upload error: {words}");
            return Err(GraphError::new(131_053, words));
        }
        let fault = self.world.faults.hit(NAME, Op::Upload);
        if let Some(fault @ (Fault::Status { .. } | Fault::Hang)) = fault {
            return Ok(graph::suffer(fault, Product::Whatsapp, number, call).await);
        }
        let id = self.world.upload_number();
        let kind = match file.family() {
            "" => "document",
            "application" => "document",
            family => family,
        };
        let sent = self.world.shelve(kind, file);
        let owner = token.page;
        self.world.uploads.keep(&id, Waiting { owner, sent });
        if fault.is_some() {
            return Ok(call.leave_unanswered(graph::HANG).await);
        }
        Ok(graph::ok(number, &json!({ "id": id })))
    }
}

/// What is wrong with a file.
fn objection(file: &File) -> Option<&'static str> {
    let family = file.mime.split('/').next().unwrap_or_default();
    let most = match family {
        "image" => 5 * MB,
        "video" | "audio" => 16 * MB,
        _ => 100 * MB,
    };
    let is_known = match family {
        "image" => matches!(
            file.mime.as_str(),
            "image/jpeg" | "image/png" | "image/webp"
        ),
        "video" => matches!(file.mime.as_str(), "video/mp4" | "video/3gpp"),
        _ => true,
    };
    if file.bytes.is_empty() || file.bytes.len() > most {
        Some("the file size is not supported")
    } else if !is_known {
        Some("the media type is not supported")
    } else if family == "image" && file.looks_like() != file.mime {
        Some("the file is not what its type says")
    } else {
        None
    }
}
