//! Renewing the tokens of an account: once for everybody, and without losing any.
//!
//! A token is renewed when it is about to expire (before a call, by a schedule, because somebody
//! asked), and when the platform no longer accepts it although it should. Of all workers of all
//! processes one does it; the others use what it got, or the old token as long as that is good.
//! Temporary trouble is met with three tries; then nobody tries for a moment. A refusal for good is
//! an event: the account needs somebody, sends fail saying so, and receiving goes on. When it is the
//! installation that is refused (its secret was replaced), no account is to blame: calls wait until
//! an operator has mended it.
//!
//! **What cannot be avoided.** A platform that takes the old refresh token away as it answers, and
//! whose answer we did not get or did not live to store, has left us with nothing: the account needs
//! to be connected again, unless the platform accepts the old one for a while. The new tokens are
//! therefore stored before anything else happens, by a task that nobody drops, with patience when
//! the database is away.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use hub_domain::envelope::Append;
use hub_domain::event::AccountNeedsReconnect;
use hub_domain::id::Key;
use hub_domain::platform::call::{CallFailure, Tokens};
use hub_domain::platform::http::TransportError;
use hub_domain::platform::{Adapter, App, Credentials};
use hub_domain::secret::Secret;
use hub_store::account::Owner;
use hub_store::token::{Claim, Held, RENEWAL_MAX, TokenState};
use hub_store::usage::Call;
use hub_store::{Result, Store};

use crate::Context;

/// Pauses between tries (contract 5.4); one more try than pauses.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// The platform gets this long for each try. All tries of both refresh tokens together are shorter
/// than a claim.
const CALL_MAX: Duration = Duration::from_secs(8);

/// After trouble nobody tries for so long.
const COOL_DOWN: Duration = Duration::from_secs(15);

/// After the installation itself was refused nobody tries for so long.
const OPERATOR: Duration = Duration::from_secs(5 * 60);

/// A new token that is called dead is tried again so soon, while it settles.
const SETTLE: Duration = Duration::from_secs(3);

/// How long a call waits for a renewal, its own or somebody else's, before it comes back later: a
/// turn with two calls and this is shorter than a job's lease.
const PATIENCE: Duration = Duration::from_secs(4);

/// How soon to look again whether it has ended.
const LOOK: Duration = Duration::from_millis(100);

/// A token that was renewed this recently is not renewed again while it is good.
const FRESH: Duration = Duration::from_secs(30);

/// Storing new tokens is tried this often, a second apart.
const KEEP_TRIES: usize = 60;

/// Whether somebody may call in an account's name.
#[derive(Clone, Debug)]
pub enum Access {
    /// With these tokens.
    Granted(Held),
    /// Not before this time has passed.
    Wait {
        /// How long.
        after: Duration,
        /// Why, fit for operators.
        reason: String,
    },
    /// Not until somebody connects the account again.
    Refused {
        /// What the platform said.
        reason: String,
    },
    /// There are no tokens: the account was disconnected.
    Gone,
}

impl Access {
    /// The tokens to call with, or what a call without them comes to. `None`: there are none.
    pub fn granted(self) -> std::result::Result<Option<Held>, CallFailure> {
        match self {
            Self::Granted(held) => Ok(Some(held)),
            Self::Wait { after, reason } => Err(CallFailure::RetryAfter {
                wait: after,
                reason,
            }),
            Self::Refused { reason } => Err(CallFailure::Reconnect { reason }),
            Self::Gone => Ok(None),
        }
    }
}

/// How an attempt to renew ended.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// These tokens cannot be renewed.
    NotPossible(Held),
    /// It was made, here or elsewhere. Granted: with new tokens.
    Made(Access),
}

/// An account whose tokens may have to be renewed.
#[derive(Clone)]
pub struct Renewal {
    /// The worker.
    pub context: Context,
    /// The platform's adapter.
    pub adapter: &'static dyn Adapter,
    /// The installation's registration with it.
    pub app: App,
    /// Whose account.
    pub owner: Owner,
    /// The platform's id of the account.
    pub route: String,
}

impl Renewal {
    fn store(&self) -> &Store {
        self.context.store()
    }

    /// Tokens for a call, renewed when they are about to expire.
    pub async fn access(&self) -> Result<Access> {
        let held = match self.held().await? {
            Ok(held) => held,
            Err(no) => return Ok(no),
        };
        if !held.state.expires_within(self.adapter.renewal_margin()) || is_fresh(&held.state) {
            return Ok(Access::Granted(held));
        }
        Ok(match self.attempt(held.clone(), PATIENCE).await? {
            // If they are no good, the platform will say so.
            Attempt::NotPossible(held) => Access::Granted(held),
            Attempt::Made(Access::Wait { .. }) if !held.state.is_expired() => Access::Granted(held),
            Attempt::Made(access) => access,
        })
    }

    /// After the platform did not accept tokens of this version: newer ones. `None` when renewing
    /// does not help.
    pub async fn after_refusal(&self, version: i64) -> Result<Option<Access>> {
        let held = match self.held().await? {
            Ok(held) => held,
            Err(no) => return Ok(Some(no)),
        };
        if held.state.version != version {
            return Ok(Some(Access::Granted(held)));
        }
        if is_fresh(&held.state) {
            return Ok(None);
        }
        Ok(match self.attempt(held, PATIENCE).await? {
            Attempt::NotPossible(held) if self.is_settling(&held.state) => Some(Access::Wait {
                after: SETTLE,
                reason: "the platform does not know the new token yet".to_owned(),
            }),
            Attempt::NotPossible(_) => None,
            Attempt::Made(access) => Some(access),
        })
    }

    /// Whether the account was connected only just now: the version of its tokens begins at the clock.
    fn is_settling(&self, state: &TokenState) -> bool {
        let connected = DateTime::from_timestamp_micros(state.version);
        let ago = connected.and_then(|connected| (Utc::now() - connected).to_std().ok());
        ago.is_some_and(|ago| ago < self.adapter.settling())
    }

    /// Renews them if less than this is left of them. Takes the time it takes.
    pub async fn within(&self, margin: Duration) -> Result<Attempt> {
        let held = match self.held().await? {
            Ok(held) => held,
            Err(no) => return Ok(Attempt::Made(no)),
        };
        if !held.state.expires_within(margin) || is_fresh(&held.state) {
            return Ok(Attempt::Made(Access::Granted(held)));
        }
        self.attempt(held, RENEWAL_MAX).await
    }

    async fn held(&self) -> Result<std::result::Result<Held, Access>> {
        let held = self.store().tokens(self.owner, &self.route).await?;
        let Some(held) = held else {
            return Ok(Err(Access::Gone));
        };
        Ok(match &held.state.refused {
            Some(reason) => Err(Access::Refused {
                reason: reason.clone(),
            }),
            None => Ok(held),
        })
    }

    /// Renews tokens, or waits for whoever does.
    async fn attempt(&self, held: Held, patience: Duration) -> Result<Attempt> {
        let renewable =
            held.state.expires_in_s.is_some() || held.credentials.refresh_token.is_some();
        if !renewable || self.adapter.refresh(&self.app, &held.credentials).is_none() {
            return Ok(Attempt::NotPossible(held));
        }
        let version = held.state.version;
        let deadline = Instant::now() + patience;
        loop {
            let claim = self
                .store()
                .claim_renewal(self.owner, &self.route, version)
                .await?;
            if let Some(claim) = claim {
                let made = self.make(claim, version, patience).await;
                return made.map(Attempt::Made);
            }
            let now = match self.held().await? {
                Ok(now) => now,
                Err(no) => return Ok(Attempt::Made(no)),
            };
            if now.state.version != version {
                return Ok(Attempt::Made(Access::Granted(now)));
            }
            if !now.state.is_renewing || Instant::now() >= deadline {
                if now.state.is_renewing {
                    return Ok(Attempt::Made(under_way()));
                }
                let after = now.state.renewal_blocked.unwrap_or(LOOK);
                let reason = "the token could not be renewed just now".to_owned();
                return Ok(Attempt::Made(Access::Wait { after, reason }));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Renews in a task of its own: whoever waits for it may be dropped, the answer may not.
    async fn make(&self, claim: Claim, version: i64, patience: Duration) -> Result<Access> {
        let renewal = self.clone();
        let made = tokio::spawn(async move { renewal.renew(claim, version).await });
        match tokio::time::timeout(patience, made).await {
            Ok(Ok(access)) => access,
            Ok(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // It goes on by itself, or the worker stops.
            Err(_) | Ok(Err(_)) => Ok(under_way()),
        }
    }

    async fn renew(&self, claim: Claim, version: i64) -> Result<Access> {
        let mut credentials = claim.credentials.clone();
        let mut first_refusal = None;
        loop {
            let (wait, reason) = match self.ask(&credentials).await {
                Ok(tokens) => {
                    self.keep(&claim, credentials.refresh_token.as_ref(), &tokens)
                        .await?;
                    self.tell("renewed", None);
                    return Ok(self.held().await?.map_or_else(|no| no, Access::Granted));
                }
                Err(CallFailure::Backoff { reason }) => (COOL_DOWN, reason),
                Err(CallFailure::RetryAfter { wait, reason }) => (wait.max(COOL_DOWN), reason),
                Err(CallFailure::Permanent { reason }) => (OPERATOR, reason),
                Err(CallFailure::Reconnect { reason }) => {
                    let reason = first_refusal.get_or_insert(reason).clone();
                    match self.another(&claim, &credentials).await? {
                        Some(other) => {
                            credentials.refresh_token = Some(other);
                            continue;
                        }
                        None => {
                            self.tell("refused", Some(&reason));
                            self.context.refuse(self.owner, version, &reason).await?;
                            return Ok(Access::Refused { reason });
                        }
                    }
                }
            };
            self.tell("trouble", Some(&reason));
            self.store()
                .give_up_renewal(self.owner, &claim, wait)
                .await?;
            return Ok(Access::Wait {
                after: wait,
                reason,
            });
        }
    }

    /// The refresh token from before, when that was not tried yet.
    async fn another(&self, claim: &Claim, tried: &Credentials) -> Result<Option<Secret>> {
        if tried.refresh_token != claim.credentials.refresh_token {
            return Ok(None);
        }
        let other = self.store().second_choice(self.owner, claim).await?;
        Ok(other.filter(|it| tried.refresh_token.as_ref() != Some(it)))
    }

    /// Asks the platform, three times when it is in trouble.
    async fn ask(&self, credentials: &Credentials) -> std::result::Result<Tokens, CallFailure> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let Some(request) = self.adapter.refresh(&self.app, credentials) else {
                let reason = "these tokens cannot be renewed".to_owned();
                return Err(CallFailure::Permanent { reason });
            };
            let call = Call {
                platform: self.adapter.platform(),
                endpoint: "renew",
                user: Some(self.owner.user),
                account: Some(self.owner.account),
            };
            let call = tokio::time::timeout(CALL_MAX, self.context.call(call, request));
            let answer = call.await.unwrap_or(Err(TransportError::Unclear));
            let failure = match self.adapter.refreshed(&answer) {
                Ok(tokens) => return Ok(tokens),
                Err(failure) => failure,
            };
            let asked = match &failure {
                CallFailure::Backoff { .. } => Duration::ZERO,
                CallFailure::RetryAfter { wait, .. } => *wait,
                CallFailure::Reconnect { .. } | CallFailure::Permanent { .. } => {
                    return Err(failure);
                }
            };
            match pauses.next() {
                Some(pause) if asked <= pause => tokio::time::sleep(pause).await,
                _ => return Err(failure),
            }
        }
    }

    async fn keep(&self, claim: &Claim, used: Option<&Secret>, tokens: &Tokens) -> Result<()> {
        for _ in 1..KEEP_TRIES {
            match self
                .store()
                .finish_renewal(self.owner, claim, used, tokens)
                .await
            {
                Err(error) if error.is_temporary() => {
                    tracing::warn!("new tokens wait for the database");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                done => return done.map(|_| ()),
            }
        }
        let last = self
            .store()
            .finish_renewal(self.owner, claim, used, tokens)
            .await;
        last.map(|_| ())
    }

    fn tell(&self, outcome: &'static str, reason: Option<&str>) {
        let platform = self.adapter.platform().name();
        metrics::counter!("hub_token_renewals_total", "platform" => platform, "outcome" => outcome)
            .increment(1);
        let account = self.owner.account;
        match reason {
            None => tracing::info!(%account, platform, "a token was renewed"),
            Some(reason) => {
                tracing::warn!(%account, platform, outcome, reason, "a token was not renewed");
            }
        }
    }
}

fn under_way() -> Access {
    Access::Wait {
        after: Duration::from_secs(1),
        reason: "the token is being renewed".to_owned(),
    }
}

fn is_fresh(state: &TokenState) -> bool {
    !state.is_expired()
        && state
            .renewed_ago_s
            .is_some_and(|ago| ago < FRESH.as_secs_f64())
}

impl Context {
    /// The platform no longer accepts an account's tokens of this version: told once, and nobody
    /// calls with them again. Nothing happens when there are others by now.
    pub async fn refuse(&self, owner: Owner, version: i64, reason: &str) -> Result<()> {
        let store = self.store();
        let state = store.token_state(owner).await?;
        if state.is_none_or(|state| state.version != version || state.refused.is_some()) {
            return Ok(());
        }
        let event = AccountNeedsReconnect {
            user: owner.user,
            account: owner.account,
            reason: reason.to_owned(),
        };
        let shard = store.sharding().of_user(owner.user);
        let key = Key::of(&[
            b"reconnect",
            owner.account.0.as_bytes(),
            &version.to_be_bytes(),
        ]);
        // First the event: who dies in between is told the same by the platform once more.
        store
            .append(Append::one(shard, owner.account, event).once(key))
            .await?;
        store.refuse_tokens(owner, version, reason).await
    }
}
