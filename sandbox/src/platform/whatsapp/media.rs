//! Media: an id, an address that lives five minutes, the bytes. The token is asked for twice.

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Cloud, NAME};
use crate::call::Call;
use crate::platform::{Incoming, graph};
use crate::sign::{hmac_hex, sha256};
use crate::world::now_ms;

/// Seconds an address lives.
const LIVES_S: i64 = 300;

/// What somebody sent.
#[derive(Clone)]
pub(super) struct Medium {
    /// Its name on the shelf; `None` for the picture that everybody has.
    name: Option<String>,
    mime: &'static str,
}

impl Cloud {
    /// What comes with this message: its type, and what the webhook says of it.
    pub(super) fn new_medium(&self, incoming: &Incoming) -> Option<(&'static str, Value)> {
        let (kind, medium) = match &incoming.media {
            Some(attached) => {
                let (kind, mime) = match attached.kind.as_str() {
                    "image" => ("image", "image/jpeg"),
                    "video" => ("video", "video/mp4"),
                    "audio" => ("audio", "audio/ogg; codecs=opus"),
                    _ => ("document", "application/octet-stream"),
                };
                let name = Some(attached.name.clone());
                (kind, Medium { name, mime })
            }
            None if incoming.picture => {
                let mime = "image/png";
                ("image", Medium { name: None, mime })
            }
            None => return None,
        };
        let unique = u64::from_str_radix(&self.world.unique()[4..], 16).unwrap_or_default();
        let id = unique.to_string();
        // The webhook has the digest in base64, the lookup in hex.
        let digest = STANDARD.encode(sha256(&self.kept(&medium).unwrap_or_default()));
        let mut told = json!({"id": id, "mime_type": medium.mime, "sha256": digest});
        if !incoming.text.is_empty() {
            told["caption"] = incoming.text.as_str().into();
        }
        if let ("document", Some(name)) = (kind, &medium.name) {
            told["filename"] = name.as_str().into();
        }
        self.state().media.insert(id, medium);
        Some((kind, told))
    }

    fn kept(&self, medium: &Medium) -> Option<Bytes> {
        match &medium.name {
            Some(name) => self.world.shelf.get(name),
            None => Some(Bytes::from_static(graph::PICTURE)),
        }
    }

    /// Where a medium is now; `None` when there is none.
    pub(super) fn media(&self, id: &str) -> Option<Value> {
        let medium = self.state().media.get(id).cloned()?;
        let bytes = self.kept(&medium)?;
        let until = now_ms() / 1000 + LIVES_S;
        let path = format!(
            "/whatsapp_business/attachments/?mid={id}&source=getMedia&ext={until}&hash={}",
            self.address_hash(id, &until.to_string())
        );
        Some(json!({
            "messaging_product": "whatsapp",
            "url": self.world.url(&path),
            "mime_type": medium.mime,
            "sha256": hex::encode(sha256(&bytes)),
            "file_size": bytes.len().to_string(),
            "id": id,
        }))
    }

    /// The bytes, for whoever has the address and the token.
    pub(super) async fn bytes(&self, call: &Call) -> Response {
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
        let medium = self.state().media.get(&id).cloned();
        match medium {
            Some(Medium {
                name: Some(name), ..
            }) => self.world.hand_out(NAME, call, &name).await,
            Some(Medium { mime, .. }) => {
                ([(header::CONTENT_TYPE, mime)], graph::PICTURE).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn address_hash(&self, id: &str, until: &str) -> String {
        let secret = self.login.app_secret.as_bytes();
        hmac_hex(secret, format!("media {id} {until}").as_bytes())
    }
}
