//! Who walks along the table: people with things of their own, calls as a page of another origin makes
//! them, and what every answer has to have.

use axum::body::Body;
use axum::http::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN as ORIGIN_HEADER};
use hub_domain::platform::Platform;
use uuid::Uuid;

use crate::hub::{Answer, Hub, ORIGIN, Person};
use crate::table::{Errors, Id, Reads, Route};

/// Ann has one thing of each kind; Eve has nothing.
pub struct World {
    pub hub: Hub,
    pub ann: Person,
    pub eve: Person,
    pub account: Uuid,
    pub conversation: Uuid,
    pub message: Uuid,
}

impl World {
    pub async fn new() -> Self {
        let hub = Hub::start_with(&[("HUB_OAUTH_CALLBACK_WAIT_MS", "10")]).await;
        let (ann, eve) = (hub.person("ann").await, hub.person("eve").await);
        let account = hub.account(&ann, Platform::Facebook, "page").await;
        let thread = ann.thread(account, Platform::Facebook, "t_10");
        let message = hub.receive(&ann, &thread, "m_1", "for ann only").await;
        Self {
            account: account.0,
            conversation: thread.conversation.0,
            message: message.0,
            hub,
            ann,
            eve,
        }
    }

    /// The address of Ann's own thing.
    pub fn own(&self, route: &Route) -> String {
        route.at(match route.id {
            Some((Id::Account, ..)) => self.account,
            Some((Id::Message, ..)) => self.message,
            _ => self.conversation,
        })
    }

    /// A call as it comes from a page of another origin.
    pub async fn ask(
        &self,
        route: &Route,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: impl Into<Body>,
    ) -> Answer {
        let mut call = Request::builder().method(method).uri(path);
        call = call.header(ORIGIN_HEADER, ORIGIN);
        if let Some(text) = authorization {
            call = call.header(AUTHORIZATION, text);
        }
        if matches!(route.reads, Reads::Object(_)) {
            call = call.header(CONTENT_TYPE, "application/json");
        }
        let answer = self.hub.call(call.body(body.into()).unwrap()).await;
        let place = format!("{method} {path}");
        check_cors(&place, &answer);
        assert_eq!(answer.header("x-request-id").len(), 36, "{place}");
        if answer.status >= 400 && method != "HEAD" {
            check_form(route, &place, &answer);
        }
        answer
    }

    /// A call of Ann's with a good body.
    pub async fn as_ann(&self, route: &Route, method: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.ann.access);
        let body = route.body().map_or(String::new(), |body| body.to_string());
        self.ask(route, method, path, Some(&bearer), body).await
    }
}

#[track_caller]
pub fn check_cors(place: &str, answer: &Answer) {
    assert_eq!(
        answer.header("access-control-allow-origin"),
        ORIGIN,
        "{place}"
    );
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        "true",
        "{place}"
    );
    assert!(
        answer.header("vary").to_lowercase().contains("origin"),
        "{place}"
    );
    let exposed = answer.header("access-control-expose-headers").to_owned();
    for name in [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "retry-after",
    ] {
        assert!(exposed.contains(name), "{place}: {exposed}");
    }
}

/// The code of an error, after a look at its form.
#[track_caller]
pub fn check_form(route: &Route, place: &str, answer: &Answer) -> String {
    // A wrong method or platform is no answer of the route.
    let is_own = !matches!(answer.status, 404 | 405);
    let is_flat = match route.errors {
        Errors::FlatList => is_own && !matches!(answer.status, 401 | 429),
        Errors::FlatFailures => answer.status >= 500,
        Errors::Webhook => is_own,
        Errors::Structured | Errors::WithMessage | Errors::EngineIo => false,
    };
    let (error, message) = (&answer.body["error"], &answer.body["message"]);
    if route.errors == Errors::EngineIo && answer.status == 400 {
        assert!(
            answer.body["code"].is_u64() && message.is_string(),
            "{place}: {}",
            answer.text
        );
        return String::new();
    }
    if route.errors == Errors::Webhook && is_own && answer.body["code"].is_null() {
        assert!(error.is_string(), "{place}: {}", answer.text);
        return String::new();
    }
    if is_flat {
        return answer.flat_code().to_owned();
    }
    let is_beside = route.errors == Errors::WithMessage && place.starts_with("POST");
    assert_eq!(is_beside, message.is_string(), "{place}: {}", answer.text);
    if is_beside {
        assert_eq!(*message, error["message"], "{place}");
    }
    answer.code().to_owned()
}

#[track_caller]
pub fn expect(route: &Route, place: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{place}: {}", answer.text);
    assert_eq!(
        check_form(route, place, answer),
        code,
        "{place}: {}",
        answer.text
    );
}
