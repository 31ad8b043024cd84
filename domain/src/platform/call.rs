//! Calls that are no sends: fetching what is new, and new tokens.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::http::{HttpRequest, HttpResponse, TransportError};
use crate::secret::Secret;
use std::time::Duration;

/// How a call that changes nothing on the platform failed, in the hub's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// Ask again no earlier than this.
    RetryAfter {
        /// The wait the platform asked for.
        wait: Duration,
        /// What the platform said, fit for operators.
        reason: String,
    },
    /// Ask again with growing delay.
    Backoff {
        /// What the platform said, fit for operators.
        reason: String,
    },
    /// The account's authorisation is gone until somebody reconnects it.
    Reconnect {
        /// What the platform said, fit for operators.
        reason: String,
    },
    /// Asking again does not help.
    Permanent {
        /// What the platform said, fit for operators.
        reason: String,
    },
}

/// Tokens as the platform gave them out.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// The token to call the platform with.
    pub access_token: Secret,
    /// The token to ask for the next ones with. `None`: the one before stays good.
    pub refresh_token: Option<Secret>,
    /// Seconds the access token lives; `None` when it does not expire.
    pub expires_in_s: Option<u64>,
    /// What they are good for, in the platform's words; `None`: as before.
    pub granted: Option<String>,
}

/// The next move of a poll.
#[derive(Debug)]
pub enum PollStep {
    /// Make this call and come back with its answer.
    Call(HttpRequest),
    /// Keep this body as raw input, which [`super::Adapter::translate`] reads, and come back with
    /// `None`. Only what may have news in it: a quiet account leaves no trace.
    Keep(Vec<u8>),
    /// Everything there is has been kept; the next poll begins here.
    Done {
        /// What the adapter wants to be given the next time. No secret, no personal text, and the
        /// same as before when nothing has happened: each other one becomes an event.
        cursor: Value,
    },
    /// It did not work. What was kept before stays kept, the cursor stays where it was.
    Failed(CallFailure),
}

/// A conversation with the platform that fetches what is new since a cursor. Bounded: it ends after
/// a few dozen calls, and the next poll goes on where it ended.
pub trait PollFlow: Send {
    /// The next step. The first call gets `None`, as does one after [`PollStep::Keep`]; each other
    /// one gets the answer to the last request.
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> PollStep;
}

/// On what occasion an account is asked for what was not pushed.
#[derive(Clone, Copy, Debug)]
pub struct Occasion {
    /// The time.
    pub now: DateTime<Utc>,
    /// Look back to here, whatever is known.
    pub since: Option<DateTime<Utc>>,
    /// Somebody waits for it: whether it is due does not matter.
    pub is_wanted: bool,
}

/// What a notice asks for.
#[derive(Debug)]
pub enum Fetch {
    /// Make this call; [`super::Adapter::fetched`] reads the answer.
    Call(HttpRequest),
    /// The notice had it all: raw input for [`super::Adapter::translate`].
    Have(Vec<u8>),
}

/// A platform's promise to tell us what happens on an account, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The platform's id of it; what arrives names it as its account.
    pub id: String,
    /// When it ends unless it is renewed.
    pub expires_at: DateTime<Utc>,
}

/// The next move of a subscription.
#[derive(Debug)]
pub enum SubscribeStep {
    /// Make this call and come back with its answer.
    Call(HttpRequest),
    /// It holds until it expires.
    Done(Subscription),
    /// It did not work.
    Failed(CallFailure),
}

/// A conversation with the platform that makes a subscription, or renews one that is there.
pub trait SubscribeFlow: Send {
    /// The next step. The first call gets `None`, each further one the answer to the last request.
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> SubscribeStep;
}
