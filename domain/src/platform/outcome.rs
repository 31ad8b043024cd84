//! What the answer to a send means before a platform's own words are looked at.
//!
//! The adapters share the cautious part: without a word of the platform's own, only what certainly
//! did not arrive counts as not sent. Everything else is unclear, and an unclear message is never
//! sent again blindly.

use std::time::Duration;

use super::http::{HttpResponse, TransportError};
use super::{SendOutcome, wire};

/// The longest wait taken from an answer. The platforms' windows are a day at most.
const WAIT_S_MAX: u64 = 24 * 3600;

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
    let reason = format!("HTTP {} without an answer of {platform}", answer.status);
    match answer.status {
        413 => SendOutcome::Permanent { reason },
        429 => throttled(wire::retry_after_s(answer), reason),
        // 408 tells that somebody in between gave up waiting, not what happened behind.
        400..=499 if answer.status != 408 => SendOutcome::Backoff { reason },
        _ => SendOutcome::Unclear { reason },
    }
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
