//! What a fact means for one owner of the account: an event with the keys that make it happen once.

use chrono::{DateTime, Utc};
use hub_domain::envelope::Append;
use hub_domain::event::{
    AccountNoted, ConversationNoted, Event, MediaAnnounced, MessageDeleted, MessageEdited,
    MessageObserved, MessageReceived, MessageSent, MessageType, PlatformMessage, ReactionChanged,
    Receipt, ReceiptReceived, Thread,
};
use hub_domain::id::{ConversationId, Key, Shard, StreamId, conversation_id, message_id};
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
    pub(super) at: DateTime<Utc>,
}

/// When a fact happened: by the platform's clock, or when we heard of it.
pub(super) fn at(fact: &Fact, received_at: DateTime<Utc>) -> DateTime<Utc> {
    fact.ts_ms
        .and_then(DateTime::from_timestamp_millis)
        .unwrap_or(received_at)
}

impl Translation<'_> {
    /// The append a fact asks for; `None` when it is understood and of no interest.
    pub(super) fn append(&self, fact: &Fact) -> Option<Append> {
        if fact.kind == FactKind::Ignored {
            return None;
        }
        let Some(thread) = &fact.thread else {
            return Some(self.account_noted(fact));
        };
        let conversation = conversation_id(self.owner.account, thread);
        let at = Thread {
            user: self.owner.user,
            account: self.owner.account,
            platform: self.platform,
            conversation,
            thread: thread.clone(),
        };
        let (event, key) = match fact.kind {
            FactKind::MessageReceived => {
                let message = self.message(at, fact)?;
                let key = message_key(conversation, &message.platform_message_id);
                (Event::MessageReceived(MessageReceived(message)), key)
            }
            FactKind::MessageEchoed => self.echoed(at, fact)?,
            FactKind::MessageEdited
            | FactKind::MessageDeleted
            | FactKind::ReactionAdded
            | FactKind::ReactionRemoved => self.about_message(conversation, fact)?,
            FactKind::ReceiptDelivered => self.receipt(conversation, Receipt::Delivered, fact),
            FactKind::ReceiptRead => self.receipt(conversation, Receipt::Read, fact),
            FactKind::ReactionCounts
            | FactKind::ReceiptSent
            | FactKind::ReceiptPlayed
            | FactKind::ReceiptFailed
            | FactKind::ConversationReferral
            | FactKind::ConversationHandover
            | FactKind::ConversationUpdated
            | FactKind::ContactIdentityChanged
            | FactKind::OptinChanged
            | FactKind::TemplateStatusChanged
            | FactKind::AccountStatusChanged
            | FactKind::TypingStarted
            | FactKind::Ignored
            | FactKind::Unknown => self.noted(conversation, fact),
        };
        let announced = self.announced(&event);
        let mut append = Append::one(self.shard, conversation, event).once(key);
        append.events.extend(announced);
        Some(append)
    }

    /// That a message has media, for whoever fetches them.
    fn announced(&self, event: &Event) -> Option<Event> {
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
            message: message_id(at.conversation, &platform_message_id),
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

    /// A message of our side: our own send when it carries our reference, somebody else's if not.
    fn echoed(&self, at: Thread, fact: &Fact) -> Option<(Event, Key)> {
        let ours = fact
            .client_ref
            .as_deref()
            .and_then(|reference| self.references.read(at.conversation, reference));
        if let Some(message) = ours {
            let event = MessageSent {
                user: at.user,
                conversation: at.conversation,
                message,
                platform_message_id: fact.message_id.clone()?,
                sent_at: self.at,
            };
            return Some((event.into(), crate::jobs::send::sent_key(message)));
        }
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
        let event = AccountNoted {
            user: self.owner.user,
            account: self.owner.account,
            fact: fact.kind.name().to_owned(),
            detail: self.seal_json(&json!(fact)),
        };
        let key = fact_key(self.owner.account.into(), fact);
        Append::one(self.shard, self.owner.account, event).once(key)
    }

    fn seal_json(&self, value: &Value) -> hub_domain::event::Sealed {
        self.content.seal(&value.to_string())
    }
}

/// A message happens once per conversation and platform id, however it became known.
fn message_key(conversation: ConversationId, platform_message_id: &str) -> Key {
    Key::of(&[
        b"message",
        conversation.0.as_bytes(),
        platform_message_id.as_bytes(),
    ])
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
            | ContentKind::Unsupported,
        ) => MessageType::File,
    }
}
