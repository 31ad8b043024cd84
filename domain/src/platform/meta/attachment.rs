//! What a message is made of: text, media and the things that are neither.
//!
//! One thing is one medium: while Meta changed how stickers are sent, the same sticker arrived as
//! an image and as a sticker. Link previews and shared posts are web pages, not media.

use serde_json::{Value, json};

use crate::event::MessageType;
use crate::platform::fact::{ContentKind, Fact, Media};
use crate::platform::media::upload::Medium;
use crate::platform::wire;

/// What Messenger and Instagram call a medium that is sent to them.
pub fn name_of(medium: &Medium) -> &'static str {
    match (medium.kind, medium.family()) {
        (MessageType::Image, _) => "image",
        (MessageType::Video, _) => "video",
        (_, "audio") => "audio",
        _ => "file",
    }
}

/// Fills content, text, media and the details of them from a `message` object.
pub fn read(message: &Value, fact: &mut Fact) {
    fact.text = wire::filled(&message["text"]);
    let sticker_id = wire::id(&message["sticker_id"]);
    let mut first = sticker_id.is_some().then_some(ContentKind::Sticker);
    wire::keep(&mut fact.detail, "sticker_id", sticker_id);
    for attachment in wire::items(&message["attachments"]) {
        let kind = read_one(attachment, fact);
        first = first.or(kind);
    }
    let text = fact.text.as_ref().map(|_| ContentKind::Text);
    fact.content = Some(match message["is_unsupported"] {
        Value::Bool(true) => ContentKind::Unsupported,
        _ => first.or(text).unwrap_or(ContentKind::Unsupported),
    });
}

/// Adds one attachment to the fact and says what it makes the message; `None` for an attachment
/// that only accompanies the text.
fn read_one(attachment: &Value, fact: &mut Fact) -> Option<ContentKind> {
    let payload = &attachment["payload"];
    let of = |name: &str| wire::filled(&payload[name]).or_else(|| wire::filled(&attachment[name]));
    let (url, title) = (of("url"), of("title"));
    let kind = match attachment["type"].as_str().unwrap_or_default() {
        "sticker" => return Some(sticker(payload, url, fact)),
        "image" if wire::id(&payload["sticker_id"]).is_some() => {
            return Some(sticker(payload, url, fact));
        }
        "image" => ContentKind::Image,
        "video" => ContentKind::Video,
        "audio" => ContentKind::Audio,
        "file" => ContentKind::File,
        "location" => {
            let place = &payload["coordinates"];
            let location = json!({
                "lat": place["lat"], "lon": place["long"], "title": title, "url": url,
            });
            fact.detail.insert("location".into(), location);
            return Some(ContentKind::Location);
        }
        "fallback" if fact.text.is_some() => {
            fact.detail
                .insert("link".into(), json!({ "url": url, "title": title }));
            return None;
        }
        "fallback" => {
            let kind = if url.is_some() {
                ContentKind::Share
            } else {
                ContentKind::Unsupported
            };
            fact.detail
                .insert("share".into(), share(attachment, url, title));
            return Some(kind);
        }
        "post" | "ig_post" | "reel" | "ig_reel" | "share" | "media" | "story" | "ig_story" => {
            fact.detail
                .insert("share".into(), share(attachment, url, title));
            return Some(ContentKind::Share);
        }
        // Somebody's story with us in it: theirs to look at while it lasts.
        "story_mention" => {
            let about = share(attachment, None, title);
            fact.detail.insert("share".into(), about);
            ContentKind::Share
        }
        "like_heart" => {
            wire::keep(&mut fact.detail, "sticker_id", Some("like_heart"));
            return Some(ContentKind::Sticker);
        }
        kind @ ("ephemeral" | "unsupported_type") => {
            fact.detail.insert("attachment_type".into(), kind.into());
            wire::keep(
                &mut fact.detail,
                "link",
                url.map(|url| json!({ "url": url })),
            );
            return Some(ContentKind::Unsupported);
        }
        "template" => {
            wire::keep_raw(&mut fact.detail, "template", payload);
            wire::keep(&mut fact.detail, "title", title);
            return Some(ContentKind::Template);
        }
        "appointment_booking" => {
            wire::keep_raw(&mut fact.detail, "appointment", payload);
            return Some(ContentKind::Unsupported);
        }
        other => {
            fact.detail.insert("attachment_type".into(), other.into());
            ContentKind::Unsupported
        }
    };
    let name = url
        .as_deref()
        .filter(|_| kind == ContentKind::File)
        .and_then(file_name);
    if url.is_some() {
        fact.media.push(Media {
            kind: Some(kind),
            url,
            name,
            ..Media::default()
        });
    }
    Some(kind)
}

/// Adds a sticker unless the message already has the same one in its other form.
fn sticker(payload: &Value, url: Option<String>, fact: &mut Fact) -> ContentKind {
    let kind = ContentKind::Sticker;
    let known = fact.media.iter().any(|media| media.kind == Some(kind));
    wire::keep(
        &mut fact.detail,
        "sticker_id",
        wire::id(&payload["sticker_id"]),
    );
    if !known && url.is_some() {
        fact.media.push(Media {
            kind: Some(kind),
            url,
            ..Media::default()
        });
    }
    kind
}

/// A shared thing: its kind, page and name; ids of posts and reels go by other keys.
fn share(attachment: &Value, url: Option<String>, title: Option<String>) -> Value {
    let payload = &attachment["payload"];
    let keys = ["id", "ig_post_media_id", "reel_video_id"];
    let id = keys.into_iter().find_map(|key| wire::id(&payload[key]));
    json!({ "type": attachment["type"], "id": id, "url": url, "title": title })
}

/// The last part of a URL's path, the only place that names the file before it is downloaded.
fn file_name(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let segment = url.path_segments()?.next_back()?;
    // The only decoder at hand is that of queries, to which these three mean something.
    let segment = segment
        .replace('+', "%2B")
        .replace('&', "%26")
        .replace('=', "%3D");
    let (name, _) = url::form_urlencoded::parse(segment.as_bytes()).next()?;
    Some(crate::text::repair(&name).into_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::fact::FactKind;

    fn read_message(message: Value) -> Fact {
        let mut fact = Fact::new(FactKind::MessageReceived);
        read(&message, &mut fact);
        fact
    }

    #[test]
    fn shapes_of_older_fallbacks() {
        let text = "see";
        for attachment in [
            json!({"type": "fallback", "url": "https://a.example", "title": "A", "payload": null}),
            json!({"type": "fallback", "url": "https://a.example", "title": "A", "payload": "x"}),
        ] {
            let fact = read_message(json!({"text": text, "attachments": [attachment]}));
            assert_eq!(fact.content, Some(ContentKind::Text));
            assert_eq!(
                fact.detail["link"],
                json!({"url": "https://a.example", "title": "A"})
            );
            let fact = read_message(json!({"attachments": [attachment]}));
            assert_eq!(fact.content, Some(ContentKind::Share));
        }
    }

    #[test]
    fn an_unknown_type_keeps_its_url() {
        let fact = read_message(
            json!({"attachments": [{"type": "hologram", "payload": {"url": "https://a.example"}}]}),
        );
        assert_eq!(fact.content, Some(ContentKind::Unsupported));
        assert_eq!(fact.media[0].url.as_deref(), Some("https://a.example"));
        assert_eq!(fact.detail["attachment_type"], "hologram");
        for message in [
            json!({"is_unsupported": true}),
            json!({}),
            json!({"attachments": 7}),
        ] {
            assert_eq!(
                read_message(message).content,
                Some(ContentKind::Unsupported)
            );
        }
    }

    #[test]
    fn file_names_come_from_the_path() {
        assert_eq!(
            file_name("https://a.example/x/a%20b+c.pdf?q=1").unwrap(),
            "a b+c.pdf"
        );
        assert_eq!(file_name("https://a.example/"), None);
        assert_eq!(file_name("file"), None);
    }
}
