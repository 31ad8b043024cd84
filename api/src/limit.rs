//! How much one person may ask for, and how often somebody may guess (contract 1.8).
//!
//! **Requests.** Whoever is known by a token has a budget per window, and a smaller one for what is
//! sensitive. Counting is part of finding out who is calling, so routes without a [`Caller`] are
//! never limited: webhooks, logins, health. Nor are OAuth callbacks, where people come back from
//! platforms, and marking as read, of which one opened thread makes a hundred. Every counted answer
//! says in headers how much is left; a refused one changes nothing.
//!
//! **Guesses.** Wrong passwords are counted per address and e-mail, and make the next try of the
//! same wait. So nobody can lock somebody else out from another address, and an unknown e-mail
//! behaves like a known one. What is counted under is an HMAC: no address is kept anywhere.
//!
//! When the counters are away, everything passes (`hub_store::limit`).
//!
//! [`Caller`]: crate::auth::Caller

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use chrono::{DateTime, Utc};
use hub_config::ApiSettings;
use hub_domain::id::UserId;
use hub_store::limit::{Budget, Patience, Verdict};
use serde_json::json;

use crate::error::Problem;
use crate::{Api, request, view};

/// The headers of a counted answer: how much there is, how much is left, when all of it is back.
pub const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];

/// Ten wrong passwords are a bad day; then it is 1 s, 2 s, 4 s … up to a quarter of an hour. Over a
/// long time that is a few hundred guesses a day.
const PATIENCE: Patience = Patience {
    free: 10,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(900),
    memory: Duration::from_secs(3_600),
};

/// Where the extractor leaves what it counted, for [`told`].
type Slot = Arc<OnceLock<(Verdict, DateTime<Utc>)>>;

/// Whether a request of a known person is counted at all.
pub fn is_counted(method: &Method, path: &str) -> bool {
    let is_callback =
        path.starts_with("/api/oauth/callback/") || path.starts_with("/api/auth/callback/");
    let marks_read = method == Method::PATCH && path.ends_with("/read");
    !is_callback && !marks_read
}

/// Which budgets a request of a known person takes from; none: it is not counted.
fn budgets(settings: &ApiSettings, method: &Method, path: &str) -> Vec<Budget> {
    if !is_counted(method, path) {
        return Vec::new();
    }
    let mut budgets = vec![Budget {
        name: "api",
        requests: settings.rate_limit_requests,
        window: settings.rate_limit_window,
    }];
    if is_sensitive(method, path) {
        budgets.push(Budget {
            name: "strict",
            requests: settings.strict_rate_limit_requests,
            window: settings.rate_limit_window,
        });
    }
    budgets
}

fn is_sensitive(method: &Method, path: &str) -> bool {
    let is_reset = || path.starts_with("/api/telegram/") && path.ends_with("/reset");
    match *method {
        Method::GET | Method::HEAD => path.starts_with("/api/oauth/connect/"),
        Method::POST => {
            path.starts_with("/api/oauth/refresh/")
                || path.starts_with("/api/telegram/auth/")
                || path.starts_with("/api/debug/")
                || path == "/api/messages/sync"
                || is_reset()
        }
        Method::DELETE => path.starts_with("/api/oauth/disconnect/") || path == "/api/auth/me",
        _ => false,
    }
}

/// Counts a request of this person, or refuses it.
pub(crate) async fn count(api: &Api, parts: &Parts, user: UserId) -> Result<(), Problem> {
    let path = parts.extensions.get::<MatchedPath>();
    let path = path.map_or(parts.uri.path(), MatchedPath::as_str);
    let budgets = budgets(&api.settings().api, &parts.method, path);
    let limits = api.store().limits();
    let Some(verdict) = limits.take(&user.to_string(), &budgets).await else {
        return Ok(());
    };
    if let Some(slot) = parts.extensions.get::<Slot>() {
        let _counted_before = slot.set((verdict, Utc::now()));
    }
    let Some(wait) = verdict.retry_after else {
        return Ok(());
    };
    metrics::counter!("hub_limited_total", "budget" => verdict.budget.name).increment(1);
    let seconds = whole_seconds(wait);
    let message = "Rate limit exceeded. Please try again later.";
    let details = json!({
        "limit": verdict.budget.requests,
        "windowMs": u64::try_from(verdict.budget.window.as_millis()).unwrap_or(u64::MAX),
        "retryAfter": seconds,
    });
    Err(too_many(message).with_details(details).after(seconds))
}

/// Tells in headers what was counted.
pub(crate) async fn told(mut request: Request, next: Next) -> Response {
    let slot = Slot::default();
    request.extensions_mut().insert(Arc::clone(&slot));
    let mut response = next.run(request).await;
    let Some((verdict, at)) = slot.get() else {
        return response;
    };
    let wait = match verdict.retry_after {
        Some(wait) => Duration::from_secs(whole_seconds(wait)),
        None => verdict.budget.window,
    };
    let values = [
        verdict.budget.requests.to_string(),
        verdict.remaining.to_string(),
        view::timestamp(*at + wait),
    ];
    for (name, value) in HEADERS.into_iter().zip(values) {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Where a request comes from, as an extractor.
#[derive(Clone, Copy, Debug)]
pub struct Address(IpAddr);

impl FromRequestParts<Api> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Self::Rejection> {
        let address = request::address(parts, api.settings().server.trusted_proxies);
        Ok(Self(address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
    }
}

/// A password that is about to be tried. Until it is found right it counts as wrong, so that a
/// thousand tries at the same time are a thousand.
#[must_use]
pub struct Guess(String);

impl Guess {
    /// Asks for a try, or says how long to wait first.
    pub async fn at(api: &Api, address: Address, email: &str) -> Result<Self, Problem> {
        let secret = api.settings().auth.jwt_refresh_secret.expose();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let what = format!("failed logins of {} at {}", email, address.0);
        let what = hex::encode(hmac::sign(&key, what.as_bytes()));
        let Some(wait) = api.store().limits().attempt(&what, &PATIENCE).await else {
            return Ok(Self(what));
        };
        metrics::counter!("hub_limited_total", "budget" => "logins").increment(1);
        let seconds = whole_seconds(wait);
        let message = "Too many failed attempts. Please try again later.";
        let details = json!({ "retryAfter": seconds });
        Err(too_many(message).with_details(details).after(seconds))
    }

    /// It was right: what went wrong before is forgotten.
    pub async fn was_right(self, api: &Api) {
        api.store().limits().forgive(&self.0).await;
    }
}

fn too_many(message: &'static str) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "RATE_LIMIT_EXCEEDED",
        message,
    )
}

/// Rounded up, and at least one: a client that waits so long is not refused again.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_whole_seconds_rounded_up() {
        let seconds = |ms| whole_seconds(Duration::from_millis(ms));
        assert_eq!([seconds(0), seconds(1), seconds(1000)], [1, 1, 1]);
        assert_eq!([seconds(1001), seconds(44_001)], [2, 45]);
    }

    #[test]
    fn what_is_sensitive_and_what_is_not_counted() {
        let settings = hub_config::Settings::load(|_| None).unwrap().api;
        let of = |method: &str, path| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let budgets = budgets(&settings, &method, path);
            budgets.iter().map(|it| it.requests).collect::<Vec<_>>()
        };
        for (method, path) in [
            ("GET", "/api/oauth/connect/{platform}"),
            ("POST", "/api/oauth/refresh/{id}"),
            ("DELETE", "/api/oauth/disconnect/{id}"),
            ("DELETE", "/api/auth/me"),
            ("POST", "/api/telegram/auth/phone"),
            ("POST", "/api/telegram/{id}/reset"),
            ("POST", "/api/debug/poll/{id}"),
            ("POST", "/api/messages/sync"),
        ] {
            assert_eq!(of(method, path), [100, 20], "{method} {path}");
        }
        for (method, path) in [
            ("GET", "/api/auth/me"),
            ("GET", "/api/conversations"),
            ("POST", "/api/messages/{id}/send"),
            ("GET", "/api/oauth/accounts"),
        ] {
            assert_eq!(of(method, path), [100], "{method} {path}");
        }
        for (method, path) in [
            ("PATCH", "/api/messages/{id}/read"),
            ("PATCH", "/api/messages/conversation/{id}/read"),
            ("POST", "/api/auth/callback/telegram"),
            ("GET", "/api/oauth/callback/{platform}"),
        ] {
            assert_eq!(of(method, path), [0_u32; 0], "{method} {path}");
        }
    }
}
