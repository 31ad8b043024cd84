//! A Graph of one Page per token: threads, messages, and what may go wrong, over real HTTP.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One message of a thread.
#[derive(Clone, Debug)]
pub struct Line {
    pub mid: String,
    pub text: String,
    pub by_page: bool,
    pub at: DateTime<Utc>,
}

#[derive(Default)]
pub struct State {
    /// By page and person, newest first.
    threads: BTreeMap<(String, String), VecDeque<Line>>,
    /// Answers to give instead, in order: status, body, `Retry-After`.
    failures: VecDeque<(u16, Value, Option<u64>)>,
    /// Calls whose path contains this get no answer.
    hanging: Option<String>,
    delay: Duration,
    running: BTreeMap<String, usize>,
    /// The most calls at once for one page.
    pub most_at_once: usize,
    /// Every path that was asked for.
    pub calls: Vec<String>,
}

/// The platform. Calls go on as long as the runtime that started it lives.
#[derive(Clone)]
pub struct Graph {
    state: Arc<Mutex<State>>,
    pub base: String,
}

impl Graph {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let graph = Self {
            state: Arc::default(),
            base: format!("http://{}", listener.local_addr().unwrap()),
        };
        let own = graph.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(stream));
            }
        });
        graph
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Somebody writes, or the Page does.
    pub fn write(&self, page: &str, person: &str, line: Line) {
        let key = (page.to_owned(), person.to_owned());
        self.state()
            .threads
            .entry(key)
            .or_default()
            .push_front(line);
    }

    pub fn fail(&self, status: u16, code: i64, retry_after_s: Option<u64>) {
        let body = json!({"error": {"code": code, "message": "as the test wants it"}});
        self.state()
            .failures
            .push_back((status, body, retry_after_s));
    }

    pub fn hang(&self, part: Option<&str>) {
        self.state().hanging = part.map(str::to_owned);
    }

    pub fn slow(&self, delay: Duration) {
        self.state().delay = delay;
    }

    pub fn calls(&self) -> usize {
        self.state().calls.len()
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
        let head = String::from_utf8_lossy(&head).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        // `/v26.0/<page>/conversations` or `/v26.0/t_<page>_<person>`
        let node = path.split('/').nth(2).unwrap_or_default();
        let mut parts = node.split('_');
        let page = match parts.next() {
            Some("t") => parts.next().unwrap_or_default(),
            own => own.unwrap_or_default(),
        }
        .to_owned();
        let (failure, hangs, delay) = {
            let mut state = self.state();
            state.calls.push(path.to_owned());
            let running = state.running.entry(page.clone()).or_default();
            *running += 1;
            let running = *running;
            state.most_at_once = state.most_at_once.max(running);
            let hangs = state.hanging.as_ref().is_some_and(|it| path.contains(it));
            (state.failures.pop_front(), hangs, state.delay)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(delay).await;
        let (status, body, wait) = failure.unwrap_or_else(|| (200, self.answer(node, query), None));
        *self.state().running.entry(page).or_default() -= 1;
        let body = body.to_string();
        let wait = wait.map_or(String::new(), |it| format!("retry-after: {it}\r\n"));
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{wait}connection: close\r\n\r\n{body}",
            body.len()
        );
        let _gone = stream.write_all(answer.as_bytes()).await;
    }

    fn answer(&self, node: &str, query: &str) -> Value {
        let state = self.state();
        if node.starts_with("t_") {
            let mut parts = node.split('_').skip(1).map(str::to_owned);
            let key = (parts.next().unwrap(), parts.next().unwrap());
            let messages = page_of(&key.0, &key.1, &state.threads[&key]);
            return json!({"id": node, "messages": messages});
        }
        let after = query.split('&').find_map(|it| it.strip_prefix("after="));
        let start: usize = after.map_or(0, |it| it.parse().unwrap());
        let mut threads: Vec<_> = state
            .threads
            .iter()
            .filter(|((page, _), _)| page == node)
            .map(|((page, person), lines)| (lines[0].at, format!("t_{page}_{person}"), lines.len()))
            .collect();
        threads.sort();
        threads.reverse();
        let data: Vec<_> = threads
            .iter()
            .skip(start)
            .take(10)
            .map(|(at, id, count)| {
                json!({"id": id, "updated_time": time(*at), "message_count": count})
            })
            .collect();
        let end = start + data.len();
        let mut paging = json!({"cursors": {"after": end.to_string()}});
        if end < threads.len() {
            paging["next"] = json!("https://graph.example/?access_token=secret");
        }
        json!({"data": data, "paging": paging})
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S+0000").to_string()
}

/// A page of history as Graph tells it.
pub fn page_of<'a>(page: &str, person: &str, lines: impl IntoIterator<Item = &'a Line>) -> Value {
    let sides = [
        json!({"id": person, "name": "Mira Q", "email": format!("{person}@facebook.com")}),
        json!({"id": page, "name": "Teapots"}),
    ];
    let data: Vec<_> = lines
        .into_iter()
        .map(|line| {
            let from = usize::from(line.by_page);
            json!({"id": line.mid, "created_time": time(line.at), "message": line.text,
                "from": sides[from], "to": {"data": [sides[1 - from]]}})
        })
        .collect();
    json!({"data": data, "paging": {"next": "https://graph.example/?access_token=secret"}})
}

/// The webhook of one message.
pub fn webhook_of(page: &str, person: &str, line: &Line) -> Value {
    let (from, to) = if line.by_page {
        (page, person)
    } else {
        (person, page)
    };
    let mut message = json!({"mid": line.mid, "text": line.text});
    if line.by_page {
        message["is_echo"] = json!(true);
    }
    json!({"object": "page", "entry": [{"id": page, "time": line.at.timestamp_millis(),
        "messaging": [{"sender": {"id": from}, "recipient": {"id": to},
            "timestamp": line.at.timestamp_millis(), "message": message}]}]})
}
