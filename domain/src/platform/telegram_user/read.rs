//! From what a session told to facts.

use serde_json::{Value, json};

use super::{Chat, ChatKind, Item, Message, Reaction, Told, VERSION};
use crate::platform::Unreadable;
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind, Media};
use crate::platform::wire;
use crate::text;

/// The facts of a [`Told`]; `None` when the body is something else.
pub fn facts(body: &Value) -> Option<Result<Vec<Fact>, Unreadable>> {
    let version = body.get("mtproto")?;
    if version.as_u64() != Some(u64::from(VERSION)) {
        return Some(Err(Unreadable(format!("mtproto {version}"))));
    }
    let told = Told::deserialize_from(body);
    Some(told.map(|told| {
        let facts = told.items.iter().flat_map(|raw| told.facts_of(raw));
        let facts = facts.map(|fact| Fact {
            epoch: told.epoch,
            retold: told.history && !told.epoch.is_first(),
            ..fact
        });
        wire::distinct(facts.collect())
    }))
}

impl Told {
    fn deserialize_from(body: &Value) -> Result<Self, Unreadable> {
        serde_json::from_value(body.clone())
            .map_err(|error| Unreadable(crate::event::shape(&error)))
    }

    fn facts_of(&self, raw: &Value) -> Vec<Fact> {
        let account = Some(self.account.clone());
        let Ok(item) = serde_json::from_value::<Item>(raw.clone()) else {
            return vec![wire::unknown(account, raw)];
        };
        let digest = || wire::content_digest(raw);
        match &item {
            Item::Message(it) => self.message(it),
            Item::Edited(it) => self.edited(it),
            Item::Deleted { chat, ids } => ids
                .iter()
                .map(|id| {
                    let mut fact = self.about(FactKind::MessageDeleted, chat.as_ref(), *id);
                    fact.dedup = format!("deleted {id}");
                    fact
                })
                .collect(),
            Item::ReadByThem {
                chat,
                max_id,
                until_ms,
            } => {
                let mut fact = self.about(FactKind::ReceiptRead, Some(chat), *max_id);
                fact.watermark_ms = until_ms.filter(wire::is_time_ms);
                fact.dedup = format!("read by them {max_id}");
                vec![fact]
            }
            Item::ReadHere {
                chat,
                max_id,
                unread,
            } => {
                let mut fact = self.about(FactKind::ConversationUpdated, Some(chat), *max_id);
                fact.detail.insert("ownReadUpTo".into(), json!(max_id));
                wire::keep(&mut fact.detail, "unread", *unread);
                fact.dedup = format!("read here {max_id}");
                let mut facts = vec![fact];
                if *unread == Some(0) {
                    let mut all = self.fact(FactKind::MessageRead, Some(chat));
                    all.dedup = format!("all read {max_id}");
                    facts.push(all);
                }
                facts
            }
            Item::Reactions {
                chat,
                id,
                reactions,
            } => self.reactions(chat, *id, reactions, &digest()),
            Item::Typing { chat, from } => {
                let mut fact = self.fact(FactKind::TypingStarted, Some(chat));
                fact.sender = Some(from.sender());
                fact.dedup = digest();
                vec![fact]
            }
            Item::Service {
                chat,
                id,
                date,
                what,
                detail,
            } => {
                let mut fact = self.about(FactKind::ConversationUpdated, Some(chat), *id);
                fact.ts_ms = seconds(*date);
                fact.detail.clone_from(detail);
                fact.detail.insert("what".into(), what.clone().into());
                fact.dedup = format!("service {id}");
                vec![fact]
            }
            Item::Notice { what } => {
                let mut fact = self.fact(FactKind::AccountStatusChanged, None);
                fact.detail.insert("what".into(), what.clone().into());
                fact.dedup = digest();
                vec![fact]
            }
            Item::Ignored { what } => vec![wire::ignored(account, what, raw)],
            Item::Unknown { .. } => vec![wire::unknown(account, raw)],
        }
    }

    fn fact(&self, kind: FactKind, chat: Option<&Chat>) -> Fact {
        let mut fact = Fact::new(kind);
        fact.account = Some(self.account.clone());
        fact.conversation = chat.map(Chat::key);
        fact.thread = chat.map(Chat::thread);
        if let Some(chat) = chat.filter(|chat| chat.kind != ChatKind::User) {
            fact.thread_name = name(chat);
        }
        fact
    }

    fn about(&self, kind: FactKind, chat: Option<&Chat>, id: i64) -> Fact {
        let mut fact = self.fact(kind, chat);
        fact.target = Some(id.to_string());
        fact
    }

    fn message(&self, it: &Message) -> Vec<Fact> {
        let kind = if it.out {
            FactKind::MessageEchoed
        } else {
            FactKind::MessageReceived
        };
        let mut facts = vec![self.content(kind, it)];
        if it.is_read && !it.out {
            let mut read = self.about(FactKind::MessageRead, Some(&it.chat), it.id);
            read.dedup = format!("read {}", it.id);
            facts.push(read);
        }
        facts
    }

    /// Telegram says "edited" also when only a reaction or a link's preview changed.
    fn edited(&self, it: &Message) -> Vec<Fact> {
        if it.edit_hidden || it.edit_date.is_none() {
            let name = format!("edit {}", reactions_name(&it.reactions));
            if it.reactions.is_empty() {
                let raw = json!({ "id": it.id, "chat": it.chat.key() });
                return vec![wire::ignored(
                    Some(self.account.clone()),
                    "edit of no text",
                    &raw,
                )];
            }
            return self.reactions(&it.chat, it.id, &it.reactions, &name);
        }
        let mut fact = self.content(FactKind::MessageEdited, it);
        fact.target = fact.message_id.clone();
        fact.ts_ms = it.edit_date.and_then(seconds);
        let edit = it.edit_date.unwrap_or_default().to_string();
        fact.dedup = format!("edited {} {}", it.id, wire::digest(&[&edit, &it.text]));
        vec![fact]
    }

    fn content(&self, kind: FactKind, it: &Message) -> Fact {
        let mut fact = self.fact(kind, Some(&it.chat));
        let id = it.id.to_string();
        // In a private chat the sender is the other side; in a channel it is the channel.
        let sender = match &it.from {
            Some(from) => Some((from.sender(), name(from))),
            None if it.out => None,
            None => Some((it.chat.sender(), name(&it.chat))),
        };
        let (sender, sender_name) = sender.unwrap_or_else(|| (self.account.clone(), None));
        fact.sender = Some(sender);
        fact.sender_name = sender_name;
        fact.direction = Some(if it.out {
            Direction::Outbound
        } else {
            Direction::Inbound
        });
        if it.out {
            // An own message must not rename the thread, but it may be all there is of it.
            fact.thread_name = name(&it.chat);
        }
        fact.ts_ms = seconds(it.date);
        fact.content = Some(it.media.as_ref().map_or(ContentKind::Text, |it| it.kind));
        fact.text = Some(text::repair(&it.text).into_owned());
        fact.media = media(it);
        fact.reply_to = it.reply_to.map(|id| id.to_string());
        fact.detail.clone_from(&it.detail);
        fact.dedup.clone_from(&id);
        fact.message_id = Some(id);
        fact
    }

    /// A snapshot: who is in it reacted so; when nobody is, everybody took theirs back.
    fn reactions(&self, chat: &Chat, id: i64, reactions: &[Reaction], name: &str) -> Vec<Fact> {
        if reactions.is_empty() {
            let mut fact = self.about(FactKind::ReactionRemoved, Some(chat), id);
            // Private chats have one other side; elsewhere nobody says whose reaction went.
            fact.sender = (chat.kind == ChatKind::User).then(|| chat.sender());
            fact.dedup = format!("reactions {id} {name}");
            return vec![fact];
        }
        let added = reactions.iter().map(|it| {
            let mut fact = self.about(FactKind::ReactionAdded, Some(chat), id);
            fact.sender = Some(it.from.sender());
            fact.sender_name = self::name(&it.from);
            fact.emoji = Some(it.emoji.clone());
            fact.ts_ms = seconds(it.date);
            let (from, date) = (it.from.sender(), it.date);
            fact.dedup = format!("reaction {id} {from} {} {date}", it.emoji);
            fact
        });
        added.collect()
    }
}

impl Chat {
    /// How a sender is named: a person by the number alone.
    fn sender(&self) -> String {
        match self.kind {
            ChatKind::User => self.id.to_string(),
            ChatKind::Chat | ChatKind::Channel => self.key(),
        }
    }
}

fn name(chat: &Chat) -> Option<String> {
    let name = chat.name.as_deref()?;
    Some(text::repair(name).into_owned()).filter(|name| !name.is_empty())
}

fn seconds(date: i64) -> Option<i64> {
    wire::seconds_ms(&json!(date))
}

fn reactions_name(reactions: &[Reaction]) -> String {
    let parts: Vec<String> = reactions
        .iter()
        .map(|it| format!("{} {} {}", it.from.id, it.emoji, it.date))
        .collect();
    parts.join(" ")
}

/// What has no number has faded already, or is none of ours to fetch.
fn media(it: &Message) -> Vec<Media> {
    let Some(attached) = &it.media else {
        return Vec::new();
    };
    let is_file = !matches!(
        attached.kind,
        ContentKind::Location | ContentKind::Contact | ContentKind::Unsupported
    );
    let media = Media {
        kind: Some(attached.kind),
        file_id: attached.id.clone(),
        unique_id: attached.id.clone(),
        mime: attached.mime.clone(),
        name: attached.name.clone(),
        size: attached.size,
        duration_s: attached.duration_s,
        available: (attached.fades || attached.id.is_none()).then_some(false),
        ..Media::default()
    };
    if is_file { vec![media] } else { Vec::new() }
}
