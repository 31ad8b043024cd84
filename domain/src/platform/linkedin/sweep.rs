//! What happened to the posts of a member's organizations and was not pushed: comments from before
//! there was a subscription, and those whose webhook got lost.
//!
//! LinkedIn keeps notifications for 60 days and gives them out by organization and time. A sweep asks
//! which organizations there are, and a few of them, those that waited longest, for what happened since
//! they were last asked, a little earlier included: what is known already changes nothing.
//!
//! Promises: four sweeps a day, of at most [`CALLS_MAX`] calls each, out of the hundred that a member
//! has; the worker leaves one out when few of these are left. An organization with more news than a
//! sweep asks for goes on where it ended, in the next. One that refuses leaves the others. Whatever
//! goes wrong, what was not swept will be, for 60 days.
//!
//! Documented at <https://learn.microsoft.com/linkedin/marketing/community-management/organizations/organization-social-action-notifications>,
//! "Retrieve Organization Social Action Notifications". Not in the documents: the largest `count`, and
//! whether a notification is there at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::{Asked, checked};
use super::{organizations, urn, versioned};
use crate::platform::call::{CallFailure, Occasion, PollFlow, PollStep};
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::{App, Credentials, wire};

/// Between two sweeps that nobody asked for.
const EVERY: Duration = Duration::from_secs(6 * 3600);

/// Organizations of one sweep.
const ORGANIZATIONS_MAX: usize = 4;

/// Calls of one sweep.
const CALLS_MAX: usize = 8;

/// Notifications of one page.
const PAGE: usize = 100;

/// How far a sweep looks behind the last one's end.
const OVERLAP_MS: i64 = 10 * 60 * 1000;

/// How far the first one looks back.
const FIRST_MS: i64 = 24 * 3600 * 1000;

/// How far back LinkedIn looks at all.
const KEPT_MS: i64 = 60 * 24 * 3600 * 1000;

/// What the hub reads.
const ACTIONS: &str = "COMMENT,COMMENT_EDIT,COMMENT_DELETE,SHARE_MENTION,ADMIN_COMMENT,LIKE,SHARE";

/// The part of an account's cursor that is the sweep's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Swept {
    /// When the last sweep ended, in milliseconds.
    at: i64,
    /// How far each organization is known.
    organizations: BTreeMap<String, Known>,
}

/// How far an organization is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    /// Until here, in milliseconds.
    until: i64,
    /// A sweep up to this moment is not over…
    #[serde(skip_serializing_if = "Option::is_none")]
    towards: Option<i64>,
    /// …and goes on after so many.
    #[serde(skip_serializing_if = "is_zero")]
    seen: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The conversation, in the state between two calls.
pub struct Flow {
    app: App,
    credentials: Credentials,
    /// The whole cursor, of which the sweep's part is replaced.
    cursor: Value,
    swept: Swept,
    now_ms: i64,
    /// Every organization begins here, whatever is known of it.
    since_ms: Option<i64>,
    is_due: bool,
    left: VecDeque<String>,
    calls: usize,
    step: Step,
}

enum Step {
    Start,
    Organizations,
    Page(String),
    Kept,
    Over,
}

type Answer = Result<HttpResponse, TransportError>;

impl Flow {
    /// A flow that has not called anybody yet. One that is not due ends at once.
    pub fn new(app: &App, credentials: &Credentials, cursor: Option<&Value>, on: Occasion) -> Self {
        let cursor = super::poll::own(cursor);
        let swept: Swept = serde_json::from_value(cursor["swept"].clone()).unwrap_or_default();
        let now_ms = on.now.timestamp_millis();
        let every_ms = i64::try_from(EVERY.as_millis()).unwrap_or(i64::MAX);
        Self {
            app: app.clone(),
            credentials: credentials.clone(),
            is_due: on.is_wanted || now_ms.saturating_sub(swept.at) >= every_ms,
            since_ms: on.since.map(|since| since.timestamp_millis()),
            cursor,
            swept,
            now_ms,
            left: VecDeque::new(),
            calls: 0,
            step: Step::Start,
        }
    }

    fn call(&mut self, request: HttpRequest, step: Step) -> PollStep {
        self.calls += 1;
        self.step = step;
        PollStep::Call(request)
    }

    /// Those that waited longest, and no other is remembered.
    fn choose(&mut self, mut all: Vec<String>) {
        self.swept.organizations.retain(|urn, _| all.contains(urn));
        all.sort_by_key(|urn| self.swept.organizations.get(urn).map(|it| it.until));
        all.truncate(ORGANIZATIONS_MAX);
        self.left = all.into();
    }

    fn known(&self, organization: &str) -> Known {
        let known = self.swept.organizations.get(organization).copied();
        let first = Known {
            until: self.since_ms.unwrap_or(self.now_ms - FIRST_MS),
            ..Known::default()
        };
        known.unwrap_or(first)
    }

    fn go_on(&mut self) -> PollStep {
        let Some(organization) = self.left.front().cloned() else {
            return self.done();
        };
        if self.calls >= CALLS_MAX {
            return self.done();
        }
        let known = self.known(&organization);
        let start = known
            .until
            .saturating_sub(OVERLAP_MS)
            .max(self.now_ms - KEPT_MS);
        let end = known.towards.unwrap_or(self.now_ms);
        let url = format!(
            "{}/rest/organizationalEntityNotifications?q=criteria&organizationalEntity={}\
             &actions=List({ACTIONS})&timeRange=(start:{start},end:{end})&start={}&count={PAGE}",
            self.app.api_base,
            urn::encoded(&organization),
            known.seen,
        );
        let call = versioned(
            HttpRequest::get(url),
            &self.app.api_version,
            &self.credentials.access_token,
        );
        self.call(call, Step::Page(organization))
    }

    fn page(&mut self, organization: &str, answer: &Answer) -> PollStep {
        let mut known = self.known(organization);
        let end = known.towards.unwrap_or(self.now_ms);
        let found = match checked(answer, Asked::Organization) {
            Ok(body) => wire::items(&body["elements"]).len(),
            // An organization that is the member's no longer, or that LinkedIn shows nothing of.
            Err(CallFailure::Permanent { .. }) => 0,
            Err(failure) => return PollStep::Failed(failure),
        };
        if found >= PAGE {
            known.towards = Some(end);
            known.seen = known.seen.saturating_add(found);
        } else {
            known = Known {
                until: end,
                ..Known::default()
            };
            self.left.pop_front();
        }
        self.swept
            .organizations
            .insert(organization.to_owned(), known);
        if found == 0 {
            return self.go_on();
        }
        self.step = Step::Kept;
        let body = answer.as_ref().map(|answer| answer.body.clone());
        PollStep::Keep(body.unwrap_or_default())
    }

    fn done(&mut self) -> PollStep {
        self.swept.at = self.now_ms;
        self.cursor["swept"] = serde_json::to_value(&self.swept).unwrap_or_default();
        self.end()
    }

    fn end(&mut self) -> PollStep {
        self.step = Step::Over;
        PollStep::Done {
            cursor: self.cursor.take(),
        }
    }
}

impl PollFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> PollStep {
        match (std::mem::replace(&mut self.step, Step::Over), answer) {
            (Step::Start, _) if !self.is_due => self.end(),
            (Step::Start, _) => {
                let list = organizations::list(&self.app, &self.credentials);
                self.call(list, Step::Organizations)
            }
            (Step::Organizations, Some(answer)) => match checked(&answer, Asked::Organization) {
                Ok(list) => {
                    self.choose(organizations::listed(&list));
                    self.go_on()
                }
                // Nobody's administrator, as far as LinkedIn says: asked again with the next sweep.
                Err(CallFailure::Permanent { .. }) => self.done(),
                Err(failure) => PollStep::Failed(failure),
            },
            (Step::Page(organization), Some(answer)) => self.page(&organization, &answer),
            (Step::Kept, _) => self.go_on(),
            (Step::Organizations | Step::Page(_), None) | (Step::Over, _) => {
                PollStep::Failed(CallFailure::Backoff {
                    reason: "the sweep was interrupted".into(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;

    const NOON_MS: i64 = 1_791_201_600_000;
    const HOUR_MS: i64 = 3600 * 1000;

    fn on(is_wanted: bool, since_ms: Option<i64>) -> Occasion {
        let time = |ms| DateTime::from_timestamp_millis(ms).unwrap();
        Occasion {
            now: time(NOON_MS),
            since: since_ms.map(time),
            is_wanted,
        }
    }

    fn flow(cursor: Option<&Value>, on: Occasion) -> Flow {
        let app = App {
            api_base: "https://api.example".into(),
            api_version: "202610".into(),
            ..App::default()
        };
        Flow::new(&app, &Credentials::default(), cursor, on)
    }

    fn answer(status: u16, body: &Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn organizations(count: usize) -> Option<Answer> {
        let name = |n| json!({"organization": format!("urn:li:organization:{n}")});
        let all: Vec<Value> = (0..count).map(name).collect();
        answer(200, &json!({ "elements": all }))
    }

    fn page(count: usize) -> Option<Answer> {
        let one = json!({"notificationId": 1, "organizationalEntity": "urn:li:organization:0"});
        answer(200, &json!({ "elements": vec![one; count] }))
    }

    fn url(step: PollStep) -> String {
        match step {
            PollStep::Call(call) => call.url,
            other => panic!("{other:?}"),
        }
    }

    fn cursor(step: PollStep) -> Value {
        match step {
            PollStep::Done { cursor } => cursor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_not_pushed_is_asked_for_by_organization_and_time() {
        let mut flow = flow(None, on(false, None));
        assert!(url(flow.next(None)).contains("/rest/organizationAcls?"));
        let asked = url(flow.next(organizations(1)));
        let start = NOON_MS - FIRST_MS - OVERLAP_MS;
        assert_eq!(
            asked,
            format!(
                "https://api.example/rest/organizationalEntityNotifications?q=criteria\
                 &organizationalEntity=urn%3Ali%3Aorganization%3A0&actions=List({ACTIONS})\
                 &timeRange=(start:{start},end:{NOON_MS})&start=0&count=100"
            )
        );
        let PollStep::Keep(_) = flow.next(page(2)) else {
            panic!("not kept");
        };
        let cursor = cursor(flow.next(None));
        let swept = json!({"at": NOON_MS,
            "organizations": {"urn:li:organization:0": {"until": NOON_MS}}});
        assert_eq!(cursor["swept"], swept);
    }

    #[test]
    fn a_sweep_is_made_when_it_is_due_or_wanted_and_touches_no_other_part() {
        let swept =
            |hours: i64| json!({"startTime": 7, "swept": {"at": NOON_MS - hours * HOUR_MS}});
        let early = swept(5);
        let mut not_yet = flow(Some(&early), on(false, None));
        assert_eq!(cursor(not_yet.next(None)), early);
        let mut due = flow(Some(&swept(6)), on(false, None));
        url(due.next(None));
        let mut wanted = flow(Some(&early), on(true, None));
        url(wanted.next(None));
        let cursor = cursor(wanted.next(organizations(0)));
        assert_eq!(cursor["startTime"], 7);
        assert_eq!(cursor["swept"]["at"], NOON_MS);
        // Looking back on purpose.
        let mut back = flow(None, on(true, Some(NOON_MS - 48 * HOUR_MS)));
        back.next(None);
        let start = NOON_MS - 48 * HOUR_MS - OVERLAP_MS;
        let asked = url(back.next(organizations(1)));
        assert!(
            asked.contains(&format!("(start:{start},end:{NOON_MS})")),
            "{asked}"
        );
    }

    #[test]
    fn a_sweep_is_bounded_and_those_that_waited_longest_are_next() {
        let mut first = flow(None, on(true, None));
        first.next(None);
        let mut step = first.next(organizations(6));
        for n in 0..ORGANIZATIONS_MAX {
            assert!(url(step).contains(&format!("organization%3A{n}&")));
            step = first.next(page(0));
        }
        let cursor = cursor(step);
        let mut second = flow(Some(&cursor), on(true, None));
        second.next(None);
        assert!(url(second.next(organizations(6))).contains("organization%3A4&"));
        assert!(url(second.next(page(0))).contains("organization%3A5&"));
        // The ones that are no longer there are forgotten.
        let mut fewer = flow(Some(&cursor), on(true, None));
        fewer.next(None);
        fewer.next(organizations(1));
        let cursor = self::cursor(fewer.next(page(0)));
        assert_eq!(
            cursor["swept"]["organizations"].as_object().unwrap().len(),
            1
        );
    }

    #[test]
    fn what_a_sweep_does_not_get_to_is_the_next_ones() {
        let mut first = flow(None, on(true, None));
        first.next(None);
        let mut step = first.next(organizations(1));
        let mut calls = 1;
        let cursor = loop {
            match step {
                PollStep::Call(_) => {
                    calls += 1;
                    first.next(page(PAGE));
                    step = first.next(None);
                }
                PollStep::Done { cursor } => break cursor,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(calls, CALLS_MAX);
        let known = &cursor["swept"]["organizations"]["urn:li:organization:0"];
        assert_eq!(known["until"], NOON_MS - FIRST_MS, "nothing is passed by");
        let later = Occasion {
            now: DateTime::from_timestamp_millis(NOON_MS + 6 * HOUR_MS).unwrap(),
            ..on(false, None)
        };
        let mut second = flow(Some(&cursor), later);
        second.next(None);
        let asked = url(second.next(organizations(1)));
        let goes_on = format!("end:{NOON_MS})&start={}&", (CALLS_MAX - 1) * PAGE);
        assert!(asked.contains(&goes_on), "{asked}");
        second.next(page(1));
        let cursor = self::cursor(second.next(None));
        let known = &cursor["swept"]["organizations"]["urn:li:organization:0"];
        assert_eq!(*known, json!({"until": NOON_MS}));
    }

    #[test]
    fn a_cursor_of_another_kind_is_none() {
        for odd in [
            json!([1]),
            json!("x"),
            json!({"swept": 7}),
            json!({"swept": {"at": i64::MIN, "organizations": {"urn:li:organization:0":
                {"until": i64::MIN, "seen": usize::MAX, "towards": i64::MAX}}}}),
        ] {
            let mut flow = flow(Some(&odd), on(false, None));
            url(flow.next(None));
            url(flow.next(organizations(1)));
            flow.next(page(PAGE));
        }
    }

    #[test]
    fn one_that_refuses_leaves_the_others_and_trouble_moves_nothing() {
        let denied = || {
            answer(
                403,
                &json!({"serviceErrorCode": 100, "code": "ACCESS_DENIED"}),
            )
        };
        let mut flow = self::flow(None, on(true, None));
        flow.next(None);
        flow.next(organizations(2));
        assert!(url(flow.next(denied())).contains("organization%3A1&"));
        let throttled = answer(429, &json!({"code": "TOO_MANY_REQUESTS"}));
        let step = flow.next(throttled);
        assert!(
            matches!(step, PollStep::Failed(CallFailure::RetryAfter { .. })),
            "{step:?}"
        );
        let mut nobody = self::flow(None, on(true, None));
        nobody.next(None);
        assert_eq!(cursor(nobody.next(denied()))["swept"]["at"], NOON_MS);
    }
}
