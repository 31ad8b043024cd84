//! One message, whoever wrote it.
//!
//! The content is under the name of its type. A type nobody knows still is a message somebody sent:
//! it becomes one that cannot be shown, with everything that was said about it.

use serde_json::{Value, json};

use super::person::{People, Person, sender};
pub use crate::platform::fact::Direction;
use crate::platform::fact::{ContentKind, Fact, FactKind, Media};
use crate::platform::wire;

/// A message with what its change says about it.
pub struct Message<'a> {
    pub people: &'a People,
    pub raw: &'a Value,
    /// The contacts beside it.
    pub contacts: &'a Value,
    pub account: Option<&'a str>,
    pub direction: Direction,
    /// The thread, where the change says it.
    pub thread: Option<String>,
    /// Another responder owns the conversation.
    pub standby: bool,
    /// It was written before the number was connected.
    pub history: bool,
}

/// The key of a conversation as the platform's document writes it.
pub fn conversation(fact: &Fact) -> Option<String> {
    let (account, thread) = (fact.account.as_ref()?, fact.thread.as_ref()?);
    Some(format!("{account}:{thread}"))
}

impl Message<'_> {
    /// The facts of it; at least one.
    pub fn read(&self) -> Vec<Fact> {
        let kind = self.raw["type"].as_str();
        let unknown = || vec![wire::unknown(self.account.map(str::to_owned), self.raw)];
        let (Some(id), Some(kind)) = (wire::id(&self.raw["id"]), kind) else {
            return unknown();
        };
        let content = &self.raw[kind];
        let facts = match kind {
            "system" => Some(vec![self.identity(id, content)]),
            "reaction" => self.reaction(id, content).map(|fact| vec![fact]),
            "edit" => self.edit(id, content).map(|fact| vec![fact]),
            "revoke" => self.revoke(id, content).map(|fact| vec![fact]),
            // The message itself follows under the same id.
            "request_welcome" | "media_placeholder" => {
                let account = self.account.map(str::to_owned);
                Some(vec![wire::ignored(account, kind, self.raw)])
            }
            _ => self.message(id, kind, content),
        };
        facts.unwrap_or_else(unknown)
    }

    fn person(&self) -> Person {
        let said = match self.direction {
            Direction::Inbound => sender(self.raw, self.contacts),
            Direction::Outbound => Person::read(self.raw, "to_user_id", "to_parent_user_id", "to"),
        };
        let said = match &self.thread {
            Some(thread) => Person {
                phone: Some(thread.clone()),
                ..Person::default()
            },
            None => said,
        };
        self.people.know(said)
    }

    fn fact(&self, kind: FactKind, id: String) -> Fact {
        let person = self.person();
        let mut fact = Fact::new(kind);
        fact.account = self.account.map(str::to_owned);
        match wire::id(&self.raw["group_id"]) {
            Some(group) => fact.thread = Some(group),
            None => {
                fact.thread = person.thread();
                fact.aliases = person.aliases();
            }
        }
        fact.conversation = conversation(&fact);
        match self.direction {
            Direction::Inbound => {
                fact.sender = person.shown();
                fact.sender_name = self.people.name(&person);
                wire::keep(&mut fact.detail, "user_id", person.user);
            }
            Direction::Outbound => fact.sender = fact.account.clone(),
        }
        fact.direction = Some(self.direction);
        fact.ts_ms = wire::time_ms(&self.raw["timestamp"]);
        fact.dedup = id.clone();
        fact.message_id = Some(id);
        for (name, holds) in [("standby", self.standby), ("history", self.history)] {
            wire::keep(&mut fact.detail, name, holds.then_some(true));
        }
        fact
    }

    fn message(&self, id: String, kind: &str, content: &Value) -> Option<Vec<Fact>> {
        let fact_kind = match self.direction {
            Direction::Inbound => FactKind::MessageReceived,
            Direction::Outbound => FactKind::MessageEchoed,
        };
        let mut fact = self.fact(fact_kind, id);
        fact.thread.as_ref()?;
        read_content(kind, content, self.raw, &mut fact);
        self.context(&mut fact);
        wire::keep_raw(&mut fact.detail, "errors", &self.raw["errors"]);
        let mut facts = vec![fact];
        facts.extend(self.referral(&facts[0]));
        facts.extend(self.shared_number(&facts[0], content));
        Some(facts)
    }

    /// A reply only when it names the message; forwarding has a context too.
    fn context(&self, fact: &mut Fact) {
        let context = &self.raw["context"];
        fact.reply_to = wire::id(&context["id"]);
        for name in ["forwarded", "frequently_forwarded", "referred_product"] {
            wire::keep_raw(&mut fact.detail, name, &context[name]);
        }
    }

    fn referral(&self, message: &Fact) -> Option<Fact> {
        let referral = &self.raw["referral"];
        if !referral.is_object() {
            return None;
        }
        let mut fact = self.fact(FactKind::ConversationReferral, message.dedup.clone());
        fact.message_id = None;
        fact.detail.insert("referral".into(), referral.clone());
        Some(fact)
    }

    /// Somebody known by a user id tells their phone number because we asked for it.
    fn shared_number(&self, message: &Fact, content: &Value) -> Option<Fact> {
        let asked = |card: &&Value| card["origin"] == "contact_request";
        let card = wire::items(content).iter().find(asked)?;
        let phone = wire::id(&card["phones"][0]["wa_id"])
            .or_else(|| wire::id(&card["phones"][0]["phone"]))?;
        let mut fact = self.fact(FactKind::ContactIdentityChanged, message.dedup.clone());
        fact.message_id = None;
        fact.detail.insert("phone".into(), phone.into());
        Some(fact)
    }

    fn identity(&self, id: String, system: &Value) -> Fact {
        let mut fact = self.fact(FactKind::ContactIdentityChanged, id);
        fact.detail.insert("system".into(), system.clone());
        wire::keep_raw(&mut fact.detail, "identity", &self.raw["identity"]);
        fact
    }

    fn reaction(&self, id: String, reaction: &Value) -> Option<Fact> {
        let target = wire::id(&reaction["message_id"])?;
        let emoji = wire::filled(&reaction["emoji"]);
        let kind = match emoji {
            Some(_) => FactKind::ReactionAdded,
            None => FactKind::ReactionRemoved,
        };
        let mut fact = self.fact(kind, id);
        fact.thread.as_ref()?;
        fact.target = Some(target);
        fact.emoji = emoji;
        Some(fact)
    }

    fn edit(&self, id: String, edit: &Value) -> Option<Fact> {
        let mut fact = self.fact(FactKind::MessageEdited, id);
        fact.thread.as_ref()?;
        fact.target = Some(wire::id(&edit["original_message_id"])?);
        let message = &edit["message"];
        let kind = message["type"].as_str()?;
        read_content(kind, &message[kind], message, &mut fact);
        Some(fact)
    }

    fn revoke(&self, id: String, revoke: &Value) -> Option<Fact> {
        let mut fact = self.fact(FactKind::MessageDeleted, id);
        fact.thread.as_ref()?;
        fact.target = Some(wire::id(&revoke["original_message_id"])?);
        Some(fact)
    }
}

/// Fills what the message is made of.
fn read_content(kind: &str, content: &Value, raw: &Value, fact: &mut Fact) {
    fact.content = Some(match kind {
        "text" => {
            fact.text = wire::filled(&content["body"]);
            ContentKind::Text
        }
        "image" => medium(ContentKind::Image, content, fact),
        "video" => medium(ContentKind::Video, content, fact),
        "audio" if content["voice"] == Value::Bool(true) => {
            medium(ContentKind::Voice, content, fact)
        }
        "audio" => medium(ContentKind::Audio, content, fact),
        "voice" => medium(ContentKind::Voice, content, fact),
        "document" => medium(ContentKind::File, content, fact),
        "sticker" => medium(ContentKind::Sticker, content, fact),
        "location" => {
            let place = json!({
                "lat": content["latitude"], "lon": content["longitude"],
                "title": content["name"], "address": content["address"], "url": content["url"],
            });
            fact.detail.insert("location".into(), place);
            ContentKind::Location
        }
        "contacts" => {
            fact.detail.insert("contacts".into(), content.clone());
            ContentKind::Contact
        }
        "interactive" => interactive(content, fact),
        "button" => {
            fact.text = wire::filled(&content["text"]);
            fact.action = wire::filled(&content["payload"]);
            ContentKind::Action
        }
        "order" => {
            fact.text = wire::filled(&content["text"]);
            fact.detail.insert("order".into(), content.clone());
            ContentKind::Order
        }
        other => {
            fact.detail.insert("message_type".into(), other.into());
            wire::keep_raw(&mut fact.detail, "raw", &raw[other]);
            ContentKind::Unsupported
        }
    });
}

/// A medium is kept by its id: URLs live five minutes and need the token.
fn medium(kind: ContentKind, content: &Value, fact: &mut Fact) -> ContentKind {
    fact.text = wire::filled(&content["caption"]);
    let file_id = wire::id(&content["id"]);
    fact.media.push(Media {
        kind: Some(kind),
        available: file_id.is_none().then_some(false),
        file_id,
        unique_id: wire::filled(&content["sha256"]),
        mime: wire::filled(&content["mime_type"]),
        name: wire::filled(&content["filename"]),
        ..Media::default()
    });
    wire::keep(&mut fact.detail, "animated", content["animated"].as_bool());
    kind
}

fn interactive(content: &Value, fact: &mut Fact) -> ContentKind {
    let kind = content["type"].as_str().unwrap_or_default();
    let reply = &content[kind];
    match kind {
        "nfm_reply" => {
            fact.text = wire::filled(&reply["body"]);
            fact.action = wire::filled(&reply["response_json"]);
            // JSON inside of JSON, of whoever made the form.
            let form = fact.action.as_deref().map(str::as_bytes);
            let form = form.and_then(|form| wire::parse(form).ok());
            wire::keep(&mut fact.detail, "form", form);
        }
        _ => {
            fact.text = wire::filled(&reply["title"]);
            fact.action = wire::id(&reply["id"]);
        }
    }
    fact.detail.insert("interactive".into(), content.clone());
    ContentKind::Action
}
