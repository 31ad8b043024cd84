//! From a message as Graph shows it to facts.
//!
//! A message is seen many times, each time as it is then; nobody remembers here what it was before.
//! So every look tells all there is: that it was written, its newest edit, its deletion, each
//! reaction. Keys made of the platform's ids and times make a fact happen once: a reaction moves
//! `lastModifiedDateTime` but no text, and does not look like an edit. What Graph shows no longer
//! (a reaction taken back) is in `messageHistory`, which Graph does not promise to be complete; that
//! a deletion was undone is told nowhere.

use serde_json::Value;

use super::{card, graph, html};
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind, Media};
use crate::platform::{App, wire};

/// Where a message is: its chat, or the thread of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name in the platform's documents.
    pub conversation: String,
    /// The hub's thread: what messages are sent to.
    pub thread: String,
}

/// A chat.
pub fn chat(id: &str) -> Place {
    Place {
        conversation: id.to_owned(),
        thread: id.to_owned(),
    }
}

/// The thread that begins with this message of a channel. Replies go to a path, which names it.
pub fn channel(team: &str, channel: &str, root: &str) -> Place {
    Place {
        conversation: format!("{channel};messageid={root}"),
        thread: format!("teams/{team}/channels/{channel}/messages/{root}"),
    }
}

/// Reads one message, and the replies that came with it. `account` is the person it was fetched for.
pub fn read(app: &App, account: Option<&str>, message: &Value) -> Vec<Fact> {
    let read = |message| {
        let look = Look {
            app,
            account,
            message,
        };
        look.read()
            .unwrap_or_else(|| vec![wire::unknown(None, message)])
    };
    let replies = wire::items(&message["replies"]);
    std::iter::once(message)
        .chain(replies)
        .flat_map(read)
        .collect()
}

struct Look<'a> {
    app: &'a App,
    account: Option<&'a str>,
    message: &'a Value,
}

impl Look<'_> {
    /// `None` when it has no id or place.
    fn read(&self) -> Option<Vec<Fact>> {
        let message = self.message;
        let id = wire::id(&message["id"])?;
        let place = self.place(&id)?;
        let kind = message["messageType"].as_str().unwrap_or_default();
        if kind == "typing" {
            return Some(vec![wire::ignored(None, kind, message)]);
        }
        if kind != "message" {
            let happened = matches!(kind, "systemEventMessage" | "chatEvent")
                || message["eventDetail"].is_object();
            return happened.then(|| vec![self.happened(&id, &place)]);
        }
        let deleted = graph::time_ms(&message["deletedDateTime"]);
        if deleted.is_some() || self.is_withheld() {
            return Some(vec![self.deleted(&id, &place, deleted)]);
        }
        let mut facts = vec![self.written(&id, &place)];
        let edited = graph::time_ms(&message["lastEditedDateTime"]);
        facts.extend(edited.map(|at| self.edited(&facts[0], at)));
        facts.extend(self.reactions(&id, &place));
        Some(facts)
    }

    fn place(&self, id: &str) -> Option<Place> {
        let message = self.message;
        if let Some(chat_id) = wire::id(&message["chatId"]) {
            return Some(chat(&chat_id));
        }
        let identity = &message["channelIdentity"];
        let root = wire::id(&message["replyToId"]).unwrap_or_else(|| id.to_owned());
        Some(channel(
            &wire::id(&identity["teamId"])?,
            &wire::id(&identity["channelId"])?,
            &root,
        ))
    }

    fn fact(&self, kind: FactKind, place: &Place) -> Fact {
        let mut fact = Fact::new(kind);
        fact.account = self.account.map(str::to_owned);
        fact.conversation = Some(place.conversation.clone());
        fact.thread = Some(place.thread.clone());
        fact
    }

    /// The person wrote it, or somebody else did.
    fn signed(&self, mut fact: Fact) -> Fact {
        let sender = sender(&self.message["from"]);
        let ours = is_person(&sender.id, self.account);
        fact.direction = Some(if ours {
            Direction::Outbound
        } else {
            Direction::Inbound
        });
        if let Some(kind) = sender.application {
            // So that nobody answers a machine automatically.
            fact.detail.insert("sender_kind".into(), kind.into());
        }
        fact.sender = sender.id;
        fact.sender_name = sender.name;
        fact
    }

    fn written(&self, id: &str, place: &Place) -> Fact {
        let message = self.message;
        let ours = is_person(&sender(&message["from"]).id, self.account);
        let kind = if ours {
            FactKind::MessageEchoed
        } else {
            FactKind::MessageReceived
        };
        let mut fact = self.signed(self.fact(kind, place));
        fact.message_id = Some(id.to_owned());
        id.clone_into(&mut fact.dedup);
        fact.ts_ms = graph::time_ms(&message["createdDateTime"]);
        self.content(&mut fact);
        let detail = &mut fact.detail;
        let importance = wire::filled(&message["importance"]);
        wire::keep(
            detail,
            "importance",
            importance.filter(|importance| importance != "normal"),
        );
        wire::keep(detail, "subject", wire::filled(&message["subject"]));
        let mentioned = mentioned(&message["mentions"], self.account);
        wire::keep(
            detail,
            "mentions",
            Some(mentioned).filter(|it| !it.is_empty()),
        );
        fact
    }

    fn content(&self, fact: &mut Fact) {
        let body = &self.message["body"];
        let content = wire::text(&body["content"]).unwrap_or_default();
        let mut first = None;
        if body["contentType"] == "html" {
            let read = html::read(&content);
            for url in read.pictures {
                let available = (!graph::is_ours(self.app, &url)).then_some(false);
                fact.media.push(Media {
                    kind: Some(ContentKind::Image),
                    url: Some(url),
                    available,
                    ..Media::default()
                });
                first = Some(ContentKind::Image);
            }
            card::add_text(fact, Some(read.text));
        } else {
            card::add_text(fact, Some(content));
        }
        for attachment in wire::items(&self.message["attachments"]) {
            let kind = card::read(attachment, fact);
            first = first.or(kind);
        }
        let text = fact.text.as_ref().map(|_| ContentKind::Text);
        fact.content = first.or(text).or(Some(ContentKind::Unsupported));
    }

    fn edited(&self, written: &Fact, at: i64) -> Fact {
        let mut fact = Fact {
            kind: FactKind::MessageEdited,
            ts_ms: Some(at),
            target: written.message_id.clone(),
            detail: serde_json::Map::new(),
            media: Vec::new(),
            ..written.clone()
        };
        fact.dedup = format!("{}:{at}", written.dedup);
        fact
    }

    /// A policy of the organisation took the content away.
    fn is_withheld(&self) -> bool {
        let action = self.message["policyViolation"]["dlpAction"].as_str();
        action.is_some_and(|action| action.to_lowercase().contains("blockaccess"))
    }

    fn deleted(&self, id: &str, place: &Place, at: Option<i64>) -> Fact {
        let mut fact = self.signed(self.fact(FactKind::MessageDeleted, place));
        fact.detail.clear();
        fact.ts_ms = at.or_else(|| graph::time_ms(&self.message["lastModifiedDateTime"]));
        fact.message_id = Some(id.to_owned());
        fact.target = Some(id.to_owned());
        // As a notification of the deletion has it, which knows no time.
        id.clone_into(&mut fact.dedup);
        fact
    }

    /// What is there now, and what is known to have been taken back.
    fn reactions(&self, id: &str, place: &Place) -> Vec<Fact> {
        let now = wire::items(&self.message["reactions"]);
        let added = now
            .iter()
            .filter_map(|reaction| self.reaction(id, place, reaction, None));
        let history = wire::items(&self.message["messageHistory"]);
        let removed = history.iter().filter_map(|entry| {
            let actions = entry["actions"].as_str().unwrap_or_default();
            if !actions.contains("reactionRemoved") {
                return None;
            }
            let at = graph::time_ms(&entry["modifiedDateTime"])?;
            self.reaction(id, place, &entry["reaction"], Some(at))
        });
        added.chain(removed).collect()
    }

    fn reaction(
        &self,
        id: &str,
        place: &Place,
        reaction: &Value,
        removed_at: Option<i64>,
    ) -> Option<Fact> {
        let name = wire::filled(&reaction["reactionType"])?;
        let label = wire::filled(&reaction["displayName"]).filter(|_| name == "custom");
        let kind = if removed_at.is_some() {
            FactKind::ReactionRemoved
        } else {
            FactKind::ReactionAdded
        };
        let mut fact = self.fact(kind, place);
        let sender = sender(&reaction["user"]);
        fact.direction = Some(if is_person(&sender.id, self.account) {
            Direction::Outbound
        } else {
            Direction::Inbound
        });
        fact.sender = Some(sender.id?);
        fact.sender_name = sender.name;
        fact.ts_ms = removed_at.or_else(|| graph::time_ms(&reaction["createdDateTime"]));
        fact.target = Some(id.to_owned());
        fact.dedup = wire::digest(&[
            id,
            fact.sender.as_deref().unwrap_or_default(),
            &name,
            label.as_deref().unwrap_or_default(),
            &fact.ts_ms.unwrap_or_default().to_string(),
        ]);
        fact.emoji = Some(label.unwrap_or_else(|| emoji(&name).to_owned()));
        fact.detail.insert("reaction".into(), name.into());
        Some(fact)
    }

    /// A call, a new member, a new title: something that is no message.
    fn happened(&self, id: &str, place: &Place) -> Fact {
        let event = &self.message["eventDetail"];
        let mut fact = self.fact(FactKind::ConversationUpdated, place);
        let initiator = sender(&event["initiator"]);
        fact.sender = initiator.id;
        fact.sender_name = initiator.name;
        fact.message_id = Some(id.to_owned());
        id.clone_into(&mut fact.dedup);
        fact.ts_ms = graph::time_ms(&self.message["createdDateTime"]);
        let name = event["@odata.type"].as_str().unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or_default();
        let name = name.strip_suffix("EventMessageDetail").unwrap_or(name);
        fact.detail.insert("event".into(), name.into());
        wire::keep_raw(&mut fact.detail, "event_detail", event);
        fact
    }
}

/// Who did something: a person, an application or a device.
#[derive(Default)]
struct Sender {
    id: Option<String>,
    name: Option<String>,
    application: Option<String>,
}

fn sender(from: &Value) -> Sender {
    for (role, kind) in [
        ("user", None),
        ("application", Some("applicationIdentityType")),
        ("device", Some("deviceIdentityType")),
    ] {
        let identity = &from[role];
        if let Some(id) = wire::id(&identity["id"]) {
            let kind =
                kind.map(|kind| wire::filled(&identity[kind]).unwrap_or_else(|| role.to_owned()));
            return Sender {
                id: Some(id),
                name: wire::filled(&identity["displayName"]),
                application: kind,
            };
        }
    }
    Sender::default()
}

/// True for the account's own person. Ids of people are GUIDs, written either way.
fn is_person(id: &Option<String>, account: Option<&str>) -> bool {
    match (id, account) {
        (Some(id), Some(account)) => id.eq_ignore_ascii_case(account),
        _ => false,
    }
}

/// Who is mentioned, each once: a name of two words may be two mentions.
fn mentioned(mentions: &Value, account: Option<&str>) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for mention in wire::items(mentions) {
        let target = &mention["mentioned"];
        let found = ["user", "application", "conversation", "tag"]
            .into_iter()
            .find_map(|role| Some((role, wire::id(&target[role]["id"])?)));
        let Some((role, id)) = found else { continue };
        let us = is_person(&Some(id.clone()), account);
        let entry = serde_json::json!({ "role": role, "id": id, "us": us });
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    all
}

/// Old reactions have names, new ones are emoji.
fn emoji(name: &str) -> &str {
    match name {
        "like" => "👍",
        "heart" => "❤️",
        "laugh" => "😆",
        "surprised" => "😮",
        "sad" => "😢",
        "angry" => "😡",
        other => other,
    }
}
