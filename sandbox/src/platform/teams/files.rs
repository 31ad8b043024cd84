//! What people attach. A picture is inside of the message and hosted by Graph, which wants the token. A
//! file is in the drive of who sent it: its address in the message is for people, Graph is asked for it
//! by the name of its share, and the address in that answer is signed and wants no token.

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::{Answer, Graph, GraphError, NAME, ok};
use crate::call::Call;
use crate::platform::Attached;
use crate::sign::hmac_hex;

/// Where people's drives are.
const DRIVES: &str = "https://northwind-my.sharepoint.com/personal";

impl Graph {
    /// Adds a message with something attached.
    pub(super) fn add_with_media(
        &self,
        chat: &str,
        from: &str,
        text: &str,
        media: &Attached,
    ) -> String {
        let name = &media.name;
        if media.kind == "image" {
            let hosted = URL_SAFE_NO_PAD.encode(name);
            return self.add(chat, from, "html", |id| {
                let path =
                    format!("/v1.0/chats/{chat}/messages/{id}/hostedContents/{hosted}/$value");
                let picture = self.world.url(&path);
                (
                    format!("<p>{text}</p><img src=\"{picture}\" alt=\"\">"),
                    Vec::new(),
                )
            });
        }
        let address = format!("{DRIVES}/{from}/Documents/{name}");
        let id = uuid::Uuid::new_v4().to_string();
        let attachment = json!({"id": id, "contentType": "reference", "contentUrl": address,
            "content": null, "name": name, "thumbnailUrl": null});
        self.add(chat, from, "html", |_| {
            let content = format!("<p>{text}</p><attachment id=\"{id}\"></attachment>");
            (content, vec![attachment])
        })
    }

    /// A picture of a message, for who is in the chat.
    pub(super) async fn hosted(&self, call: &Call, chat: &str, id: &str, hosted: &str) -> Answer {
        let token = self.bearer(call)?;
        self.other(chat, &token.person)?;
        let message = self.find(chat, id).ok_or_else(GraphError::not_found)?;
        let name = URL_SAFE_NO_PAD.decode(hosted).ok();
        let name = name.and_then(|it| String::from_utf8(it).ok());
        let is_in_it = message.content.contains(&format!("/{hosted}/$value"));
        let name = name
            .filter(|_| is_in_it)
            .ok_or_else(GraphError::not_found)?;
        Ok(self.world.hand_out(NAME, call, &name).await)
    }

    /// What is shared at an address.
    pub(super) fn drive_item(&self, call: &Call, share: &str) -> Answer {
        self.bearer(call)?;
        let address = share
            .strip_prefix("u!")
            .and_then(|it| URL_SAFE_NO_PAD.decode(it).ok())
            .and_then(|it| String::from_utf8(it).ok());
        let name = address.as_deref().and_then(|it| {
            let path = it.strip_prefix(DRIVES)?;
            path.rsplit('/').next()
        });
        let name = name.ok_or_else(GraphError::not_found)?;
        let bytes = self
            .world
            .shelf
            .get(name)
            .ok_or_else(GraphError::not_found)?;
        let signed = format!("/drive/{name}?tempauth={}", self.signature(name));
        ok(&json!({
            "id": "01NORTHWIND",
            "name": name,
            "size": bytes.len(),
            "file": {"mimeType": "application/octet-stream"},
            "@microsoft.graph.downloadUrl": self.world.url(&signed),
        }))
    }

    /// A file, for whoever has the signed address. A token here would be one that leaked.
    pub(super) async fn file(&self, call: &Call, name: &str) -> Answer {
        if call.bearer().is_some() || call.param("tempauth") != Some(self.signature(name)) {
            return Ok(StatusCode::UNAUTHORIZED.into_response());
        }
        Ok(self.world.hand_out(NAME, call, name).await)
    }

    fn signature(&self, name: &str) -> String {
        hmac_hex(
            self.client_secret.as_bytes(),
            format!("file {name}").as_bytes(),
        )
    }
}
