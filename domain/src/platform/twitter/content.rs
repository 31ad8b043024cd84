//! What a direct message is made of: text and at most one medium.
//!
//! The text is HTML-escaped once. A medium shows up in it as a link of its own, which is dropped;
//! every other shortened link is written out. The old and the new API describe media differently.

use serde_json::{Value, json};

use crate::platform::fact::{ContentKind, Fact, Media};
use crate::platform::wire;

/// Fills in text and media from `message_data` of a webhook.
pub fn read(data: &Value, fact: &mut Fact) {
    let attachment = &data["attachment"];
    let media = &attachment["media"];
    let own_link = wire::filled(&media["url"]);
    let is_own = |link: &Value| own_link.is_some() && wire::filled(&link["url"]) == own_link;
    let mut links = links(&data["entities"], is_own);
    links.extend(own_link.clone().map(|link| (link, None)));
    fact.text = wire::text(&data["text"]).and_then(|text| readable(&text, &links));
    let kind = match attachment["type"].as_str() {
        Some("media") => Some(medium(media, fact)),
        Some("location") => {
            let place = &attachment["location"]["shared_coordinate"]["coordinates"]["coordinates"];
            let location = json!({ "lat": place[1], "lon": place[0] });
            fact.detail.insert("location".into(), location);
            Some(ContentKind::Location)
        }
        Some(other) => {
            fact.detail.insert("attachment_type".into(), other.into());
            Some(ContentKind::Unsupported)
        }
        None => None,
    };
    fact.content = Some(of(fact, kind));
    fact.action = wire::filled(&data["quick_reply_response"]["metadata"]);
    wire::keep_raw(&mut fact.detail, "buttons", &data["ctas"]);
}

/// Fills in text and media from an event of `GET /2/dm_events`, whose media are in `includes`.
pub fn read_fetched(event: &Value, includes: &Value, fact: &mut Fact) {
    let keys: Vec<String> = wire::items(&event["attachments"]["media_keys"])
        .iter()
        .filter_map(wire::id)
        .collect();
    let is_own = |link: &Value| wire::id(&link["media_key"]).is_some_and(|key| keys.contains(&key));
    let links = links(&event["entities"], is_own);
    fact.text = wire::text(&event["text"]).and_then(|text| readable(&text, &links));
    let mut kind = None;
    for key in &keys {
        let known = wire::items(&includes["media"])
            .iter()
            .find(|media| wire::id(&media["media_key"]).as_ref() == Some(key));
        let found = fetched_medium(key, known.unwrap_or(&Value::Null), fact);
        kind = kind.or(Some(found));
    }
    let posts: Vec<Value> = wire::items(&event["referenced_tweets"])
        .iter()
        .filter_map(|post| wire::id(&post["id"]).map(Value::String))
        .collect();
    if !posts.is_empty() {
        fact.detail.insert("shared_posts".into(), posts.into());
        if fact.text.is_none() {
            kind = kind.or(Some(ContentKind::Share));
        }
    }
    fact.content = Some(of(fact, kind));
}

fn of(fact: &Fact, kind: Option<ContentKind>) -> ContentKind {
    let text = fact.text.as_ref().map(|_| ContentKind::Text);
    kind.or(text).unwrap_or(ContentKind::Unsupported)
}

/// Each shortened link with what it stands for; nothing for the one that stands for the medium.
fn links(entities: &Value, is_own: impl Fn(&Value) -> bool) -> Vec<(String, Option<String>)> {
    let link = |link: &Value| {
        let short = wire::filled(&link["url"])?;
        if is_own(link) {
            return Some((short, None));
        }
        wire::filled(&link["expanded_url"]).map(|long| (short, Some(long)))
    };
    wire::items(&entities["urls"])
        .iter()
        .filter_map(link)
        .collect()
}

/// The text as its writer saw it; nothing when only the medium's link was in it.
fn readable(text: &str, links: &[(String, Option<String>)]) -> Option<String> {
    let text = unescape(text);
    let mut written = String::with_capacity(text.len());
    let (mut rest, mut dropped) = (text.as_str(), false);
    while let Some((at, short, long)) = next_link(rest, links) {
        written.push_str(&rest[..at]);
        match long {
            Some(long) => written.push_str(long),
            None => dropped = true,
        }
        rest = &rest[at + short.len()..];
    }
    written.push_str(rest);
    let text = if dropped { written.trim() } else { &written };
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// The first link of these in a text; of two that begin there, the longer one.
fn next_link<'a>(
    text: &str,
    links: &'a [(String, Option<String>)],
) -> Option<(usize, &'a str, Option<&'a str>)> {
    links
        .iter()
        .filter_map(|(short, long)| {
            let at = text.find(short.as_str())?;
            Some((at, short.as_str(), long.as_deref()))
        })
        .min_by_key(|(at, short, _)| (*at, usize::MAX - short.len()))
}

/// Takes back the one escaping of `&`, `<` and `>`.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

fn kind_of(name: &Value) -> ContentKind {
    match name.as_str() {
        Some("photo") => ContentKind::Image,
        Some("animated_gif") => ContentKind::Animation,
        Some("video") => ContentKind::Video,
        Some("audio") => ContentKind::Audio,
        _ => ContentKind::Unsupported,
    }
}

fn medium(media: &Value, fact: &mut Fact) -> ContentKind {
    let kind = kind_of(&media["type"]);
    // The number beside it is beyond what a double holds.
    let id = wire::id(&media["id_str"]).or_else(|| wire::id(&media["id"]));
    let picture = wire::filled(&media["media_url_https"]);
    let info = &media["video_info"];
    let variant = best(&info["variants"], "bitrate");
    add(
        kind,
        id,
        picture,
        variant,
        wire::count(&info["duration_millis"]),
        fact,
    );
    kind
}

fn fetched_medium(key: &str, media: &Value, fact: &mut Fact) -> ContentKind {
    let kind = kind_of(&media["type"]);
    // A key is the kind's number and the medium's id.
    let id = key.split_once('_').map_or(key, |(_, id)| id).to_owned();
    let picture = wire::filled(&media["url"]).or_else(|| wire::filled(&media["preview_image_url"]));
    let variant = best(&media["variants"], "bit_rate");
    let duration_ms = wire::count(&media["duration_ms"]);
    add(kind, Some(id), picture, variant, duration_ms, fact);
    kind
}

/// The clip with the most bits per second. Playlists have no rate and are of no use.
fn best<'a>(variants: &'a Value, rate: &str) -> Option<&'a Value> {
    let is_clip = |variant: &&Value| {
        let mime = variant["content_type"].as_str().unwrap_or_default();
        variant["url"].is_string() && mime != "application/x-mpegURL"
    };
    let rate = |variant: &&Value| wire::count(&variant[rate]).unwrap_or_default();
    wire::items(variants)
        .iter()
        .filter(is_clip)
        .max_by_key(rate)
}

fn add(
    kind: ContentKind,
    id: Option<String>,
    picture: Option<String>,
    variant: Option<&Value>,
    duration_ms: Option<u64>,
    fact: &mut Fact,
) {
    let mut media = Media {
        kind: Some(kind),
        file_id: id.clone(),
        unique_id: id,
        duration_s: duration_ms.map(|ms| ms / 1000),
        ..Media::default()
    };
    match variant {
        Some(variant) => {
            media.url = wire::filled(&variant["url"]);
            media.mime = wire::filled(&variant["content_type"]);
            wire::keep(&mut fact.detail, "preview", picture);
        }
        None => media.url = picture,
    }
    fact.media.push(media);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::fact::FactKind;

    fn message(data: Value) -> Fact {
        let mut fact = Fact::new(FactKind::MessageReceived);
        read(&data, &mut fact);
        fact
    }

    #[test]
    fn one_escaping_is_taken_back() {
        assert_eq!(
            unescape("&lt;b&gt; &amp;amp; &amp;lt; &quot;"),
            "<b> &amp; &lt; &quot;"
        );
    }

    #[test]
    fn links_are_written_out_where_they_stand() {
        let links = [
            (
                "https://t.co/Ab".to_owned(),
                Some("https://a.example".to_owned()),
            ),
            (
                "https://t.co/Abc".to_owned(),
                Some("https://t.co/Ab".to_owned()),
            ),
        ];
        let text = "x https://t.co/Abc y https://t.co/Ab.";
        assert_eq!(
            readable(text, &links).unwrap(),
            "x https://t.co/Ab y https://a.example."
        );
    }

    #[test]
    fn what_is_no_medium() {
        let fact = message(
            json!({"text": "here", "attachment": {"type": "location", "location":
            {"type": "shared_coordinate", "shared_coordinate": {"coordinates":
            {"type": "Point", "coordinates": [-8.61, 41.15]}}}}}),
        );
        assert_eq!(fact.content, Some(ContentKind::Location));
        assert_eq!(fact.detail["location"], json!({"lat": 41.15, "lon": -8.61}));
        let fact = message(json!({"text": "", "attachment": {"type": "hologram"}}));
        assert_eq!(fact.content, Some(ContentKind::Unsupported));
        assert_eq!(fact.detail["attachment_type"], "hologram");
        assert_eq!(message(json!({})).content, Some(ContentKind::Unsupported));
    }
}
