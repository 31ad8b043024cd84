//! From a webhook body of Messenger or Instagram to facts.
//!
//! One body is a batch: several entries (accounts), each with several items, of which any may be new
//! or broken. Every item becomes at least one fact, and none fails its neighbours. `sender` and
//! `recipient` are taken relative to the account (a Page, an Instagram professional account): the
//! other one is the person, and with the account names the conversation.

use serde_json::{Value, json};

use super::attachment;
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind};
use crate::platform::wire;

/// Threads of plugin guests, who have a reference of ours instead of a page-scoped id.
pub const GUEST: &str = "user_ref:";

/// The entry id of the dashboard's "Test" button.
const TEST_ENTRY: &str = "0";

/// What an item may carry, in the order it is looked for.
const ITEM_KEYS: [&str; 13] = [
    "message",
    "message_edit",
    "postback",
    "reaction",
    "delivery",
    "read",
    "referral",
    "optin",
    "pass_thread_control",
    "take_thread_control",
    "request_thread_control",
    "app_roles",
    "account_linking",
];

/// Reads a webhook envelope for `object`, or one entry of it; `None` when the body is neither.
/// `own_app` is our app id, to tell our own sends from other apps'; empty when not configured.
pub fn read(object: &str, own_app: &str, body: &Value) -> Option<Vec<Fact>> {
    let ours = body["object"].as_str().is_none_or(|name| name == object);
    if let Some(entries) = body["entry"].as_array() {
        let read = |entry| match ours {
            true => read_entry(own_app, entry),
            false => vec![wire::unknown(None, entry)],
        };
        return Some(entries.iter().flat_map(read).collect());
    }
    let is_entry = body["messaging"].is_array() || body["standby"].is_array();
    is_entry.then(|| read_entry(own_app, body))
}

/// Reads one item of an entry by itself.
pub fn read_item(own_app: &str, item: &Value) -> Vec<Fact> {
    Item::new(own_app, None, &Value::Null, item).read()
}

fn read_entry(own_app: &str, entry: &Value) -> Vec<Fact> {
    let id = wire::id(&entry["id"]);
    let test = id.as_deref() == Some(TEST_ENTRY);
    let page = id.filter(|_| !test);
    let mut facts = Vec::new();
    for key in ["messaging", "standby"] {
        for raw in wire::items(&entry[key]) {
            if test {
                facts.push(wire::ignored(None, key, raw));
                continue;
            }
            let mut item = Item::new(own_app, page.clone(), &entry["time"], raw);
            item.standby = key == "standby";
            facts.extend(item.read());
        }
    }
    for raw in wire::items(&entry["changes"]) {
        let field = raw["field"].as_str().unwrap_or("change");
        facts.push(wire::ignored(page.clone(), field, raw));
    }
    if ["messaging", "standby", "changes"]
        .iter()
        .any(|key| entry[key].is_array())
    {
        return facts;
    }
    // Comments of accounts with Instagram's own login have the change where the list should be.
    let change = entry["field"].as_str();
    let says_nothing = entry.as_object().is_some_and(|entry| {
        let envelope = |key: &String| key == "id" || key == "time";
        !entry.is_empty() && entry.keys().all(envelope)
    });
    facts.push(match change {
        Some(field) => wire::ignored(page, field, entry),
        None if says_nothing => wire::ignored(page, "empty entry", entry),
        None => wire::unknown(page, entry),
    });
    facts
}

/// One item with what is known about it before its content is looked at.
struct Item<'a> {
    own_app: &'a str,
    raw: &'a Value,
    account: Option<String>,
    thread: Option<String>,
    sender: Option<String>,
    outbound: bool,
    ts_ms: Option<i64>,
    standby: bool,
}

impl<'a> Item<'a> {
    fn new(own_app: &'a str, page: Option<String>, entry_time: &Value, raw: &'a Value) -> Self {
        // A plugin names its guest in what they agreed to.
        let from = party(&raw["sender"]).or_else(|| party(&raw["optin"]));
        let to = party(&raw["recipient"]);
        let echo = raw["message"]["is_echo"] == Value::Bool(true);
        let account = page.or_else(|| if echo { from.clone() } else { to.clone() });
        let outbound = echo || (from.is_some() && from == account && from != to);
        let (first, second) = if outbound { (&to, &from) } else { (&from, &to) };
        let person = |id: &&String| Some(*id) != account.as_ref();
        let thread = first
            .as_ref()
            .filter(person)
            .or(second.as_ref().filter(person))
            .cloned();
        let ts_ms = wire::time_ms(&raw["timestamp"])
            .or_else(|| wire::time_ms(&raw["delivery"]["watermark"]))
            .or_else(|| wire::time_ms(&raw["read"]["watermark"]))
            .or_else(|| wire::time_ms(entry_time));
        let sender = from.or_else(|| account.clone().filter(|_| echo));
        Self {
            own_app,
            raw,
            account,
            thread,
            sender,
            outbound,
            ts_ms,
            standby: false,
        }
    }

    fn read(&self) -> Vec<Fact> {
        let policy = &self.raw["policy_enforcement"];
        if policy.is_object() {
            return vec![self.policy(policy)];
        }
        let found = ITEM_KEYS.iter().find(|key| self.raw[**key].is_object());
        if found.is_some() && self.is_to_oneself() {
            return vec![wire::ignored(self.account.clone(), "to oneself", self.raw)];
        }
        let facts = match found {
            Some(key) if self.account.is_some() && self.thread.is_some() => {
                self.read_as(key, &self.raw[*key])
            }
            // Which app does what is the account's, of no thread in particular.
            Some(key @ &"app_roles") if self.account.is_some() => {
                Some(vec![self.handover(key, &self.raw[*key])])
            }
            _ => None,
        };
        facts.unwrap_or_else(|| vec![wire::unknown(self.account.clone(), self.raw)])
    }

    /// The test of a set-up: the account writes to itself.
    fn is_to_oneself(&self) -> bool {
        let (from, to) = (party(&self.raw["sender"]), party(&self.raw["recipient"]));
        from.is_some() && from == to && from == self.account
    }

    /// `None` when the content lacks what makes it that content.
    fn read_as(&self, key: &str, value: &Value) -> Option<Vec<Fact>> {
        match key {
            "message" => self.message(value),
            "message_edit" => self.edit(value).map(|fact| vec![fact]),
            "postback" => Some(self.postback(value)),
            "reaction" => self.reaction(value).map(|fact| vec![fact]),
            "delivery" => self
                .receipt(FactKind::ReceiptDelivered, value)
                .map(|fact| vec![fact]),
            "read" => self
                .receipt(FactKind::ReceiptRead, value)
                .map(|fact| vec![fact]),
            "referral" => Some(vec![self.referral(value)]),
            "optin" => Some(vec![self.plain(
                FactKind::OptinChanged,
                "optin",
                value.clone(),
            )]),
            "account_linking" => {
                // The authorisation code beside it is a secret of the page's own login.
                let linking = json!({ "status": value["status"] });
                Some(vec![self.plain(
                    FactKind::ContactIdentityChanged,
                    key,
                    linking,
                )])
            }
            _ => Some(vec![self.handover(key, value)]),
        }
    }

    fn fact(&self, kind: FactKind) -> Fact {
        let mut fact = Fact::new(kind);
        fact.account = self.account.clone();
        fact.thread = self.thread.clone();
        if let (Some(account), Some(thread)) = (&self.account, &self.thread) {
            fact.conversation = Some(format!("{account}:{thread}"));
        }
        fact.sender = self.sender.clone();
        fact.direction = Some(if self.outbound {
            Direction::Outbound
        } else {
            Direction::Inbound
        });
        fact.ts_ms = self.ts_ms;
        if self.standby {
            fact.detail.insert("standby".into(), true.into());
        }
        fact
    }

    /// A fact whose content is kept as it is.
    fn plain(&self, kind: FactKind, name: &str, content: Value) -> Fact {
        let mut fact = self.fact(kind);
        fact.dedup = wire::content_digest(self.raw);
        fact.detail.insert(name.to_owned(), content);
        fact
    }

    fn message(&self, message: &Value) -> Option<Vec<Fact>> {
        let mid = wire::id(&message["mid"]);
        if message["is_deleted"] == Value::Bool(true) {
            let mut fact = self.fact(FactKind::MessageDeleted);
            fact.dedup = mid.clone()?;
            fact.message_id = mid.clone();
            fact.target = mid;
            return Some(vec![fact]);
        }
        let kind = if self.outbound {
            FactKind::MessageEchoed
        } else {
            FactKind::MessageReceived
        };
        let mut fact = self.fact(kind);
        let mid = mid.unwrap_or_else(|| self.synthetic_id(&message.to_string()));
        fact.dedup = mid.clone();
        fact.message_id = Some(mid.clone());
        attachment::read(message, &mut fact);
        fact.action = wire::filled(&message["quick_reply"]["payload"]);
        let reply = &message["reply_to"];
        fact.reply_to = wire::id(&reply["mid"]);
        let detail = &mut fact.detail;
        wire::keep(detail, "reply_to_self", reply["is_self_reply"].as_bool());
        wire::keep_raw(detail, "reply_to_story", &reply["story"]);
        let commands: Vec<Value> = wire::items(&message["commands"])
            .iter()
            .filter_map(|command| wire::filled(&command["name"]).map(Value::String))
            .collect();
        wire::keep(
            detail,
            "commands",
            Some(commands).filter(|names| !names.is_empty()),
        );
        if self.outbound {
            fact.client_ref = wire::filled(&message["metadata"]);
            let app = wire::id(&message["app_id"]);
            if !self.own_app.is_empty() {
                detail.insert(
                    "own_app".into(),
                    (app.as_deref() == Some(self.own_app)).into(),
                );
            }
            wire::keep(detail, "app_id", app);
        }
        Some(self.with_referral(fact, &message["referral"], &mid))
    }

    fn edit(&self, edit: &Value) -> Option<Fact> {
        let mid = wire::id(&edit["mid"])?;
        let mut fact = self.fact(FactKind::MessageEdited);
        fact.text = wire::text(&edit["text"]);
        fact.content = Some(ContentKind::Text);
        let number = wire::int(&edit["num_edit"]);
        let which = number.map_or_else(|| wire::content_digest(self.raw), |n| n.to_string());
        fact.dedup = format!("{mid}:{which}");
        wire::keep(&mut fact.detail, "num_edit", number);
        fact.message_id = Some(mid.clone());
        fact.target = Some(mid);
        Some(fact)
    }

    fn postback(&self, postback: &Value) -> Vec<Fact> {
        let payload = wire::filled(&postback["payload"]);
        let mid = wire::id(&postback["mid"])
            .unwrap_or_else(|| self.synthetic_id(payload.as_deref().unwrap_or_default()));
        let mut fact = self.fact(FactKind::MessageReceived);
        fact.content = Some(ContentKind::Action);
        fact.text = wire::filled(&postback["title"]);
        fact.action = payload;
        fact.dedup = mid.clone();
        fact.message_id = Some(mid.clone());
        self.with_referral(fact, &postback["referral"], &mid)
    }

    /// A stable id for what came without one (old subscriptions), so that its repetition is known.
    fn synthetic_id(&self, content: &str) -> String {
        let ts = self.ts_ms.unwrap_or_default().to_string();
        let part = |id: &Option<String>| id.clone().unwrap_or_default();
        let parts = [&part(&self.account), &part(&self.sender), &ts, content];
        format!("hub-{}", wire::digest(&parts))
    }

    /// The message, and when a referral came with it, the referral as a fact of its own.
    fn with_referral(&self, mut message: Fact, referral: &Value, mid: &str) -> Vec<Fact> {
        if !referral.is_object() {
            return vec![message];
        }
        let referral = readable_referral(referral);
        message.detail.insert("referral".into(), referral.clone());
        let mut fact = self.fact(FactKind::ConversationReferral);
        fact.dedup = mid.to_owned();
        fact.detail.insert("referral".into(), referral);
        vec![message, fact]
    }

    fn referral(&self, referral: &Value) -> Fact {
        let kind = FactKind::ConversationReferral;
        let mut fact = self.plain(kind, "referral", readable_referral(referral));
        wire::keep_raw(&mut fact.detail, "lead", &self.raw["lead"]["data"]);
        fact
    }

    fn reaction(&self, reaction: &Value) -> Option<Fact> {
        let mid = wire::id(&reaction["mid"])?;
        let (kind, action) = match reaction["action"].as_str()? {
            "react" => (FactKind::ReactionAdded, "react"),
            "unreact" => (FactKind::ReactionRemoved, "unreact"),
            _ => return None,
        };
        let mut fact = self.fact(kind);
        let name = wire::filled(&reaction["reaction"]);
        fact.emoji = wire::filled(&reaction["emoji"])
            .or_else(|| name.as_deref().and_then(emoji_of).map(str::to_owned));
        fact.dedup = wire::digest(&[
            &mid,
            fact.sender.as_deref().unwrap_or_default(),
            action,
            fact.emoji.as_deref().unwrap_or_default(),
            &fact.ts_ms.unwrap_or_default().to_string(),
        ]);
        wire::keep(&mut fact.detail, "reaction", name);
        fact.target = Some(mid);
        Some(fact)
    }

    fn receipt(&self, kind: FactKind, receipt: &Value) -> Option<Fact> {
        let mut fact = self.fact(kind);
        fact.watermark_ms = wire::time_ms(&receipt["watermark"]);
        fact.targets = wire::items(&receipt["mids"])
            .iter()
            .filter_map(wire::id)
            .collect();
        // Instagram names the newest message that was read.
        fact.target = wire::id(&receipt["mid"]);
        if fact.watermark_ms.is_none() && fact.targets.is_empty() && fact.target.is_none() {
            return None;
        }
        let named = fact.targets.iter().chain(&fact.target);
        let mids: Vec<&str> = named.map(String::as_str).collect();
        fact.dedup = wire::digest(&[
            fact.sender.as_deref().unwrap_or_default(),
            &fact.watermark_ms.unwrap_or_default().to_string(),
            &wire::digest(&mids),
        ]);
        Some(fact)
    }

    fn handover(&self, key: &str, value: &Value) -> Fact {
        let mut handover = value.clone();
        for role in [
            "previous_owner_app_id",
            "new_owner_app_id",
            "requested_owner_app_id",
        ] {
            if let Some(app) = wire::id(&value[role]) {
                handover[role] = app.into();
            }
        }
        let ours = handover["new_owner_app_id"] == self.own_app;
        let mut fact = self.plain(FactKind::ConversationHandover, "handover", handover);
        fact.detail.insert("event".into(), key.into());
        let moved = matches!(key, "pass_thread_control" | "take_thread_control");
        if moved && !self.own_app.is_empty() {
            fact.detail.insert("owned_by_us".into(), ours.into());
        }
        fact
    }

    fn policy(&self, policy: &Value) -> Fact {
        let mut fact = Fact::new(FactKind::AccountStatusChanged);
        fact.account = self.account.clone();
        fact.ts_ms = self.ts_ms;
        fact.dedup = wire::content_digest(self.raw);
        fact.detail.insert("policy".into(), policy.clone());
        fact
    }
}

/// The id of a side: a page-scoped id, or our own reference of a plugin guest.
fn party(side: &Value) -> Option<String> {
    let guest = || wire::id(&side["user_ref"]).map(|guest| format!("{GUEST}{guest}"));
    wire::id(&side["id"]).or_else(guest)
}

/// The referral with its ids as strings and the advertisement's title where it is looked for.
fn readable_referral(referral: &Value) -> Value {
    let mut readable = referral.clone();
    for key in ["ad_id", "ref"] {
        if let Some(id) = wire::id(&referral[key]) {
            readable[key] = id.into();
        }
    }
    if let Some(title) = wire::filled(&referral["ads_context_data"]["ad_title"]) {
        readable["title"] = title.into();
    }
    readable
}

/// The emoji of a reaction's name, for payloads that carry only the name.
fn emoji_of(name: &str) -> Option<&'static str> {
    match name {
        "smile" => Some("😆"),
        "angry" => Some("😠"),
        "sad" => Some("😢"),
        "wow" => Some("😮"),
        "love" => Some("❤️"),
        "like" => Some("👍"),
        "dislike" => Some("👎"),
        _ => None,
    }
}
