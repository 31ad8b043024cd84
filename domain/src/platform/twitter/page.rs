//! What is fetched: pages of `GET /2/dm_events` and single events.
//!
//! Such a body does not say whose it is: the account is the one it was fetched for. Where nobody says
//! that, everything counts as received, in no direction. `errors` beside `data` are expansions X could
//! not make, not a failure.

use chrono::DateTime;
use serde_json::Value;

use super::{content, party};
use crate::platform::fact::{Direction, Fact, FactKind};
use crate::platform::wire;

/// Reads the events of a body that was fetched for this account.
pub fn read(account: Option<&str>, body: &Value) -> Vec<Fact> {
    let page = Page {
        account,
        includes: &body["includes"],
    };
    match &body["data"] {
        Value::Array(events) => events.iter().map(|event| page.event(event)).collect(),
        // A page without events has no data at all.
        Value::Null => Vec::new(),
        event => vec![page.event(event)],
    }
}

struct Page<'a> {
    account: Option<&'a str>,
    includes: &'a Value,
}

impl Page<'_> {
    fn event(&self, event: &Value) -> Fact {
        let read = match event["event_type"].as_str() {
            Some("MessageCreate") => self.message(event),
            Some("ParticipantsJoin" | "ParticipantsLeave") => self.members(event),
            _ => None,
        };
        read.unwrap_or_else(|| wire::unknown(self.account.map(str::to_owned), event))
    }

    fn message(&self, event: &Value) -> Option<Fact> {
        let sender = wire::id(&event["sender_id"])?;
        let id = wire::id(&event["id"])?;
        let outbound = self.account == Some(sender.as_str());
        let mut fact = Fact::new(if outbound {
            FactKind::MessageEchoed
        } else {
            FactKind::MessageReceived
        });
        self.place(&mut fact, event)?;
        if outbound {
            fact.thread_name = fact.thread.as_deref().and_then(|them| self.name(them));
        } else {
            fact.sender_name = self.name(&sender);
        }
        fact.direction = self.account.map(|_| match outbound {
            true => Direction::Outbound,
            false => Direction::Inbound,
        });
        fact.sender = Some(sender);
        fact.ts_ms = time_ms(&event["created_at"]).or_else(|| party::made_ms(&id));
        content::read_fetched(event, self.includes, &mut fact);
        fact.dedup.clone_from(&id);
        fact.message_id = Some(id);
        Some(fact)
    }

    /// Somebody came into a group or left it.
    fn members(&self, event: &Value) -> Option<Fact> {
        let mut fact = Fact::new(FactKind::ConversationUpdated);
        self.place(&mut fact, event)?;
        fact.dedup = wire::id(&event["id"])?;
        fact.sender = wire::id(&event["sender_id"]);
        fact.ts_ms = time_ms(&event["created_at"]);
        wire::keep_raw(&mut fact.detail, "event", &event["event_type"]);
        wire::keep_raw(&mut fact.detail, "participants", &event["participant_ids"]);
        Some(fact)
    }

    fn place(&self, fact: &mut Fact, event: &Value) -> Option<()> {
        fact.account = self.account.map(str::to_owned);
        let conversation = wire::id(&event["dm_conversation_id"])?;
        party::converse(fact, self.account.unwrap_or_default(), &conversation);
        // Which of two is the other one depends on whose it is.
        fact.thread = fact.thread.take().filter(|_| self.account.is_some());
        Some(())
    }

    fn name(&self, user: &str) -> Option<String> {
        let known = wire::items(&self.includes["users"])
            .iter()
            .find(|known| wire::id(&known["id"]).as_deref() == Some(user));
        known.and_then(party::name)
    }
}

/// A time as the second version of the API writes it, in milliseconds.
pub fn time_ms(value: &Value) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
    Some(time.timestamp_millis()).filter(wire::is_time_ms)
}
