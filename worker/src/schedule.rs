//! Cron schedules. apalis-cron is the source of ticks, in every worker process; a tick becomes a
//! job once, because all processes race for one row per schedule.

use std::str::FromStr as _;
use std::time::Duration;

use apalis::prelude::{Monitor, WorkerBuilder, WorkerBuilderExt as _};
use apalis_cron::{CronScheduler, Tick};
use chrono::{DateTime, Utc};
use hub_store::jobs::{self, NewJob};
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

impl Schedule {
    /// When it becomes due after this moment.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.times().after(&after).next()
    }

    fn times(&self) -> cron::Schedule {
        cron::Schedule::from_str(self.cron).expect("the table below is checked by a test")
    }
}

/// Every schedule of the hub. Their jobs are of one queue, [`Maintenance`].
pub const SCHEDULES: &[Schedule] = &[
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
        name: "media",
        cron: "0 30 3 * * *",
        purpose: "delete media nobody can open: of erased people, of days past MESSAGE_RETENTION_DAYS",
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
        name: "tokens",
        cron: "15 */5 * * * *",
        purpose: "renew the tokens of accounts that are about to expire",
    },
    Schedule {
        name: "data-access",
        cron: "0 40 * * * *",
        purpose: "warn of accounts about whose people the platform stops telling within two weeks",
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
        name: "usage-report",
        cron: "0 10 0 * * *",
        purpose: "report what was used on each of the last 30 days",
    },
    Schedule {
        name: "usage-retention",
        cron: "0 50 2 * * *",
        purpose: "delete what was counted of usage past HUB_USAGE_DAYS",
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
                let name = format!("{}-{}-{restarts}", schedule.name, std::process::id());
                WorkerBuilder::new(name)
                    .backend(CronScheduler::new(schedule.times()))
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
        store.signals().raise_queue(Maintenance::NAME);
    }
    Ok(won)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_time_of_day_in_the_contract_is_due_then() {
        let after = "2026-01-31T12:00:00Z".parse().unwrap();
        let next = |name: &str| {
            let schedule = SCHEDULES.iter().find(|it| it.name == name).expect(name);
            schedule.next(after).unwrap().to_rfc3339()
        };
        assert_eq!(next("refresh-tokens"), "2026-02-01T02:00:00+00:00");
        assert_eq!(next("usage-report"), "2026-02-01T00:10:00+00:00");
    }

    #[test]
    fn every_schedule_is_a_schedule() {
        for schedule in SCHEDULES {
            cron::Schedule::from_str(schedule.cron).expect(schedule.cron);
            assert!(schedule.next(Utc::now()).is_some());
        }
    }
}
