//! What the platforms saw: messages they accepted and requests they received, in order.
//!
//! Bounded, so that a sandbox left running for weeks does not grow for weeks: the oldest entries go
//! first, and a count says how many.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::upload::SentFile;

/// Accepted messages kept. A load test of ten minutes at 150/s fits.
const SENT_MAX: usize = 100_000;
/// Received requests kept.
const REQUESTS_MAX: usize = 100_000;
/// How many accepted messages a customer may lag behind before missing some.
const LISTENERS_LAG_MAX: usize = 256;

/// A message a platform accepted from the hub.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sent {
    pub(crate) platform: &'static str,
    pub(crate) account: String,
    pub(crate) platform_message_id: String,
    pub(crate) to: String,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) media: Option<SentFile>,
    pub(crate) at: String,
}

/// A request the platforms' side received. The path never holds a token or a query.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) at: String,
}

/// A list that forgets its oldest entries.
struct Tail<T> {
    kept: VecDeque<T>,
    forgotten: u64,
    max: usize,
}

impl<T: Clone> Tail<T> {
    fn new(max: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            forgotten: 0,
            max,
        }
    }

    fn push(&mut self, entry: T) {
        if self.kept.len() == self.max {
            self.kept.pop_front();
            self.forgotten += 1;
        }
        self.kept.push_back(entry);
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.forgotten = 0;
    }
}

/// Both lists, and a way to hear of new messages.
pub(crate) struct Ledger {
    sent: Mutex<Tail<Sent>>,
    requests: Mutex<Tail<Request>>,
    news: broadcast::Sender<Sent>,
}

impl Ledger {
    /// Empty lists.
    pub(crate) fn new() -> Self {
        Self {
            sent: Mutex::new(Tail::new(SENT_MAX)),
            requests: Mutex::new(Tail::new(REQUESTS_MAX)),
            news: broadcast::channel(LISTENERS_LAG_MAX).0,
        }
    }

    /// Notes a message a platform has accepted.
    pub(crate) fn accept(&self, message: Sent) {
        // Nobody listening is the normal case without customers.
        let _ = self.news.send(message.clone());
        hold(&self.sent).push(message);
    }

    /// Notes a request.
    pub(crate) fn note(&self, method: &str, path: String) {
        hold(&self.requests).push(Request {
            method: method.to_owned(),
            path,
            at: now(),
        });
    }

    /// Accepted messages in order, and how many older ones are forgotten.
    pub(crate) fn sent(&self, platform: Option<&str>, account: Option<&str>) -> (Vec<Sent>, u64) {
        let sent = hold(&self.sent);
        let matching = sent
            .kept
            .iter()
            .filter(|message| platform.is_none_or(|name| name == message.platform))
            .filter(|message| account.is_none_or(|id| id == message.account))
            .cloned()
            .collect();
        (matching, sent.forgotten)
    }

    /// Received requests in order, and how many older ones are forgotten.
    pub(crate) fn requests(&self) -> (Vec<Request>, u64) {
        let requests = hold(&self.requests);
        (requests.kept.iter().cloned().collect(), requests.forgotten)
    }

    /// Messages accepted from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Sent> {
        self.news.subscribe()
    }

    /// Forgets both lists.
    pub(crate) fn clear(&self) {
        hold(&self.sent).clear();
        hold(&self.requests).clear();
    }
}

/// Now, as the hub's JSON writes time.
pub(crate) fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Locks, also after a panic elsewhere: every critical section here leaves the data whole.
pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
