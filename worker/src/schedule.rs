//! Cron schedules. apalis-cron is the source of ticks, in every worker process; a tick becomes a
//! job once, because all processes race for one row per schedule.

use std::str::FromStr as _;
use std::time::Duration;

use apalis::prelude::{Monitor, WorkerBuilder, WorkerBuilderExt as _};
use apalis_cron::{CronScheduler, Tick};
use chrono::DateTime;
use hub_store::jobs::{self, NewJob};
use hub_store::signal::Topic;
use hub_store::{Result, Store};

use crate::Context;
use crate::jobs::{Queue as _, maintenance::Maintenance};

/// A schedule: which job becomes due when.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Its name, and the key of its job.
    pub name: &'static str,
    /// When, as second, minute, hour, day of month, month, day of week, in UTC.
    pub cron: &'static str,
    /// What it does, for operators.
    pub purpose: &'static str,
}

/// Every schedule of the hub.
pub const SCHEDULES: [Schedule; 9] = [
    Schedule {
        name: "refresh-tokens",
        cron: "0 0 2 * * *",
        purpose: "delete refresh tokens that expired",
    },
    Schedule {
        name: "oauth-states",
        cron: "0 */10 * * * *",
        purpose: "delete OAuth states and connect answers nobody came back for",
    },
    Schedule {
        name: "raw-input",
        cron: "0 40 2 * * *",
        purpose: "delete raw input past its time, and the keys it was sealed under",
    },
    Schedule {
        name: "message-retention",
        cron: "0 5 0 * * *",
        purpose: "erase the keys of days past MESSAGE_RETENTION_DAYS: their content is gone for good",
    },
    Schedule {
        name: "job-history",
        cron: "0 20 2 * * *",
        purpose: "delete the history of jobs that ended a day ago",
    },
    Schedule {
        name: "told",
        cron: "0 30 * * * *",
        purpose: "delete what was noted a day ago about telling sockets",
    },
    Schedule {
        name: "parked",
        cron: "30 * * * * *",
        purpose: "try again what was parked for want of newer code",
    },
    Schedule {
        name: "polls",
        cron: "*/30 * * * * *",
        purpose: "ask the accounts that are due what is new",
    },
    Schedule {
        name: "subscriptions",
        cron: "15 * * * * *",
        purpose: "make or renew what platforms tell us by, when half of its time is over",
    },
];

/// Registers these schedules.
pub fn register(monitor: Monitor, context: &Context, schedules: &[Schedule]) -> Monitor {
    schedules
        .iter()
        .copied()
        .fold(monitor, |monitor, schedule| {
            let store = context.store().clone();
            monitor.register(move |restarts| {
                let store = store.clone();
                let cron = cron::Schedule::from_str(schedule.cron)
                    .expect("the table above is checked by a test");
                let name = format!("{}-{}-{restarts}", schedule.name, std::process::id());
                WorkerBuilder::new(name)
                    .backend(CronScheduler::new(cron))
                    .catch_panic()
                    .build(move |tick: Tick| {
                        let store = store.clone();
                        async move {
                            fire(&store, schedule, tick.get_timestamp())
                                .await
                                .map(|_| ())
                        }
                    })
            })
        })
}

/// Turns a tick (seconds since the epoch) into a job, unless another process did. True when this
/// call did.
pub async fn fire(store: &Store, schedule: Schedule, tick_s: u64) -> Result<bool> {
    let shard = store.sharding().of_name(schedule.name);
    let tick = i64::try_from(tick_s)
        .ok()
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .unwrap_or_default();
    let job = NewJob {
        shard,
        queue: Maintenance::NAME,
        key: schedule.name.to_owned(),
        payload: serde_json::json!({ "tick": tick }),
        delay: Duration::ZERO,
    };
    let won = jobs::tick(store.pool(), shard, schedule.name, tick, &job).await?;
    if won {
        store.signals().raise(Topic::Jobs);
    }
    Ok(won)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schedule_is_a_schedule() {
        for schedule in SCHEDULES {
            let cron = cron::Schedule::from_str(schedule.cron).expect(schedule.cron);
            assert!(cron.upcoming(chrono::Utc).next().is_some());
        }
    }
}
