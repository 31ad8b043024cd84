//! Messages with a file: one call that carries both.

use axum::response::Response;

use super::Bot;
use super::answers::{bad_request, problem};
use crate::call::Call;
use crate::upload::File;

/// The longest text beside a file, in UTF-16 units.
const CAPTION_UNITS_MAX: usize = 1024;
/// The largest file, and the largest photo.
const FILE_BYTES_MAX: usize = 50 * 1024 * 1024;
const PHOTO_BYTES_MAX: usize = 10 * 1024 * 1024;

impl Bot {
    /// `sendPhoto` and its like; the file is in the field of that name.
    pub(super) async fn send_file(&self, call: &Call, field: &str) -> Response {
        let to = call.param("chat_id").unwrap_or_default();
        let Some(chat) = self.chat(&to) else {
            return bad_request("chat not found");
        };
        let caption = call.param("caption").unwrap_or_default();
        if caption.encode_utf16().count() > CAPTION_UNITS_MAX {
            return bad_request("message caption is too long");
        }
        let Some(file) = call.file(field) else {
            return match call.param(field) {
                Some(_) => bad_request("wrong file identifier/HTTP URL specified"),
                None => bad_request(&format!("there is no {field} in the request")),
            };
        };
        if file.bytes.len() > FILE_BYTES_MAX {
            return problem(413, "Request Entity Too Large");
        }
        if let Some(refused) = objection(field, file) {
            return bad_request(refused);
        }
        self.take(call, &to, &chat, &caption, Some((field, file)))
            .await
    }
}

/// What is wrong with a file.
fn objection(field: &str, file: &File) -> Option<&'static str> {
    if file.bytes.is_empty() {
        return Some("file must be non-empty");
    }
    match field {
        "photo" if file.bytes.len() > PHOTO_BYTES_MAX => Some("file is too big"),
        "photo" if file.family() != "image" => Some("IMAGE_PROCESS_FAILED"),
        "video" if file.family() != "video" => Some("wrong file type"),
        _ => None,
    }
}
