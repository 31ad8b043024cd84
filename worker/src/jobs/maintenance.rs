//! Regular housekeeping, one job per schedule.

use std::time::Duration;

use chrono::{Days, Utc};
use hub_domain::limits::OAUTH_STATE_TTL;
use hub_domain::retention;
use hub_store::jobs::{self, Job, Outcome};
use hub_store::{Result, schedules, told, usage};

use super::Queue;
use crate::Context;

const DAY: Duration = Duration::from_secs(86_400);

/// Whole days that the report of usage is about.
const REPORTED_DAYS: Days = Days::new(30);

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
        let kept = self.keep_house(&job.key).await;
        let outcome = match &kept {
            Ok(Some(rows)) => format!("done: {rows} rows"),
            Ok(None) => "parked".to_owned(),
            Err(error) => format!("failed: {error}"),
        };
        let pool = self.context.store().pool();
        // For operators only: the work itself is done or not, whatever is written about it.
        if let Err(error) = schedules::ended(pool, job.shard, &job.key, &outcome).await {
            tracing::warn!(%error, schedule = job.key, "how housekeeping ended was not written");
        }
        match kept? {
            Some(rows) => {
                tracing::info!(schedule = job.key, rows, "housekeeping");
                Ok(Outcome::Done)
            }
            None => Ok(Outcome::Park {
                reason: format!("no housekeeping is called {:?}", job.key),
            }),
        }
    }
}

impl Maintenance {
    /// Does what a schedule stands for; how many rows it touched. `None`: nothing is called so.
    async fn keep_house(&self, name: &str) -> Result<Option<u64>> {
        let store = self.context.store();
        let settings = self.context.settings();
        let rows = match name {
            "refresh-tokens" => store.delete_expired_refresh_tokens().await?,
            "oauth-states" => {
                store.delete_expired_oauth_states().await?
                    + store.delete_old_answers(OAUTH_STATE_TTL).await?
            }
            "raw-input" => {
                // Raw input has the same texts in it.
                let days = match settings.message_retention_days {
                    0 => settings.raw_input_days,
                    days => settings.raw_input_days.min(days),
                };
                hub_store::commands::forget(store, days).await?
            }
            "message-retention" => {
                match retention::kept_from(Utc::now(), settings.message_retention_days) {
                    Some(first) => store.vault().erase_days_before(first).await?,
                    None => 0,
                }
            }
            "media" => {
                let kept_from = retention::kept_from(Utc::now(), settings.message_retention_days);
                let objects = self.context.objects();
                objects.sweep(store.vault(), kept_from).await?
            }
            "job-history" => jobs::prune_history(store.pool(), DAY).await?,
            "told" => told::prune(store.pool(), DAY).await?,
            "tokens" => super::tokens::enqueue_expiring(&self.context).await?,
            "data-access" => super::data_access::warn(&self.context).await?,
            "subscriptions" => super::subscribe::enqueue_due(&self.context).await?,
            "parked" => super::dlq::heal(&self.context).await?,
            "polls" => super::poll::enqueue_due(&self.context).await?,
            "usage-report" => self.report_usage().await?,
            "usage-retention" => {
                let today = Utc::now().date_naive();
                let first = today - Days::new(settings.usage_days.into());
                usage::prune(store.pool(), store.sharding(), first).await?
            }
            _ => return Ok(None),
        };
        Ok(Some(rows))
    }

    /// Makes the report of the days before this one, and keeps it.
    async fn report_usage(&self) -> Result<u64> {
        let store = self.context.store();
        let today = Utc::now().date_naive();
        let lines = usage::report(store.pool(), today - REPORTED_DAYS, today).await?;
        let yesterday = today - Days::new(1);
        for line in lines.iter().filter(|line| line.day == yesterday) {
            let platform = line.platform.as_deref().unwrap_or("hub");
            let (requests, users) = (line.requests, line.users);
            tracing::info!(day = %line.day, platform, requests, users, "usage");
        }
        usage::keep(store.pool(), store.sharding(), yesterday, &lines).await?;
        Ok(lines.len() as u64)
    }
}
