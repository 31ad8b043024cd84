//! A Telegram of one account, over real HTTP: dialogs and their messages, all of them unread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The platform. It goes on as long as the runtime that started it lives.
#[derive(Clone)]
pub struct Telegram {
    /// By chat, oldest first: the number and the text.
    chats: Arc<Mutex<BTreeMap<i64, Vec<i64>>>>,
    /// The keys of the sessions that asked for something.
    sessions: Arc<Mutex<BTreeSet<String>>>,
    pub base: String,
}

/// What the nth message says.
pub fn text(n: i64) -> String {
    format!("text {n}")
}

impl Telegram {
    /// Some chats with some messages each.
    pub async fn start(chats: i64, messages: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let of = |chat| (chat, (1..=messages).map(|n| chat * 1_000 + n).collect());
        let telegram = Self {
            chats: Arc::new(Mutex::new((1..=chats).map(of).collect())),
            sessions: Arc::default(),
            base: format!("http://{}", listener.local_addr().unwrap()),
        };
        let own = telegram.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(stream));
            }
        });
        telegram
    }

    /// Telegram's ids of everything there is.
    pub fn messages(&self) -> Vec<String> {
        let chats = self.chats.lock().unwrap();
        let mut ids: Vec<String> = chats.values().flatten().map(i64::to_string).collect();
        ids.sort();
        ids
    }

    /// The keys of the sessions that asked for something.
    pub fn sessions(&self) -> Vec<String> {
        self.sessions.lock().unwrap().iter().cloned().collect()
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).await.is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap_or("0");
        let length = length.split("\r\n").next().unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let method = head.split([' ', '/']).nth(3).unwrap_or_default().to_owned();
        if method == "updates" {
            // Nothing happens by itself.
            std::future::pending::<()>().await;
        }
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let key = asked["key"].as_str().unwrap_or_default().to_owned();
        self.sessions.lock().unwrap().insert(key);
        let answer = self.answer(&method, &asked).to_string();
        let answer = format!(
            "HTTP/1.1 200 x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
        let _gone = stream.write_all(answer.as_bytes()).await;
    }

    fn answer(&self, method: &str, asked: &Value) -> Value {
        let chats = self.chats.lock().unwrap();
        match method {
            "me" => json!({ "id": 42, "username": "ann" }),
            "send_code" => json!({ "hash": "h" }),
            "sign_in" => json!({ "id": 42, "username": "ann", "key": "signed in" }),
            "dialogs" => {
                let dialogs = chats.iter().map(|(chat, messages)| {
                    json!({ "chat": named(*chat), "unread": messages.len(), "read_in": 0,
                        "read_out": 0, "top": messages.last(), "date": 1_750_000_000 })
                });
                json!({ "dialogs": dialogs.collect::<Vec<_>>() })
            }
            "history" => {
                let chat = asked["chat"]["id"].as_i64().unwrap();
                let messages = chats[&chat].iter().rev().map(|n| {
                    json!({ "chat": named(chat), "id": n, "out": false,
                        "date": 1_750_000_000 + n, "text": text(*n) })
                });
                json!({ "messages": messages.collect::<Vec<_>>() })
            }
            _ => json!({ "ok": true }),
        }
    }
}

fn named(chat: i64) -> Value {
    json!({ "kind": "user", "id": chat, "name": format!("person {chat}") })
}
