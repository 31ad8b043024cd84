//! Pictures: an id, an address that lives five minutes, the bytes. The token is asked for twice.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Cloud;
use crate::call::Call;
use crate::platform::graph;
use crate::sign::{hmac_hex, sha256};
use crate::world::now_ms;

/// Seconds an address lives.
const LIVES_S: i64 = 300;

impl Cloud {
    /// A picture somebody sends.
    pub(super) fn new_picture(&self, caption: &str) -> Value {
        let unique = u64::from_str_radix(&self.world.unique()[4..], 16).unwrap_or_default();
        let id = unique.to_string();
        self.state().media.insert(id.clone());
        // The webhook has the digest in base64, the lookup in hex.
        let digest = STANDARD.encode(sha256(graph::PICTURE));
        json!({"id": id, "mime_type": "image/png", "sha256": digest, "caption": caption})
    }

    /// Where a medium is now; `None` when there is none.
    pub(super) fn media(&self, id: &str) -> Option<Value> {
        if !self.state().media.contains(id) {
            return None;
        }
        let until = now_ms() / 1000 + LIVES_S;
        let path = format!(
            "/whatsapp_business/attachments/?mid={id}&source=getMedia&ext={until}&hash={}",
            self.address_hash(id, &until.to_string())
        );
        Some(json!({
            "messaging_product": "whatsapp",
            "url": self.world.url(&path),
            "mime_type": "image/png",
            "sha256": hex::encode(sha256(graph::PICTURE)),
            "file_size": graph::PICTURE.len().to_string(),
            "id": id,
        }))
    }

    /// The bytes, for whoever has the address and the token.
    pub(super) fn bytes(&self, call: &Call) -> Response {
        let token = call.bearer().map(|given| self.login.token(given));
        if token.is_none_or(|token| token.is_err()) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let param = |name: &str| call.param(name).unwrap_or_default();
        let (id, until) = (param("mid"), param("ext"));
        let live = until
            .parse::<i64>()
            .is_ok_and(|until| until > now_ms() / 1000);
        if !live || param("hash") != self.address_hash(&id, &until) {
            return StatusCode::NOT_FOUND.into_response();
        }
        ([(header::CONTENT_TYPE, "image/png")], graph::PICTURE).into_response()
    }

    fn address_hash(&self, id: &str, until: &str) -> String {
        let secret = self.login.app_secret.as_bytes();
        hmac_hex(secret, format!("media {id} {until}").as_bytes())
    }
}
