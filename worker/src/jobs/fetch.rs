//! Fetching what a notice only named, as it is now; what comes is raw input like any other.
//!
//! Notices of the same thing that wait are one job. Platforms tell of things before all of their own
//! copies have them, so what is not there is looked for again. A notice that cannot be followed is
//! given up after a while: the account's next poll finds what it was about.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hub_domain::command::{Command, NewCommand};
use hub_domain::id::{AccountId, Key, Shard, UserId};
use hub_domain::platform::Platform;
use hub_domain::platform::call::{CallFailure, Fetch as Way};
use hub_domain::platform::fact::Fact;
use hub_store::Result;
use hub_store::account::Owner;
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::polls::Standing;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Queue, accounts_behind};
use crate::Context;
use crate::call::Called;
use crate::renewal::{Access, Renewal};

/// Looks for something that is not there, and the pause after each.
const LOOKS: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(8),
    Duration::from_secs(20),
];

/// The queue of things to fetch.
#[derive(Clone)]
pub struct Fetch {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    user: UserId,
    account: AccountId,
    notice: Value,
}

/// The job that fetches what a notice names for one of those it is for.
pub fn job(shard: Shard, owner: Owner, fact: &Fact) -> NewJob {
    let notice = &fact.detail["notice"];
    let account = owner.account.0;
    let key = Key::of(&[account.as_bytes(), notice.to_string().as_bytes()]);
    NewJob {
        shard,
        queue: Fetch::NAME,
        key: hex::encode(key.0),
        payload: serde_json::json!(Payload {
            user: owner.user,
            account: owner.account,
            notice: notice.clone(),
        }),
        delay: Duration::ZERO,
    }
}

impl Fetch {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn turn(&self, job: &Job, owner: Owner, notice: &Value) -> Result<Outcome> {
        let store = self.context.store();
        if let Some(later) = accounts_behind(&self.context, job.shard, owner.account).await? {
            return Ok(later);
        }
        let standing = store.poll_standing(owner).await?;
        let Some(standing) = standing.filter(|it| it.is_active && !it.needs_reconnect) else {
            return Ok(Outcome::Done);
        };
        let platform = standing.platform;
        let Some(renewal) = self.context.renewal(platform, owner, &standing.route) else {
            return Ok(Outcome::Done);
        };
        let mut asked = self.ask(&renewal, renewal.access().await?, notice).await?;
        // A token the platform does not know may be one that can be renewed.
        if let Some(Asked {
            version: Some(version),
            found: Err(CallFailure::Reconnect { .. }),
        }) = &asked
            && let Some(access) = renewal.after_refusal(*version).await?
        {
            asked = self.ask(&renewal, access, notice).await?;
        }
        let Some(asked) = asked else {
            return Ok(Outcome::Done);
        };
        let tried = job.attempts.unsigned_abs() as usize;
        match asked.found {
            Ok(Some(body)) => {
                self.keep(job, owner, &standing, &body).await?;
                count(standing.platform, "kept");
                Ok(Outcome::Done)
            }
            Ok(None) => Ok(match LOOKS.get(tried.saturating_sub(1)) {
                Some(after) => Outcome::Retry {
                    after: *after,
                    reason: "it is not there (yet)".to_owned(),
                },
                None => {
                    count(standing.platform, "not_there");
                    Outcome::Done
                }
            }),
            Err(CallFailure::Reconnect { reason }) => {
                if let Some(version) = asked.version {
                    self.context.refuse(owner, version, &reason).await?;
                }
                Ok(lost(owner, platform, &reason))
            }
            Err(failure) => Ok(failed(job, owner, platform, failure)),
        }
    }

    /// Asks with these tokens, if they may be used. `None` when there is nothing to ask, or nothing
    /// to ask with.
    async fn ask(
        &self,
        renewal: &Renewal,
        access: Access,
        notice: &Value,
    ) -> Result<Option<Asked>> {
        let held = match access.granted() {
            Ok(Some(held)) => held,
            Ok(None) => return Ok(None),
            Err(failure) => {
                return Ok(Some(Asked {
                    version: None,
                    found: Err(failure),
                }));
            }
        };
        let adapter = renewal.adapter;
        let way = adapter.fetch(&renewal.app, &held.credentials, notice, Utc::now());
        let found = match way {
            None => return Ok(None),
            Some(Way::Have(body)) => Ok(Some(body)),
            Some(Way::Call(request)) => {
                let (platform, owner) = (adapter.platform(), renewal.owner);
                let called = self.context.call_as(platform, owner, "fetch", request);
                match called.await? {
                    Called::Answered(answer) => adapter.fetched(&answer),
                    Called::NotNow(not_now) => Err(not_now.failure()),
                }
            }
        };
        Ok(Some(Asked {
            version: Some(held.state.version),
            found,
        }))
    }

    /// Puts it into the log of raw input.
    async fn keep(&self, job: &Job, owner: Owner, standing: &Standing, body: &[u8]) -> Result<()> {
        let (store, platform) = (self.context.store(), standing.platform);
        let sealed_at = Utc::now();
        let routes = std::slice::from_ref(&standing.route);
        let body = store
            .vault()
            .seal_raw(platform, routes, sealed_at, &STANDARD.encode(body))
            .await?;
        let command = NewCommand {
            shard: store.sharding().of_route(platform, &standing.route),
            command: Command::Page {
                platform,
                user: owner.user,
                account: owner.account,
                route: standing.route.clone(),
                body,
                sealed_at,
                repairs: false,
                answer: None,
            },
            request: Some(format!("fetch-{}-{}", job.id, job.fence)),
        };
        store.accept(command).await?;
        Ok(())
    }
}

/// What came of asking.
struct Asked {
    /// Of the tokens that were called with.
    version: Option<i64>,
    found: std::result::Result<Option<Vec<u8>>, CallFailure>,
}

fn failed(job: &Job, owner: Owner, platform: Platform, failure: CallFailure) -> Outcome {
    let reason = match failure {
        CallFailure::RetryAfter { wait, .. } => return Outcome::Again(wait),
        CallFailure::Backoff { reason } => match super::again(job, reason.clone()) {
            Outcome::Park { .. } => reason,
            again => return again,
        },
        CallFailure::Reconnect { reason } | CallFailure::Permanent { reason } => reason,
    };
    lost(owner, platform, &reason)
}

fn lost(owner: Owner, platform: Platform, reason: &str) -> Outcome {
    count(platform, "failed");
    tracing::info!(%platform, account = %owner.account, reason, "a notice led nowhere");
    Outcome::Done
}

fn count(platform: Platform, outcome: &'static str) {
    let platform = platform.name();
    metrics::counter!("hub_fetches_total", "platform" => platform, "outcome" => outcome)
        .increment(1);
}

impl Queue for Fetch {
    const NAME: &'static str = "fetch";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        match serde_json::from_value::<Payload>(job.payload.clone()) {
            Ok(it) => {
                let owner = Owner {
                    user: it.user,
                    account: it.account,
                };
                self.turn(job, owner, &it.notice).await
            }
            Err(error) => Ok(Outcome::Park {
                reason: error.to_string(),
            }),
        }
    }
}
