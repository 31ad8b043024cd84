//! What a member's message is made of: text in one of two formats, and media from four places.
//!
//! `LITTLE` is LinkedIn's "little text format": mentions `@[Name](urn)`, media `{audio|urn}`, and a
//! backslash before characters that mean something to it. The fallback is the same as plain text.

use serde_json::Value;

use crate::platform::fact::{ContentKind, Fact, Media};
use crate::platform::wire;

/// What a GIF lies under.
const GIF: &str = "com.linkedin.messaging.plugin.content.ThirdPartyMedia";

/// What names a medium rather than a person.
pub(super) const ASSET: &str = "urn:li:digitalmediaAsset:";

/// Fills in text and media from the `activity` of a message.
pub fn read(activity: &Value, fact: &mut Fact) {
    fact.text = text(activity);
    let markup = activity["content"]["content"]["string"]
        .as_str()
        .unwrap_or_default();
    let placeholders = if is_little(activity) {
        little(markup).placeholders
    } else {
        Vec::new()
    };
    let lists = [
        &activity["attachments"],
        &activity["content"]["attachments"],
        &activity["contentUrns"],
    ];
    let given = lists.into_iter().flat_map(wire::items).filter_map(asset);
    let named = placeholders.iter().map(|(_, urn)| urn.clone());
    let mut seen: Vec<String> = Vec::new();
    for urn in given.chain(named) {
        if seen.contains(&urn) {
            continue;
        }
        let word = placeholders.iter().find(|(_, of)| *of == urn);
        let kind = kind_of(word.map_or("", |(word, _)| word.as_str()));
        fact.media.push(Media {
            kind: Some(kind),
            url: Some(urn.clone()).filter(|urn| urn.starts_with("https://")),
            file_id: Some(urn.clone()).filter(|urn| !urn.starts_with("https://")),
            ..Media::default()
        });
        seen.push(urn);
    }
    gif(activity, fact);
    let first = fact.media.first().and_then(|media| media.kind);
    let text = fact.text.as_ref().map(|_| ContentKind::Text);
    fact.content = Some(first.or(text).unwrap_or(ContentKind::Unsupported));
}

/// The plain text of a message.
pub fn text(activity: &Value) -> Option<String> {
    let content = &activity["content"];
    let markup = wire::filled(&content["content"]["string"]);
    // Markup that was copied into the fallback is still markup.
    let fallback = wire::filled(&content["fallback"]);
    let fallback = fallback.filter(|text| !is_little(activity) || markup.as_ref() != Some(text));
    let plain = markup.map(|markup| match is_little(activity) {
        true => little(&markup).plain,
        false => markup,
    });
    fallback.or(plain).filter(|text| !text.trim().is_empty())
}

fn is_little(activity: &Value) -> bool {
    activity["content"]["format"] == "LITTLE"
}

/// A medium's URN or address: bare, or inside an object.
fn asset(value: &Value) -> Option<String> {
    let names = ["urn", "id", "media", "asset", "url", "reference"];
    let named = || names.iter().find_map(|name| wire::id(&value[*name]));
    wire::id(value)
        .or_else(named)
        .filter(|urn| urn.starts_with(ASSET) || urn.starts_with("https://"))
}

fn kind_of(word: &str) -> ContentKind {
    match word {
        "audio" => ContentKind::Audio,
        "video" => ContentKind::Video,
        "image" => ContentKind::Image,
        // Nobody says before it is downloaded.
        _ => ContentKind::File,
    }
}

/// One medium with several renditions, of which the largest is called plainly `gif`; where there is
/// none of that name, the widest.
fn gif(activity: &Value, fact: &mut Fact) {
    let record = &activity["extensionContent"]["contentRecordMap"]["ThirdPartyMedia"];
    let clip = &record["contentRecord"][GIF];
    let renditions = clip["media"].as_object();
    let widest = || {
        let all = renditions?.values().filter(|it| it["url"].is_string());
        all.max_by_key(|it| wire::count(&it["width"]).unwrap_or_default())
    };
    let named = renditions.and_then(|all| all.get("gif"));
    let Some(url) = named
        .or_else(widest)
        .and_then(|it| wire::filled(&it["url"]))
    else {
        return;
    };
    fact.media.push(Media {
        kind: Some(ContentKind::Animation),
        url: Some(url),
        unique_id: wire::id(&clip["id"]),
        ..Media::default()
    });
}

/// Little text, read.
#[derive(Default)]
struct Little {
    plain: String,
    /// Kind and URN.
    placeholders: Vec<(String, String)>,
}

fn little(markup: &str) -> Little {
    let mut read = Little::default();
    let mut rest = markup;
    while let Some(first) = rest.chars().next() {
        let mut after = &rest[first.len_utf8()..];
        match first {
            '\\' => {
                if let Some(escaped) = after.chars().next() {
                    read.plain.push(escaped);
                    after = &after[escaped.len_utf8()..];
                }
            }
            '@' if after.starts_with('[') => match until(&after[1..], "](") {
                Some((name, rest)) => match until(rest, ")") {
                    Some((_, rest)) => {
                        read.plain.push('@');
                        read.plain.push_str(&unescaped(name));
                        after = rest;
                    }
                    None => read.plain.push('@'),
                },
                None => read.plain.push('@'),
            },
            '{' => match until(after, "}") {
                Some((inside, rest)) => {
                    if let Some((word, urn)) = inside.split_once('|') {
                        read.placeholders.push((word.to_owned(), unescaped(urn)));
                    }
                    after = rest;
                }
                None => read.plain.push('{'),
            },
            other => read.plain.push(other),
        }
        rest = after;
    }
    read
}

/// What comes before the first unescaped `end`, and what after it.
fn until<'a>(text: &'a str, end: &str) -> Option<(&'a str, &'a str)> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if text[at..].starts_with(end) {
            return Some((&text[..at], &text[at + end.len()..]));
        } else {
            escaped = letter == '\\';
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' {
            letters.next()
        } else {
            Some(letter)
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn little_text() {
        for (markup, plain) in [
            ("plain", "plain"),
            (
                r"ping @[Dana \[F\] Fox](urn:li:person:D\_x) now",
                "ping @Dana [F] Fox now",
            ),
            (r"a \@ b \{c\} \\ d \_e", r"a @ b {c} \ d _e"),
            (r"{video|urn:li:digitalmediaAsset:V}look", "look"),
            ("open @[name", "open @[name"),
            ("@[a](b", "@[a](b"),
            ("{open", "{open"),
            (r"end \", "end "),
            ("mail me@example.org", "mail me@example.org"),
        ] {
            assert_eq!(little(markup).plain, plain, "{markup}");
        }
    }

    #[test]
    fn the_fallback_wins_unless_it_is_empty() {
        let activity = |fallback: &str| {
            json!({"content": {"format": "LITTLE", "fallback": fallback,
                "content": {"string": "@[Dana](urn:li:person:D) hi"}}})
        };
        assert_eq!(text(&activity("plain")).unwrap(), "plain");
        assert_eq!(text(&activity("")).unwrap(), "@Dana hi");
        let copied = json!({"content": {"format": "LITTLE", "fallback": "{audio|urn:x}",
            "content": {"string": "{audio|urn:x}"}}});
        assert_eq!(text(&copied), None);
        let literal = json!({"content": {"format": "TEXT", "content": {"string": "@[x](y)"}}});
        assert_eq!(text(&literal).unwrap(), "@[x](y)");
        assert_eq!(text(&json!({})), None);
    }

    #[test]
    fn a_clip_without_its_usual_rendition() {
        let activity = json!({"extensionContent": {"contentRecordMap": {"ThirdPartyMedia": {
            "contentRecord": {GIF: {"id": "g", "media": {
                "nanogif": {"url": "https://n.example", "width": 10},
                "mediumgif": {"url": "https://m.example", "width": 200},
                "mp4": {"width": 900}}}}}}}});
        let mut fact = Fact::new(crate::platform::fact::FactKind::MessageReceived);
        read(&activity, &mut fact);
        assert_eq!(fact.content, Some(ContentKind::Animation));
        assert_eq!(fact.media[0].url.as_deref(), Some("https://m.example"));
    }

    #[test]
    fn a_medium_named_twice_is_one() {
        let urn = "urn:li:digitalmediaAsset:C4";
        let activity = json!({"attachments": [urn, {"id": urn}], "contentUrns": [urn, "urn:li:person:P"],
            "content": {"attachments": [{"urn": "urn:li:digitalmediaAsset:C5"}, 7, null]}});
        let mut fact = Fact::new(crate::platform::fact::FactKind::MessageReceived);
        read(&activity, &mut fact);
        let files: Vec<_> = fact
            .media
            .iter()
            .map(|media| media.file_id.clone().unwrap())
            .collect();
        assert_eq!(files, [urn, "urn:li:digitalmediaAsset:C5"]);
        assert_eq!(fact.content, Some(ContentKind::File));
    }
}
