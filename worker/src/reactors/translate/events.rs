//! What a fact means for one owner of the account: an event with the keys that make it happen once.

use chrono::{DateTime, Utc};
use hub_domain::envelope::Append;
use hub_domain::event::{
    AccountNeedsReconnect, AccountNoted, ConversationNoted, ConversationRead, Event, FailureClass,
    MediaAnnounced, MessageDeleted, MessageEdited, MessageObserved, MessageRead, MessageReceived,
    MessageSent, MessageType, PlatformMessage, ReactionChanged, Receipt, ReceiptReceived,
    SendFailed, Thread,
};
use hub_domain::id::{ConversationId, Key, MessageId, Shard, StreamId, message_key};
use hub_domain::platform::Platform;
use hub_domain::platform::fact::{ContentKind, Fact, FactKind};
use hub_store::account::Owner;
use hub_store::vault::{DataKey, Sealer};
use serde_json::{Value, json};

use crate::reference::References;

/// One owner's view of the facts of a webhook.
pub(super) struct Translation<'a> {
    pub(super) owner: Owner,
    pub(super) platform: Platform,
    pub(super) shard: Shard,
    /// Seals names.
    pub(super) names: &'a DataKey,
    /// Seals everything else.
    pub(super) content: &'a Sealer,
    pub(super) references: &'a References,
    /// The thread of the fact and its other names, with the conversation that each stands for.
    pub(super) threads: &'a [(String, ConversationId)],
    pub(super) at: DateTime<Utc>,
}

/// When a fact happened: by the platform's clock, or when we heard of it.
pub(super) fn at(fact: &Fact, received_at: DateTime<Utc>) -> DateTime<Utc> {
    fact.ts_ms
        .and_then(DateTime::from_timestamp_millis)
        .unwrap_or(received_at)
}

impl Translation<'_> {
    /// The appends a fact asks for; none when it is understood and of no interest.
    pub(super) fn appends(&self, fact: &Fact) -> Vec<Append> {
        if fact.kind == FactKind::Ignored {
            return Vec::new();
        }
        let Some(named) = self.threads.first() else {
            return vec![self.account_noted(fact)];
        };
        let ((thread, conversation), ours) = match self.reference(fact) {
            Some((named, message)) => (named, Some(message)),
            None => (named, None),
        };
        let conversation = *conversation;
        let at = Thread {
            user: self.owner.user,
            account: self.owner.account,
            platform: self.platform,
            conversation,
            thread: thread.clone(),
        };
        self.events(at, fact, ours)
            .into_iter()
            .map(|(event, key)| {
                let announced = announced(&event);
                let mut append = Append::one(self.shard, conversation, event);
                append.keys = keys(fact, key);
                append.events.extend(announced);
                append
            })
            .collect()
    }

    fn events(&self, at: Thread, fact: &Fact, ours: Option<MessageId>) -> Vec<(Event, Key)> {
        let conversation = at.conversation;
        let delivered = self.sent(conversation, fact, ours);
        let told = match fact.kind {
            FactKind::MessageReceived => return self.received(at, fact),
            FactKind::MessageEchoed if ours.is_some() => None,
            FactKind::MessageEchoed => self.observed(at, fact),
            FactKind::MessageEdited
            | FactKind::MessageDeleted
            | FactKind::ReactionAdded
            | FactKind::ReactionRemoved => self.about_message(conversation, fact),
            FactKind::MessageRead => Some(self.read_elsewhere(conversation, fact)),
            // What one member of a group has done says nothing of the others.
            _ if fact.detail.contains_key("participant") => Some(self.noted(conversation, fact)),
            FactKind::ReceiptDelivered => {
                Some(self.receipt(conversation, Receipt::Delivered, fact))
            }
            FactKind::ReceiptRead => Some(self.receipt(conversation, Receipt::Read, fact)),
            FactKind::ReceiptSent if ours.is_some() => None,
            FactKind::ReceiptFailed => return self.undelivered(conversation, fact, ours),
            FactKind::ReactionCounts
            | FactKind::ReceiptSent
            | FactKind::ReceiptPlayed
            | FactKind::ConversationReferral
            | FactKind::ConversationHandover
            | FactKind::ConversationUpdated
            | FactKind::ContactIdentityChanged
            | FactKind::OptinChanged
            | FactKind::TemplateStatusChanged
            | FactKind::AccountStatusChanged
            | FactKind::ResourceChanged
            | FactKind::TypingStarted
            | FactKind::Ignored
            | FactKind::Unknown => Some(self.noted(conversation, fact)),
        };
        delivered.into_iter().chain(told).collect()
    }

    /// The message of ours that the reference in a fact stands for, and the thread it was sent in:
    /// the platform may name the same thread by another id than we did.
    fn reference(&self, fact: &Fact) -> Option<(&(String, ConversationId), MessageId)> {
        let reference = fact.client_ref.as_deref()?;
        self.threads.iter().find_map(|named| {
            let message = self.references.read(named.1, reference)?;
            Some((named, message))
        })
    }

    /// The platform has a message of ours: it echoes it, or reports on it.
    fn sent(
        &self,
        conversation: ConversationId,
        fact: &Fact,
        ours: Option<MessageId>,
    ) -> Option<(Event, Key)> {
        let message = ours?;
        let event = MessageSent {
            user: self.owner.user,
            conversation,
            message,
            platform_message_id: fact.message_id.clone()?,
            sent_at: self.at,
        };
        Some((event.into(), crate::jobs::send::sent_key(message)))
    }

    fn received(&self, at: Thread, fact: &Fact) -> Vec<(Event, Key)> {
        let conversation = at.conversation;
        let Some(told) = self.message(at, fact) else {
            return Vec::new();
        };
        let message = told.message;
        let key = message_key(conversation, &told.platform_message_id);
        let mut events = vec![(Event::MessageReceived(MessageReceived(told)), key)];
        // Written before the account was connected: nobody has to read it now.
        if fact.detail.contains_key("history") {
            let read = MessageRead {
                user: self.owner.user,
                conversation,
                message,
            };
            let key = Key::of(&[b"history", message.0.as_bytes()]);
            events.push((read.into(), key));
        }
        events
    }

    /// The platform had taken a message of ours and gave it up.
    fn undelivered(
        &self,
        conversation: ConversationId,
        fact: &Fact,
        ours: Option<MessageId>,
    ) -> Vec<(Event, Key)> {
        let Some(message) = ours else {
            return vec![self.noted(conversation, fact)];
        };
        let reason = fact.detail.get("reason").and_then(Value::as_str);
        let event = SendFailed {
            user: self.owner.user,
            conversation,
            message,
            class: FailureClass::Undelivered,
            reason: reason.unwrap_or_default().to_owned(),
        };
        let key = Key::of(&[b"undelivered", message.0.as_bytes()]);
        vec![(event.into(), key)]
    }

    fn message(&self, at: Thread, fact: &Fact) -> Option<PlatformMessage> {
        let platform_message_id = fact.message_id.clone()?;
        let name = |name: &Option<String>| name.as_deref().map(|name| self.names.seal(name));
        let media = (!fact.media.is_empty()).then(|| self.seal_json(&json!(fact.media)));
        let mut detail = fact.detail.clone();
        for (field, value) in [("replyTo", &fact.reply_to), ("action", &fact.action)] {
            if let Some(value) = value {
                detail.insert(field.to_owned(), Value::String(value.clone()));
            }
        }
        if let Some(content) = fact.content {
            detail.insert("content".to_owned(), json!(content));
        }
        Some(PlatformMessage {
            message: (fact.epoch).message_id(at.conversation, &platform_message_id),
            platform_message_id,
            sender_id: fact.sender.clone().unwrap_or_else(|| at.thread.clone()),
            sender_name: name(&fact.sender_name),
            thread_name: name(&fact.thread_name),
            message_type: message_type(fact.content),
            text: self.content.seal(fact.text.as_deref().unwrap_or_default()),
            media,
            detail: (!detail.is_empty()).then(|| self.seal_json(&Value::Object(detail))),
            sent_at: self.at,
            at,
        })
    }

    /// A message of our side that somebody else sent, or that does not say who.
    fn observed(&self, at: Thread, fact: &Fact) -> Option<(Event, Key)> {
        let message = self.message(at, fact)?;
        let key = message_key(message.at.conversation, &message.platform_message_id);
        Some((Event::MessageObserved(MessageObserved(message)), key))
    }

    fn about_message(&self, conversation: ConversationId, fact: &Fact) -> Option<(Event, Key)> {
        let platform_message_id = fact.target.clone().or_else(|| fact.message_id.clone())?;
        let user = self.owner.user;
        let event: Event = match fact.kind {
            // A live position moves without a text: there is nothing to rewrite in the thread.
            FactKind::MessageEdited if fact.content == Some(ContentKind::Location) => {
                return Some(self.noted(conversation, fact));
            }
            FactKind::MessageEdited => MessageEdited {
                user,
                conversation,
                platform_message_id,
                text: self.content.seal(fact.text.as_deref().unwrap_or_default()),
                edited_at: self.at,
            }
            .into(),
            FactKind::MessageDeleted => MessageDeleted {
                user,
                conversation,
                platform_message_id,
                deleted_at: self.at,
            }
            .into(),
            _ => ReactionChanged {
                user,
                conversation,
                platform_message_id,
                sender_id: fact.sender.clone().unwrap_or_default(),
                emoji: fact.emoji.clone(),
                added: fact.kind == FactKind::ReactionAdded,
                at: self.at,
            }
            .into(),
        };
        Some((event, fact_key(conversation.into(), fact)))
    }

    /// The owner read on another device: one message, or everything there is by now.
    fn read_elsewhere(&self, conversation: ConversationId, fact: &Fact) -> (Event, Key) {
        let user = self.owner.user;
        let event: Event = match &fact.target {
            Some(id) => MessageRead {
                user,
                conversation,
                message: fact.epoch.message_id(conversation, id),
            }
            .into(),
            None => ConversationRead { user, conversation }.into(),
        };
        (event, fact_key(conversation.into(), fact))
    }

    fn receipt(&self, conversation: ConversationId, receipt: Receipt, fact: &Fact) -> (Event, Key) {
        let mut platform_message_ids = fact.targets.clone();
        if let Some(target) = &fact.target
            && !platform_message_ids.contains(target)
        {
            platform_message_ids.push(target.clone());
        }
        let event = ReceiptReceived {
            user: self.owner.user,
            conversation,
            receipt,
            watermark: fact.watermark_ms.and_then(DateTime::from_timestamp_millis),
            platform_message_ids,
            at: self.at,
        };
        (event.into(), fact_key(conversation.into(), fact))
    }

    fn noted(&self, conversation: ConversationId, fact: &Fact) -> (Event, Key) {
        let event = ConversationNoted {
            user: self.owner.user,
            conversation,
            fact: fact.kind.name().to_owned(),
            detail: self.seal_json(&json!(fact)),
        };
        (event.into(), fact_key(conversation.into(), fact))
    }

    fn account_noted(&self, fact: &Fact) -> Append {
        let key = fact_key(self.owner.account.into(), fact);
        // The platform says itself that its permission is gone: nothing has to fail first.
        if let Some(reason) = fact.detail.get("reconnect").and_then(Value::as_str)
            && fact.kind == FactKind::AccountStatusChanged
        {
            let event = AccountNeedsReconnect {
                user: self.owner.user,
                account: self.owner.account,
                reason: reason.to_owned(),
            };
            return Append::one(self.shard, self.owner.account, event).once(key);
        }
        let event = AccountNoted {
            user: self.owner.user,
            account: self.owner.account,
            fact: fact.kind.name().to_owned(),
            detail: self.seal_json(&json!(fact)),
        };
        Append::one(self.shard, self.owner.account, event).once(key)
    }

    fn seal_json(&self, value: &Value) -> hub_domain::event::Sealed {
        self.content.seal(&value.to_string())
    }
}

/// What makes this happen once, given the key of it in the first epoch. What comes by itself happens
/// once for good: coming again, it does not bring back what was forgotten. What was asked for
/// happens once in each epoch.
fn keys(fact: &Fact, key: Key) -> Vec<Key> {
    let told = fact.epoch.key(key);
    if fact.retold || told == key {
        vec![told]
    } else {
        vec![key, told]
    }
}

/// Everything else happens once per kind, stream and the adapter's discriminator.
fn fact_key(stream: StreamId, fact: &Fact) -> Key {
    Key::of(&[
        b"fact",
        stream.0.as_bytes(),
        fact.kind.name().as_bytes(),
        fact.dedup.as_bytes(),
    ])
}

fn message_type(content: Option<ContentKind>) -> MessageType {
    match content {
        None | Some(ContentKind::Text | ContentKind::Action) => MessageType::Text,
        Some(ContentKind::Image) => MessageType::Image,
        Some(ContentKind::Video) => MessageType::Video,
        Some(
            ContentKind::Audio
            | ContentKind::Voice
            | ContentKind::Animation
            | ContentKind::File
            | ContentKind::Sticker
            | ContentKind::Location
            | ContentKind::Contact
            | ContentKind::Share
            | ContentKind::Template
            | ContentKind::Order
            | ContentKind::Unsupported,
        ) => MessageType::File,
    }
}

/// That a message has media, for whoever fetches them.
fn announced(event: &Event) -> Option<Event> {
    let it = match event {
        Event::MessageReceived(it) => &it.0,
        Event::MessageObserved(it) => &it.0,
        _ => return None,
    };
    let announced = MediaAnnounced {
        user: it.at.user,
        account: it.at.account,
        platform: it.at.platform,
        conversation: it.at.conversation,
        message: it.message,
        media: it.media.clone()?,
    };
    Some(announced.into())
}
