//! Subscriptions: LinkedIn tells a member's app what happens to the organizations they administer.
//!
//! There is one for each organization; putting it again renews it. They have no end that LinkedIn
//! promises, but die with the member's role and with the grant, silently. So all of them are put again
//! once a day, which also finds organizations that are new. The hub keeps them as one, by the name of
//! the member, because that is what arrives names.
//!
//! Promises: a day of this costs a call for the list and one for each organization, out of the hundred
//! that a member has; an organization that refuses leaves the others, and the hub asks again after some
//! hours and not at once. What was not pushed is found by the sweep ([`super::sweep`]).
//!
//! Documented at <https://learn.microsoft.com/linkedin/marketing/community-management/organizations/organization-social-action-notifications>.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::problem::{Asked, checked};
use super::{action, grant, organizations, urn, versioned};
use crate::platform::call::{CallFailure, SubscribeFlow, SubscribeStep, Subscription};
use crate::platform::http::{HttpRequest, HttpResponse, Method, TransportError};
use crate::platform::{App, Credentials};

/// How long one is believed to hold: it is renewed when half of that is over.
const HOLDS: TimeDelta = TimeDelta::hours(48);

/// How soon somebody asks again where LinkedIn refused.
const AFTER_REFUSAL: Duration = Duration::from_secs(6 * 3600);

/// The conversation, in the state between two calls.
pub struct Flow {
    app: App,
    credentials: Credentials,
    now: DateTime<Utc>,
    left: Option<VecDeque<String>>,
    refused: Option<String>,
    is_waiting: bool,
}

type Answer = Result<HttpResponse, TransportError>;

impl Flow {
    /// A flow that has not called anybody yet. `None` where LinkedIn cannot deliver, or the member did
    /// not allow to ask.
    pub fn new(app: &App, credentials: &Credentials, now: DateTime<Utc>) -> Option<Self> {
        let is_possible = !app.app_id.is_empty()
            && !app.webhook_url.is_empty()
            && grant::reads_organizations(credentials.granted.as_deref());
        is_possible.then(|| Self {
            app: app.clone(),
            credentials: credentials.clone(),
            now,
            left: None,
            refused: None,
            is_waiting: false,
        })
    }

    fn call(&mut self, request: HttpRequest) -> SubscribeStep {
        self.is_waiting = true;
        SubscribeStep::Call(request)
    }

    fn next_organization(&mut self) -> SubscribeStep {
        let next = self.left.as_mut().and_then(VecDeque::pop_front);
        let Some(organization) = next else {
            return self.end();
        };
        let app = format!("urn:li:developerApplication:{}", self.app.app_id);
        let key = format!(
            "(developerApplication:{},user:{},entity:{},eventType:{})",
            urn::encoded(&app),
            urn::encoded(&self.credentials.route),
            urn::encoded(&organization),
            action::TYPE
        );
        let url = format!("{}/rest/eventSubscriptions/{key}", self.app.api_base);
        let mut call = HttpRequest::post_json(url, &json!({ "webhook": self.app.webhook_url }));
        call.method = Method::Put;
        let call = versioned(call, &self.app.api_version, &self.credentials.access_token);
        self.call(call)
    }

    fn end(&mut self) -> SubscribeStep {
        match self.refused.take() {
            Some(reason) => SubscribeStep::Failed(CallFailure::RetryAfter {
                wait: AFTER_REFUSAL,
                reason,
            }),
            None => SubscribeStep::Done(Subscription {
                id: self.credentials.route.clone(),
                expires_at: self.now + HOLDS,
            }),
        }
    }

    fn answered(&mut self, answer: &Answer) -> SubscribeStep {
        match (checked(answer, Asked::Organization), self.left.is_some()) {
            (Ok(list), false) => self.left = Some(organizations::listed(&list).into()),
            (Ok(_), true) => {}
            (Err(CallFailure::Permanent { reason }), false) => {
                let wait = AFTER_REFUSAL;
                return SubscribeStep::Failed(CallFailure::RetryAfter { wait, reason });
            }
            (Err(CallFailure::Permanent { reason }), true) => self.refused = Some(reason),
            // Every further call would end like this one.
            (Err(failure), _) => return SubscribeStep::Failed(failure),
        }
        self.next_organization()
    }
}

impl SubscribeFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> SubscribeStep {
        match (std::mem::take(&mut self.is_waiting), answer) {
            (false, None) if self.left.is_none() => {
                let list = organizations::list(&self.app, &self.credentials);
                self.call(list)
            }
            (true, Some(answer)) => self.answered(&answer),
            (_, _) => SubscribeStep::Failed(CallFailure::Backoff {
                reason: "the subscription was interrupted".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn app() -> App {
        App {
            app_id: "123".into(),
            api_base: "https://api.example".into(),
            api_version: "202610".into(),
            webhook_url: "https://hub.example/api/webhooks/linkedin".into(),
            ..App::default()
        }
    }

    fn credentials() -> Credentials {
        Credentials {
            route: "urn:li:person:A".into(),
            access_token: "token".into(),
            ..Credentials::default()
        }
    }

    fn flow() -> Flow {
        Flow::new(&app(), &credentials(), DateTime::UNIX_EPOCH).unwrap()
    }

    fn answer(status: u16, body: &Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn call(step: SubscribeStep) -> HttpRequest {
        match step {
            SubscribeStep::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }

    fn failure(step: SubscribeStep) -> CallFailure {
        match step {
            SubscribeStep::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn two() -> Option<Answer> {
        let list = json!({"elements": [{"organization": "urn:li:organization:1"},
            {"organizationTarget": "urn:li:organization:2"}, {},
            {"organization": "urn:li:organization:1"}]});
        answer(200, &list)
    }

    #[test]
    fn every_organization_is_put_again_and_holds_for_a_day() {
        let mut flow = flow();
        let list = call(flow.next(None));
        assert!(
            list.url
                .starts_with("https://api.example/rest/organizationAcls?q=roleAssignee"),
            "{}",
            list.url
        );
        let first = call(flow.next(two()));
        assert_eq!(first.method, Method::Put);
        assert_eq!(
            first.url,
            "https://api.example/rest/eventSubscriptions/\
             (developerApplication:urn%3Ali%3AdeveloperApplication%3A123,\
             user:urn%3Ali%3Aperson%3AA,entity:urn%3Ali%3Aorganization%3A1,\
             eventType:ORGANIZATION_SOCIAL_ACTION_NOTIFICATIONS)"
        );
        let body: Value = serde_json::from_slice(&first.body).unwrap();
        assert_eq!(
            body,
            json!({"webhook": "https://hub.example/api/webhooks/linkedin"})
        );
        let second = call(flow.next(answer(204, &Value::Null)));
        assert!(second.url.contains("organization%3A2"));
        let SubscribeStep::Done(held) = flow.next(answer(200, &json!({}))) else {
            panic!("not done");
        };
        assert_eq!(held.id, "urn:li:person:A");
        let day = Duration::from_secs(24 * 3600);
        let life = held.expires_at - DateTime::UNIX_EPOCH;
        assert_eq!(life.to_std().unwrap() / 2, day);
    }

    #[test]
    fn one_that_refuses_leaves_the_others_and_is_asked_again_in_hours() {
        let mut flow = flow();
        flow.next(None);
        flow.next(two());
        let denied = json!({"serviceErrorCode": 100, "code": "ACCESS_DENIED"});
        let second = call(flow.next(answer(403, &denied)));
        assert!(second.url.contains("organization%3A2"));
        let failure = failure(flow.next(answer(204, &Value::Null)));
        assert!(
            matches!(failure, CallFailure::RetryAfter { wait, .. } if wait == AFTER_REFUSAL),
            "{failure:?}"
        );
    }

    #[test]
    fn trouble_ends_it_at_once() {
        let mut gone = flow();
        gone.next(None);
        let revoked = json!({"serviceErrorCode": 65601, "code": "REVOKED_ACCESS_TOKEN"});
        let failed = failure(gone.next(answer(401, &revoked)));
        assert!(
            matches!(failed, CallFailure::Reconnect { .. }),
            "{failed:?}"
        );
        let mut denied = flow();
        denied.next(None);
        let failed = failure(denied.next(answer(403, &json!({"code": "ACCESS_DENIED"}))));
        assert!(
            matches!(failed, CallFailure::RetryAfter { .. }),
            "{failed:?}"
        );
        let mut throttled = flow();
        throttled.next(None);
        throttled.next(two());
        let failed = failure(throttled.next(answer(429, &json!({"code": "TOO_MANY_REQUESTS"}))));
        assert!(
            matches!(failed, CallFailure::RetryAfter { .. }),
            "{failed:?}"
        );
        let mut lost = flow();
        lost.next(None);
        let failed = failure(lost.next(Some(Err(TransportError::Unclear))));
        assert!(matches!(failed, CallFailure::Backoff { .. }), "{failed:?}");
    }

    #[test]
    fn nobody_is_asked_where_nothing_could_come_of_it() {
        let without = |app: App, credentials: Credentials| {
            Flow::new(&app, &credentials, DateTime::UNIX_EPOCH).is_none()
        };
        let no_app = App {
            app_id: String::new(),
            ..app()
        };
        assert!(without(no_app, credentials()));
        let no_scope = Credentials {
            granted: Some("openid,profile".into()),
            ..credentials()
        };
        assert!(without(app(), no_scope));
        let mut nothing = flow();
        nothing.next(None);
        let held = nothing.next(answer(200, &json!({"elements": []})));
        assert!(matches!(held, SubscribeStep::Done(_)), "{held:?}");
    }
}
