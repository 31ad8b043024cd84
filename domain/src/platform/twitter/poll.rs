//! Fetching what is new: the safety net below webhooks, and all there is without them.
//!
//! `GET /2/dm_events` is newest first and knows no "since": pages are kept until one reaches back
//! to where the last poll began, less an overlap, because ids do not arrive quite in order. A poll
//! that cannot finish leaves in its cursor where the next one goes on. X gives 15 of these calls per
//! user in 15 minutes, and every one costs credits: hence few pages, and the pause between polls.
//!
//! Each poll first looks whether the webhook is still valid (X stops delivering to one that failed
//! a challenge, and says so nowhere else) and asks for a new challenge when it is not.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::problem::{Asked, checked};
use super::{page, url};
use crate::platform::call::{PollFlow, PollStep};
use crate::platform::http::{HttpRequest, HttpResponse, Method, TransportError};
use crate::platform::{App, Credentials, wire};

/// The shortest pause between two polls of one account: with [`PAGES_MAX`], all that X allows.
pub const EVERY_MIN: Duration = Duration::from_secs(5 * 60);

/// Pages of one poll.
const PAGES_MAX: usize = 5;

/// How far behind the last poll's newest event a poll still looks.
const OVERLAP_MS: i64 = 5 * 60 * 1000;

/// How far the first poll looks back.
const FIRST_MS: i64 = 24 * 3600 * 1000;

const QUERY: &str = "max_results=100&event_types=MessageCreate,ParticipantsJoin,ParticipantsLeave\
&dm_event.fields=id,text,event_type,created_at,dm_conversation_id,sender_id,participant_ids,\
attachments,referenced_tweets,entities&expansions=sender_id,attachments.media_keys,participant_ids\
&media.fields=type,url,preview_image_url,variants,duration_ms&user.fields=username,name";

/// The conversation, in the state between two calls.
pub struct Flow {
    app: App,
    credentials: Credentials,
    /// Everything until here is known, in milliseconds.
    since_ms: i64,
    /// The newest event this walk back has met.
    newest_ms: i64,
    /// The page to go on with; the first one without.
    page: Option<String>,
    pages: usize,
    step: Step,
}

enum Step {
    Start,
    Webhooks,
    Checked,
    Page,
    Kept { goes_on: bool },
    Over,
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
        let cursor = cursor.unwrap_or(&Value::Null);
        let first = now.timestamp_millis() - FIRST_MS;
        let since_ms = wire::time_ms(&cursor["sinceMs"]).unwrap_or(first);
        Self {
            app: app.clone(),
            credentials: credentials.clone(),
            since_ms,
            newest_ms: wire::time_ms(&cursor["newestMs"]).unwrap_or(since_ms),
            page: wire::filled(&cursor["page"]),
            pages: 0,
            step: Step::Start,
        }
    }

    fn webhooks(&mut self) -> PollStep {
        if self.app.bot_token.is_empty() || self.app.webhook_url.is_empty() {
            return self.fetch();
        }
        self.step = Step::Webhooks;
        let call = HttpRequest::get(url(&self.app, "webhooks"));
        PollStep::Call(call.bearer(self.app.bot_token.expose()))
    }

    /// Whatever comes of it: messages can be fetched all the same.
    fn check(&mut self, answer: &Answer) -> PollStep {
        let list = answer.as_ref().map(HttpResponse::json).unwrap_or_default();
        let ours = wire::items(&list["data"])
            .iter()
            .find(|hook| hook["url"] == self.app.webhook_url.as_str());
        let invalid = ours.filter(|hook| hook["valid"] == Value::Bool(false));
        let Some(id) = invalid.and_then(|hook| wire::id(&hook["id"])) else {
            return self.fetch();
        };
        self.step = Step::Checked;
        let mut call = HttpRequest::get(url(&self.app, &format!("webhooks/{id}")));
        call.method = Method::Put;
        PollStep::Call(call.bearer(self.app.bot_token.expose()))
    }

    fn fetch(&mut self) -> PollStep {
        self.step = Step::Page;
        self.pages += 1;
        let page = self.page.as_deref().unwrap_or_default();
        let page = url::form_urlencoded::byte_serialize(page.as_bytes()).collect::<String>();
        let next = if page.is_empty() {
            String::new()
        } else {
            format!("&pagination_token={page}")
        };
        let url = url(&self.app, &format!("dm_events?{QUERY}{next}"));
        PollStep::Call(HttpRequest::get(url).bearer(self.credentials.access_token.expose()))
    }

    fn keep(&mut self, answer: &Answer) -> PollStep {
        let body = match checked(answer, Asked::Api) {
            Ok(body) => body,
            // A token of a page does not live for ever; without it there is always a first page.
            Err(_) if self.page.is_some() && is_bad_request(answer) => {
                self.page = None;
                return self.fetch();
            }
            Err(failure) => return PollStep::Failed(failure),
        };
        let times = wire::items(&body["data"])
            .iter()
            .filter_map(|event| page::time_ms(&event["created_at"]));
        let (oldest, newest) = times.fold((i64::MAX, i64::MIN), |(oldest, newest), ms| {
            (oldest.min(ms), newest.max(ms))
        });
        self.newest_ms = self.newest_ms.max(newest);
        self.page = wire::filled(&body["meta"]["next_token"]);
        let goes_on = self.page.is_some() && oldest > self.since_ms.saturating_sub(OVERLAP_MS);
        if wire::items(&body["data"]).is_empty() {
            return self.after(goes_on && newest != i64::MIN);
        }
        self.step = Step::Kept { goes_on };
        let body = answer.as_ref().map(|answer| answer.body.clone());
        PollStep::Keep(body.unwrap_or_default())
    }

    fn after(&mut self, goes_on: bool) -> PollStep {
        if goes_on && self.pages < PAGES_MAX {
            return self.fetch();
        }
        self.step = Step::Over;
        let cursor = if goes_on {
            json!({ "sinceMs": self.since_ms, "newestMs": self.newest_ms, "page": self.page })
        } else {
            json!({ "sinceMs": self.newest_ms })
        };
        PollStep::Done { cursor }
    }
}

fn is_bad_request(answer: &Answer) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status == 400)
}

impl PollFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> PollStep {
        let step = std::mem::replace(&mut self.step, Step::Over);
        match (step, answer) {
            (Step::Start, _) => self.webhooks(),
            (Step::Webhooks, Some(answer)) => self.check(&answer),
            (Step::Checked, Some(_)) => self.fetch(),
            (Step::Page, Some(answer)) => self.keep(&answer),
            (Step::Kept { goes_on }, _) => self.after(goes_on),
            (Step::Webhooks | Step::Checked | Step::Page, None) | (Step::Over, _) => {
                PollStep::Failed(crate::platform::call::CallFailure::Backoff {
                    reason: "the poll was interrupted".into(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::call::CallFailure;

    const NOON_MS: i64 = 1_791_201_600_000;

    fn app() -> App {
        App {
            api_base: "https://api.example".into(),
            api_version: "2".into(),
            webhook_url: "https://hub.example/api/webhooks/twitter".into(),
            ..App::default()
        }
    }

    fn flow(app: &App, cursor: Option<&Value>) -> Flow {
        let now = DateTime::from_timestamp_millis(NOON_MS).unwrap();
        Flow::new(app, &Credentials::default(), cursor, now)
    }

    fn answer(status: u16, body: &Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    /// A page with one event so many minutes before noon.
    fn page(minutes: i64, next: Option<&str>) -> Value {
        let at = DateTime::from_timestamp_millis(NOON_MS - minutes * 60_000).unwrap();
        let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        json!({"data": [{"id": "1", "event_type": "MessageCreate", "created_at": at}],
            "meta": {"result_count": 1, "next_token": next}})
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
    fn pages_are_kept_until_one_reaches_what_is_known() {
        let known = json!({"sinceMs": NOON_MS - 30 * 60_000});
        let mut flow = flow(&app(), Some(&known));
        let url = url_of(flow.next(None));
        assert!(
            url.starts_with("https://api.example/2/dm_events?max_results=100&"),
            "{url}"
        );
        assert!(!url.contains("pagination_token"));
        let first = page(1, Some("t+1"));
        let PollStep::Keep(body) = flow.next(answer(200, &first)) else {
            panic!("not kept");
        };
        assert_eq!(body, first.to_string().into_bytes());
        let url = url_of(flow.next(None));
        assert!(url.ends_with("&pagination_token=t%2B1"), "{url}");
        // Inside of the overlap: one more page is looked at.
        flow.next(answer(200, &page(34, Some("t2"))));
        assert!(url_of(flow.next(None)).ends_with("=t2"));
        flow.next(answer(200, &page(36, Some("t3"))));
        assert_eq!(
            cursor_of(flow.next(None)),
            json!({"sinceMs": NOON_MS - 60_000})
        );
    }

    #[test]
    fn nothing_new_leaves_the_cursor() {
        let known = json!({"sinceMs": NOON_MS});
        let mut flow = self::flow(&app(), Some(&known));
        flow.next(None);
        let nothing = json!({"meta": {"result_count": 0}});
        assert_eq!(cursor_of(flow.next(answer(200, &nothing))), known);
        // The first poll looks back for a day.
        let mut first = self::flow(&app(), None);
        first.next(None);
        let day_ago = json!({"sinceMs": NOON_MS - FIRST_MS});
        assert_eq!(cursor_of(first.next(answer(200, &nothing))), day_ago);
    }

    #[test]
    fn a_poll_is_bounded_and_the_next_one_goes_on() {
        let mut flow = self::flow(&app(), None);
        let mut step = flow.next(None);
        for minute in 1..=5 {
            url_of(step);
            let token = format!("t{minute}");
            flow.next(answer(200, &page(minute, Some(&token))));
            step = flow.next(None);
        }
        let cursor = cursor_of(step);
        let expected = json!({"sinceMs": NOON_MS - FIRST_MS, "newestMs": NOON_MS - 60_000,
            "page": "t5"});
        assert_eq!(cursor, expected);
        let mut next = self::flow(&app(), Some(&cursor));
        assert!(url_of(next.next(None)).ends_with("&pagination_token=t5"));
        next.next(answer(200, &page(6, None)));
        assert_eq!(
            cursor_of(next.next(None)),
            json!({"sinceMs": NOON_MS - 60_000})
        );
        // A page that is gone is no reason to stop for ever.
        let mut stale = self::flow(&app(), Some(&cursor));
        stale.next(None);
        let gone = json!({"title": "Invalid Request", "detail": "pagination_token"});
        assert!(!url_of(stale.next(answer(400, &gone))).contains("pagination_token"));
    }

    #[test]
    fn a_limit_ends_the_poll() {
        let mut flow = self::flow(&app(), None);
        flow.next(None);
        let step = flow.next(answer(429, &json!({"title": "Too Many Requests"})));
        let PollStep::Failed(CallFailure::RetryAfter { wait, .. }) = step else {
            panic!("{step:?}");
        };
        assert_eq!(wait, Duration::from_secs(15 * 60));
    }

    #[test]
    fn an_invalid_webhook_is_challenged_again() {
        let app = App {
            bot_token: "app-only".into(),
            ..app()
        };
        let hook = |valid| {
            json!({"data": [{"id": "9", "url": "https://elsewhere.example", "valid": false},
                {"id": "7", "url": app.webhook_url, "valid": valid}]})
        };
        let mut flow = self::flow(&app, None);
        assert_eq!(url_of(flow.next(None)), "https://api.example/2/webhooks");
        let PollStep::Call(call) = flow.next(answer(200, &hook(false))) else {
            panic!("no call");
        };
        assert_eq!(
            (call.method, call.url.as_str()),
            (Method::Put, "https://api.example/2/webhooks/7")
        );
        let failed = flow.next(Some(Err(TransportError::Unclear)));
        assert!(url_of(failed).contains("/dm_events?"));
        let mut valid = self::flow(&app, None);
        valid.next(None);
        assert!(url_of(valid.next(answer(200, &hook(true)))).contains("/dm_events?"));
    }
}
