//! What a message is made of.
//!
//! Newer fields come with an older one for old clients (an animation also as a document, a venue
//! also as a location). The first that matches wins, so each thing is read once.

use serde_json::{Map, Value, json};

use crate::platform::fact::{ContentKind, Fact, Media};
use crate::platform::wire;
use crate::text;

/// Above this the cloud Bot API does not hand a file out.
const DOWNLOAD_BYTES_MAX: u64 = 20 * 1024 * 1024;

/// Fields that carry one file, newer before older, with the type they have when they say none.
const FILES: [(&str, ContentKind, Option<&str>); 7] = [
    ("live_photo", ContentKind::Video, None),
    ("animation", ContentKind::Animation, None),
    ("video", ContentKind::Video, None),
    ("video_note", ContentKind::Video, Some("video/mp4")),
    ("voice", ContentKind::Voice, Some("audio/ogg")),
    ("audio", ContentKind::Audio, None),
    ("document", ContentKind::File, None),
];

/// Things the hub cannot show, told by a line of text.
const TOLD: [&str; 11] = [
    "poll",
    "checklist",
    "dice",
    "game",
    "invoice",
    "giveaway",
    "giveaway_created",
    "giveaway_winners",
    "giveaway_completed",
    "gift",
    "unique_gift",
];

/// The entity types that mean something to a reader of the text.
const ENTITIES: [&str; 21] = [
    "mention",
    "hashtag",
    "cashtag",
    "bot_command",
    "url",
    "email",
    "phone_number",
    "bold",
    "italic",
    "underline",
    "strikethrough",
    "spoiler",
    "blockquote",
    "expandable_blockquote",
    "code",
    "pre",
    "text_link",
    "text_mention",
    "custom_emoji",
    "date_time",
    "bank_card_number",
];

/// Fills content, text, media and the details of them. False when the message has no content
/// anybody knows.
pub fn read(message: &Value, fact: &mut Fact) -> bool {
    if let Some(text) = wire::text(&message["text"]) {
        keep_entities(&message["entities"], &text, &mut fact.detail);
        fact.text = Some(text);
        fact.content = Some(ContentKind::Text);
        return true;
    }
    if message["rich_message"].is_object() {
        let mut words = Vec::new();
        plain_text(&message["rich_message"], &mut words);
        fact.text = Some(words.join("\n"));
        fact.content = Some(ContentKind::Text);
        wire::keep_raw(&mut fact.detail, "rich_message", &message["rich_message"]);
        return true;
    }
    let kind = file(message, fact).or_else(|| other(message, fact));
    fact.content = kind;
    if let Some(caption) = wire::filled(&message["caption"]) {
        keep_entities(&message["caption_entities"], &caption, &mut fact.detail);
        fact.text = Some(caption);
    }
    kind.is_some()
}

/// The one medium of a message.
fn file(message: &Value, fact: &mut Fact) -> Option<ContentKind> {
    // A live photo may carry the file only in its still twin.
    let found = FILES
        .iter()
        .find(|(field, ..)| wire::id(&message[*field]["file_id"]).is_some());
    let photo = message["photo"]
        .as_array()
        .filter(|sizes| !sizes.is_empty());
    let live = |field: &str| field == "live_photo";
    match (found, photo) {
        (Some((field, kind, mime)), _) if photo.is_none() || live(field) => {
            fact.media.push(medium(&message[*field], *kind, *mime));
            Some(*kind)
        }
        (_, Some(sizes)) => {
            // All sizes of one picture; the largest is the picture.
            let area = |size: &&Value| {
                let side = |name: &str| wire::count(&size[name]).unwrap_or_default();
                side("width").saturating_mul(side("height"))
            };
            let largest = sizes.iter().max_by_key(area)?;
            fact.media
                .push(medium(largest, ContentKind::Image, Some("image/jpeg")));
            Some(ContentKind::Image)
        }
        _ => sticker(&message["sticker"], fact),
    }
}

fn sticker(sticker: &Value, fact: &mut Fact) -> Option<ContentKind> {
    if !sticker.is_object() {
        return None;
    }
    let is = |flag: &str| sticker[flag] == Value::Bool(true);
    let mime = match (is("is_video"), is("is_animated")) {
        (true, _) => "video/webm",
        // A gzipped Lottie animation.
        (_, true) => "application/x-tgsticker",
        _ => "image/webp",
    };
    fact.media
        .push(medium(sticker, ContentKind::Sticker, Some(mime)));
    let about = json!({ "emoji": sticker["emoji"], "set_name": sticker["set_name"] });
    fact.detail.insert("sticker".into(), about);
    Some(ContentKind::Sticker)
}

fn medium(file: &Value, kind: ContentKind, mime: Option<&str>) -> Media {
    let size = wire::count(&file["file_size"]);
    Media {
        kind: Some(kind),
        url: None,
        file_id: wire::id(&file["file_id"]),
        unique_id: wire::id(&file["file_unique_id"]),
        mime: wire::filled(&file["mime_type"]).or_else(|| mime.map(str::to_owned)),
        name: wire::filled(&file["file_name"]),
        size,
        duration_s: wire::count(&file["duration"]),
        available: size
            .filter(|size| *size > DOWNLOAD_BYTES_MAX)
            .map(|_| false),
    }
}

/// Content without a file.
fn other(message: &Value, fact: &mut Fact) -> Option<ContentKind> {
    let detail = &mut fact.detail;
    if message["paid_media"].is_object() {
        let stars = wire::int(&message["paid_media"]["star_count"]);
        detail.insert("paid_media".into(), json!({ "stars": stars }));
        return Some(ContentKind::Unsupported);
    }
    if message["story"].is_object() {
        let story = &message["story"];
        let (chat, id) = (wire::id(&story["chat"]["id"]), wire::id(&story["id"]));
        let share = json!({ "type": "story", "chat": chat, "id": id });
        detail.insert("share".into(), share);
        return Some(ContentKind::Share);
    }
    if message["contact"].is_object() {
        let contact = &message["contact"];
        let card = json!({
            "phone": contact["phone_number"],
            "first_name": contact["first_name"],
            "last_name": contact["last_name"],
            "user_id": wire::id(&contact["user_id"]),
            "vcard": contact["vcard"],
        });
        detail.insert("contact".into(), card);
        return Some(ContentKind::Contact);
    }
    if message["venue"].is_object() || message["location"].is_object() {
        detail.insert("location".into(), location(message));
        return Some(ContentKind::Location);
    }
    let told = TOLD.iter().find(|field| !message[**field].is_null())?;
    detail.insert("unsupported".into(), (*told).into());
    fact.text = Some(told_as(told, &message[*told]));
    Some(ContentKind::Unsupported)
}

/// A place: of a venue with its name, or bare, possibly moving.
fn location(message: &Value) -> Value {
    let venue = &message["venue"];
    let place = if venue["location"].is_object() {
        &venue["location"]
    } else {
        &message["location"]
    };
    let mut location = Map::new();
    wire::keep_raw(&mut location, "lat", &place["latitude"]);
    wire::keep_raw(&mut location, "lon", &place["longitude"]);
    wire::keep(&mut location, "title", wire::filled(&venue["title"]));
    wire::keep(&mut location, "address", wire::filled(&venue["address"]));
    wire::keep(&mut location, "live_s", wire::count(&place["live_period"]));
    wire::keep_raw(&mut location, "heading", &place["heading"]);
    wire::keep_raw(&mut location, "accuracy_m", &place["horizontal_accuracy"]);
    Value::Object(location)
}

/// The line that stands for something the hub cannot show.
fn told_as(field: &str, value: &Value) -> String {
    let name = ["question", "title"]
        .iter()
        .find_map(|key| wire::filled(&value[*key]));
    let rolled = || {
        let emoji = wire::filled(&value["emoji"])?;
        Some(format!("{emoji} {}", wire::int(&value["value"])?))
    };
    name.or_else(rolled)
        .unwrap_or_else(|| field.replace('_', " "))
}

/// The texts of a rich message in reading order.
fn plain_text(value: &Value, words: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match wire::filled(field) {
                    Some(text) if name == "text" => words.push(text),
                    _ => plain_text(field, words),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| plain_text(item, words)),
        _ => {}
    }
}

/// Keeps the entities that are known and lie inside the text, each with the part it covers.
fn keep_entities(entities: &Value, of: &str, detail: &mut Map<String, Value>) {
    let known: Vec<Value> = wire::items(entities)
        .iter()
        .filter_map(|entity| {
            let kind = entity["type"]
                .as_str()
                .filter(|kind| ENTITIES.contains(kind))?;
            let offset = usize::try_from(wire::count(&entity["offset"])?).ok()?;
            let length = usize::try_from(wire::count(&entity["length"])?).ok()?;
            let mut kept = Map::new();
            let part = text::utf16_slice(of, offset, length)?;
            wire::keep(&mut kept, "type", Some(kind));
            wire::keep(&mut kept, "offset", Some(offset));
            wire::keep(&mut kept, "length", Some(length));
            wire::keep(&mut kept, "text", Some(part));
            wire::keep(&mut kept, "url", wire::filled(&entity["url"]));
            wire::keep(&mut kept, "language", wire::filled(&entity["language"]));
            wire::keep(&mut kept, "user_id", wire::id(&entity["user"]["id"]));
            wire::keep(
                &mut kept,
                "custom_emoji_id",
                wire::id(&entity["custom_emoji_id"]),
            );
            Some(Value::Object(kept))
        })
        .collect();
    wire::keep(
        detail,
        "entities",
        Some(known).filter(|known| !known.is_empty()),
    );
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
    fn what_cannot_be_shown_is_told() {
        for (message, line) in [
            (json!({"dice": {"emoji": "🎲", "value": 4}}), "🎲 4"),
            (json!({"poll": {"question": "Tea?"}}), "Tea?"),
            (json!({"invoice": {"title": "Teapot"}}), "Teapot"),
            (json!({"giveaway_winners": {}}), "giveaway winners"),
        ] {
            let fact = read_message(message);
            assert_eq!(fact.content, Some(ContentKind::Unsupported));
            assert_eq!(fact.text.as_deref(), Some(line));
        }
    }

    #[test]
    fn twins_are_read_once() {
        let sizes = json!([{"file_id": "s", "width": 1, "height": 1},
            {"file_id": "l", "width": 9, "height": 9}, {"file_id": "m", "width": 3, "height": 3}]);
        let fact = read_message(json!({"photo": sizes}));
        assert_eq!(fact.media[0].file_id.as_deref(), Some("l"));
        let fact = read_message(json!({"live_photo": {"file_id": "v"}, "photo": sizes}));
        assert_eq!(
            (fact.media.len(), fact.content),
            (1, Some(ContentKind::Video))
        );
        let fact = read_message(json!({"live_photo": {}, "photo": sizes}));
        assert_eq!(
            (fact.media.len(), fact.content),
            (1, Some(ContentKind::Image))
        );
    }

    #[test]
    fn kinds_of_stickers() {
        for (flags, mime) in [
            (json!({}), "image/webp"),
            (json!({"is_video": true}), "video/webm"),
            (json!({"is_animated": true}), "application/x-tgsticker"),
        ] {
            let fact = read_message(json!({"sticker": flags}));
            assert_eq!(fact.media[0].mime.as_deref(), Some(mime));
        }
    }

    #[test]
    fn the_plain_text_of_a_rich_message() {
        let blocks = json!([{"type": "paragraph", "text": "one"}, {"text": [{"text": "two"}]}]);
        let fact = read_message(json!({"rich_message": {"blocks": blocks}}));
        assert_eq!(fact.text.as_deref(), Some("one\ntwo"));
        assert_eq!(fact.content, Some(ContentKind::Text));
    }

    #[test]
    fn entities_outside_the_text_are_left_out() {
        let entity =
            |offset: u64, length: u64| json!({"type": "bold", "offset": offset, "length": length});
        let entities = json!([
            entity(0, 1),
            entity(1, 1),
            entity(9, 1),
            entity(u64::MAX, 1)
        ]);
        let fact = read_message(json!({"text": "a😀", "entities": entities}));
        assert_eq!(wire::items(&fact.detail["entities"]).len(), 1);
    }
}
