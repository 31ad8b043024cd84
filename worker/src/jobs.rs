//! Work with a due time: one file per queue, each run by an apalis worker over the jobs table.
//!
//! A handler takes nothing but its row: it loads, decides, acts, records, and says how it ended.
//! It may run twice and must be right; what must happen once is made sure by the keys of the
//! events it appends.

pub mod connect;
pub mod contact;
pub mod data_access;
pub mod departure;
pub mod disconnect;
pub mod dlq;
pub mod erase;
pub mod fetch;
pub mod install;
pub mod maintenance;
pub mod media;
pub mod poll;
pub mod reset;
pub mod send;
pub mod subscribe;
pub mod telegram;
pub mod tokens;
pub mod uploads;
pub mod withdrawn;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use apalis::prelude::{Monitor, WorkerBuilder, WorkerBuilderExt as _};
use apalis_core::worker::ext::parallelize::ParallelizeExt as _;
use futures::FutureExt as _;
use hub_config::WorkerSettings;
use hub_domain::id::{AccountId, Place, Shard};
use hub_domain::retry;
use hub_store::jobs::{Job, JobBackend, Outcome, finish};
use hub_store::project::Projection;
use hub_store::{Error, Result, parked, read};
use uuid::Uuid;

use crate::Context;

/// A claim is held this long. Longer than any turn: a turn ends its last call by the HTTP time-out.
const LEASE: Duration = Duration::from_secs(90);

/// How long a job waits for the accounts read model to show what the log has.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// How soon to look again at an account whose events the read model holds back.
const HELD_LOOK: Duration = Duration::from_secs(5);

/// A kind of job.
pub trait Queue: Clone + Send + Sync + 'static {
    /// The name of the queue in the jobs table.
    const NAME: &'static str;

    /// How many of them a process runs at a time.
    fn at_once(settings: &WorkerSettings) -> usize {
        settings.concurrency
    }

    /// Runs one job to an end.
    fn run(&self, job: &Job) -> impl Future<Output = Result<Outcome>> + Send;
}

/// Registers every queue.
pub fn register(monitor: Monitor, context: &Context) -> Monitor {
    let monitor = queue(monitor, context, send::Send::new(context.clone()));
    let monitor = queue(monitor, context, connect::Connect::new(context.clone()));
    let monitor = queue(
        monitor,
        context,
        disconnect::Disconnect::new(context.clone()),
    );
    let monitor = queue(monitor, context, departure::Departure::new(context.clone()));
    let monitor = queue(monitor, context, erase::Erase::new(context.clone()));
    let monitor = queue(monitor, context, contact::Contact::new(context.clone()));
    let monitor = queue(monitor, context, telegram::Telegram::new(context.clone()));
    let monitor = queue(monitor, context, reset::Reset::new(context.clone()));
    let monitor = queue(monitor, context, media::Media::new(context.clone()));
    let monitor = queue(monitor, context, withdrawn::Withdrawn::new(context.clone()));
    let monitor = queue(monitor, context, uploads::Uploads::new(context.clone()));
    let monitor = queue(monitor, context, install::Install::new(context.clone()));
    let monitor = queue(monitor, context, dlq::DeadLetters::new(context.clone()));
    let monitor = queue(monitor, context, poll::Poll::new(context.clone()));
    let monitor = queue(monitor, context, tokens::Renew::new(context.clone()));
    let monitor = queue(monitor, context, fetch::Fetch::new(context.clone()));
    let monitor = queue(monitor, context, subscribe::Subscribe::new(context.clone()));
    queue(
        monitor,
        context,
        maintenance::Maintenance::new(context.clone()),
    )
}

/// Registers a queue as an apalis worker over the jobs table.
pub(crate) fn queue<Q: Queue>(monitor: Monitor, context: &Context, queue: Q) -> Monitor {
    let context = context.clone();
    monitor.register(move |restarts| {
        // A new name for every incarnation: leases of a dead one must not look like ours.
        let owner = format!(
            "{}-{}-{restarts}-{}",
            Q::NAME,
            std::process::id(),
            Uuid::now_v7()
        );
        let concurrency = Q::at_once(context.settings());
        let backend = JobBackend::new(
            context.store(),
            Q::NAME,
            owner.clone(),
            LEASE,
            i64::try_from(concurrency).unwrap_or(i64::MAX),
        );
        let queue = queue.clone();
        let context = context.clone();
        WorkerBuilder::new(owner)
            .backend(backend)
            .concurrency(concurrency)
            .parallelize(tokio::spawn)
            .build(move |job: Job| {
                let queue = queue.clone();
                let context = context.clone();
                async move { run(&context, &queue, job).await }
            })
    })
}

/// Runs a job and writes down how it ended, under its fence.
async fn run<Q: Queue>(context: &Context, queue: &Q, job: Job) -> Result<()> {
    let started = std::time::Instant::now();
    let outcome = match AssertUnwindSafe(queue.run(&job)).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => again(&job, error.to_string()),
        Err(_) => again(&job, "the handler panicked".to_owned()),
    };
    metrics::histogram!("hub_job_seconds", "queue" => Q::NAME)
        .record(started.elapsed().as_secs_f64());
    // The outcome is worth some patience: without it the job waits for its lease and runs again.
    for _ in 0..5 {
        match finish(context.store().pool(), Q::NAME, &job, &outcome).await {
            Err(error) if error.is_temporary() => tokio::time::sleep(LEASE / 60).await,
            Err(Error::Fenced) => {
                tracing::warn!(
                    queue = Q::NAME,
                    key = job.key,
                    "lost its lease; another has it"
                );
                return Ok(());
            }
            Ok(true) => {
                context.store().signals().raise_queue(Q::NAME);
                return Ok(());
            }
            done => return done.map(|_| ()),
        }
    }
    Ok(())
}

/// How a job has to end that cannot believe the accounts read model yet; `None` when it can.
async fn accounts_behind(
    context: &Context,
    shard: Shard,
    account: AccountId,
) -> Result<Option<Outcome>> {
    let store = context.store();
    let position = read::head(store.pool(), shard).await?;
    let shown = store
        .wait_for_projection(
            Projection::Accounts,
            Place { shard, position },
            CATCH_UP_MAX,
        )
        .await?;
    if !shown {
        return Ok(Some(Outcome::Again(Duration::from_millis(200))));
    }
    let accounts = Projection::Accounts.name();
    let is_held = parked::is_held(store.pool(), accounts, shard, account.into()).await?;
    Ok(is_held.then_some(Outcome::Again(HELD_LOOK)))
}

fn again(job: &Job, reason: String) -> Outcome {
    let attempt = job.attempts.unsigned_abs();
    match retry::delay(retry::JOB, attempt, entropy()) {
        Some(after) => Outcome::Retry { after, reason },
        None => Outcome::Park { reason },
    }
}

/// A number in [0, 1) for jitter.
pub(crate) fn entropy() -> f64 {
    let (_, low) = Uuid::new_v4().as_u64_pair();
    (low >> 11) as f64 / (1u64 << 53) as f64
}
