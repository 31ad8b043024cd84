//! How X says that a call failed, and what that means.
//!
//! Three dialects: problem documents (`title`, `detail`, `type`), numbered errors of the first API
//! (`errors[].code`), and OAuth's `error` from the token endpoints. An answer in any of them means
//! the call was not carried out; a server error without one (a proxy's page) leaves that open.

use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use crate::platform::call::CallFailure;
use crate::platform::http::{HttpResponse, TransportError};
pub use crate::platform::outcome::Class;
use crate::platform::{oauth, outcome, wire};

/// The length of X's windows: how long to stay away when nothing says how long.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// After the automation guard struck, an account rests.
const REST: Duration = Duration::from_secs(2 * 3600);

/// The longest wait taken from an answer. The longest window is a day.
const WAIT_S_MAX: u64 = 24 * 3600;

/// What was asked: token endpoints use the same words for other things.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A call of the API.
    Api,
    /// A call of the token endpoint with a refresh token.
    Token,
}

/// A failure in X's words.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    codes: Vec<i64>,
    kind: String,
    words: String,
    /// For operators: status and X's words, without tokens.
    pub reason: String,
}

impl Problem {
    /// Reads the problem out of an answer, when there is one.
    pub fn read(answer: &HttpResponse) -> Option<Self> {
        if answer.is_success() {
            return None;
        }
        let body = answer.json();
        let errors = wire::items(&body["errors"]);
        let fields = ["title", "detail", "error", "error_description"];
        let mut words: Vec<&str> = fields
            .iter()
            .filter_map(|name| body[*name].as_str())
            .collect();
        words.extend(errors.iter().filter_map(|error| error["message"].as_str()));
        let said = words.join(": ");
        if said.is_empty() && errors.is_empty() {
            return None;
        }
        Some(Self {
            status: answer.status,
            codes: errors
                .iter()
                .filter_map(|error| wire::int(&error["code"]))
                .collect(),
            kind: body["type"].as_str().unwrap_or_default().to_owned(),
            reason: format!("X error {}: {}", answer.status, wire::reason(&said)),
            words: said.to_lowercase(),
        })
    }

    fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.words.contains(word))
    }

    fn has(&self, codes: &[i64]) -> bool {
        self.codes.iter().any(|code| codes.contains(code))
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.ends_with(&format!("/{kind}"))
    }

    /// The class of a problem an API call or a refresh met.
    pub fn class(&self, asked: Asked, answer: &HttpResponse) -> Class {
        if asked == Asked::Token && matches!(self.status, 400 | 401) {
            return oauth::refused(&self.words);
        }
        if self.is("usage-capped")
            || self.status == 402
            || self.says(&["credits", "creditsdepleted"])
        {
            return Class::Permanent;
        }
        if self.has(&[226]) {
            return Class::Wait(REST);
        }
        if self.status == 429 || self.has(&[88]) {
            return Class::Wait(wait(answer));
        }
        // The account is locked or suspended, or its token is dead.
        if self.has(&[326, 64, 89, 32]) {
            return Class::Reconnect;
        }
        match self.status {
            401 => Class::Reconnect,
            403 => self.forbidden(),
            409 | 500.. => Class::Backoff,
            _ => Class::Permanent,
        }
    }

    /// Whether it is this recipient or text that is forbidden, or all of it.
    fn forbidden(&self) -> Class {
        let rights = self.is("client-forbidden")
            || self.is("oauth1-permissions")
            || self.is("unsupported-authentication")
            || self.says(&["scope", "oauth1 app permissions"]);
        if rights {
            Class::Reconnect
        } else {
            Class::Permanent
        }
    }
}

/// How long X asks to stay away: until the window's end by its own clock. Where calls are left in
/// the window it was another limit (of the day, of the app), which no header of it names.
pub fn wait(answer: &HttpResponse) -> Duration {
    if let Some(wait) = outcome::wait(wire::retry_after_s(answer)) {
        return wait;
    }
    let number = |name: &str| answer.header(name)?.trim().parse::<i64>().ok();
    let now = answer
        .header("date")
        .and_then(|date| DateTime::parse_from_rfc2822(date).ok());
    let left = number("x-rate-limit-remaining").unwrap_or_default();
    match (number("x-rate-limit-reset"), now) {
        (Some(reset), Some(now)) if left <= 0 => {
            // One second more: both clocks tick in seconds.
            let seconds = reset.saturating_sub(now.timestamp()).saturating_add(1);
            let seconds = u64::try_from(seconds).unwrap_or_default();
            Duration::from_secs(seconds.clamp(1, WAIT_S_MAX))
        }
        _ => WINDOW,
    }
}

/// The body of a call that changes nothing, or why there is none.
pub fn checked(
    answer: &Result<HttpResponse, TransportError>,
    asked: Asked,
) -> Result<Value, CallFailure> {
    let said = |answer: &HttpResponse| {
        let problem = Problem::read(answer)?;
        Some((problem.class(asked, answer), problem.reason))
    };
    outcome::checked("X", answer, said, wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub fn answer(status: u16, headers: &[(&str, &str)], body: &Value) -> HttpResponse {
        HttpResponse {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.to_string().into_bytes(),
        }
    }

    fn class(status: u16, body: Value) -> Class {
        let answer = answer(status, &[], &body);
        Problem::read(&answer).unwrap().class(Asked::Api, &answer)
    }

    #[test]
    fn classes_of_the_document() {
        let problem = |kind: &str, detail: &str| json!({"title": "T", "detail": detail, "type": format!("https://api.x.com/2/problems/{kind}")});
        let code = |code: i64| json!({"errors": [{"code": code, "message": "m"}]});
        for (status, body, expected) in [
            (
                429,
                problem("usage-capped", "Usage cap exceeded"),
                Class::Permanent,
            ),
            (402, problem("credits", "CreditsDepleted"), Class::Permanent),
            (
                403,
                problem("about", "Your credits are depleted"),
                Class::Permanent,
            ),
            (500, problem("about", "Internal"), Class::Backoff),
            (503, problem("about", "Over capacity"), Class::Backoff),
            (
                401,
                problem("about:blank", "Unauthorized"),
                Class::Reconnect,
            ),
            (403, problem("client-forbidden", "no"), Class::Reconnect),
            (403, problem("oauth1-permissions", "no"), Class::Reconnect),
            (
                403,
                problem("about", "missing scope dm.write"),
                Class::Reconnect,
            ),
            (
                403,
                problem("about", "You cannot send messages to this user"),
                Class::Permanent,
            ),
            (403, code(349), Class::Permanent),
            (403, code(150), Class::Permanent),
            (403, code(187), Class::Permanent),
            (403, code(226), Class::Wait(REST)),
            (403, code(326), Class::Reconnect),
            (403, code(64), Class::Reconnect),
            (400, problem("invalid-request", "media"), Class::Permanent),
            (400, code(324), Class::Permanent),
            (404, problem("resource-not-found", "m"), Class::Permanent),
            (
                409,
                problem("replay", "ReplayConflictError"),
                Class::Backoff,
            ),
            (413, problem("about", "too large"), Class::Permanent),
        ] {
            assert_eq!(class(status, body.clone()), expected, "{status} {body}");
        }
    }

    #[test]
    fn the_wait_ends_with_the_window() {
        let date = ("date", "Mon, 05 Oct 2026 12:00:00 GMT");
        let reset = ("x-rate-limit-reset", "1791201720");
        let spent = ("x-rate-limit-remaining", "0");
        let wait = |headers: &[(&str, &str)]| wait(&answer(429, headers, &json!({})));
        assert_eq!(wait(&[date, reset, spent]), Duration::from_secs(121));
        assert_eq!(wait(&[date, reset]), Duration::from_secs(121));
        assert_eq!(
            wait(&[date, reset, ("x-rate-limit-remaining", "3")]),
            WINDOW
        );
        assert_eq!(wait(&[reset, spent]), WINDOW, "no clock to compare with");
        let past = ("x-rate-limit-reset", "1");
        assert_eq!(wait(&[date, past, spent]), Duration::from_secs(1));
        let never = ("x-rate-limit-reset", "9223372036854775807");
        assert_eq!(wait(&[date, never, spent]), Duration::from_secs(WAIT_S_MAX));
        assert_eq!(wait(&[("retry-after", "7")]), Duration::from_secs(7));
    }

    #[test]
    fn a_page_of_a_proxy_is_no_problem() {
        let html = HttpResponse {
            status: 502,
            headers: Vec::new(),
            body: b"<html>".to_vec(),
        };
        assert_eq!(Problem::read(&html), None);
        assert_eq!(
            Problem::read(&answer(200, &[], &json!({"errors": [{}]}))),
            None
        );
        let token = format!("bad token {}", "x".repeat(60));
        let said = answer(401, &[], &json!({"title": "Unauthorized", "detail": token}));
        let reason = Problem::read(&said).unwrap().reason;
        assert_eq!(reason, "X error 401: Unauthorized: bad token …");
    }
}
