//! The name of a thread: what identifies a conversation and what a send is addressed to.
//!
//! Written `<chat>`, `<chat>:<topic>`, `<chat>@<business connection>` or with both. The same
//! private chat exists a second time inside a business connection, and a forum's topics are
//! conversations of their own.

use std::fmt;

use serde_json::{Value, json};

use crate::platform::wire;

/// A place messages are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The chat id, negative for groups and channels.
    pub chat: String,
    /// The topic of a forum.
    pub topic: Option<String>,
    /// The business connection the chat is seen through.
    pub business: Option<String>,
}

impl Thread {
    /// The thread of a message, or of anything else that says its chat in the same way.
    pub fn of(message: &Value) -> Option<Self> {
        let in_topic = message["is_topic_message"] == Value::Bool(true);
        Some(Self {
            chat: wire::id(&message["chat"]["id"])?,
            topic: wire::id(&message["message_thread_id"]).filter(|_| in_topic),
            business: wire::id(&message["business_connection_id"]),
        })
    }

    /// Reads a name back.
    pub fn parse(name: &str) -> Self {
        // The connection's id is opaque and comes last, so it may contain either separator.
        let (place, business) = match name.split_once('@') {
            Some((place, business)) => (place, Some(business.to_owned())),
            None => (name, None),
        };
        let (chat, topic) = match place.split_once(':') {
            Some((chat, topic)) => (chat, Some(topic.to_owned())),
            None => (place, None),
        };
        Self {
            chat: chat.to_owned(),
            topic,
            business,
        }
    }

    /// The parameters that address a call to this thread.
    pub fn address(&self) -> Value {
        let mut address = json!({ "chat_id": number(&self.chat) });
        if let Some(topic) = &self.topic {
            address["message_thread_id"] = number(topic);
        }
        if let Some(business) = &self.business {
            address["business_connection_id"] = business.as_str().into();
        }
        address
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chat)?;
        if let Some(topic) = &self.topic {
            write!(f, ":{topic}")?;
        }
        if let Some(business) = &self.business {
            write!(f, "@{business}")?;
        }
        Ok(())
    }
}

/// Ids are numbers in calls; what is none (a channel's `@name`) stays text.
fn number(id: &str) -> Value {
    id.parse::<i64>().map_or_else(|_| id.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in [
            "5501000001",
            "-1002210033002:500",
            "55@biz_A:x@y",
            "-100:5@biz",
        ] {
            assert_eq!(Thread::parse(name).to_string(), name);
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(
            Thread::parse("-1002210033002:500@biz").address(),
            json!({"chat_id": -1_002_210_033_002_i64, "message_thread_id": 500,
                "business_connection_id": "biz"})
        );
        assert_eq!(
            Thread::parse("5501000001").address(),
            json!({"chat_id": 5_501_000_001_i64})
        );
    }
}
