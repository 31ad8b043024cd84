//! What is attached to a message: files, quoted and forwarded messages, cards.
//!
//! `content` of these is JSON inside a string, and its fields vary: what is missing is missing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{graph, html};
use crate::platform::fact::{ContentKind, Fact, Media};
use crate::platform::wire;

/// Text blocks looked at in a card.
const BLOCKS_MAX: usize = 1_000;

/// Adds one attachment to the fact and says what it makes the message; `None` for one that only
/// accompanies the text.
pub fn read(attachment: &Value, fact: &mut Fact) -> Option<ContentKind> {
    let kind = attachment["contentType"].as_str().unwrap_or_default();
    let content = content(&attachment["content"]);
    match kind {
        "reference" | "application/vnd.microsoft.teams.file.download.info" => {
            fact.media.push(file(attachment));
            Some(ContentKind::File)
        }
        "messageReference" => {
            let quoted = wire::id(&content["messageId"]).or_else(|| wire::id(&attachment["id"]));
            if fact.reply_to.is_none() {
                fact.reply_to = quoted;
            } else {
                wire::keep(&mut fact.detail, "also_quoted", quoted);
            }
            None
        }
        "forwardedMessageReference" => {
            forwarded(&content, fact);
            None
        }
        // The text of a message in another form.
        "text/html" => None,
        kind if kind.starts_with("application/vnd.microsoft.card.")
            || kind.starts_with("application/vnd.microsoft.teams.card.") =>
        {
            fact.detail.insert("card".into(), kind.into());
            let words = words(&content).or_else(|| wire::filled(&attachment["name"]));
            add_text(fact, words);
            Some(ContentKind::Template)
        }
        kind if kind.starts_with("image/") => {
            fact.media.push(Media {
                kind: Some(ContentKind::Image),
                mime: Some(kind.to_owned()),
                url: wire::filled(&attachment["contentUrl"]),
                name: wire::filled(&attachment["name"]),
                ..Media::default()
            });
            Some(ContentKind::Image)
        }
        other => {
            fact.detail.insert("attachment_type".into(), other.into());
            wire::keep(
                &mut fact.detail,
                "attachment_name",
                wire::filled(&attachment["name"]),
            );
            Some(ContentKind::Unsupported)
        }
    }
}

/// Adds a line of text to a message.
pub fn add_text(fact: &mut Fact, words: Option<String>) {
    let Some(words) = words.filter(|words| !words.is_empty()) else {
        return;
    };
    let text = fact.text.take().filter(|text| !text.is_empty());
    fact.text = Some(match text {
        Some(text) => format!("{text}\n{words}"),
        None => words,
    });
}

/// The content: an object, or an object written as a string.
fn content(value: &Value) -> Value {
    match value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    }
}

/// A file in somebody's drive. It is had through the shares of Graph: a token must never go to the
/// address itself, which anybody may have written.
fn file(attachment: &Value) -> Media {
    Media {
        kind: Some(ContentKind::File),
        file_id: wire::filled(&attachment["contentUrl"]).map(|url| share_id(&url)),
        unique_id: wire::id(&attachment["id"]),
        name: wire::filled(&attachment["name"]),
        ..Media::default()
    }
}

/// The name of an address among Graph's shares.
pub fn share_id(url: &str) -> String {
    format!("u!{}", URL_SAFE_NO_PAD.encode(url))
}

fn forwarded(content: &Value, fact: &mut Fact) {
    let original = html::read(
        content["originalMessageContent"]
            .as_str()
            .unwrap_or_default(),
    );
    fact.detail.insert(
        "forwarded".into(),
        json!({
            "message": wire::id(&content["originalMessageId"]),
            "conversation": wire::id(&content["originalConversationId"]),
            "sender": wire::id(&content["originalMessageSender"]["user"]["id"]),
            "sent_ms": graph::time_ms(&content["originalSentDateTime"]),
        }),
    );
    add_text(fact, Some(original.text));
}

/// The words of a card, in order: of an adaptive one its text blocks, of others title and text.
fn words(card: &Value) -> Option<String> {
    let mut lines = Vec::new();
    for name in ["title", "subtitle", "summary", "text"] {
        lines.extend(wire::filled(&card[name]));
    }
    let mut left: Vec<&Value> = wire::items(&card["body"]).iter().rev().collect();
    for _ in 0..BLOCKS_MAX {
        let Some(block) = left.pop() else { break };
        if block["type"] == "TextBlock" {
            lines.extend(wire::filled(&block["text"]));
        }
        for name in ["columns", "items"] {
            left.extend(wire::items(&block[name]).iter().rev());
        }
    }
    Some(lines.join("\n")).filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_tell_their_words() {
        let nested = json!({"type": "AdaptiveCard", "body": [
            {"type": "TextBlock", "text": "one"},
            {"type": "ColumnSet", "columns": [
                {"type": "Column", "items": [{"type": "TextBlock", "text": "two"}]},
                {"type": "Column", "items": [{"type": "Image"}, {"type": "TextBlock", "text": "three"}]}]}]});
        assert_eq!(words(&nested).as_deref(), Some("one\ntwo\nthree"));
        let hero = json!({"title": "T", "subtitle": "S", "text": "x"});
        assert_eq!(words(&hero).as_deref(), Some("T\nS\nx"));
        assert_eq!(words(&json!("{")), None);
    }

    #[test]
    fn the_documented_share() {
        let url = "https://northwind-my.sharepoint.com/personal/mira/Documents/order%2042.pdf";
        assert_eq!(
            share_id(url),
            "u!aHR0cHM6Ly9ub3J0aHdpbmQtbXkuc2hhcmVwb2ludC5jb20vcGVyc29uYWwvbWlyYS9Eb2N1bWVudHMvb3JkZXIlMjA0Mi5wZGY"
        );
    }
}
