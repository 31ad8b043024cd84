//! Fetching what is new: the person's chats, newest first, then the messages of each that changed.
//!
//! Graph has no delta for chats. The list tells when each chat was last written to; what changes
//! without a new message (an edit, a reaction) shows nowhere but in the messages, so chats of the
//! last day are looked at too. The cursor is the newest change seen, less an overlap, because
//! Graph's own copies differ by a little; what lies in the overlap is remembered, so that nothing is
//! kept twice. When a poll ends before all chats were read, the next begins at the oldest unread one.
//!
//! Documented at <https://learn.microsoft.com/graph/api/chat-list-messages>.

use std::collections::{BTreeSet, VecDeque};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::graph;
use crate::platform::call::{CallFailure, PollFlow, PollStep};
use crate::platform::http::{HttpResponse, TransportError};
use crate::platform::{App, Credentials, wire};

/// What Graph's copies may differ by.
const OVERLAP: TimeDelta = TimeDelta::minutes(2);

/// The first poll looks back this far, and chats this old are looked at for edits.
const LOOK_BACK: TimeDelta = TimeDelta::days(1);

/// Calls of one poll.
const CALLS_MAX: usize = 60;

/// Pages of the list of chats, of fifty each.
const LISTS_MAX: usize = 20;

/// Chats without a new message that are looked at for edits.
const QUIET_MAX: usize = 20;

/// Messages remembered from the overlap.
const SEEN_MAX: usize = 500;

/// A chat to be read.
struct Chat {
    id: String,
    /// When it was last written to.
    at: DateTime<Utc>,
    /// Something was written since the last poll.
    fresh: bool,
}

enum Step {
    Start,
    List(usize),
    Read(Chat),
    Kept(Chat, Option<String>),
    Over,
}

/// The conversation, in the state between two calls.
pub struct Flow {
    app: App,
    credentials: Credentials,
    now: DateTime<Utc>,
    since: DateTime<Utc>,
    seen: BTreeSet<String>,
    /// What was met in this poll, with when it changed.
    met: Vec<(DateTime<Utc>, String)>,
    left: VecDeque<Chat>,
    calls: usize,
    step: Step,
}

type Answer = Result<HttpResponse, TransportError>;

impl Flow {
    /// A flow that has not called anybody yet.
    pub fn new(
        app: &App,
        credentials: &Credentials,
        cursor: Option<&Value>,
        now: DateTime<Utc>,
    ) -> Self {
        let cursor = cursor.cloned().unwrap_or_default();
        let since = wire::time_ms(&cursor["since"]).and_then(DateTime::from_timestamp_millis);
        let seen = wire::items(&cursor["seen"]).iter().filter_map(wire::id);
        Self {
            app: app.clone(),
            credentials: credentials.clone(),
            now,
            since: since.unwrap_or(now - LOOK_BACK),
            seen: seen.collect(),
            met: Vec::new(),
            left: VecDeque::new(),
            calls: 0,
            step: Step::Start,
        }
    }

    fn call(&mut self, url: String) -> PollStep {
        self.calls += 1;
        PollStep::Call(graph::get(&self.credentials, url))
    }

    fn first_list(&mut self) -> PollStep {
        let url = with_query(
            graph::url(&self.app, "me/chats"),
            &[
                ("$expand", "lastMessagePreview"),
                ("$orderby", "lastMessagePreview/createdDateTime desc"),
                ("$top", "50"),
            ],
        );
        self.step = Step::List(1);
        self.call(url)
    }

    fn list(&mut self, lists: usize, answer: &Answer) -> PollStep {
        let body = match graph::success(answer) {
            Ok(answer) => answer.json(),
            Err(failure) => return PollStep::Failed(failure),
        };
        let quiet_from = self.now - LOOK_BACK;
        let mut more = true;
        for chat in wire::items(&body["value"]) {
            let at = graph::time(&chat["lastMessagePreview"]["createdDateTime"]);
            let (Some(id), Some(at)) = (wire::id(&chat["id"]), at) else {
                continue;
            };
            let fresh = at >= self.since;
            more = fresh || at >= quiet_from;
            if more {
                self.left.push_back(Chat { id, at, fresh });
            }
        }
        let next = self.next_link(&body);
        match next.filter(|_| more && lists < LISTS_MAX) {
            Some(next) => {
                self.step = Step::List(lists + 1);
                self.call(next)
            }
            None => {
                self.put_in_order();
                self.next_chat()
            }
        }
    }

    /// Chats with news first, the longest waiting first, so that what is left over is the newest;
    /// then the quiet ones.
    fn put_in_order(&mut self) {
        let all = std::mem::take(&mut self.left);
        let (mut fresh, mut quiet): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.fresh);
        fresh.sort_by_key(|chat| chat.at);
        quiet.truncate(QUIET_MAX);
        self.left = fresh.into_iter().chain(quiet).collect();
    }

    fn next_chat(&mut self) -> PollStep {
        if self.calls >= CALLS_MAX {
            return self.done();
        }
        let Some(chat) = self.left.pop_front() else {
            return self.done();
        };
        let since = self.since.to_rfc3339_opts(SecondsFormat::Millis, true);
        let path = format!("chats/{}/messages", graph::part(&chat.id));
        let url = with_query(
            graph::url(&self.app, &path),
            &[
                ("$top", "50"),
                ("$orderby", "lastModifiedDateTime desc"),
                ("$filter", &format!("lastModifiedDateTime gt {since}")),
            ],
        );
        self.step = Step::Read(chat);
        self.call(url)
    }

    fn read(&mut self, chat: Chat, answer: &Answer) -> PollStep {
        // A chat that the person has left is no reason to miss the others.
        if let Ok(answer) = answer
            && (answer.status == 404 || answer.status == 403 && graph::is_about_the_chat(answer))
        {
            return self.next_chat();
        }
        let answer = match graph::success(answer) {
            Ok(answer) => answer,
            Err(failure) => return PollStep::Failed(failure),
        };
        let body = answer.json();
        let mut news = false;
        for message in wire::items(&body["value"]) {
            let at = graph::time(&message["lastModifiedDateTime"])
                .or_else(|| graph::time(&message["createdDateTime"]));
            let state = wire::id(&message["etag"]).unwrap_or_else(|| message.to_string());
            let id = wire::id(&message["id"]).unwrap_or_default();
            let name = wire::digest(&[&chat.id, &id, &state])[..16].to_owned();
            news |= !self.seen.contains(&name);
            self.met.extend(at.map(|at| (at, name)));
        }
        let next = self.next_link(&body);
        let raw = answer.body.clone();
        if news {
            self.step = Step::Kept(chat, next);
            PollStep::Keep(raw)
        } else {
            self.next_page(chat, next)
        }
    }

    /// A chat that was begun is read to its end: only then nothing of it is missed.
    fn next_page(&mut self, chat: Chat, next: Option<String>) -> PollStep {
        match next.filter(|_| self.calls < 2 * CALLS_MAX) {
            Some(next) => {
                self.step = Step::Read(chat);
                self.call(next)
            }
            None => self.next_chat(),
        }
    }

    fn next_link(&self, body: &Value) -> Option<String> {
        let next = wire::filled(&body["@odata.nextLink"])?;
        graph::is_ours(&self.app, &next).then_some(next)
    }

    fn done(&mut self) -> PollStep {
        let newest = self.met.iter().map(|(at, _)| *at).max();
        let seen_until = newest.map_or(self.since, |newest| newest - OVERLAP);
        let unread = self
            .left
            .iter()
            .filter(|chat| chat.fresh)
            .map(|chat| chat.at);
        let since = unread.min().map_or(seen_until, |unread| {
            seen_until.min(unread - TimeDelta::milliseconds(1))
        });
        let since = since.max(self.since);
        let mut met = std::mem::take(&mut self.met);
        met.retain(|(at, _)| *at > since);
        met.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let seen: BTreeSet<String> = met.into_iter().take(SEEN_MAX).map(|(_, it)| it).collect();
        PollStep::Done {
            cursor: json!({ "since": since.timestamp_millis(), "seen": seen }),
        }
    }
}

impl PollFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> PollStep {
        match (std::mem::replace(&mut self.step, Step::Over), answer) {
            (Step::Start, _) => self.first_list(),
            (Step::List(lists), Some(answer)) => self.list(lists, &answer),
            (Step::Read(chat), Some(answer)) => self.read(chat, &answer),
            (Step::Kept(chat, next), _) => self.next_page(chat, next),
            (Step::List(_) | Step::Read(_) | Step::Over, _) => {
                PollStep::Failed(CallFailure::Backoff {
                    reason: "the poll was interrupted".to_owned(),
                })
            }
        }
    }
}

fn with_query(url: String, query: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query)
        .finish();
    // OData wants spaces as such, not as forms write them.
    format!("{url}?{}", query.replace('+', "%20"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::HttpRequest;

    const NOW: &str = "2026-10-05T12:00:00.000Z";

    fn at(text: &str) -> DateTime<Utc> {
        graph::time(&json!(text)).unwrap()
    }

    fn flow(cursor: Option<&Value>) -> Flow {
        let app = App {
            api_base: "https://graph.example".into(),
            api_version: "v1.0".into(),
            ..App::default()
        };
        Flow::new(&app, &Credentials::default(), cursor, at(NOW))
    }

    fn answered(status: u16, body: Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn chat(id: &str, at: &str) -> Value {
        json!({"id": id, "chatType": "oneOnOne", "lastMessagePreview": {"createdDateTime": at}})
    }

    fn message(id: &str, etag: &str, at: &str) -> Value {
        json!({"id": id, "etag": etag, "messageType": "message", "lastModifiedDateTime": at})
    }

    fn asked(step: PollStep) -> HttpRequest {
        match step {
            PollStep::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }

    fn kept(step: PollStep) -> Vec<u8> {
        match step {
            PollStep::Keep(raw) => raw,
            other => panic!("{other:?}"),
        }
    }

    fn done(step: PollStep) -> Value {
        match step {
            PollStep::Done { cursor } => cursor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn news_are_kept_once_and_the_cursor_overlaps() {
        let mut first = flow(None);
        let list = asked(first.next(None));
        assert!(list.url.starts_with("https://graph.example/v1.0/me/chats?"));
        assert!(!list.url.contains('+'));
        let chats = json!({"value": [chat("19:b", "2026-10-05T11:59:00Z"),
            chat("19:a", "2026-10-05T11:00:00Z"), chat("19:old", "2026-09-01T00:00:00Z")]});
        let read = asked(first.next(answered(200, chats.clone())));
        assert!(
            read.url
                .starts_with("https://graph.example/v1.0/chats/19%3Aa/messages?")
        );
        assert!(read.url.contains("gt%202026-10-04T12%3A00%3A00.000Z"));
        assert!(
            read.headers
                .contains(&("prefer".into(), "include-unknown-enum-members".into()))
        );
        let page = json!({"value": [message("1", "e1", "2026-10-05T11:00:00Z")],
            "@odata.nextLink": "https://graph.example/v1.0/chats/19:a/messages?$skiptoken=x%3d"});
        assert_eq!(
            kept(first.next(answered(200, page.clone()))),
            page.to_string().as_bytes()
        );
        let next = asked(first.next(None));
        assert_eq!(
            next.url,
            "https://graph.example/v1.0/chats/19:a/messages?$skiptoken=x%3d"
        );
        // An empty page may lead on, and nothing of it is worth keeping.
        let read = asked(first.next(answered(200, json!({"value": []}))));
        assert!(read.url.contains("/chats/19%3Ab/"));
        let page = json!({"value": [message("2", "e1", "2026-10-05T11:59:00Z")]});
        kept(first.next(answered(200, page.clone())));
        let cursor = done(first.next(None));
        assert_eq!(
            cursor["since"],
            at("2026-10-05T11:57:00Z").timestamp_millis()
        );
        assert_eq!(cursor["seen"].as_array().unwrap().len(), 1);

        // The same again keeps nothing; another state of the message is news.
        let mut second = flow(Some(&cursor));
        second.next(None);
        let read = asked(second.next(answered(200, chats.clone())));
        assert!(
            read.url.contains("/chats/19%3Ab/"),
            "the fresh one comes first"
        );
        asked(second.next(answered(200, page)));
        let again = done(second.next(answered(200, json!({"value": []}))));
        assert_eq!(again, cursor);
        let mut third = flow(Some(&cursor));
        third.next(None);
        third.next(answered(200, chats));
        let page = json!({"value": [message("2", "e2", "2026-10-05T11:59:30Z")]});
        kept(third.next(answered(200, page)));
    }

    #[test]
    fn a_poll_that_ends_early_goes_on_with_the_oldest_unread_chat() {
        let mut flow = flow(None);
        flow.next(None);
        let chats: Vec<Value> = (0..80_i64)
            .map(|n| {
                let at = at("2026-10-05T11:59:00Z") - TimeDelta::minutes(n);
                chat(&format!("19:{n}"), &at.to_rfc3339())
            })
            .collect();
        let mut step = flow.next(answered(200, json!({ "value": chats })));
        let mut read = 0;
        let cursor = loop {
            match step {
                PollStep::Call(call) => {
                    read += 1;
                    assert!(call.url.contains("/messages?"));
                    let stamp = at("2026-10-05T11:59:59Z").to_rfc3339();
                    let page = json!({"value": [message(&read.to_string(), "e", &stamp)]});
                    step = flow.next(answered(200, page));
                }
                PollStep::Keep(_) => step = flow.next(None),
                PollStep::Done { cursor } => break cursor,
                PollStep::Failed(failure) => panic!("{failure:?}"),
            }
        };
        assert_eq!(read, CALLS_MAX - 1);
        // Read were those of 79 to 21 minutes before; the one of 20 minutes before is next.
        let next = at("2026-10-05T11:39:00Z").timestamp_millis() - 1;
        assert_eq!(cursor["since"], next);
    }

    #[test]
    fn a_link_to_elsewhere_is_not_followed_and_a_lost_chat_is_passed() {
        let mut flow = flow(None);
        flow.next(None);
        let chats = json!({"value": [chat("19:a", "2026-10-05T11:00:00Z"),
            chat("19:b", "2026-10-05T11:30:00Z")],
            "@odata.nextLink": "https://evil.example/v1.0/me/chats"});
        asked(flow.next(answered(200, chats)));
        let gone = json!({"error": {"code": "NotFound", "message": "m"}});
        let read = asked(flow.next(answered(404, gone)));
        assert!(read.url.contains("19%3Ab"));
        let page = json!({"value": [message("1", "e", "2026-10-05T11:30:00Z")],
            "@odata.nextLink": "https://evil.example/x"});
        kept(flow.next(answered(200, page)));
        done(flow.next(None));
    }

    #[test]
    fn failures_keep_the_cursor() {
        for (status, reconnects) in [(401, true), (503, false)] {
            let mut flow = flow(None);
            flow.next(None);
            let PollStep::Failed(failure) = flow.next(answered(status, json!({}))) else {
                panic!("{status}")
            };
            assert_eq!(matches!(failure, CallFailure::Reconnect { .. }), reconnects);
        }
    }
}
