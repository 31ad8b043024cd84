//! A Telegram of one account, over real HTTP: dialogs and their messages, all of them unread, and
//! files both ways.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    desk: Arc<Mutex<Desk>>,
    pub base: String,
}

/// A message that was sent from here.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: i64,
    pub random_id: i64,
    pub text: String,
    /// The file's number, and its bytes.
    pub file: Option<(i64, Vec<u8>)>,
}

/// What was sent, the files, and how this Telegram behaves.
#[derive(Default)]
pub struct Desk {
    pub sent: Vec<Sent>,
    /// By message: the file in it.
    pub files: BTreeMap<i64, Vec<u8>>,
    /// Messages whose file is meant to be seen once.
    pub fading: BTreeSet<i64>,
    /// Calls about files and messages, in order.
    pub calls: Vec<(String, Instant)>,
    /// The next calls that begin so are refused: with a code, a name and a number.
    pub refusals: VecDeque<(&'static str, i64, &'static str, u64)>,
    /// This method has its effect and gives no answer.
    pub silent: Option<&'static str>,
    /// By file and part.
    parts: BTreeMap<(i64, i64), Vec<u8>>,
}

impl Desk {
    /// Calls of a method.
    pub fn called(&self, method: &str) -> Vec<String> {
        let calls = self.calls.iter().map(|(call, _)| call);
        let calls = calls.filter(|it| it.split(' ').next() == Some(method));
        calls.cloned().collect()
    }

    fn file(&self, message: i64) -> Value {
        let size = self.files[&message].len();
        json!({ "kind": "file", "id": format!("file {message}"), "size": size,
            "fades": self.fading.contains(&message) })
    }

    fn answer(&mut self, method: &str, asked: &Value) -> Option<Value> {
        let number = |name: &str| asked[name].as_i64().unwrap();
        let call = match method {
            "save_part" => format!("save_part {} {}", number("file"), number("part")),
            "send" => format!("send {}", number("random_id")),
            "locate" => format!("locate {}", number("id")),
            "read" => format!(
                "read {} {}",
                asked["place"].as_str().unwrap(),
                number("offset")
            ),
            _ => return None,
        };
        let next = self.refusals.iter().position(|it| call.starts_with(it.0));
        self.calls.push((call, Instant::now()));
        if let Some(next) = next {
            let (_, code, name, value) = self.refusals.remove(next).unwrap();
            return Some(json!({ "code": code, "error": name, "value": value }));
        }
        Some(match method {
            "save_part" => {
                let bytes = STANDARD.decode(asked["bytes"].as_str().unwrap()).unwrap();
                self.parts.insert((number("file"), number("part")), bytes);
                json!({ "ok": true })
            }
            "send" => self.send(asked),
            "locate" => match self.files.get(&number("id")) {
                Some(bytes) => json!({ "file": { "id": format!("file {}", number("id")),
                    "size": bytes.len(), "place": number("id").to_string() } }),
                None => json!({ "file": null }),
            },
            _ => {
                let message: i64 = asked["place"].as_str().unwrap().parse().unwrap();
                let bytes = &self.files[&message];
                let offset = usize::try_from(number("offset")).unwrap();
                let limit = usize::try_from(number("limit")).unwrap();
                let piece = &bytes[offset..bytes.len().min(offset + limit)];
                json!({ "bytes": STANDARD.encode(piece) })
            }
        })
    }

    fn send(&mut self, asked: &Value) -> Value {
        let random_id = asked["random_id"].as_i64().unwrap();
        if self.sent.iter().any(|it| it.random_id == random_id) {
            return json!({ "code": 400, "error": "RANDOM_ID_DUPLICATE" });
        }
        let mut whole = None;
        if let Some(file) = asked["file"]["id"].as_i64() {
            let mut bytes = Vec::new();
            for part in 0..asked["file"]["parts"].as_i64().unwrap() {
                match self.parts.get(&(file, part)) {
                    Some(part) => bytes.extend_from_slice(part),
                    None => {
                        return json!({ "code": 400, "error": "FILE_PART_MISSING", "value": part });
                    }
                }
            }
            whole = Some((file, bytes));
        }
        let id = 500_000 + i64::try_from(self.sent.len()).unwrap();
        self.sent.push(Sent {
            id,
            random_id,
            text: asked["text"].as_str().unwrap().to_owned(),
            file: whole,
        });
        json!({ "id": id })
    }
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
            desk: Arc::default(),
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

    /// What was sent, the files, and how this Telegram behaves.
    pub fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
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
        let of_desk = self.desk().answer(&method, &asked);
        if self.desk().silent == Some(&*method) {
            std::future::pending::<()>().await;
        }
        let answer = of_desk.unwrap_or_else(|| self.answer(&method, &asked));
        let answer = answer.to_string();
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
                let desk = self.desk();
                let sent = desk.sent.iter().rev().map(|it| {
                    let media = it
                        .file
                        .as_ref()
                        .map(|_| json!({ "kind": "file", "id": "own" }));
                    json!({ "chat": named(chat), "id": it.id, "out": true,
                        "date": 1_760_000_000, "text": it.text, "media": media })
                });
                let messages = chats[&chat].iter().rev().map(|n| {
                    let media = desk.files.contains_key(n).then(|| desk.file(*n));
                    json!({ "chat": named(chat), "id": n, "out": false,
                        "date": 1_750_000_000 + n, "text": text(*n), "media": media })
                });
                json!({ "messages": sent.chain(messages).collect::<Vec<_>>() })
            }
            _ => json!({ "ok": true }),
        }
    }
}

fn named(chat: i64) -> Value {
    json!({ "kind": "user", "id": chat, "name": format!("person {chat}") })
}
