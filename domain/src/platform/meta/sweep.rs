//! Fetching what webhooks missed, from Graph's Conversations API: Messenger and Instagram speak it.
//!
//! Threads are listed newest first, and of those that changed the most recent messages are fetched:
//! Graph gives details of no others. A poll makes a bounded number of calls, so that an account's
//! budget is left for sending; what it did not get to, the next one goes on with.
//!
//! The cursor says from which moment on threads have to be looked at, and which of those have been
//! seen in which state: Graph's clock ticks in seconds and its lists lag behind, so the moment
//! alone would miss what came late, or fetch the last thread for ever.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Class, GraphError, class, time_ms, url_as, wait};
use crate::platform::call::{CallFailure, PollFlow, PollStep};
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::{App, Credentials, wire};
use crate::secret::Secret;

/// Threads in one list, and so in one leg of a poll.
const LIST_LIMIT: &str = "10";

/// Messages of a thread whose details Graph gives.
const MESSAGES_LIMIT: &str = "20";

/// After this many calls no further list is asked for: with the threads of the last one, 25 at most.
const CALLS_MAX: usize = 14;

/// Lists may lag behind the threads by this much.
const OVERLAP_MS: i64 = 5 * 60 * 1000;

/// What a first poll looks back.
const FIRST_LOOK_BACK_MS: i64 = 24 * 3600 * 1000;

/// Threads whose state the cursor remembers.
const SEEN_MAX: usize = 50;

/// The wait after "too many calls" without a word about how long: nobody waits for a sweep.
const THROTTLED: Duration = Duration::from_secs(300);

/// What differs between Meta's products.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// Whose threads are listed; `None`: the account's, by its id.
    pub owner: Option<&'static str>,
    /// The `platform` parameter of the list.
    pub platform: &'static str,
    /// The fields of a thread in the list: its time, and `message_count` or its newest message.
    pub thread_fields: &'static str,
    /// The fields of a message.
    pub message_fields: &'static str,
}

/// Where a sweep begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    /// Threads that changed before are known.
    from: i64,
    /// Threads that changed since, and are known in this state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    seen: BTreeMap<String, String>,
    /// What an earlier poll did not get to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rest: Option<Rest>,
}

/// A sweep that goes on in the next poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rest {
    /// Graph's cursor of the list.
    after: String,
    /// The newest threads when the sweep began.
    top: BTreeMap<String, String>,
}

/// A thread in a list.
struct Thread {
    id: String,
    updated_ms: i64,
    /// Changes whenever the thread does.
    state: String,
}

enum Waiting {
    Nothing,
    List,
    Messages,
}

/// One poll.
pub struct Sweep {
    app: App,
    token: Secret,
    owner: String,
    dialect: Dialect,
    cursor: Cursor,
    /// The newest threads of this sweep.
    top: BTreeMap<String, String>,
    /// Where the list goes on; `None` when everything worth a look was listed.
    after: Option<String>,
    changed: VecDeque<String>,
    waiting: Waiting,
    calls: usize,
}

impl Sweep {
    /// A poll of this account that begins at `cursor`.
    pub fn new(
        app: &App,
        credentials: &Credentials,
        dialect: Dialect,
        cursor: Option<&Value>,
        now: DateTime<Utc>,
    ) -> Self {
        let cursor = cursor.and_then(|it| serde_json::from_value::<Cursor>(it.clone()).ok());
        let mut cursor = cursor.unwrap_or_else(|| Cursor {
            from: now.timestamp_millis() - FIRST_LOOK_BACK_MS,
            ..Cursor::default()
        });
        let rest = cursor.rest.take();
        let (after, top) = rest.map(|it| (it.after, it.top)).unzip();
        Self {
            app: app.clone(),
            token: credentials.access_token.clone(),
            owner: dialect.owner.unwrap_or(&credentials.route).to_owned(),
            dialect,
            cursor,
            top: top.unwrap_or_default(),
            // An empty one asks for the beginning.
            after: Some(after.unwrap_or_default()),
            changed: VecDeque::new(),
            waiting: Waiting::Nothing,
            calls: 0,
        }
    }

    /// The next call, or the end.
    fn go_on(&mut self) -> PollStep {
        if let Some(thread) = self.changed.pop_front() {
            self.waiting = Waiting::Messages;
            let fields = self.dialect.message_fields;
            let fields = format!("messages.limit({MESSAGES_LIMIT}){{{fields}}}");
            return self.call(&thread, &[("fields", &fields)]);
        }
        let Some(after) = self.after.clone() else {
            return self.done(None);
        };
        if self.calls >= CALLS_MAX {
            return self.done(Some(after));
        }
        self.waiting = Waiting::List;
        let mut query = vec![
            ("platform", self.dialect.platform),
            ("fields", self.dialect.thread_fields),
            ("limit", LIST_LIMIT),
        ];
        if !after.is_empty() {
            query.push(("after", &after));
        }
        self.call(&format!("{}/conversations", self.owner), &query)
    }

    fn call(&mut self, path: &str, query: &[(&str, &str)]) -> PollStep {
        self.calls += 1;
        PollStep::Call(HttpRequest::get(url_as(
            &self.app,
            &self.token,
            path,
            query,
        )))
    }

    /// Notes which threads of a list changed, and whether there may be more.
    fn listed(&mut self, body: &Value) {
        let is_first = self.after.as_deref() == Some("");
        let next = wire::filled(&body["paging"]["cursors"]["after"]);
        self.after = next.filter(|_| body["paging"]["next"].is_string());
        for raw in wire::items(&body["data"]) {
            let Some(thread) = Thread::read(raw, self.cursor.from) else {
                continue;
            };
            if thread.updated_ms < self.cursor.from {
                // Newest first: what follows is older still.
                self.after = None;
                break;
            }
            if self.cursor.seen.get(&thread.id) != Some(&thread.state) {
                self.changed.push_back(thread.id.clone());
            }
            if (is_first || !self.top.is_empty()) && self.top.len() < SEEN_MAX {
                self.top.insert(thread.id, thread.state);
            }
        }
    }

    fn done(&self, after: Option<String>) -> PollStep {
        let top = self.top.clone();
        let cursor = match after {
            Some(after) => Cursor {
                rest: Some(Rest { after, top }),
                ..self.cursor.clone()
            },
            None => self.known(top),
        };
        let cursor = serde_json::to_value(cursor).unwrap_or_default();
        PollStep::Done { cursor }
    }

    /// The cursor once all that changed was fetched.
    fn known(&self, mut top: BTreeMap<String, String>) -> Cursor {
        let times = || top.values().filter_map(|state| updated_ms(state));
        let mut from = times().max().map_or(0, |newest| newest - OVERLAP_MS);
        if top.len() == SEEN_MAX {
            // What was older has been fetched and is not remembered by its state.
            from = from.max(times().min().unwrap_or_default());
        }
        let from = from.max(self.cursor.from);
        top.retain(|_, state| updated_ms(state).is_some_and(|at| at >= from));
        Cursor {
            from,
            seen: top,
            rest: None,
        }
    }
}

impl Thread {
    fn read(raw: &Value, at_least: i64) -> Option<Self> {
        let id = wire::id(&raw["id"])?;
        // One without a time is looked at rather than missed.
        let updated_ms = time_ms(&raw["updated_time"]).unwrap_or(at_least);
        let newest = &raw["messages"]["data"][0]["id"];
        let state = match newest.is_string() {
            // Ids of messages are long, and a cursor has fifty of them.
            true => wire::content_digest(newest),
            false => wire::count(&raw["message_count"])
                .unwrap_or_default()
                .to_string(),
        };
        let state = format!("{updated_ms}/{state}");
        Some(Self {
            id,
            updated_ms,
            state,
        })
    }
}

fn updated_ms(state: &str) -> Option<i64> {
    state.split_once('/')?.0.parse().ok()
}

impl PollFlow for Sweep {
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> PollStep {
        let Some(answer) = answer else {
            return self.go_on();
        };
        let is_list = matches!(self.waiting, Waiting::List);
        self.waiting = Waiting::Nothing;
        let body = match body(answer) {
            Ok(body) => body,
            // A thread that is gone keeps nobody from the others.
            Err(CallFailure::Permanent { .. }) if !is_list => return self.go_on(),
            Err(failure) => return PollStep::Failed(failure),
        };
        if is_list {
            self.listed(&body);
            return self.go_on();
        }
        match messages(body) {
            Some(page) => PollStep::Keep(page),
            None => self.go_on(),
        }
    }
}

/// The messages of a thread, if Graph shows any. The addresses of the next pages stay behind: they
/// have the token in them, which does not belong into raw input.
fn messages(mut thread: Value) -> Option<Vec<u8>> {
    let messages = thread["messages"]["data"].take();
    let is_some = !wire::items(&messages).is_empty();
    is_some.then(|| json!({ "data": messages }).to_string().into_bytes())
}

/// The body of an answer that is a list of threads, or a thread.
fn body(answer: Result<HttpResponse, TransportError>) -> Result<Value, CallFailure> {
    let answer = answer.map_err(|_| CallFailure::Backoff {
        reason: "Graph could not be reached".into(),
    })?;
    let body = answer.json();
    if answer.is_success() && (body["data"].is_array() || body["id"].is_string()) {
        return Ok(body);
    }
    let Some(error) = GraphError::read(&answer) else {
        let reason = format!("HTTP {} without a Graph answer", answer.status);
        return Err(match answer.status {
            429 => throttled(&answer, reason),
            _ => CallFailure::Backoff { reason },
        });
    };
    let reason = error.reason.clone();
    Err(match class(&error, answer.status) {
        Class::Throttled => throttled(&answer, reason),
        Class::Later(wait) => CallFailure::RetryAfter { wait, reason },
        Class::Backoff => CallFailure::Backoff { reason },
        // The token is gone. A permission that only reading wants is not: an account that can send
        // must not be taken for lost.
        Class::Reconnect if matches!(error.code, 190 | 102) => CallFailure::Reconnect { reason },
        Class::Reconnect | Class::OutsideWindow | Class::Permanent => {
            CallFailure::Permanent { reason }
        }
    })
}

fn throttled(answer: &HttpResponse, reason: String) -> CallFailure {
    let wait = wait(answer).unwrap_or(THROTTLED);
    CallFailure::RetryAfter { wait, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_791_201_600;

    fn time(seconds: i64) -> String {
        let at = DateTime::from_timestamp(NOW + seconds, 0).unwrap();
        at.format("%Y-%m-%dT%H:%M:%S+0000").to_string()
    }

    /// A platform with threads, newest first: name, seconds from now, messages.
    struct Graph(Vec<(String, i64, u64)>);

    impl Graph {
        fn answer(&self, url: &str) -> Value {
            let url = url::Url::parse(url).unwrap();
            if !url.path().ends_with("/conversations") {
                let paging = json!({"next": "https://g/?access_token=secret"});
                let messages = json!({"data": [{"id": url.path()}], "paging": paging});
                return json!({"id": "t", "messages": messages});
            }
            let query: BTreeMap<_, _> = url.query_pairs().collect();
            let start: usize = query.get("after").map_or(0, |it| it.parse().unwrap());
            let end = (start + 10).min(self.0.len());
            let list: Vec<_> = self.0[start..end]
                .iter()
                .map(|(id, at, count)| {
                    json!({"id": id, "updated_time": time(*at), "message_count": count})
                })
                .collect();
            let mut paging = json!({"cursors": {"after": end.to_string()}});
            if end < self.0.len() {
                paging["next"] = "https://g".into();
            }
            json!({"data": list, "paging": paging})
        }

        /// Polls once: the threads that were fetched, the calls, and the next cursor.
        fn poll(&self, cursor: Option<&Value>) -> (Vec<String>, usize, Value) {
            let mut sweep = sweep(cursor);
            let (mut fetched, mut calls, mut answer) = (Vec::new(), 0, None);
            loop {
                match sweep.next(answer.take()) {
                    PollStep::Call(request) => {
                        calls += 1;
                        answer = Some(Ok(HttpResponse {
                            status: 200,
                            body: self.answer(&request.url).to_string().into_bytes(),
                            ..HttpResponse::default()
                        }));
                    }
                    PollStep::Keep(body) => {
                        let text = String::from_utf8(body).unwrap();
                        assert!(!text.contains("secret"), "{text}");
                        let body: Value = serde_json::from_str(&text).unwrap();
                        let path = body["data"][0]["id"].as_str().unwrap().to_owned();
                        fetched.push(path.rsplit('/').next().unwrap().to_owned());
                    }
                    PollStep::Done { cursor } => return (fetched, calls, cursor),
                    PollStep::Failed(failure) => panic!("{failure:?}"),
                }
            }
        }
    }

    fn sweep(cursor: Option<&Value>) -> Sweep {
        let dialect = Dialect {
            owner: None,
            platform: "messenger",
            thread_fields: "id",
            message_fields: "id",
        };
        let app = App {
            api_base: "https://g".into(),
            ..App::default()
        };
        let now = DateTime::from_timestamp(NOW, 0).unwrap();
        Sweep::new(&app, &Credentials::default(), dialect, cursor, now)
    }

    fn threads(of: &[(&str, i64, u64)]) -> Graph {
        let own = of
            .iter()
            .map(|(id, at, count)| ((*id).to_owned(), *at, *count));
        Graph(own.collect())
    }

    #[test]
    fn a_thread_is_fetched_when_it_changes_and_not_before() {
        let day = 24 * 3600;
        let mut graph = threads(&[("a", -60, 3), ("b", -7200, 1), ("old", -day - 10, 9)]);
        let (fetched, calls, first) = graph.poll(None);
        assert_eq!((fetched, calls), (vec!["a".into(), "b".into()], 3));
        let (fetched, calls, again) = graph.poll(Some(&first));
        assert_eq!((fetched.len(), calls, &again), (0, 1, &first));
        // In the same second of Graph's clock.
        graph.0[0].2 = 4;
        let (fetched, _, next) = graph.poll(Some(&again));
        assert_eq!(fetched, ["a"]);
        graph.0[2] = ("old".into(), 5, 10);
        graph.0.rotate_right(1);
        let (fetched, _, next) = graph.poll(Some(&next));
        assert_eq!(fetched, ["old"]);
        assert_eq!(graph.poll(Some(&next)), (Vec::new(), 1, next.clone()));
    }

    #[test]
    fn an_account_without_threads_keeps_its_cursor() {
        let (_, _, first) = threads(&[]).poll(None);
        assert_eq!(threads(&[]).poll(Some(&first)), (Vec::new(), 1, first));
    }

    #[test]
    fn what_one_poll_does_not_get_to_the_next_ones_do() {
        let mut graph = Graph((0..95).map(|n| (format!("t{n}"), -n, 1)).collect());
        let (mut cursor, mut fetched, mut polls) = (None, Vec::new(), 0);
        loop {
            let (some, calls, next) = graph.poll(cursor.as_ref());
            assert!(calls <= 25, "{calls}");
            fetched.extend(some);
            polls += 1;
            let is_done = next.get("rest").is_none();
            cursor = Some(next);
            if polls == 1 {
                // Meanwhile: lists move on, and this one is for the sweep that follows.
                graph.0.insert(0, ("new".into(), 1, 1));
            }
            if is_done {
                break;
            }
        }
        assert!(polls > 3, "{polls}");
        for n in 0..95 {
            let name = format!("t{n}");
            assert!(fetched.contains(&name), "{name}");
        }
        let (some, _, next) = graph.poll(cursor.as_ref());
        assert!(some.contains(&"new".to_owned()), "{some:?}");
        // More threads changed within the overlap than are remembered: still quiet in the end.
        let (_, _, settled) = graph.poll(Some(&next));
        let (some, _, same) = graph.poll(Some(&settled));
        assert_eq!((some.len(), same), (0, settled));
    }

    #[test]
    fn a_newest_message_tells_of_a_change_within_a_second_and_an_empty_thread_is_passed_by() {
        let state = |newest: &str| {
            let messages = json!({"data": [{"id": newest}]});
            let raw = json!({"id": "t", "updated_time": time(-5), "messages": messages});
            Thread::read(&raw, 0).unwrap().state
        };
        assert_eq!(state("aWdf1"), state("aWdf1"));
        assert_ne!(state("aWdf1"), state("aWdf2"));
        assert_eq!(updated_ms(&state("aWdf1")), Some((NOW - 5) * 1000));
        let ok = |body: Value| {
            Some(Ok(HttpResponse {
                status: 200,
                body: body.to_string().into_bytes(),
                ..HttpResponse::default()
            }))
        };
        let mut poll = sweep(None);
        poll.next(None);
        let list = json!({"data": [{"id": "t", "updated_time": time(-5)}]});
        assert!(matches!(poll.next(ok(list)), PollStep::Call(_)));
        let step = poll.next(ok(json!({"id": "t"})));
        assert!(matches!(step, PollStep::Done { .. }), "{step:?}");
    }

    #[test]
    fn a_gone_thread_harms_no_other_and_a_gone_token_is_told() {
        let error = |status: u16, code: i64| {
            let body = json!({"error": {"code": code, "message": "no"}});
            Some(Ok(HttpResponse {
                status,
                body: body.to_string().into_bytes(),
                ..HttpResponse::default()
            }))
        };
        let graph = threads(&[("a", -1, 1), ("b", -2, 1)]);
        let mut poll = sweep(None);
        let PollStep::Call(request) = poll.next(None) else {
            panic!("a list");
        };
        let list = Ok(HttpResponse {
            status: 200,
            body: graph.answer(&request.url).to_string().into_bytes(),
            ..HttpResponse::default()
        });
        assert!(matches!(poll.next(Some(list)), PollStep::Call(_)));
        assert!(matches!(poll.next(error(400, 100)), PollStep::Call(_)));
        let failure = |answer| {
            let mut poll = sweep(None);
            poll.next(None);
            match poll.next(answer) {
                PollStep::Failed(failure) => failure,
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(
            failure(error(400, 190)),
            CallFailure::Reconnect { .. }
        ));
        assert!(matches!(
            failure(error(403, 10)),
            CallFailure::Permanent { .. }
        ));
        assert!(matches!(
            failure(error(500, 2)),
            CallFailure::Backoff { .. }
        ));
        let throttled = failure(error(400, 4));
        assert!(matches!(throttled, CallFailure::RetryAfter { wait, .. } if wait == THROTTLED));
        let away = failure(Some(Err(TransportError::Unclear)));
        assert!(matches!(away, CallFailure::Backoff { .. }));
    }
}
