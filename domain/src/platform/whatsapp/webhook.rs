//! From a webhook body to facts.
//!
//! One body is a batch: several entries (business accounts), each with several changes, each with
//! several messages, statuses and errors side by side. The phone number a change is about is in its
//! metadata; changes about the whole business account have none and name that account.

use serde_json::{Value, json};

use super::message::{Direction, Message};
use super::person::{People, Person, phone_of};
use super::status;
use crate::platform::fact::{Fact, FactKind};
use crate::platform::wire;

/// Reads a webhook envelope, one change of it, or what a change says.
pub fn read(body: &Value) -> Vec<Fact> {
    let object = body["object"].as_str();
    match body["entry"].as_array() {
        Some(entries) if object.is_none_or(|name| name == "whatsapp_business_account") => {
            let people = meet(body);
            let read = |entry| read_entry(&people, entry);
            entries.iter().flat_map(read).collect()
        }
        Some(entries) => entries
            .iter()
            .map(|entry| wire::unknown(None, entry))
            .collect(),
        None if body["value"].is_object() => {
            let mut people = People::default();
            meet_change(&mut people, &body["value"]);
            Change::new(&people, &Value::Null, body).read()
        }
        // What a change says, without its name.
        None if body["metadata"].is_object() => {
            let change = json!({ "value": body });
            let mut people = People::default();
            meet_change(&mut people, body);
            Change::new(&people, &Value::Null, &change).read()
        }
        None => vec![wire::unknown(None, body)],
    }
}

/// Everybody the body says something about.
fn meet(body: &Value) -> People {
    let mut people = People::default();
    for entry in wire::items(&body["entry"]) {
        for change in wire::items(&entry["changes"]) {
            meet_change(&mut people, &change["value"]);
        }
    }
    people
}

fn meet_change(people: &mut People, value: &Value) {
    people.meet_contacts(&value["contacts"]);
    for part in [value, &value["standby"]] {
        for message in wire::items(&part["messages"]) {
            let keys = ["from_user_id", "from_parent_user_id", "from"];
            people.meet(&Person::read(message, keys[0], keys[1], keys[2]));
        }
        for echo in wire::items(&part["message_echoes"]) {
            let keys = ["to_user_id", "to_parent_user_id", "to"];
            people.meet(&Person::read(echo, keys[0], keys[1], keys[2]));
        }
        for status in wire::items(&part["statuses"]) {
            people.meet(&status::recipient(status));
        }
    }
}

fn read_entry(people: &People, entry: &Value) -> Vec<Fact> {
    match entry["changes"].as_array() {
        Some(changes) => changes
            .iter()
            .flat_map(|change| Change::new(people, entry, change).read())
            .collect(),
        None => vec![wire::unknown(wire::id(&entry["id"]), entry)],
    }
}

/// One change with what its facts share.
struct Change<'a> {
    people: &'a People,
    raw: &'a Value,
    value: &'a Value,
    entry: &'a Value,
    /// The phone number, or the business account where the change is about no number.
    account: Option<String>,
}

impl<'a> Change<'a> {
    fn new(people: &'a People, entry: &'a Value, raw: &'a Value) -> Self {
        let value = &raw["value"];
        let account = wire::id(&value["metadata"]["phone_number_id"])
            .or_else(|| wire::id(&value["recipient"]["phone_number_id"]))
            .or_else(|| wire::id(&value["waba_info"]["waba_id"]))
            .or_else(|| wire::id(&entry["id"]));
        Self {
            people,
            raw,
            value,
            entry,
            account,
        }
    }

    fn read(&self) -> Vec<Fact> {
        // An official sample has the field inside of the value.
        let field = self.raw["field"].as_str();
        let field = field.or_else(|| self.value["field"].as_str());
        let says = |part: &str| self.value[part].is_array();
        match field {
            Some("messages") => self.exchanged(self.value, false),
            None if says("messages") || says("statuses") || says("errors") => {
                self.exchanged(self.value, false)
            }
            Some("smb_message_echoes") => self.echoes(self.value, false),
            Some("standby") => {
                let standby = &self.value["standby"];
                let mut facts = self.exchanged(standby, true);
                facts.extend(self.echoes(standby, true));
                facts
            }
            Some("history") => self.history(),
            Some("user_preferences") => {
                self.about_people("user_preferences", |_| FactKind::OptinChanged)
            }
            Some("user_id_update") => {
                self.about_people("user_id_update", |_| FactKind::ContactIdentityChanged)
            }
            Some("messaging_handovers") => vec![self.handover()],
            Some("message_template_status_update") => {
                vec![self.about_account(FactKind::TemplateStatusChanged, "template")]
            }
            Some("account_update" | "phone_number_quality_update") => {
                vec![self.about_account(FactKind::AccountStatusChanged, "status")]
            }
            Some(other) => vec![wire::ignored(self.account.clone(), other, self.raw)],
            None => vec![wire::unknown(self.account.clone(), self.raw)],
        }
    }

    /// Messages, statuses and errors, in whatever combination.
    fn exchanged(&self, of: &Value, standby: bool) -> Vec<Fact> {
        let mut facts = Vec::new();
        for raw in wire::items(&of["messages"]) {
            let mut message = self.message(raw, Direction::Inbound);
            message.contacts = &self.value["contacts"];
            message.standby = standby;
            facts.extend(message.read());
        }
        for raw in wire::items(&of["statuses"]) {
            facts.push(status::read(self.account.as_deref(), self.people, raw));
        }
        if !wire::items(&of["errors"]).is_empty() {
            let mut fact = self.about_account(FactKind::AccountStatusChanged, "status");
            fact.detail.remove("status");
            wire::keep_raw(&mut fact.detail, "errors", &of["errors"]);
            facts.push(fact);
        }
        if facts.is_empty() {
            facts.push(wire::unknown(self.account.clone(), self.raw));
        }
        facts
    }

    fn message<'m>(&'m self, raw: &'m Value, direction: Direction) -> Message<'m> {
        Message {
            people: self.people,
            raw,
            contacts: &Value::Null,
            account: self.account.as_deref(),
            direction,
            thread: None,
            standby: false,
            history: false,
        }
    }

    /// Typed by somebody in the WhatsApp Business app.
    fn echoes(&self, of: &Value, standby: bool) -> Vec<Fact> {
        let echoes = wire::items(&of["message_echoes"]).iter();
        echoes
            .flat_map(|raw| {
                let mut message = self.message(raw, Direction::Outbound);
                message.standby = standby;
                message.read()
            })
            .collect()
    }

    /// What was exchanged in the WhatsApp Business app before the number was connected.
    fn history(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        let mut past = |raw: &Value, thread: Option<String>| {
            let ours = match &thread {
                Some(thread) => wire::id(&raw["from"]).as_ref() != Some(thread),
                None => raw["to"].is_string(),
            };
            let direction = match ours {
                true => Direction::Outbound,
                false => Direction::Inbound,
            };
            let mut message = self.message(raw, direction);
            message.thread = thread;
            message.history = true;
            facts.extend(message.read());
        };
        for part in wire::items(&self.value["history"]) {
            for thread in wire::items(&part["threads"]) {
                for raw in wire::items(&thread["messages"]) {
                    past(raw, wire::id(&thread["id"]));
                }
            }
        }
        for raw in wire::items(&self.value["messages"]) {
            past(raw, None);
        }
        if facts.is_empty() {
            // Sharing was declined, or there is nothing.
            facts.push(wire::ignored(self.account.clone(), "history", self.raw));
        }
        facts
    }

    /// Statements about people, each kept as it is.
    fn about_people(&self, list: &str, kind: fn(&Value) -> FactKind) -> Vec<Fact> {
        let items = wire::items(&self.value[list]).iter();
        let facts: Vec<Fact> = items
            .map(|raw| {
                // The id of before is the one the conversation goes by.
                let user = match &raw["user_id"] {
                    Value::Object(change) => wire::id(&change["previous"]),
                    id => wire::id(id),
                }
                .unwrap_or_default();
                let said = Person {
                    user: Some(user).filter(|id| !id.is_empty()),
                    parent: None,
                    phone: phone_of(&raw["wa_id"]),
                };
                let mut fact = self.of_person(kind(raw), said);
                fact.ts_ms = wire::time_ms(&raw["timestamp"]);
                fact.dedup = wire::content_digest(raw);
                fact.detail.insert(list.to_owned(), raw.clone());
                fact
            })
            .collect();
        match facts.is_empty() {
            true => vec![wire::unknown(self.account.clone(), self.raw)],
            false => facts,
        }
    }

    fn handover(&self) -> Fact {
        let said = Person {
            phone: phone_of(&self.value["sender"]["phone_number"]),
            user: wire::id(&self.value["sender"]["user_id"]),
            parent: None,
        };
        let mut fact = self.of_person(FactKind::ConversationHandover, said);
        fact.ts_ms = wire::time_ms(&self.value["timestamp"]);
        fact.dedup = wire::content_digest(self.value);
        let kind = self.value["type"].as_str().unwrap_or_default();
        fact.detail.insert("event".into(), kind.into());
        wire::keep_raw(&mut fact.detail, "handover", &self.value[kind]);
        fact
    }

    fn of_person(&self, kind: FactKind, said: Person) -> Fact {
        let person = self.people.know(said);
        let mut fact = Fact::new(kind);
        fact.account = self.account.clone();
        fact.thread = person.thread();
        fact.aliases = person.aliases();
        fact.sender = person.shown();
        fact.sender_name = self.people.name(&person);
        fact.conversation = super::message::conversation(&fact);
        fact
    }

    /// A statement about the number or the business account, kept as it is.
    fn about_account(&self, kind: FactKind, name: &str) -> Fact {
        let mut fact = Fact::new(kind);
        fact.account = self.account.clone();
        fact.ts_ms = wire::time_ms(&self.entry["time"]);
        fact.dedup = wire::content_digest(self.raw);
        let mut content = self.value.clone();
        if let Some(id) = wire::id(&content["message_template_id"]) {
            content["message_template_id"] = id.into();
        }
        fact.detail.insert(name.to_owned(), content);
        fact
    }
}
