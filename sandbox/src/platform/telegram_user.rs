//! Telegram for user accounts, as the hub's session sees it: calls as JSON instead of MTProto.
//!
//! Played: a login with code and cloud password, two chats with a history, updates with a counter
//! that waits for the hub, sends that happen once under their number, floods, and sessions that are
//! revoked, and files both ways (`files`). Whoever asks is known by a key, as by an authorisation key; once they are in, the key says
//! whose it is, so that the sandbox may restart under them.
//!
//! Every phone number is an account. The code is 12345; a number that ends in 2 has the cloud
//! password `teapot`. Switches: faults of the platform `telegram-user` (send: status 420 with
//! `retryAfter`, 500, `accept_no_reply`; fetch: 420, or 401 for a revoked session; upload: 420, 500,
//! `accept_no_reply`, `drop` for a part that is taken and lost; media: 400 for a place that is good no
//! more, 420, `cut_off`), and `/control/incoming` with the account's number.

mod files;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::files::{Files, InMessage};
use super::{Incoming, Player, Written};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::ledger::{Sent, hold, now};
use crate::world::World;

/// The name of this platform among the players: the other one is the bots'.
const NAME: &str = "telegram-user";
/// The only code.
const CODE: &str = "12345";
/// The cloud password of those who have one.
const PASSWORD: &str = "teapot";
/// How long a call for updates waits.
const UPDATES_WAIT: Duration = Duration::from_secs(15);
/// How long a hanging call is kept.
const HANG: Duration = Duration::from_secs(60);

/// A message, as the account's person has it.
#[derive(Clone)]
struct Message {
    id: i64,
    chat: i64,
    out: bool,
    date: i64,
    text: String,
    file: Option<InMessage>,
}

/// Somebody's account.
#[derive(Default)]
struct Account {
    messages: Vec<Message>,
    names: BTreeMap<i64, String>,
    /// Chat to the newest message that was read, by them and by the person.
    read_in: HashMap<i64, i64>,
    updates: Vec<Value>,
    /// What the counter of updates began at: the clock, so that it goes up over a restart.
    base: i64,
    /// Numbers of sends to the message each made.
    sends: HashMap<i64, i64>,
}

/// A session, by its key.
#[derive(Clone, Default)]
struct Session {
    phone: String,
    hash: String,
    needs_password: bool,
}

#[derive(Default)]
struct Memory {
    sessions: HashMap<String, Session>,
    /// Keys of sessions that are over.
    revoked: HashSet<String>,
    accounts: BTreeMap<i64, Account>,
    files: Files,
    message_id: i64,
}

/// The player.
pub(crate) struct Users {
    world: Arc<World>,
    memory: Mutex<Memory>,
    news: watch::Sender<u64>,
}

/// What a call failed with: a code, a name, and a number cut out of the name.
struct Refused(i64, &'static str, Option<u64>);

type Answer = Result<Value, Refused>;

impl Users {
    /// The platform without anybody.
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            memory: Mutex::default(),
            news: watch::Sender::new(0),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        hold(&self.memory)
    }

    async fn dispatch(self: Arc<Self>, call: Call) -> Response {
        let method = call
            .segments()
            .get(1)
            .copied()
            .unwrap_or_default()
            .to_owned();
        let key = call.param("key").unwrap_or_default();
        let op = match method.as_str() {
            "send" => Some(Op::Send),
            "save_part" => Some(Op::Upload),
            "dialogs" | "history" | "updates" => Some(Op::Fetch),
            "send_code" | "sign_in" | "check_password" => Some(Op::Token),
            _ => None,
        };
        let answer = match op.and_then(|op| self.world.faults.hit(NAME, op)) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => {
                if status == 401 {
                    self.memory().revoked.insert(key);
                }
                Err(refusal(status, retry_after_s))
            }
            Some(Fault::Hang) => return call.leave_unanswered(HANG).await,
            Some(Fault::AcceptNoReply) => {
                let _unanswered = self.method(&method, &key, &call).await;
                return call.leave_unanswered(Duration::ZERO).await;
            }
            None => self.method(&method, &key, &call).await,
        };
        match answer {
            Ok(answer) => Json(answer).into_response(),
            Err(Refused(code, error, value)) => {
                let body = json!({ "code": code, "error": error, "value": value });
                (StatusCode::BAD_REQUEST, Json(body)).into_response()
            }
        }
    }

    async fn method(&self, method: &str, key: &str, call: &Call) -> Answer {
        match method {
            "send_code" => self.send_code(key, call),
            "sign_in" => self.sign_in(key, call),
            "check_password" => self.check_password(key, call),
            "me" => self.me(key),
            "dialogs" => self.dialogs(key, call),
            "history" => self.history(key, call),
            "send" => self.send(key, call),
            "save_part" => self.save_part(key, call),
            "locate" => self.locate(key, call),
            "read" => self.read(key, call),
            "updates" => self.updates(key, call).await,
            "log_out" => {
                self.account(key)?;
                self.memory().revoked.insert(key.to_owned());
                Ok(json!({ "ok": true }))
            }
            _ => Err(Refused(400, "METHOD_INVALID", None)),
        }
    }

    fn account(&self, key: &str) -> Result<i64, Refused> {
        let mut memory = self.memory();
        let id = key.split_once('.').and_then(|(id, _)| id.parse().ok());
        let id = id.filter(|_| !memory.revoked.contains(key));
        let id = id.ok_or(Refused(401, "AUTH_KEY_UNREGISTERED", None))?;
        memory.furnish(id);
        Ok(id)
    }

    fn send_code(&self, key: &str, call: &Call) -> Answer {
        let phone = call.param("phone").unwrap_or_default();
        if number(&phone).is_none() {
            return Err(Refused(400, "PHONE_NUMBER_INVALID", None));
        }
        let hash = self.world.unique();
        let session = Session {
            phone,
            hash: hash.clone(),
            ..Session::default()
        };
        self.memory().sessions.insert(key.to_owned(), session);
        Ok(json!({ "hash": hash }))
    }

    fn sign_in(&self, key: &str, call: &Call) -> Answer {
        let mut memory = self.memory();
        let session = memory.sessions.get_mut(key);
        let session = session.ok_or(Refused(400, "PHONE_CODE_EXPIRED", None))?;
        let is_own = call.param("phone").as_deref() == Some(&session.phone)
            && call.param("hash").as_deref() == Some(&session.hash);
        // A code is redeemed once; who has been let in to the password has used theirs.
        if !is_own || session.needs_password {
            return Err(Refused(400, "PHONE_CODE_EXPIRED", None));
        }
        if call.param("code").as_deref() != Some(CODE) {
            return Err(Refused(400, "PHONE_CODE_INVALID", None));
        }
        if session.phone.ends_with('2') {
            session.needs_password = true;
            return Err(Refused(401, "SESSION_PASSWORD_NEEDED", None));
        }
        let phone = session.phone.clone();
        Ok(memory.let_in(key, &phone))
    }

    fn check_password(&self, key: &str, call: &Call) -> Answer {
        let mut memory = self.memory();
        let session = memory.sessions.get(key).cloned();
        let session = session.filter(|session| session.needs_password);
        let session = session.ok_or(Refused(401, "AUTH_KEY_UNREGISTERED", None))?;
        if call.param("password").as_deref() != Some(PASSWORD) {
            return Err(Refused(400, "PASSWORD_HASH_INVALID", None));
        }
        Ok(memory.let_in(key, &session.phone))
    }

    fn me(&self, key: &str) -> Answer {
        let id = self.account(key)?;
        Ok(me(id))
    }

    fn dialogs(&self, key: &str, call: &Call) -> Answer {
        let id = self.account(key)?;
        let limit = limit(call);
        let memory = self.memory();
        let Some(account) = memory.accounts.get(&id) else {
            return Ok(json!({ "dialogs": [] }));
        };
        let mut dialogs: Vec<Value> = account
            .names
            .keys()
            .filter_map(|chat| {
                let top = account.messages.iter().rev().find(|it| it.chat == *chat)?;
                let read_in = account.read_in.get(chat).copied().unwrap_or_default();
                let is_unread = |it: &&Message| it.chat == *chat && !it.out && it.id > read_in;
                Some(json!({
                    "chat": account.chat(*chat),
                    "unread": account.messages.iter().filter(is_unread).count(),
                    "read_in": read_in,
                    "read_out": 0,
                    "top": top.id,
                    "date": top.date,
                }))
            })
            .collect();
        dialogs.sort_by_key(|it| std::cmp::Reverse(it["top"].as_i64()));
        dialogs.truncate(limit);
        Ok(json!({ "dialogs": dialogs }))
    }

    fn history(&self, key: &str, call: &Call) -> Answer {
        let id = self.account(key)?;
        let chat = chat(call)?;
        let memory = self.memory();
        let account = memory.accounts.get(&id);
        let account = account.filter(|account| account.names.contains_key(&chat));
        let account = account.ok_or(Refused(400, "PEER_ID_INVALID", None))?;
        let of_chat = account.messages.iter().rev().filter(|it| it.chat == chat);
        let messages: Vec<Value> = of_chat
            .take(limit(call))
            .map(|it| account.shown(it))
            .collect();
        Ok(json!({ "messages": messages }))
    }

    fn send(&self, key: &str, call: &Call) -> Answer {
        let id = self.account(key)?;
        let chat = chat(call)?;
        let text = call.param("text").unwrap_or_default();
        let random_id = call.param("random_id").and_then(|it| it.parse().ok());
        let random_id: i64 = random_id.ok_or(Refused(400, "RANDOM_ID_INVALID", None))?;
        let named = call.value("file").filter(Value::is_object);
        if text.trim().is_empty() && named.is_none() {
            return Err(Refused(400, "MESSAGE_EMPTY", None));
        }
        let require = |memory: &Memory| {
            let known = memory.accounts.get(&id);
            if !known.is_some_and(|account| account.names.contains_key(&chat)) {
                return Err(Refused(400, "PEER_ID_INVALID", None));
            }
            match known.is_some_and(|account| account.sends.contains_key(&random_id)) {
                true => Err(Refused(400, "RANDOM_ID_DUPLICATE", None)),
                false => Ok(()),
            }
        };
        require(&self.memory())?;
        let file = match &named {
            Some(named) => Some(self.handed_over(id, named, &text)?),
            None => None,
        };
        let (file, media) = file.unzip();
        let mut memory = self.memory();
        require(&memory)?;
        let message = memory.write((id, chat), true, &text, file);
        if let Some(account) = memory.accounts.get_mut(&id) {
            account.sends.insert(random_id, message);
        }
        drop(memory);
        self.news.send_modify(|count| *count += 1);
        self.world.ledger.accept(Sent {
            platform: NAME,
            account: id.to_string(),
            platform_message_id: message.to_string(),
            to: chat.to_string(),
            text,
            metadata: Some(random_id.to_string()),
            media,
            at: now(),
        });
        Ok(json!({ "id": message }))
    }

    async fn updates(&self, key: &str, call: &Call) -> Answer {
        let after: i64 = call
            .param("after")
            .and_then(|it| it.parse().ok())
            .unwrap_or_default();
        let mut news = self.news.subscribe();
        let deadline = tokio::time::Instant::now() + UPDATES_WAIT;
        loop {
            let id = self.account(key)?;
            let (items, upto) = {
                let memory = self.memory();
                let account = memory.accounts.get(&id);
                let updates = account.map_or(&[][..], |it| it.updates.as_slice());
                let base = account.map_or(0, |it| it.base);
                // Counted before a restart: everything since is news.
                let after = usize::try_from(after - base).unwrap_or_default();
                let news = updates.get(after..).unwrap_or_default().to_vec();
                (
                    news,
                    base + i64::try_from(updates.len()).unwrap_or_default(),
                )
            };
            let is_late = tokio::time::Instant::now() >= deadline;
            if !items.is_empty() || is_late {
                return Ok(json!({ "items": items, "upto": upto }));
            }
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }
}

impl Memory {
    fn let_in(&mut self, key: &str, phone: &str) -> Value {
        let id = number(phone).unwrap_or_default();
        self.sessions.remove(key);
        self.furnish(id);
        let mut answer = me(id);
        answer["key"] = json!(format!("{id}.{key}"));
        answer
    }

    /// Two chats for a new account: one read, one with something new.
    fn furnish(&mut self, id: i64) {
        if self.accounts.contains_key(&id) {
            return;
        }
        let account = Account {
            base: chrono::Utc::now().timestamp_micros(),
            ..Account::default()
        };
        self.accounts.insert(id, account);
        for (chat, name) in [(5_501_000_001, "Mira Q"), (5_501_000_002, "Tomás")] {
            if let Some(account) = self.accounts.get_mut(&id) {
                account.names.insert(chat, name.to_owned());
            }
            let at = (id, chat);
            self.write(at, false, "Is the blue teapot still there?", None);
            let own = self.write(at, true, "It is.", None);
            if let Some(account) = self.accounts.get_mut(&id) {
                account.read_in.insert(chat, own);
            }
        }
        self.write((id, 5_501_000_002), false, "And the green one?", None);
        // What was there before the session is history, not news.
        if let Some(account) = self.accounts.get_mut(&id) {
            account.updates.clear();
        }
    }

    fn write(
        &mut self,
        (id, chat): (i64, i64),
        out: bool,
        text: &str,
        file: Option<InMessage>,
    ) -> i64 {
        let now_us = chrono::Utc::now().timestamp_micros();
        // Numbers go up, also over a restart.
        self.message_id = (self.message_id + 1).max(now_us / 1_000_000 % 1_000_000_000);
        let message = Message {
            id: self.message_id,
            chat,
            out,
            date: now_us / 1_000_000,
            text: text.to_owned(),
            file,
        };
        if let Some(account) = self.accounts.get_mut(&id) {
            let mut update = account.shown(&message);
            update["is"] = json!("message");
            account.updates.push(update);
            account.messages.push(message);
        }
        self.message_id
    }
}

impl Account {
    fn chat(&self, chat: i64) -> Value {
        json!({ "kind": "user", "id": chat, "name": self.names.get(&chat) })
    }

    fn shown(&self, message: &Message) -> Value {
        let mut shown = json!({
            "chat": self.chat(message.chat),
            "id": message.id,
            "out": message.out,
            "date": message.date,
            "text": message.text,
        });
        if let Some(file) = &message.file {
            shown["media"] = file.shown();
        }
        shown
    }
}

fn me(id: i64) -> Value {
    json!({ "id": id, "username": format!("person{}", id % 10_000) })
}

/// A phone number's digits are the account's number.
fn number(phone: &str) -> Option<i64> {
    let digits = phone.strip_prefix('+')?;
    digits.parse().ok().filter(|id| *id > 0)
}

fn chat(call: &Call) -> Result<i64, Refused> {
    let chat = call.value("chat").unwrap_or_default();
    let is_user = chat["kind"] == "user";
    let id = chat["id"].as_i64().filter(|_| is_user);
    id.ok_or(Refused(400, "PEER_ID_INVALID", None))
}

fn limit(call: &Call) -> usize {
    let limit = call.param("limit").and_then(|it| it.parse().ok());
    limit.unwrap_or(50).min(100)
}

fn refusal(status: u16, retry_after_s: Option<u64>) -> Refused {
    match status {
        420 | 429 => Refused(420, "FLOOD_WAIT", retry_after_s.or(Some(1))),
        401 => Refused(401, "SESSION_REVOKED", None),
        403 => Refused(403, "CHAT_WRITE_FORBIDDEN", None),
        400..500 => Refused(400, "MESSAGE_ID_INVALID", None),
        _ => Refused(500, "RPC_CALL_FAIL", None),
    }
}

impl Player for Users {
    fn name(&self) -> &'static str {
        NAME
    }

    /// The account that signed in first.
    fn home(&self) -> String {
        let id = self.memory().accounts.keys().next().copied();
        id.unwrap_or_default().to_string()
    }

    fn claims(&self, call: &Call) -> bool {
        call.segments().first() == Some(&"mtproto")
    }

    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response> {
        Box::pin(self.dispatch(call))
    }

    fn write(&self, incoming: &Incoming) -> Result<Written, String> {
        let account = incoming.account.clone().unwrap_or_else(|| self.home());
        let id: i64 = account
            .parse()
            .map_err(|_| "account must be a number on telegram-user")?;
        let from: i64 = incoming
            .from_id
            .parse()
            .ok()
            .filter(|from| *from > 0)
            .ok_or("from.id must be a positive number on telegram-user")?;
        let file = self.attached(incoming.media.as_ref())?;
        let mut memory = self.memory();
        let known = memory.accounts.get_mut(&id);
        let known = known.ok_or("nobody has signed in with this account")?;
        known.names.insert(from, incoming.from_name.clone());
        let message = memory.write((id, from), false, &incoming.text, file);
        drop(memory);
        self.news.send_modify(|count| *count += 1);
        Ok(Written {
            message_id: message.to_string(),
            webhook: None,
        })
    }

    fn reset(&self) {
        for account in self.memory().accounts.values_mut() {
            account.sends.clear();
        }
    }
}
