//! What became of a message of ours.
//!
//! Statuses come in any order and name the message by its id; ours carry our reference as well. In
//! a group every member has statuses of their own.

use serde_json::Value;

use super::message::conversation;
use super::person::{People, Person};
use super::send;
use crate::platform::fact::{Direction, Fact, FactKind};
use crate::platform::meta::{Class, GraphError};
use crate::platform::wire;

/// Whom a message went to; nobody for a group.
pub fn recipient(status: &Value) -> Person {
    if is_group(status) {
        return Person::read(
            status,
            "recipient_participant_user_id",
            "recipient_participant_parent_user_id",
            "recipient_participant_id",
        );
    }
    let mut person = Person::read(
        status,
        "recipient_user_id",
        "recipient_parent_user_id",
        "recipient_id",
    );
    // The name it had in early 2026.
    let early = || wire::id(&status["parent_recipient_user_id"]);
    person.parent = person.parent.or_else(early);
    person
}

fn is_group(status: &Value) -> bool {
    status["recipient_type"] == "group"
}

/// Reads one status.
pub fn read(account: Option<&str>, people: &People, raw: &Value) -> Fact {
    let account = account.map(str::to_owned);
    let (Some(id), Some(name)) = (wire::id(&raw["id"]), raw["status"].as_str()) else {
        return wire::unknown(account, raw);
    };
    let kind = match name {
        "sent" => FactKind::ReceiptSent,
        "delivered" => FactKind::ReceiptDelivered,
        "read" => FactKind::ReceiptRead,
        "played" => FactKind::ReceiptPlayed,
        "failed" => FactKind::ReceiptFailed,
        _ => return wire::ignored(account, name, raw),
    };
    let person = people.know(recipient(raw));
    let mut fact = Fact::new(kind);
    fact.account = account;
    fact.sender = person.shown();
    fact.sender_name = people.name(&person);
    fact.direction = Some(Direction::Inbound);
    if is_group(raw) {
        fact.thread = wire::id(&raw["recipient_id"]);
        wire::keep(&mut fact.detail, "participant", person.shown());
    } else {
        fact.thread = person.thread();
        fact.aliases = person.aliases();
    }
    fact.conversation = conversation(&fact);
    fact.ts_ms = wire::time_ms(&raw["timestamp"]);
    fact.client_ref = wire::filled(&raw["biz_opaque_callback_data"]);
    let participant = fact.sender.as_deref().filter(|_| is_group(raw));
    fact.dedup = wire::digest(&[&id, name, participant.unwrap_or_default()]);
    fact.target = Some(id.clone());
    fact.message_id = Some(id);
    wire::keep_raw(&mut fact.detail, "pricing", &raw["pricing"]);
    if kind == FactKind::ReceiptFailed {
        failure(raw, &mut fact);
    }
    fact
}

fn failure(raw: &Value, fact: &mut Fact) {
    wire::keep_raw(&mut fact.detail, "errors", &raw["errors"]);
    let error = &raw["errors"][0];
    let code = wire::int(&error["code"]).unwrap_or_default();
    let said = error["error_data"]["details"]
        .as_str()
        .or_else(|| error["title"].as_str());
    let reason = format!(
        "WhatsApp error {code}: {}",
        wire::reason(said.unwrap_or_default())
    );
    let class = send::class(&GraphError {
        code,
        subcode: 0,
        transient: false,
        reason: String::new(),
    });
    if class == Some(Class::OutsideWindow) {
        fact.detail.insert("outside_window".into(), true.into());
    }
    fact.detail.insert("reason".into(), reason.into());
}
