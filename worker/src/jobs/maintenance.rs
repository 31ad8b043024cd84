//! Regular housekeeping, one job per schedule.

use std::time::Duration;

use chrono::Utc;
use hub_domain::limits::OAUTH_STATE_TTL;
use hub_domain::retention;
use hub_store::jobs::{self, Job, Outcome};
use hub_store::{Result, told};

use super::Queue;
use crate::Context;

const DAY: Duration = Duration::from_secs(86_400);

/// The queue of housekeeping.
#[derive(Clone)]
pub struct Maintenance {
    context: Context,
}

impl Maintenance {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Queue for Maintenance {
    const NAME: &'static str = "maintenance";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let store = self.context.store();
        let rows = match job.key.as_str() {
            "refresh-tokens" => store.delete_expired_refresh_tokens().await?,
            "oauth-states" => {
                store.delete_expired_oauth_states().await?
                    + store.delete_old_answers(OAUTH_STATE_TTL).await?
            }
            "raw-input" => {
                let settings = self.context.settings();
                // Raw input has the same texts in it.
                let days = match settings.message_retention_days {
                    0 => settings.raw_input_days,
                    days => settings.raw_input_days.min(days),
                };
                hub_store::commands::forget(store, days).await?
            }
            "message-retention" => {
                let days = self.context.settings().message_retention_days;
                match retention::kept_from(Utc::now(), days) {
                    Some(first) => store.vault().erase_days_before(first).await?,
                    None => 0,
                }
            }
            "job-history" => jobs::prune_history(store.pool(), DAY).await?,
            "told" => told::prune(store.pool(), DAY).await?,
            "subscriptions" => super::subscribe::enqueue_due(&self.context).await?,
            "parked" => super::dlq::heal(&self.context).await?,
            "polls" => super::poll::enqueue_due(&self.context).await?,
            other => {
                return Ok(Outcome::Park {
                    reason: format!("no housekeeping is called {other:?}"),
                });
            }
        };
        tracing::info!(schedule = job.key, rows, "housekeeping");
        Ok(Outcome::Done)
    }
}
