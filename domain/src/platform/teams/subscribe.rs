//! Subscriptions: Graph tells what happens in all of a person's chats, for an hour at a time.
//!
//! Three days are possible; an hour is what every version of the documentation allows, and a hub
//! that is gone leaves nothing behind for long. A subscription that is gone is made anew. Graph may
//! refuse a second one for the same thing: then the one that is there is taken over.
//!
//! Documented at <https://learn.microsoft.com/graph/api/subscription-post-subscriptions>.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::graph;
use crate::platform::call::{CallFailure, SubscribeFlow, SubscribeStep, Subscription};
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::{App, Credentials, wire};

/// How long one lives, in minutes.
const LIFE_MINUTES: i64 = 60;

/// What it is about.
const RESOURCE: &str = "/me/chats/getAllMessages";

/// The name of our key in notifications. There is one key; a new one comes with a new subscription.
const KEY_ID: &str = "hub";

/// The conversation, in the state between two calls.
pub struct Flow {
    app: App,
    credentials: Credentials,
    until: DateTime<Utc>,
    step: Step,
}

enum Step {
    Start(Option<String>),
    Renewed(String),
    Created,
    Listed,
    Over,
}

type Answer = Result<HttpResponse, TransportError>;

impl Flow {
    /// A flow that has not called anybody yet. `None` when Graph cannot reach us or would have no
    /// word to prove itself by.
    pub fn new(
        app: &App,
        credentials: &Credentials,
        current: Option<&str>,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        if app.webhook_secret.is_empty() || app.webhook_url.is_empty() {
            return None;
        }
        Some(Self {
            app: app.clone(),
            credentials: credentials.clone(),
            until: now + TimeDelta::minutes(LIFE_MINUTES),
            step: Step::Start(current.map(str::to_owned)),
        })
    }

    fn until(&self) -> String {
        self.until.to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    fn call(&self, request: HttpRequest) -> SubscribeStep {
        SubscribeStep::Call(request.bearer(self.credentials.access_token.expose()))
    }

    fn renew(&mut self, id: String) -> SubscribeStep {
        let path = format!("subscriptions/{}", graph::part(&id));
        let body = json!({ "expirationDateTime": self.until() });
        self.step = Step::Renewed(id);
        self.call(HttpRequest::patch_json(graph::url(&self.app, &path), &body))
    }

    fn create(&mut self) -> SubscribeStep {
        let mut body = json!({
            "changeType": "created,updated,deleted",
            "notificationUrl": self.app.webhook_url,
            "lifecycleNotificationUrl": self.app.webhook_url,
            "resource": RESOURCE,
            "expirationDateTime": self.until(),
            "clientState": self.app.webhook_secret.expose(),
            "latestSupportedTlsVersion": "v1_2",
        });
        let app = &self.app;
        // Content that could not be opened or believed would only cost the one who sends it.
        if !app.encryption_key.is_empty()
            && !app.encryption_certificate.is_empty()
            && !app.webhook_keys.is_empty()
        {
            body["includeResourceData"] = true.into();
            body["encryptionCertificate"] = app.encryption_certificate.clone().into();
            body["encryptionCertificateId"] = KEY_ID.into();
        }
        let url = graph::url(app, "subscriptions");
        self.step = Step::Created;
        self.call(HttpRequest::post_json(url, &body))
    }

    fn list(&mut self) -> SubscribeStep {
        self.step = Step::Listed;
        self.call(HttpRequest::get(graph::url(&self.app, "subscriptions")))
    }

    fn renewed(&mut self, id: String, answer: &Answer) -> SubscribeStep {
        match answer {
            Ok(answer) if matches!(answer.status, 404 | 410) => self.create(),
            answer => self.done(answer, Some(id)),
        }
    }

    fn created(&mut self, answer: &Answer) -> SubscribeStep {
        match answer {
            Ok(answer) if answer.status == 409 => self.list(),
            // Graph could not reach us: our address may be back in a while.
            Ok(answer) if answer.status == 400 && is_about_our_address(answer) => {
                SubscribeStep::Failed(CallFailure::Backoff {
                    reason: graph::said(answer).unwrap_or_default(),
                })
            }
            answer => self.done(answer, None),
        }
    }

    fn listed(&mut self, answer: &Answer) -> SubscribeStep {
        let answer = match graph::success(answer) {
            Ok(answer) => answer.json(),
            Err(failure) => return SubscribeStep::Failed(failure),
        };
        let ours = wire::items(&answer["value"]).iter().find(|it| {
            let resource = it["resource"].as_str().unwrap_or_default();
            resource.trim_start_matches('/') == RESOURCE.trim_start_matches('/')
                && it["notificationUrl"] == *self.app.webhook_url
        });
        match ours.and_then(|it| wire::id(&it["id"])) {
            Some(id) => self.renew(id),
            None => SubscribeStep::Failed(CallFailure::Backoff {
                reason: "Graph has a subscription already and does not show it".to_owned(),
            }),
        }
    }

    fn done(&self, answer: &Answer, id: Option<String>) -> SubscribeStep {
        let body: Value = match graph::success(answer) {
            Ok(answer) => answer.json(),
            Err(failure) => return SubscribeStep::Failed(failure),
        };
        let Some(id) = wire::id(&body["id"]).or(id) else {
            return SubscribeStep::Failed(CallFailure::Backoff {
                reason: "Graph made a subscription without an id".to_owned(),
            });
        };
        // Graph may grant less than was asked for.
        let granted = graph::time(&body["expirationDateTime"]).unwrap_or(self.until);
        SubscribeStep::Done(Subscription {
            id,
            expires_at: granted.min(self.until),
        })
    }
}

impl SubscribeFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> SubscribeStep {
        match (std::mem::replace(&mut self.step, Step::Over), answer) {
            (Step::Start(Some(id)), _) => self.renew(id),
            (Step::Start(None), _) => self.create(),
            (Step::Renewed(id), Some(answer)) => self.renewed(id, &answer),
            (Step::Created, Some(answer)) => self.created(&answer),
            (Step::Listed, Some(answer)) => self.listed(&answer),
            (_, None) | (Step::Over, _) => SubscribeStep::Failed(CallFailure::Backoff {
                reason: "the subscription was interrupted".to_owned(),
            }),
        }
    }
}

fn is_about_our_address(answer: &HttpResponse) -> bool {
    let body = answer.json();
    let said = body["error"]["message"].as_str().unwrap_or_default();
    said.to_lowercase().contains("validation")
}

/// The call that ends a subscription.
pub fn end(app: &App, credentials: &Credentials, id: &str) -> HttpRequest {
    let path = format!("subscriptions/{}", graph::part(id));
    HttpRequest::delete(graph::url(app, &path)).bearer(credentials.access_token.expose())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::Method;

    fn app() -> App {
        App {
            api_base: "https://graph.example".into(),
            api_version: "v1.0".into(),
            webhook_secret: "hub-client-state-4f9b".into(),
            webhook_url: "https://hub.example/api/webhooks/teams".into(),
            ..App::default()
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_791_201_600, 0).unwrap()
    }

    fn flow(app: &App, current: Option<&str>) -> Flow {
        Flow::new(app, &Credentials::default(), current, now()).unwrap()
    }

    fn call(step: SubscribeStep) -> (HttpRequest, Value) {
        let SubscribeStep::Call(call) = step else {
            panic!("{step:?}")
        };
        let body = serde_json::from_slice(&call.body).unwrap_or_default();
        (call, body)
    }

    fn answered(status: u16, body: Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn made(id: &str, until: &str) -> Option<Answer> {
        answered(201, json!({"id": id, "expirationDateTime": until}))
    }

    fn done(step: SubscribeStep) -> Subscription {
        let SubscribeStep::Done(done) = step else {
            panic!("{step:?}")
        };
        done
    }

    #[test]
    fn one_is_made_for_an_hour_and_renewed() {
        let mut flow = flow(&app(), None);
        let (create, body) = call(flow.next(None));
        assert_eq!(create.url, "https://graph.example/v1.0/subscriptions");
        assert_eq!(body["resource"], RESOURCE);
        assert_eq!(body["clientState"], "hub-client-state-4f9b");
        assert_eq!(
            body["notificationUrl"],
            "https://hub.example/api/webhooks/teams"
        );
        assert_eq!(body["lifecycleNotificationUrl"], body["notificationUrl"]);
        assert_eq!(body["expirationDateTime"], "2026-10-05T13:00:00.000000Z");
        assert_eq!(body.get("includeResourceData"), None);
        let made = done(flow.next(made("s1", "2026-10-05T12:45:00.0000000Z")));
        assert_eq!(made.id, "s1");
        assert_eq!(made.expires_at, now() + TimeDelta::minutes(45));

        let mut flow = self::flow(&app(), Some("s1"));
        let (renew, body) = call(flow.next(None));
        assert_eq!(renew.method, Method::Patch);
        assert_eq!(renew.url, "https://graph.example/v1.0/subscriptions/s1");
        assert_eq!(body["expirationDateTime"], "2026-10-05T13:00:00.000000Z");
        let renewed = done(flow.next(answered(200, json!({"id": "s1"}))));
        assert_eq!(renewed.expires_at, now() + TimeDelta::minutes(60));
    }

    #[test]
    fn one_that_is_gone_is_made_anew() {
        let mut flow = flow(&app(), Some("s1"));
        flow.next(None);
        let (create, _) = call(flow.next(answered(404, json!({}))));
        assert_eq!(create.method, Method::Post);
        assert_eq!(done(flow.next(made("s2", "2026-10-05T13:00:00Z"))).id, "s2");
    }

    #[test]
    fn one_that_is_in_the_way_is_taken_over() {
        let mut flow = flow(&app(), None);
        flow.next(None);
        let (list, _) = call(flow.next(answered(409, json!({}))));
        assert_eq!(list.method, Method::Get);
        let other = json!({"id": "s8", "resource": RESOURCE, "notificationUrl": "https://else"});
        let ours = json!({"id": "s9", "resource": "me/chats/getAllMessages",
            "notificationUrl": "https://hub.example/api/webhooks/teams"});
        let (renew, _) = call(flow.next(answered(200, json!({"value": [other, ours]}))));
        assert!(renew.url.ends_with("/subscriptions/s9"));
        assert_eq!(done(flow.next(answered(200, json!({})))).id, "s9");
    }

    #[test]
    fn failures() {
        let failed = |status: u16, message: &str| {
            let mut flow = flow(&app(), None);
            flow.next(None);
            let body = json!({"error": {"code": "ValidationError", "message": message}});
            match flow.next(answered(status, body)) {
                SubscribeStep::Failed(failure) => failure,
                other => panic!("{other:?}"),
            }
        };
        let unreachable = "Subscription validation request failed. Notification endpoint must \
                           respond with 200 OK to validation request.";
        assert!(matches!(
            failed(400, unreachable),
            CallFailure::Backoff { .. }
        ));
        assert!(matches!(
            failed(400, "Invalid"),
            CallFailure::Permanent { .. }
        ));
        assert!(matches!(failed(401, "x"), CallFailure::Reconnect { .. }));
        let nowhere = App {
            webhook_secret: "".into(),
            ..app()
        };
        assert!(Flow::new(&nowhere, &Credentials::default(), None, now()).is_none());
    }

    #[test]
    fn content_comes_along_when_it_can_be_opened_and_believed() {
        let app = App {
            encryption_key: "MIIE".into(),
            encryption_certificate: "MIIC".into(),
            webhook_keys: "{}".into(),
            ..app()
        };
        let (_, body) = call(flow(&app, None).next(None));
        assert_eq!(body["includeResourceData"], true);
        assert_eq!(body["encryptionCertificate"], "MIIC");
        let half = App {
            webhook_keys: String::new(),
            ..app
        };
        let (_, body) = call(flow(&half, None).next(None));
        assert_eq!(body.get("includeResourceData"), None);
    }
}
