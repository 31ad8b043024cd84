//! Fetching a member's change log (Member Data Portability).
//!
//! The log is asked for what was processed since a moment, that moment included, so the last
//! element comes again and is known. LinkedIn expects about one call per member and hour and counts
//! by the day; it says nothing before a limit is met.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::problem::{Asked, checked};
use super::versioned;
use crate::platform::call::{CallFailure, PollFlow, PollStep};
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::{App, Credentials, wire};

/// The shortest pause between two polls of one account: half of a day's hundred calls.
pub const EVERY_MIN: Duration = Duration::from_secs(30 * 60);

/// The version of the portability programme, which moves apart from the rest of the API.
const VERSION: &str = "202312";

/// Elements of one page, the most LinkedIn gives.
const PAGE: usize = 50;

/// Pages of one poll.
const PAGES_MAX: usize = 10;

/// How far the first poll looks back.
const FIRST_MS: i64 = 24 * 3600 * 1000;

/// How far back LinkedIn looks at all.
const KEPT_MS: i64 = 28 * 24 * 3600 * 1000;

/// The conversation, in the state between two calls.
pub struct Flow {
    app: App,
    credentials: Credentials,
    /// The whole cursor, of which this part is replaced.
    cursor: Value,
    start_ms: i64,
    pages: usize,
    step: Step,
}

enum Step {
    Start,
    Page,
    Kept { goes_on: bool },
    Over,
}

impl Flow {
    /// A flow that has not called anybody yet.
    pub fn new(
        app: &App,
        credentials: &Credentials,
        cursor: Option<&Value>,
        now: DateTime<Utc>,
    ) -> Self {
        let now_ms = now.timestamp_millis();
        let known = cursor.and_then(|cursor| wire::time_ms(&cursor["startTime"]));
        Self {
            app: app.clone(),
            credentials: credentials.clone(),
            cursor: own(cursor),
            start_ms: known.unwrap_or(now_ms - FIRST_MS).max(now_ms - KEPT_MS),
            pages: 0,
            step: Step::Start,
        }
    }

    fn fetch(&mut self) -> PollStep {
        self.step = Step::Page;
        self.pages += 1;
        let url = format!(
            "{}/rest/memberChangeLogs?q=memberAndApplication&startTime={}&count={PAGE}",
            self.app.api_base, self.start_ms
        );
        let call = HttpRequest::get(url);
        PollStep::Call(versioned(call, VERSION, &self.credentials.access_token))
    }

    fn keep(&mut self, answer: &Result<HttpResponse, TransportError>) -> PollStep {
        let body = match checked(answer, Asked::Changelog) {
            Ok(body) => body,
            Err(failure) => return PollStep::Failed(failure),
        };
        let elements = wire::items(&body["elements"]);
        if elements.is_empty() {
            return self.after(false);
        }
        let newest = elements
            .iter()
            .filter_map(|element| wire::time_ms(&element["processedAt"]))
            .max();
        let goes_on = elements.len() >= PAGE;
        // A full page of a single moment would come again for ever: what else was processed in
        // that millisecond is given up.
        let stuck = goes_on && newest.is_none_or(|newest| newest <= self.start_ms);
        self.start_ms = newest.unwrap_or(self.start_ms).max(self.start_ms) + i64::from(stuck);
        self.step = Step::Kept { goes_on };
        let body = answer.as_ref().map(|answer| answer.body.clone());
        PollStep::Keep(body.unwrap_or_default())
    }

    fn after(&mut self, goes_on: bool) -> PollStep {
        if goes_on && self.pages < PAGES_MAX {
            return self.fetch();
        }
        self.step = Step::Over;
        self.cursor["startTime"] = self.start_ms.into();
        PollStep::Done {
            cursor: self.cursor.take(),
        }
    }
}

/// A cursor to write into.
pub(super) fn own(cursor: Option<&Value>) -> Value {
    let cursor = cursor.filter(|cursor| cursor.is_object());
    cursor.cloned().unwrap_or_else(|| json!({}))
}

impl PollFlow for Flow {
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> PollStep {
        let step = std::mem::replace(&mut self.step, Step::Over);
        match (step, answer) {
            (Step::Start, _) => self.fetch(),
            (Step::Page, Some(answer)) => self.keep(&answer),
            (Step::Kept { goes_on }, _) => self.after(goes_on),
            (Step::Page, None) | (Step::Over, _) => PollStep::Failed(CallFailure::Backoff {
                reason: "the poll was interrupted".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_791_201_600_000;

    fn flow(cursor: Option<&Value>) -> Flow {
        let app = App {
            api_base: "https://api.example".into(),
            api_version: "202610".into(),
            ..App::default()
        };
        let now = DateTime::from_timestamp_millis(NOON_MS).unwrap();
        Flow::new(&app, &Credentials::default(), cursor, now)
    }

    fn page(times: &[i64]) -> Option<Result<HttpResponse, TransportError>> {
        let elements: Vec<Value> = times.iter().map(|ms| json!({"processedAt": ms})).collect();
        answer(200, &json!({"elements": elements}))
    }

    fn answer(status: u16, body: &Value) -> Option<Result<HttpResponse, TransportError>> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn url_of(step: PollStep) -> String {
        match step {
            PollStep::Call(call) => call.url,
            other => panic!("{other:?}"),
        }
    }

    fn cursor_of(step: PollStep) -> Value {
        match step {
            PollStep::Done { cursor } => cursor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_poll_looks_back_for_a_day() {
        let mut flow = flow(None);
        let PollStep::Call(call) = flow.next(None) else {
            panic!("no call");
        };
        let expected = format!(
            "https://api.example/rest/memberChangeLogs?q=memberAndApplication&startTime={}&count=50",
            NOON_MS - FIRST_MS
        );
        assert_eq!(call.url, expected);
        let version = ("linkedin-version".to_owned(), "202312".to_owned());
        assert!(call.headers.contains(&version));
        // Nothing new: the same beginning the next time.
        let cursor = cursor_of(flow.next(page(&[])));
        assert_eq!(cursor, json!({"startTime": NOON_MS - FIRST_MS}));
    }

    #[test]
    fn pages_are_kept_until_one_is_not_full() {
        let known = json!({"startTime": NOON_MS - 1000});
        let mut flow = flow(Some(&known));
        flow.next(None);
        let times: Vec<i64> = (0..50).map(|n| NOON_MS - 1000 + n).collect();
        assert!(matches!(flow.next(page(&times)), PollStep::Keep(_)));
        let url = url_of(flow.next(None));
        assert!(
            url.contains(&format!("startTime={}&", NOON_MS - 951)),
            "{url}"
        );
        flow.next(page(&[NOON_MS]));
        assert_eq!(cursor_of(flow.next(None)), json!({"startTime": NOON_MS}));
    }

    #[test]
    fn a_full_page_of_one_moment_is_passed() {
        let known = json!({"startTime": NOON_MS});
        let mut flow = flow(Some(&known));
        flow.next(None);
        flow.next(page(&[NOON_MS; 50]));
        assert!(url_of(flow.next(None)).contains(&format!("startTime={}&", NOON_MS + 1)));
        // Not for ever, whatever LinkedIn says.
        let mut pages = 2;
        loop {
            flow.next(page(&[NOON_MS; 50]));
            match flow.next(None) {
                PollStep::Call(_) => pages += 1,
                PollStep::Done { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pages, PAGES_MAX);
    }

    #[test]
    fn what_lies_too_far_back_is_not_asked_for() {
        let old = json!({"startTime": 1_600_000_000_000_i64});
        let url = url_of(flow(Some(&old)).next(None));
        assert!(
            url.contains(&format!("startTime={}&", NOON_MS - KEPT_MS)),
            "{url}"
        );
    }

    #[test]
    fn failures() {
        let failed = |status, body: Value| {
            let mut flow = flow(None);
            flow.next(None);
            match flow.next(answer(status, &body)) {
                PollStep::Failed(failure) => failure,
                other => panic!("{other:?}"),
            }
        };
        let revoked =
            json!({"status": 401, "serviceErrorCode": 65601, "code": "REVOKED_ACCESS_TOKEN"});
        assert!(matches!(
            failed(401, revoked),
            CallFailure::Reconnect { .. }
        ));
        let no_consent = json!({"status": 404, "code": "NOT_FOUND", "message": "no consent"});
        assert!(matches!(
            failed(404, no_consent),
            CallFailure::Backoff { .. }
        ));
        let no_product = json!({"status": 403, "serviceErrorCode": 100, "code": "ACCESS_DENIED"});
        assert!(matches!(
            failed(403, no_product),
            CallFailure::Permanent { .. }
        ));
        let throttled = json!({"status": 429, "code": "TOO_MANY_REQUESTS", "message": "throttle"});
        assert!(matches!(
            failed(429, throttled),
            CallFailure::RetryAfter { .. }
        ));
    }
}
