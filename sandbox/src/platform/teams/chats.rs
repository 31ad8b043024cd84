//! Chats and their messages. They hold exactly what was exchanged here.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::login::identity;
use super::{Answer, Graph, GraphError, ok};
use crate::call::Call;
use crate::world::now_ms;

/// Messages kept in a chat.
const MESSAGES_MAX: usize = 2_000;
/// Entries in a list when the caller does not say, and at most.
const LIST: (usize, usize) = (20, 50);

/// A chat between two people.
#[derive(Default)]
pub(super) struct Chat {
    /// Oldest first.
    messages: Vec<Message>,
}

/// A message.
#[derive(Clone)]
pub(super) struct Message {
    id: String,
    from: String,
    kind: &'static str,
    pub(super) content: String,
    created_ms: i64,
    modified_ms: i64,
    edited_ms: Option<i64>,
    deleted_ms: Option<i64>,
    /// Who, what, when.
    reactions: Vec<(String, String, i64)>,
    history: Vec<Value>,
    attachments: Vec<Value>,
}

/// What somebody does with a message.
pub(super) enum Change {
    Edit(String),
    Delete,
    React { from: String, with: String },
    Unreact { from: String, with: String },
}

/// The name of the chat of these two, whoever of them is named first.
pub(super) fn name_of_two(one: &str, other: &str) -> String {
    let (first, second) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    format!("19:{first}_{second}@unq.gbl.spaces")
}

/// Who is in the chat of this name.
pub(super) fn members(chat: &str) -> Option<(&str, &str)> {
    let both = chat.strip_prefix("19:")?.strip_suffix("@unq.gbl.spaces")?;
    both.split_once('_')
}

/// A time as Graph writes it.
pub(super) fn time(ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl Graph {
    /// The other person of a chat, if this one is in it.
    pub(super) fn other(&self, chat: &str, person: &str) -> Result<String, GraphError> {
        let (one, other) = members(chat).ok_or_else(GraphError::not_found)?;
        match person {
            person if person == one => Ok(other.to_owned()),
            person if person == other => Ok(one.to_owned()),
            _ => Err(GraphError::new(
                403,
                "Forbidden",
                "The initiating user is not in roster of the chat.",
            )),
        }
    }

    /// Adds a message; its id is the moment, and no other message's.
    pub(super) fn add_message(
        &self,
        chat: &str,
        from: &str,
        kind: &'static str,
        content: &str,
    ) -> String {
        self.add(chat, from, kind, |_| (content.to_owned(), Vec::new()))
    }

    /// The same with content and attachments that may name the message's id.
    pub(super) fn add(
        &self,
        chat: &str,
        from: &str,
        kind: &'static str,
        written: impl FnOnce(&str) -> (String, Vec<Value>),
    ) -> String {
        let mut state = self.state();
        let ms = now_ms().max(state.last_message_ms + 1);
        state.last_message_ms = ms;
        let id = ms.to_string();
        let (content, attachments) = written(&id);
        let chat = state.chats.entry(chat.to_owned()).or_default();
        if chat.messages.len() == MESSAGES_MAX {
            chat.messages.remove(0);
        }
        chat.messages.push(Message {
            id: id.clone(),
            from: from.to_owned(),
            kind,
            content,
            created_ms: ms,
            modified_ms: ms,
            edited_ms: None,
            deleted_ms: None,
            reactions: Vec::new(),
            history: Vec::new(),
            attachments,
        });
        id
    }

    /// Changes a message; false when there is none of this id.
    pub(super) fn change(&self, chat: &str, id: &str, change: Change) -> bool {
        let mut state = self.state();
        let now = now_ms().max(state.last_message_ms + 1);
        state.last_message_ms = now;
        let found = state
            .chats
            .get_mut(chat)
            .and_then(|chat| chat.messages.iter_mut().find(|message| message.id == id));
        let Some(message) = found else {
            return false;
        };
        message.modified_ms = now;
        match change {
            Change::Edit(text) => {
                message.kind = "text";
                message.content = text;
                message.edited_ms = Some(now);
            }
            Change::Delete => message.deleted_ms = Some(now),
            Change::React { from, with } => message.reactions.push((from, with, now)),
            Change::Unreact { from, with } => {
                message
                    .reactions
                    .retain(|(who, what, _)| (who, what) != (&from, &with));
                message.history.push(json!({
                    "modifiedDateTime": time(now),
                    "actions": "reactionRemoved",
                    "reaction": {
                        "reactionType": with,
                        "createdDateTime": time(now),
                        "user": identity(&from, ""),
                    },
                }));
            }
        }
        true
    }

    /// A message as Graph shows it.
    pub(super) fn shown(&self, chat: &str, message: &Message) -> Value {
        let deleted = message.deleted_ms.is_some();
        let reactions: Vec<Value> = message
            .reactions
            .iter()
            .map(|(from, with, at)| {
                json!({
                    "reactionType": with, "displayName": with, "reactionContentUrl": null,
                    "createdDateTime": time(*at), "user": identity(from, &self.name_of(from)),
                })
            })
            .collect();
        json!({
            "id": message.id,
            "replyToId": null,
            "etag": message.modified_ms.to_string(),
            "messageType": "message",
            "createdDateTime": time(message.created_ms),
            "lastModifiedDateTime": time(message.modified_ms),
            "lastEditedDateTime": message.edited_ms.map(time),
            "deletedDateTime": message.deleted_ms.map(time),
            "subject": null,
            "summary": null,
            "chatId": chat,
            "importance": "normal",
            "locale": "en-us",
            "webUrl": null,
            "channelIdentity": null,
            "policyViolation": null,
            "eventDetail": null,
            "from": identity(&message.from, &self.name_of(&message.from)),
            "body": {
                "contentType": message.kind,
                "content": if deleted { "" } else { message.content.as_str() },
            },
            "attachments": if deleted { &[][..] } else { &message.attachments },
            "mentions": [],
            "reactions": reactions,
            "messageHistory": message.history,
        })
    }

    fn messages_of(&self, chat: &str) -> Vec<Message> {
        let state = self.state();
        let chat = state.chats.get(chat);
        chat.map(|chat| chat.messages.clone()).unwrap_or_default()
    }

    /// One message.
    pub(super) fn message(&self, call: &Call, chat: &str, id: &str) -> Answer {
        let token = self.bearer(call)?;
        self.other(chat, &token.person)?;
        let message = self.find(chat, id).ok_or_else(GraphError::not_found)?;
        ok(&self.shown(chat, &message))
    }

    /// The message of this id.
    pub(super) fn find(&self, chat: &str, id: &str) -> Option<Message> {
        let mut messages = self.messages_of(chat).into_iter();
        messages.find(|message| message.id == id)
    }

    /// The person's chats, those with the newest message first.
    pub(super) fn list_chats(&self, call: &Call) -> Answer {
        let token = self.bearer(call)?;
        let names: Vec<String> = self.state().chats.keys().cloned().collect();
        let mut chats: Vec<(i64, Value)> = Vec::new();
        for name in names {
            let Ok(other) = self.other(&name, &token.person) else {
                continue;
            };
            let messages = self.messages_of(&name);
            let Some(last) = messages.last() else {
                continue;
            };
            let member = |person: &str| {
                json!({"@odata.type": "#microsoft.graph.aadUserConversationMember",
                    "roles": ["owner"], "userId": person, "displayName": self.name_of(person)})
            };
            let chat = json!({
                "id": name,
                "topic": null,
                "chatType": "oneOnOne",
                "members": [member(&token.person), member(&other)],
                "lastMessagePreview": {
                    "id": last.id,
                    "createdDateTime": time(last.created_ms),
                    "isDeleted": last.deleted_ms.is_some(),
                    "from": identity(&last.from, &self.name_of(&last.from)),
                    "body": {"contentType": last.kind, "content": last.content},
                },
            });
            chats.push((last.created_ms, chat));
        }
        chats.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let chats = chats.into_iter().map(|(_, chat)| chat).collect();
        page(call, chats)
    }

    /// A chat's messages, the one that changed last first.
    pub(super) fn list_messages(&self, call: &Call, chat: &str) -> Answer {
        let token = self.bearer(call)?;
        self.other(chat, &token.person)?;
        let after = match call.param("$filter") {
            Some(filter) => {
                let ordered = call.param("$orderby");
                if ordered.as_deref() != Some("lastModifiedDateTime desc") {
                    let words = "The filter property must be the property of $orderby.";
                    return Err(GraphError::bad(words));
                }
                let from = filter
                    .strip_prefix("lastModifiedDateTime gt ")
                    .and_then(|time| DateTime::parse_from_rfc3339(time).ok());
                let words = "Invalid filter clause.";
                from.ok_or_else(|| GraphError::bad(words))?
                    .timestamp_millis()
            }
            None => i64::MIN,
        };
        let mut messages = self.messages_of(chat);
        messages.retain(|message| message.modified_ms > after);
        messages.sort_by_key(|message| std::cmp::Reverse(message.modified_ms));
        let messages = messages
            .iter()
            .map(|message| self.shown(chat, message))
            .collect();
        page(call, messages)
    }
}

/// The part of a list that was asked for. A token is simply how many entries came before.
fn page(call: &Call, entries: Vec<Value>) -> Answer {
    let number = |name: &str| call.param(name).and_then(|text| text.parse::<usize>().ok());
    let top = number("$top").unwrap_or(LIST.0);
    if top == 0 || top > LIST.1 {
        let words = format!("The limit of '{}' for Top query has been exceeded.", LIST.1);
        return Err(GraphError::bad(words));
    }
    let start = number("$skiptoken").unwrap_or(0).min(entries.len());
    let end = start.saturating_add(top).min(entries.len());
    let mut body = json!({"@odata.count": end - start, "value": entries[start..end]});
    if end < entries.len() {
        body["@odata.nextLink"] = call.url_with("$skiptoken", &end.to_string()).into();
    }
    ok(&body)
}
