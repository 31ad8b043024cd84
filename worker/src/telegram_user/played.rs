//! A played Telegram over HTTP: every call a POST of JSON, updates by waiting for an answer.
//!
//! For tests, for the demo and for whoever wants to see the hub with a user account without one.
//! Errors come as Telegram names them, so that everything behind the seam is the real thing.

use hub_domain::platform::Platform;
use hub_store::usage::Call;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use hub_domain::platform::http::{HttpRequest, TransportError};
use hub_domain::platform::telegram_user::{Chat, Handed, Item, Message, PART_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Context;

use super::{Dialog, Failure, FilePart, Located, Me, Mtproto, SignedIn};

/// A session with a played Telegram.
pub(super) struct Played {
    base: String,
    context: Context,
    state: Mutex<State>,
}

#[derive(Clone, Serialize, Deserialize)]
struct State {
    mtproto: u32,
    /// What names the session at the server.
    key: String,
    /// Updates up to here are durable.
    seen: i64,
    /// Updates up to here were told.
    #[serde(skip)]
    told: i64,
}

impl Played {
    /// A session, a new one without `session`.
    pub(super) fn open(
        context: Context,
        base: &str,
        session: Option<&str>,
    ) -> Result<Self, Failure> {
        let malformed = || Failure::Revoked {
            reason: "the stored session is not one of the played Telegram".to_owned(),
        };
        let named = |key| State {
            mtproto: 1,
            key,
            seen: 0,
            told: 0,
        };
        let state = match session {
            Some(text) if text.starts_with('{') => {
                serde_json::from_str(text).map_err(|_| malformed())?
            }
            // A session string of an earlier installation: nothing but the key.
            Some(text) => named(text.to_owned()),
            None => named(uuid::Uuid::new_v4().simple().to_string()),
        };
        Ok(Self {
            base: base.to_owned(),
            context,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever is let in gets a key that says so.
    fn adopt(&self, answer: &Result<Value, Failure>) {
        if let Ok(answer) = answer
            && let Some(key) = answer["key"].as_str()
        {
            self.state().key = key.to_owned();
        }
    }

    async fn call(&self, method: &str, mut body: Value) -> Result<Value, Failure> {
        body["key"] = json!(self.state().key);
        let url = format!("{}/mtproto/{method}", self.base);
        let call = Call {
            platform: Platform::Telegram,
            endpoint: "session",
            user: None,
            account: None,
        };
        let request = HttpRequest::post_json(url, &body);
        let answer = self.context.call(call, request).await;
        let bytes = match answer {
            Ok(answer) => answer.body,
            Err(TransportError::NotSent) => {
                let reason = "the played Telegram was not reached".to_owned();
                return Err(Failure::NotSent { reason });
            }
            Err(TransportError::Unclear) => {
                let reason = "the played Telegram did not answer".to_owned();
                return Err(Failure::Unclear { reason });
            }
        };
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if let Some(name) = answer["error"].as_str() {
            let code = answer["code"].as_i64().unwrap_or(500);
            let code = i32::try_from(code).unwrap_or(500);
            return Err(Failure::of(code, name, answer["value"].as_u64()));
        }
        if answer.is_null() {
            return Err(Failure::Unclear {
                reason: "an unreadable answer".to_owned(),
            });
        }
        Ok(answer)
    }
}

fn me(answer: &Value) -> Me {
    Me {
        id: answer["id"].as_i64().unwrap_or_default(),
        username: answer["username"].as_str().map(str::to_owned),
    }
}

fn unreadable<E>(_: E) -> Failure {
    Failure::Unclear {
        reason: "an unreadable answer".to_owned(),
    }
}

impl Mtproto for Played {
    fn send_code<'a>(&'a self, phone: &'a str) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async move {
            let answer = self.call("send_code", json!({ "phone": phone })).await?;
            Ok(answer["hash"].as_str().unwrap_or_default().to_owned())
        })
    }

    fn sign_in<'a>(
        &'a self,
        phone: &'a str,
        hash: &'a str,
        code: &'a str,
    ) -> BoxFuture<'a, Result<SignedIn, Failure>> {
        Box::pin(async move {
            let body = json!({ "phone": phone, "hash": hash, "code": code });
            let answer = self.call("sign_in", body).await;
            self.adopt(&answer);
            match answer {
                Err(Failure::Refused { reason }) if reason == "SESSION_PASSWORD_NEEDED" => {
                    Ok(SignedIn::PasswordNeeded)
                }
                answer => Ok(SignedIn::As(me(&answer?))),
            }
        })
    }

    fn check_password<'a>(&'a self, password: &'a str) -> BoxFuture<'a, Result<Me, Failure>> {
        Box::pin(async move {
            let body = json!({ "password": password });
            let answer = self.call("check_password", body).await;
            self.adopt(&answer);
            Ok(me(&answer?))
        })
    }

    fn me(&self) -> BoxFuture<'_, Result<Me, Failure>> {
        Box::pin(async move { Ok(me(&self.call("me", json!({})).await?)) })
    }

    fn dialogs(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Dialog>, Failure>> {
        Box::pin(async move {
            let answer = self.call("dialogs", json!({ "limit": limit })).await?;
            let dialogs = answer["dialogs"].as_array().cloned().unwrap_or_default();
            let number = |value: &Value| value.as_i64().unwrap_or_default();
            dialogs
                .into_iter()
                .map(|it| {
                    Ok(Dialog {
                        unread: i32::try_from(number(&it["unread"])).unwrap_or(i32::MAX),
                        read_in: number(&it["read_in"]),
                        read_out: number(&it["read_out"]),
                        top: number(&it["top"]),
                        date: number(&it["date"]),
                        chat: serde_json::from_value(it["chat"].clone()).map_err(unreadable)?,
                    })
                })
                .collect()
        })
    }

    fn history<'a>(
        &'a self,
        chat: &'a Chat,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Message>, Failure>> {
        Box::pin(async move {
            let body = json!({ "chat": chat, "limit": limit });
            let answer = self.call("history", body).await?;
            serde_json::from_value(answer["messages"].clone()).map_err(unreadable)
        })
    }

    fn send<'a>(
        &'a self,
        chat: &'a Chat,
        text: &'a str,
        file: Option<&'a Handed>,
        random_id: i64,
    ) -> BoxFuture<'a, Result<i64, Failure>> {
        Box::pin(async move {
            let body = json!({
                "chat": chat, "text": text, "file": file, "random_id": random_id,
            });
            let answer = self.call("send", body).await?;
            answer["id"].as_i64().ok_or(()).map_err(unreadable)
        })
    }

    fn save_part<'a>(&'a self, part: &'a FilePart) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let body = json!({
                "file": part.file, "part": part.part, "parts": part.parts,
                "is_big": part.is_big, "bytes": STANDARD.encode(&part.bytes),
            });
            self.call("save_part", body).await.map(|_| ())
        })
    }

    fn locate<'a>(
        &'a self,
        chat: &'a Chat,
        id: i64,
    ) -> BoxFuture<'a, Result<Option<Located>, Failure>> {
        Box::pin(async move {
            let body = json!({ "chat": chat, "id": id });
            let answer = self.call("locate", body).await?;
            let file = &answer["file"];
            let (id, place) = (file["id"].as_str(), file["place"].as_str());
            Ok(id.zip(place).map(|(id, place)| Located {
                id: id.to_owned(),
                size: file["size"].as_u64(),
                place: place.as_bytes().to_vec(),
            }))
        })
    }

    fn read<'a>(
        &'a self,
        file: &'a Located,
        offset: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async move {
            let place = String::from_utf8_lossy(&file.place);
            let body = json!({ "place": place, "offset": offset, "limit": PART_BYTES });
            let answer = self.call("read", body).await?;
            let bytes = answer["bytes"].as_str().unwrap_or_default();
            STANDARD.decode(bytes).map_err(unreadable)
        })
    }

    fn updates(&self) -> BoxFuture<'_, Result<Vec<Item>, Failure>> {
        Box::pin(async move {
            loop {
                let after = self.state().seen;
                let answer = self.call("updates", json!({ "after": after })).await?;
                let items: Vec<Item> =
                    serde_json::from_value(answer["items"].clone()).map_err(unreadable)?;
                self.state().told = answer["upto"].as_i64().unwrap_or(after);
                if !items.is_empty() {
                    return Ok(items);
                }
            }
        })
    }

    fn kept(&self) -> BoxFuture<'_, ()> {
        let mut state = self.state();
        state.seen = state.told;
        Box::pin(async {})
    }

    fn log_out(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move { self.call("log_out", json!({})).await.map(|_| ()) })
    }

    fn session(&self) -> String {
        serde_json::to_string(&*self.state()).unwrap_or_default()
    }

    fn pace(&self) -> Duration {
        Duration::from_millis(20)
    }
}
