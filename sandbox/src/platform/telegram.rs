//! The Telegram Bot API, for one bot.
//!
//! Played: the methods a text bot needs, webhooks with the secret header, polling after
//! `deleteWebhook`, and the login widget's page. A webhook is regarded as set from the start, with
//! the secret from the options: a real bot's webhook outlives any restart, the sandbox's memory does
//! not. Where it points is not taken from `setWebhook` either but from the sandbox's hub address,
//! because Telegram only takes public HTTPS addresses and a hub in development has none.

mod answers;
mod files;
mod updates;
mod widget;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::http::Method;
use axum::response::Response;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Incoming, Player, Written};
use crate::Options;
use crate::call::{Call, text};
use crate::faults::{Fault, Op};
use crate::ledger::{Sent, hold, now};
use crate::upload::File;
use crate::world::World;
use answers::{bad_request, ok, problem};

/// The name of this platform.
const NAME: &str = "telegram";
/// The longest text, in UTF-16 units.
const TEXT_UNITS_MAX: usize = 4096;
/// How long a hanging platform keeps the hub waiting.
const HANG: Duration = Duration::from_secs(60);
/// How long an accepted send stays without an answer before the connection is closed.
const SILENCE: Duration = Duration::from_secs(35);

/// Whether updates are pushed.
enum Hook {
    /// To the hub, with this secret; the rest of what `setWebhook` said is kept for
    /// `getWebhookInfo`.
    Set {
        url: String,
        secret: String,
        said: Value,
    },
    /// Not pushed: they wait for `getUpdates`.
    Deleted,
}

/// What the platform remembers.
struct Memory {
    hook: Hook,
    waiting: VecDeque<Value>,
    update_id: i64,
    /// Chat id to the last message id in it.
    message_ids: HashMap<String, i64>,
    /// Chat id to the first name of who is there.
    people: HashMap<String, String>,
}

/// The player.
pub(crate) struct Bot {
    world: Arc<World>,
    token: String,
    username: String,
    secret: String,
    memory: Mutex<Memory>,
}

impl Bot {
    /// The platform with one bot.
    pub(crate) fn new(world: &Arc<World>, options: &Options) -> Self {
        Self {
            world: Arc::clone(world),
            token: options.telegram_bot_token.clone(),
            username: options.telegram_bot_username.clone(),
            secret: options.telegram_webhook_secret.clone(),
            memory: Mutex::new(Memory {
                hook: Hook::Set {
                    url: String::new(),
                    secret: options.telegram_webhook_secret.clone(),
                    said: Value::Null,
                },
                waiting: VecDeque::new(),
                update_id: 0,
                message_ids: HashMap::new(),
                people: HashMap::new(),
            }),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        hold(&self.memory)
    }

    /// The number before the colon: the bot's user id, and the account's.
    fn id(&self) -> &str {
        self.token.split(':').next().unwrap_or_default()
    }

    fn user(&self) -> Value {
        json!({
            "id": self.id().parse::<i64>().unwrap_or_default(),
            "is_bot": true,
            "first_name": "Hub sandbox bot",
            "username": self.username,
        })
    }

    async fn dispatch(self: Arc<Self>, call: Call) -> Response {
        let segments = call.segments();
        let (token, method) = match segments.as_slice() {
            ["auth", "telegram"] => return self.widget(&call),
            ["file", bot, "media", name] if bot.strip_prefix("bot") == Some(&*self.token) => {
                return self.world.hand_out(NAME, &call, name).await;
            }
            [bot, "test", method] | [bot, method] => (bot.strip_prefix("bot"), *method),
            _ => (None, ""),
        };
        let token = token.unwrap_or_default();
        if !well_formed(token) {
            return problem(404, "Not Found");
        }
        if token != self.token {
            return problem(401, "Unauthorized");
        }
        if !matches!(call.method, Method::GET | Method::POST) {
            return problem(405, "Method Not Allowed");
        }
        self.method(&call, &method.to_ascii_lowercase()).await
    }

    async fn method(&self, call: &Call, method: &str) -> Response {
        let op = match method {
            "getme" => Some(Op::Token),
            "getupdates" | "getchat" | "getfile" => Some(Op::Fetch),
            _ => None,
        };
        if let Some(fault) = op.and_then(|op| self.world.faults.hit(NAME, op)) {
            return match fault {
                Fault::Status {
                    status,
                    retry_after_s,
                } => answers::refuse(status, retry_after_s),
                Fault::Hang | Fault::AcceptNoReply => call.leave_unanswered(HANG).await,
            };
        }
        match method {
            "getme" => self.get_me(),
            "setwebhook" => self.set_webhook(call),
            "deletewebhook" => self.delete_webhook(call),
            "getwebhookinfo" => self.webhook_info(),
            "getupdates" => self.get_updates(call),
            "sendmessage" => self.send_message(call).await,
            "sendphoto" => self.send_file(call, "photo").await,
            "sendvideo" => self.send_file(call, "video").await,
            "sendanimation" => self.send_file(call, "animation").await,
            "sendaudio" => self.send_file(call, "audio").await,
            "senddocument" => self.send_file(call, "document").await,
            "sendchataction" if call.param("chat_id").is_some() => ok(&json!(true)),
            "getchat" => self.get_chat(call),
            "getfile" => self.get_file(call),
            _ => problem(404, "Not Found"),
        }
    }

    fn get_me(&self) -> Response {
        let mut me = self.user();
        me["can_join_groups"] = true.into();
        me["can_read_all_group_messages"] = false.into();
        me["supports_inline_queries"] = false.into();
        me["can_connect_to_business"] = false.into();
        me["has_main_web_app"] = false.into();
        ok(&me)
    }

    fn get_file(&self, call: &Call) -> Response {
        let name = call.param("file_id").unwrap_or_default();
        match self.world.shelf.get(&name) {
            Some(bytes) => ok(&json!({
                "file_id": name,
                "file_unique_id": format!("u{name}"),
                "file_size": bytes.len(),
                "file_path": format!("media/{name}"),
            })),
            None => bad_request("wrong file_id or the file is temporarily unavailable"),
        }
    }

    fn get_chat(&self, call: &Call) -> Response {
        match call.param("chat_id").and_then(|id| self.chat(&id)) {
            Some(chat) => ok(&chat),
            None => bad_request("chat not found"),
        }
    }

    /// A chat by its id; any number is one, because the hub may know people from before a restart.
    fn chat(&self, id: &str) -> Option<Value> {
        if id.strip_prefix('@').is_some_and(|name| !name.is_empty()) {
            return Some(json!({"id": -1_001_000_000_001_i64, "title": id, "type": "channel"}));
        }
        let number = id.parse::<i64>().ok().filter(|number| *number != 0)?;
        if number < 0 {
            return Some(json!({"id": number, "title": "Group", "type": "supergroup"}));
        }
        let name = self.memory().people.get(id).cloned();
        let first_name = name.unwrap_or_else(|| "Customer".to_owned());
        Some(json!({"id": number, "first_name": first_name, "type": "private"}))
    }

    async fn send_message(&self, call: &Call) -> Response {
        let (to, chat, written) = match self.read_send(call) {
            Ok(read) => read,
            Err(what) => return bad_request(what),
        };
        self.take(call, &to, &chat, &written, None).await
    }

    /// Takes a message, or suffers what sending has to suffer.
    async fn take(
        &self,
        call: &Call,
        to: &str,
        chat: &Value,
        written: &str,
        file: Option<(&str, &File)>,
    ) -> Response {
        match self.world.faults.hit(NAME, Op::Send) {
            Some(Fault::Status {
                status,
                retry_after_s,
            }) => answers::refuse(status, retry_after_s),
            Some(Fault::Hang) => call.leave_unanswered(HANG).await,
            Some(Fault::AcceptNoReply) => {
                self.accept(to, chat, written, file);
                call.leave_unanswered(SILENCE).await
            }
            None => ok(&self.accept(to, chat, written, file)),
        }
    }

    fn read_send(&self, call: &Call) -> Result<(String, Value, String), &'static str> {
        let to = call.param("chat_id").ok_or("chat_id is empty")?;
        let chat = self.chat(&to).ok_or("chat not found")?;
        let written = call.param("text").unwrap_or_default();
        if written.trim().is_empty() {
            return Err("message text is empty");
        }
        if written.encode_utf16().count() > TEXT_UNITS_MAX {
            return Err("message is too long");
        }
        Ok((to, chat, written))
    }

    /// From here on the message exists. Telegram does not echo it.
    fn accept(&self, to: &str, chat: &Value, written: &str, file: Option<(&str, &File)>) -> Value {
        let message_id = self.next_message_id(to);
        let media = file.map(|(kind, file)| self.world.shelve(kind, file));
        self.world.ledger.accept(Sent {
            platform: NAME,
            account: self.id().to_owned(),
            platform_message_id: message_id.to_string(),
            to: text(&chat["id"]).unwrap_or_default(),
            text: written.to_owned(),
            metadata: None,
            media: media.clone(),
            at: now(),
        });
        let mut message = json!({
            "message_id": message_id,
            "from": self.user(),
            "chat": chat,
            "date": chrono::Utc::now().timestamp(),
        });
        let Some(media) = media else {
            message["text"] = written.into();
            return message;
        };
        let file = json!({"file_id": media.file, "file_unique_id": format!("u{}", media.file),
            "file_size": media.size, "file_name": media.name, "mime_type": media.mime_type});
        message[&media.kind] = match media.kind.as_str() {
            "photo" => json!([{"file_id": media.file, "file_unique_id": file["file_unique_id"],
                "file_size": media.size, "width": 1, "height": 1}]),
            _ => file,
        };
        if !written.is_empty() {
            message["caption"] = written.into();
        }
        message
    }
}

/// A token's shape; another shape never reaches a bot.
fn well_formed(token: &str) -> bool {
    token.split_once(':').is_some_and(|(id, secret)| {
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) && !secret.is_empty()
    })
}

impl Player for Bot {
    fn name(&self) -> &'static str {
        NAME
    }

    /// There is one bot; whoever names a person that connected through it means the bot.
    fn account_named(&self, _name: &str) -> String {
        self.home()
    }

    fn home(&self) -> String {
        self.id().to_owned()
    }

    fn claims(&self, call: &Call) -> bool {
        match call.segments().as_slice() {
            ["auth", "telegram"] => true,
            ["file", bot, ..] => bot.starts_with("bot"),
            [first, _, ..] => first.starts_with("bot"),
            _ => false,
        }
    }

    fn loggable(&self, path: &str) -> String {
        // Every first segment that begins like a bot's, so that a mistyped token is hidden too.
        let (folder, rest) = match path.strip_prefix("/file") {
            Some(rest) => ("/file", rest),
            None => ("", path),
        };
        match rest.strip_prefix("/bot") {
            Some(rest) => match rest.split_once('/') {
                Some((_, method)) => format!("{folder}/bot***/{method}"),
                None => format!("{folder}/bot***"),
            },
            None => path.to_owned(),
        }
    }

    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response> {
        Box::pin(self.dispatch(call))
    }

    fn write(&self, incoming: &Incoming) -> Result<Written, String> {
        let from = incoming
            .from_id
            .parse::<i64>()
            .ok()
            .filter(|id| *id > 0)
            .ok_or("from.id must be a positive number on telegram")?;
        let chat_id = from.to_string();
        self.memory()
            .people
            .insert(chat_id.clone(), incoming.from_name.clone());
        let message_id = self.next_message_id(&chat_id);
        let name = &incoming.from_name;
        let mut message = json!({
            "message_id": message_id,
            "from": {"id": from, "is_bot": false, "first_name": name},
            "chat": {"id": from, "first_name": name, "type": "private"},
            "date": chrono::Utc::now().timestamp(),
        });
        let words = match &incoming.media {
            None => "text",
            Some(media) => {
                let file = json!({"file_id": media.name, "file_unique_id": media.name});
                match media.kind.as_str() {
                    "image" => message["photo"] = json!([file]),
                    "video" => message["video"] = file,
                    "audio" => message["audio"] = file,
                    _ => message["document"] = file,
                }
                "caption"
            }
        };
        if !incoming.text.is_empty() {
            message[words] = incoming.text.clone().into();
        }
        let webhook = self.update("message", message);
        Ok(Written {
            message_id: message_id.to_string(),
            webhook,
        })
    }
}
