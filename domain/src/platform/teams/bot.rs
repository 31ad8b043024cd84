//! What bots and outgoing webhooks of a team are sent: activities of the Bot Framework.
//!
//! Nobody connects a bot here, so no delivery of this kind is accepted ([`super::notice::verify`]
//! wants our word in it); kept bodies are read, for instance by `hub translate`.

use serde_json::Value;

use super::graph;
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind, Media};
use crate::platform::wire;

/// The event that tells how far a person has read.
const READ_RECEIPT: &str = "application/vnd.microsoft.readReceipt";

/// A file somebody gives to a bot.
const FILE: &str = "application/vnd.microsoft.teams.file.download.info";

/// Reads one activity.
pub fn read(activity: &Value) -> Vec<Fact> {
    let facts = match activity["type"].as_str().unwrap_or_default() {
        "message" => message(activity, FactKind::MessageReceived),
        "messageUpdate" => message(activity, FactKind::MessageEdited),
        "messageDelete" => deleted(activity),
        "messageReaction" => reactions(activity),
        "conversationUpdate" | "installationUpdate" => Some(vec![updated(activity)]),
        "typing" => Some(vec![typing(activity)]),
        "event" if activity["name"] == READ_RECEIPT => read_receipt(activity),
        "invoke" | "endOfConversation" => {
            let kind = activity["type"].as_str().unwrap_or_default();
            Some(vec![wire::ignored(None, kind, activity)])
        }
        _ => None,
    };
    facts.unwrap_or_else(|| vec![wire::unknown(None, activity)])
}

fn fact(activity: &Value, kind: FactKind) -> Fact {
    let mut fact = Fact::new(kind);
    fact.account = wire::id(&activity["recipient"]["id"]);
    fact.conversation = wire::id(&activity["conversation"]["id"]);
    fact.thread = fact.conversation.clone();
    fact.sender = wire::id(&activity["from"]["id"]);
    fact.sender_name = wire::filled(&activity["from"]["name"]);
    fact.direction = Some(Direction::Inbound);
    fact.ts_ms = graph::time_ms(&activity["timestamp"]);
    let person = wire::id(&activity["from"]["aadObjectId"]);
    wire::keep(&mut fact.detail, "person", person);
    let service = wire::filled(&activity["serviceUrl"]);
    wire::keep(&mut fact.detail, "service", service);
    fact
}

fn message(activity: &Value, kind: FactKind) -> Option<Vec<Fact>> {
    let id = wire::id(&activity["id"])?;
    let mut fact = fact(activity, kind);
    let text = said(activity);
    fact.media = wire::items(&activity["attachments"])
        .iter()
        .filter_map(medium)
        .collect();
    let first = fact.media.first().and_then(|medium| medium.kind);
    fact.content = first.or(Some(if text.is_empty() {
        ContentKind::Unsupported
    } else {
        ContentKind::Text
    }));
    fact.text = Some(text).filter(|text| !text.is_empty());
    fact.dedup.clone_from(&id);
    if kind == FactKind::MessageEdited {
        // Nothing in an edit numbers it.
        fact.dedup = wire::digest(&[&id, fact.text.as_deref().unwrap_or_default()]);
        fact.target = Some(id.clone());
    }
    fact.message_id = Some(id);
    Some(vec![fact])
}

/// The text without the mention that made it reach us, which the activity spells out.
fn said(activity: &Value) -> String {
    let mut text = wire::text(&activity["text"]).unwrap_or_default();
    let us = &activity["recipient"]["id"];
    for entity in wire::items(&activity["entities"]) {
        let ours = us.is_null() || entity["mentioned"]["id"] == *us;
        if entity["type"] == "mention"
            && ours
            && let Some(mention) = wire::filled(&entity["text"])
        {
            text = text.replace(&mention, "");
        }
    }
    text.replace("&nbsp;", " ").trim().to_owned()
}

/// A file, or a picture, which is had with the bot's token only. The text's rich twin is neither.
fn medium(attachment: &Value) -> Option<Media> {
    let kind = attachment["contentType"].as_str().unwrap_or_default();
    let content = &attachment["content"];
    let mut medium = Media {
        name: wire::filled(&attachment["name"]),
        ..Media::default()
    };
    if kind == FILE {
        medium.kind = Some(ContentKind::File);
        medium.url = wire::filled(&content["downloadUrl"]);
        medium.unique_id = wire::filled(&content["uniqueId"]);
    } else if kind.starts_with("image/") {
        medium.kind = Some(ContentKind::Image);
        medium.url = wire::filled(&attachment["contentUrl"]);
        medium.mime = Some(kind.to_owned()).filter(|mime| !mime.ends_with('*'));
        medium.available = Some(false);
    } else {
        return None;
    }
    Some(medium)
}

fn typing(activity: &Value) -> Fact {
    let mut fact = fact(activity, FactKind::TypingStarted);
    fact.dedup = wire::content_digest(activity);
    fact
}

/// Everything up to this message.
fn read_receipt(activity: &Value) -> Option<Vec<Fact>> {
    let last = wire::id(&activity["value"]["lastReadMessageId"])?;
    let mut fact = fact(activity, FactKind::ReceiptRead);
    let reader = fact.sender.as_deref().unwrap_or_default();
    fact.dedup = wire::digest(&[reader, &last]);
    // Ids are the moments messages were made at.
    fact.watermark_ms = wire::time_ms(&activity["value"]["lastReadMessageId"]);
    fact.target = Some(last);
    Some(vec![fact])
}

fn deleted(activity: &Value) -> Option<Vec<Fact>> {
    let id = wire::id(&activity["id"])?;
    let mut fact = fact(activity, FactKind::MessageDeleted);
    fact.dedup.clone_from(&id);
    fact.message_id = Some(id.clone());
    fact.target = Some(id);
    Some(vec![fact])
}

/// Adding and removing may share the activity's id, so the content tells them apart.
fn reactions(activity: &Value) -> Option<Vec<Fact>> {
    let target = wire::id(&activity["replyToId"])?;
    let mut facts = Vec::new();
    for (list, kind) in [
        ("reactionsAdded", FactKind::ReactionAdded),
        ("reactionsRemoved", FactKind::ReactionRemoved),
    ] {
        for reaction in wire::items(&activity[list]) {
            let mut fact = fact(activity, kind);
            let name = wire::filled(&reaction["type"]);
            fact.dedup = wire::digest(&[
                &activity["id"].to_string(),
                &target,
                list,
                name.as_deref().unwrap_or_default(),
            ]);
            fact.emoji = name;
            fact.target = Some(target.clone());
            facts.push(fact);
        }
    }
    (!facts.is_empty()).then_some(facts)
}

fn updated(activity: &Value) -> Fact {
    let mut fact = fact(activity, FactKind::ConversationUpdated);
    fact.dedup = wire::content_digest(activity);
    let event = wire::filled(&activity["channelData"]["eventType"]);
    let event = event.or_else(|| wire::filled(&activity["action"]));
    wire::keep(&mut fact.detail, "event", event);
    fact
}
