//! From updates to facts.
//!
//! An update names its kind by a key. The API only grows: keys nobody knows become `unknown`, and
//! one of them never stops a batch. What is not a message is told apart by `update_id`.

use serde_json::{Map, Value, json};

use super::message;
use super::thread::Thread;
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind};
use crate::platform::wire;

/// Update kinds the adapter reads.
const READ: [&str; 14] = [
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "business_message",
    "edited_business_message",
    "callback_query",
    "message_reaction",
    "message_reaction_count",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "business_connection",
    "deleted_business_messages",
];

/// Update kinds that are known and of no interest here.
const UNINTERESTING: [&str; 13] = [
    "poll",
    "poll_answer",
    "inline_query",
    "chosen_inline_result",
    "shipping_query",
    "pre_checkout_query",
    "purchased_paid_media",
    "chat_boost",
    "removed_chat_boost",
    "managed_bot",
    "guest_message",
    "subscription",
    "stopped_message_generation",
];

/// The key that says what kind of update this is, when it is a known one.
pub fn kind_of(update: &Value) -> Option<&'static str> {
    READ.into_iter()
        .chain(UNINTERESTING)
        .find(|key| update[*key].is_object())
}

/// Reads one update, a list of them, or an answer to `getUpdates`; and a message by itself, as a send
/// is answered with.
pub fn read(bot: Option<&str>, body: &Value) -> Vec<Fact> {
    let alone = [body, &body["result"]];
    let alone = alone
        .into_iter()
        .find(|it| !it["message_id"].is_null() && it["chat"].is_object());
    if let Some(message) = alone {
        return read_one(bot, &json!({ "message": message }));
    }
    match body.as_array().or_else(|| body["result"].as_array()) {
        Some(updates) => updates
            .iter()
            .flat_map(|update| read_one(bot, update))
            .collect(),
        None => read_one(bot, body),
    }
}

fn read_one(bot: Option<&str>, raw: &Value) -> Vec<Fact> {
    let account = bot.map(str::to_owned);
    let Some(key) = kind_of(raw) else {
        return vec![wire::unknown(account, raw)];
    };
    if UNINTERESTING.contains(&key) {
        return vec![wire::ignored(account, key, raw)];
    }
    let name = wire::id(&raw["update_id"]).unwrap_or_else(|| wire::content_digest(raw));
    let update = Update {
        bot,
        name,
        value: &raw[key],
    };
    let facts = match key {
        "callback_query" => update.callback(),
        "message_reaction" => update.reactions(),
        "message_reaction_count" => update.reaction_counts().map(|fact| vec![fact]),
        "my_chat_member" | "chat_member" => update.member(key).map(|fact| vec![fact]),
        "chat_join_request" => update.join_request().map(|fact| vec![fact]),
        "business_connection" => Some(vec![update.business_connection()]),
        "deleted_business_messages" => update.deletions(),
        _ => message::read(&update, key, update.value),
    };
    facts.unwrap_or_else(|| vec![wire::unknown(account, raw)])
}

/// One update of a kind that is read.
pub struct Update<'a> {
    /// Our bot's id, when a token is configured.
    pub bot: Option<&'a str>,
    /// What this update is called: its id, or a digest when it has none.
    name: String,
    /// What stands under the key of the kind.
    value: &'a Value,
}

impl Update<'_> {
    /// A fact of this update, told apart by the update's id.
    pub fn fact(&self, kind: FactKind, thread: Option<&Thread>) -> Fact {
        let mut fact = Fact::new(kind);
        fact.account = self.bot.map(str::to_owned);
        fact.thread = thread.map(Thread::to_string);
        fact.conversation = fact.thread.clone();
        fact.dedup = self.name.clone();
        fact
    }

    /// The same for updates that say chat and time in the usual way. `None` without a chat.
    fn chat_fact(&self, kind: FactKind) -> Option<Fact> {
        let mut fact = self.fact(kind, Some(&Thread::of(self.value)?));
        fact.ts_ms = wire::seconds_ms(&self.value["date"]);
        fact.thread_name = wire::filled(&self.value["chat"]["title"]);
        Some(fact)
    }

    /// A pressed button. It has no time of its own; the one beside it is the message's.
    fn callback(&self) -> Option<Vec<Fact>> {
        let query = self.value;
        let id = wire::id(&query["id"])?;
        let Some(thread) = Thread::of(&query["message"]) else {
            // Under a message sent inline, into a chat the bot may not know: nothing to file it by.
            let account = self.bot.map(str::to_owned);
            return Some(vec![wire::ignored(account, "inline callback_query", query)]);
        };
        let mut fact = self.fact(FactKind::MessageReceived, Some(&thread));
        fact.content = Some(ContentKind::Action);
        fact.direction = Some(Direction::Inbound);
        fact.sender = wire::id(&query["from"]["id"]);
        fact.sender_name = display_name(&query["from"]);
        fact.thread_name = wire::filled(&query["message"]["chat"]["title"]);
        fact.reply_to = wire::id(&query["message"]["message_id"]);
        fact.action =
            wire::filled(&query["data"]).or_else(|| wire::filled(&query["game_short_name"]));
        let button = pressed_button(&query["message"], &query["data"]);
        wire::keep(&mut fact.detail, "button", button);
        let message_id = format!("callback-{id}");
        wire::keep(&mut fact.detail, "callback_query_id", Some(id));
        fact.dedup = message_id.clone();
        fact.message_id = Some(message_id);
        Some(vec![fact])
    }

    /// What changed between the two lists of one person's reactions.
    fn reactions(&self) -> Option<Vec<Fact>> {
        let value = self.value;
        let target = wire::id(&value["message_id"])?;
        let (old, new) = (
            wire::items(&value["old_reaction"]),
            wire::items(&value["new_reaction"]),
        );
        let actor = if value["actor_chat"].is_object() {
            "actor_chat"
        } else {
            "user"
        };
        let one = |kind: FactKind, reaction: &Value| {
            let mut fact = self.chat_fact(kind)?;
            let emoji = reaction_name(reaction)?;
            fact.sender = wire::id(&value[actor]["id"]);
            fact.sender_name = display_name(&value[actor]);
            fact.direction = Some(Direction::Inbound);
            fact.target = Some(target.clone());
            fact.dedup = format!("{}:{emoji}", self.name);
            fact.emoji = Some(emoji);
            let custom = wire::id(&reaction["custom_emoji_id"]);
            wire::keep(&mut fact.detail, "custom_emoji_id", custom);
            Some(fact)
        };
        let gone = old.iter().filter(|reaction| !new.contains(reaction));
        let come = new.iter().filter(|reaction| !old.contains(reaction));
        let removed = gone.filter_map(|reaction| one(FactKind::ReactionRemoved, reaction));
        let added = come.filter_map(|reaction| one(FactKind::ReactionAdded, reaction));
        let facts: Vec<Fact> = removed.chain(added).collect();
        if facts.is_empty() && old == new {
            let account = self.bot.map(str::to_owned);
            return Some(vec![wire::ignored(account, "message_reaction", value)]);
        }
        (!facts.is_empty()).then_some(facts)
    }

    fn reaction_counts(&self) -> Option<Fact> {
        let mut fact = self.chat_fact(FactKind::ReactionCounts)?;
        fact.target = Some(wire::id(&self.value["message_id"])?);
        let mut counts = Map::new();
        for reaction in wire::items(&self.value["reactions"]) {
            if let Some(name) = reaction_name(&reaction["type"]) {
                wire::keep(&mut counts, &name, wire::count(&reaction["total_count"]));
            }
        }
        fact.detail.insert("counts".into(), Value::Object(counts));
        Some(fact)
    }

    /// In a private chat the bot's membership is the person's consent to be written to.
    fn member(&self, key: &str) -> Option<Fact> {
        let value = self.value;
        let consent = key == "my_chat_member" && value["chat"]["type"] == "private";
        let kind = if consent {
            FactKind::OptinChanged
        } else {
            FactKind::ConversationUpdated
        };
        let mut fact = self.chat_fact(kind)?;
        fact.sender = wire::id(&value["from"]["id"]);
        fact.sender_name = display_name(&value["from"]);
        let (old, new) = (&value["old_chat_member"], &value["new_chat_member"]);
        let detail = &mut fact.detail;
        detail.insert("change".into(), key.into());
        wire::keep(detail, "status", wire::filled(&new["status"]));
        wire::keep(detail, "previous_status", wire::filled(&old["status"]));
        let user =
            json!({ "id": wire::id(&new["user"]["id"]), "name": display_name(&new["user"]) });
        detail.insert("member".into(), user);
        if consent {
            let allowed = !matches!(new["status"].as_str(), Some("kicked" | "left"));
            detail.insert("allowed".into(), allowed.into());
        }
        Some(fact)
    }

    fn join_request(&self) -> Option<Fact> {
        let mut fact = self.chat_fact(FactKind::ConversationUpdated)?;
        let value = self.value;
        fact.sender = wire::id(&value["from"]["id"]);
        fact.sender_name = display_name(&value["from"]);
        let detail = &mut fact.detail;
        detail.insert("change".into(), "chat_join_request".into());
        wire::keep(detail, "user_chat_id", wire::id(&value["user_chat_id"]));
        wire::keep(detail, "bio", wire::filled(&value["bio"]));
        Some(fact)
    }

    fn business_connection(&self) -> Fact {
        let value = self.value;
        let mut fact = self.fact(FactKind::AccountStatusChanged, None);
        fact.ts_ms = wire::seconds_ms(&value["date"]);
        fact.sender = wire::id(&value["user"]["id"]);
        fact.sender_name = display_name(&value["user"]);
        let connection = json!({
            "id": wire::id(&value["id"]),
            "user_chat_id": wire::id(&value["user_chat_id"]),
            "is_enabled": value["is_enabled"],
            "rights": value["rights"],
        });
        fact.detail.insert("business_connection".into(), connection);
        fact
    }

    fn deletions(&self) -> Option<Vec<Fact>> {
        let ids: Vec<String> = wire::items(&self.value["message_ids"])
            .iter()
            .filter_map(wire::id)
            .collect();
        let facts: Option<Vec<Fact>> = ids
            .into_iter()
            .map(|id| {
                let mut fact = self.chat_fact(FactKind::MessageDeleted)?;
                let connection = wire::id(&self.value["business_connection_id"]);
                wire::keep(&mut fact.detail, "business_connection", connection);
                fact.dedup = id.clone();
                fact.message_id = Some(id.clone());
                fact.target = Some(id);
                Some(fact)
            })
            .collect();
        facts.filter(|facts| !facts.is_empty())
    }
}

/// What somebody is called: chats by their title, people by their user name, else first name.
pub fn display_name(party: &Value) -> Option<String> {
    let names = ["title", "username", "first_name"];
    names.iter().find_map(|name| wire::filled(&party[*name]))
}

/// A reaction as one word: the emoji, the id of a custom one, or `paid`.
fn reaction_name(reaction: &Value) -> Option<String> {
    wire::filled(&reaction["emoji"])
        .or_else(|| wire::id(&reaction["custom_emoji_id"]))
        .or_else(|| wire::filled(&reaction["type"]))
}

/// The label of the button that carries this data.
fn pressed_button(message: &Value, data: &Value) -> Option<String> {
    wire::items(&message["reply_markup"]["inline_keyboard"])
        .iter()
        .flat_map(wire::items)
        .find(|button| data.is_string() && button["callback_data"] == *data)
        .and_then(|button| wire::filled(&button["text"]))
}
