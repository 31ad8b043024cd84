//! What bots and outgoing webhooks of a team are sent: activities of the Bot Framework.
//!
//! Nobody connects a bot here, so no delivery of this kind is accepted ([`super::notice::verify`]
//! wants our word in it); kept bodies are read, for instance by `hub translate`.

use serde_json::Value;

use super::graph;
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind};
use crate::platform::wire;

/// Reads one activity.
pub fn read(activity: &Value) -> Vec<Fact> {
    let facts = match activity["type"].as_str().unwrap_or_default() {
        "message" => message(activity, FactKind::MessageReceived),
        "messageUpdate" => message(activity, FactKind::MessageEdited),
        "messageDelete" => deleted(activity),
        "messageReaction" => reactions(activity),
        "conversationUpdate" | "installationUpdate" => Some(vec![updated(activity)]),
        "typing" => Some(vec![wire::ignored(None, "typing", activity)]),
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
    fact.content = Some(if text.is_empty() {
        ContentKind::Unsupported
    } else {
        ContentKind::Text
    });
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
