//! What customers attach: photos, which the API hands out to participants, and clips, which anybody
//! may load who has the address.

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use super::answers::{Answer, Problem};
use super::messages::Message;
use super::{NAME, X};
use crate::call::Call;
use crate::platform::Attached;

/// A medium of a message.
#[derive(Clone)]
pub(super) struct Medium {
    id: String,
    /// Its name on the shelf.
    name: String,
    is_photo: bool,
    /// The last part of its address.
    resource: String,
}

impl Medium {
    /// What a customer attached, under this id.
    pub(super) fn new(id: String, attached: &Attached) -> Self {
        Self {
            resource: format!("r_{}", id.chars().rev().take(8).collect::<String>()),
            name: attached.name.clone(),
            is_photo: attached.kind == "image",
            id,
        }
    }

    /// The link in the message's text that stands for it.
    pub(super) fn link(&self) -> String {
        format!("https://t.co/{}", self.resource)
    }

    /// What an event of the second API calls it.
    pub(super) fn key(&self) -> String {
        format!("{}_{}", if self.is_photo { 3 } else { 13 }, self.id)
    }

    /// The entity of the link in the text.
    pub(super) fn entity(&self, message: &str) -> Value {
        json!({"url": self.link(), "media_key": self.key(), "display_url": "pic.x.com/x",
            "expanded_url": format!("https://x.com/messages/media/{message}")})
    }

    fn photo_url(&self, message: &str) -> String {
        let (id, resource) = (&self.id, &self.resource);
        format!("https://ton.twitter.com/1.1/ton/data/dm/{message}/{id}/{resource}.jpg")
    }
}

impl X {
    fn clip_url(&self, medium: &Medium) -> String {
        let path = format!("/twimg/dm_video/{}/{}.mp4", medium.id, medium.resource);
        self.world.url(&path)
    }

    /// A medium as webhooks show it.
    pub(super) fn attachment(&self, message: &str, medium: &Medium) -> Value {
        let mut shown = json!({
            "id": medium.id.parse::<u64>().unwrap_or_default(),
            "id_str": medium.id,
            "media_url_https": medium.photo_url(message),
            "url": medium.link(),
            "type": "photo",
        });
        if !medium.is_photo {
            shown["type"] = "video".into();
            shown["video_info"] = json!({"duration_millis": 1000, "variants": [
                {"content_type": "application/x-mpegURL", "url": "https://video.twimg.com/x.m3u8"},
                {"content_type": "video/mp4", "bitrate": 832_000, "url": self.clip_url(medium)},
            ]});
        }
        json!({"type": "media", "media": shown})
    }

    /// A medium as the second API includes it.
    pub(super) fn included(&self, message: &str, medium: &Medium) -> Value {
        let mut shown = json!({"media_key": medium.key(), "type": "photo"});
        match medium.is_photo {
            true => shown["url"] = medium.photo_url(message).into(),
            false => {
                shown["type"] = "video".into();
                shown["variants"] = json!([{"content_type": "video/mp4", "bit_rate": 832_000,
                    "url": self.clip_url(medium)}]);
            }
        }
        shown
    }

    fn medium(&self, is_it: impl Fn(&Message, &Medium) -> bool) -> Option<Medium> {
        let memory = self.memory();
        let mut all = memory
            .messages
            .iter()
            .filter_map(|it| Some((it, it.medium.as_ref()?)));
        let found = all.find(|(message, medium)| is_it(message, medium));
        found.map(|(_, medium)| medium.clone())
    }

    /// A photo, for a participant.
    pub(super) async fn photo(
        &self,
        call: &Call,
        message: &str,
        id: &str,
        resource: &str,
    ) -> Answer {
        let user = self.caller(call)?;
        let found = self.medium(|it, medium| {
            let is_named = it.id == message && medium.id == id && medium.resource == resource;
            is_named && medium.is_photo && [&it.from, &it.to].contains(&&user)
        });
        let found = found.ok_or_else(|| Problem::not_found("media"))?;
        Ok(self.world.hand_out(NAME, call, &found.name).await)
    }

    /// A clip. A token here would be one that leaked.
    pub(super) async fn clip(&self, call: &Call, id: &str) -> Answer {
        if call.bearer().is_some() {
            return Ok(StatusCode::BAD_REQUEST.into_response());
        }
        let found = self.medium(|_, medium| medium.id == id && !medium.is_photo);
        let found = found.ok_or_else(|| Problem::not_found("media"))?;
        Ok(self.world.hand_out(NAME, call, &found.name).await)
    }
}
