//! The worker: it talks, retries and folds. All of it is run by apalis workers.
//!
//! - [`reactor`] tails the log: [`reactors`] has one file per reactor
//! - [`jobs`] has a due time: one file per queue
//! - [`schedule`] turns cron ticks into jobs, once however many workers there are
//! - [`http`] calls platforms, [`fetch`] gets bytes from addresses that came from outside; nobody else
//!   has an HTTP client. [`telegram_user`] holds sessions of another kind
//! - [`call`] knows whether an account may call now, [`renewal`] keeps its tokens good
//!
//! Any number of worker processes may run; none of them holds anything that another could not
//! take over.

pub mod call;
pub mod context;
pub mod fetch;
pub mod http;
pub mod jobs;
pub mod peer;
pub mod reactor;
pub mod reactors;
pub mod reference;
pub mod renewal;
pub mod schedule;
pub mod telegram_user;

use std::time::Duration;

use apalis::prelude::Monitor;
use tokio::task::JoinSet;

pub use context::Context;

/// Time a stopping worker gives running jobs; after that their leases bring them back elsewhere.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

/// Runs everything until `shutdown` resolves, then lets running work end.
///
/// A worker that dies (its storage failed in a way that waiting does not mend) is started again
/// under a new incarnation; leases of the old one end by themselves.
pub async fn run(
    context: Context,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), String> {
    let monitor = Monitor::new()
        .shutdown_timeout(SHUTDOWN_GRACE)
        .should_restart(|worker, error| {
            metrics::counter!("hub_worker_restarts_total").increment(1);
            tracing::error!(worker = worker.name(), %error, "worker died and is started again");
            true
        });
    let monitor = reactors::register(monitor, &context);
    let monitor = jobs::register(monitor, &context);
    let monitor = schedule::register(monitor, &context, schedule::SCHEDULES);
    jobs::install::enqueue(&context)
        .await
        .map_err(|error| error.to_string())?;
    let run = monitor.run_with_signal(async move {
        shutdown.await;
        Ok(())
    });
    // Stopped after the jobs, which use the sessions; dropped with this future.
    let mut keeping = JoinSet::new();
    keeping.spawn(telegram_user::keep(context.clone()));
    let done = tokio::select! {
        done = run => done.map_err(|error| error.to_string()),
        () = jobs::dlq::watch(&context) => Ok(()),
    };
    context.telegram().stop();
    keeping.join_all().await;
    done
}
