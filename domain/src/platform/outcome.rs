//! What an answer means before a platform's own words are looked at, and what those words come to.
//!
//! The adapters share the cautious part: without a word of the platform's own, only what certainly
//! did not arrive counts as not sent. Everything else is unclear, and an unclear message is never
//! sent again blindly. Calls that change nothing are simply made again.

use std::time::Duration;

use serde_json::Value;

use super::call::{CallFailure, Tokens};
use super::http::{HttpResponse, TransportError};
use super::{ConnectError, SendOutcome, wire};
use crate::secret::Secret;

/// The longest wait taken from an answer. The platforms' windows are a day at most.
const WAIT_S_MAX: u64 = 24 * 3600;

/// What a failure in a platform's words means for the call that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Wait at least this long.
    Wait(Duration),
    /// Temporary trouble.
    Backoff,
    /// The authorisation is gone.
    Reconnect,
    /// Will never work, or not before an operator acts.
    Permanent,
}

impl Class {
    /// The same of a send.
    pub fn of_send(self, reason: String) -> SendOutcome {
        match self {
            Self::Wait(wait) => SendOutcome::RetryAfter { wait, reason },
            Self::Backoff => SendOutcome::Backoff { reason },
            Self::Reconnect => SendOutcome::Reconnect { reason },
            Self::Permanent => SendOutcome::Permanent { reason },
        }
    }

    /// The same of a call that changes nothing.
    pub fn of_call(self, reason: String) -> CallFailure {
        match self {
            Self::Wait(wait) => CallFailure::RetryAfter { wait, reason },
            Self::Backoff => CallFailure::Backoff { reason },
            Self::Reconnect => CallFailure::Reconnect { reason },
            Self::Permanent => CallFailure::Permanent { reason },
        }
    }
}

/// The body of a call that changes nothing, or why there is none. `said` reads the platform's own
/// words and their class, `patience` is how long it asks to stay away.
pub fn checked(
    platform: &str,
    answer: &Result<HttpResponse, TransportError>,
    said: impl FnOnce(&HttpResponse) -> Option<(Class, String)>,
    patience: impl FnOnce(&HttpResponse) -> Duration,
) -> Result<Value, CallFailure> {
    let answer = answer.as_ref().map_err(|_| CallFailure::Backoff {
        reason: format!("{platform} could not be reached"),
    })?;
    if answer.is_success() {
        return Ok(answer.json());
    }
    let (class, reason) = said(answer).unwrap_or_else(|| {
        let class = match answer.status {
            429 => Class::Wait(patience(answer)),
            401 => Class::Reconnect,
            _ => Class::Backoff,
        };
        (class, without_words(platform, answer))
    });
    Err(class.of_call(reason))
}

/// The body of a success while somebody connects, or a sentence about the failure.
pub fn connecting(
    platform: &str,
    answer: &Result<HttpResponse, TransportError>,
) -> Result<Value, ConnectError> {
    match answer {
        Ok(answer) if answer.is_success() => Ok(answer.json()),
        Ok(answer) if (400..500).contains(&answer.status) => Err(ConnectError(format!(
            "{platform} refused the login (HTTP {}). Please try again.",
            answer.status
        ))),
        _ => Err(unexpected(platform)),
    }
}

/// There is no answer, or none anybody understands.
pub fn unexpected(platform: &str) -> ConnectError {
    ConnectError(format!(
        "{platform} did not answer as expected. Please try again."
    ))
}

/// The tokens in an answer of a token endpoint (RFC 6749, 5.1).
pub fn tokens(body: &Value) -> Option<Tokens> {
    Some(Tokens {
        access_token: Secret::new(wire::filled(&body["access_token"])?),
        refresh_token: wire::filled(&body["refresh_token"]).map(Secret::new),
        expires_in_s: wire::count(&body["expires_in"]),
        granted: wire::filled(&body["scope"]),
    })
}

/// The same of a renewal; one without a token is made again.
pub fn renewed(platform: &str, body: &Value) -> Result<Tokens, CallFailure> {
    tokens(body).ok_or_else(|| CallFailure::Backoff {
        reason: format!("{platform} answered without a token"),
    })
}

/// Reads an answer. `said` knows the platform's own words and goes first; `None` when the answer is
/// not the platform's (a proxy's page, an empty body).
pub fn of(
    platform: &str,
    answer: &Result<HttpResponse, TransportError>,
    said: impl FnOnce(&HttpResponse) -> Option<SendOutcome>,
) -> SendOutcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(TransportError::NotSent) => {
            return SendOutcome::Backoff {
                reason: format!("{platform} could not be reached"),
            };
        }
        Err(TransportError::Unclear) => {
            return SendOutcome::Unclear {
                reason: "the connection broke before an answer".into(),
            };
        }
    };
    said(answer).unwrap_or_else(|| by_status(platform, answer))
}

fn by_status(platform: &str, answer: &HttpResponse) -> SendOutcome {
    let reason = without_words(platform, answer);
    match answer.status {
        413 => SendOutcome::Permanent { reason },
        429 => throttled(wire::retry_after_s(answer), reason),
        // 408 tells that somebody in between gave up waiting, not what happened behind.
        400..=499 if answer.status != 408 => SendOutcome::Backoff { reason },
        _ => SendOutcome::Unclear { reason },
    }
}

fn without_words(platform: &str, answer: &HttpResponse) -> String {
    format!("HTTP {} without an answer of {platform}", answer.status)
}

/// The platform asked for patience: this many seconds, when it said how many.
pub fn throttled(wait_s: Option<u64>, reason: String) -> SendOutcome {
    match wait(wait_s) {
        Some(wait) => SendOutcome::RetryAfter { wait, reason },
        None => SendOutcome::Backoff { reason },
    }
}

/// A wait somebody asked for, within reason. Zero is no wait.
pub fn wait(seconds: Option<u64>) -> Option<Duration> {
    let seconds = seconds.filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.min(WAIT_S_MAX)))
}

/// What became of a send in one word, for the tests of every platform.
#[cfg(test)]
pub fn word(outcome: &SendOutcome) -> &'static str {
    match outcome {
        SendOutcome::Sent { .. } => "sent",
        SendOutcome::RetryAfter { .. } => "retry after",
        SendOutcome::Backoff { .. } => "backoff",
        SendOutcome::Reconnect { .. } => "reconnect",
        SendOutcome::OutsideWindow { .. } => "outside window",
        SendOutcome::Permanent { .. } => "permanent",
        SendOutcome::Unclear { .. } => "unclear",
    }
}
