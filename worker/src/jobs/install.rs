//! Telling platforms where to deliver webhooks, once at every start of a worker.

use std::time::Duration;

use hub_domain::platform::Platform;
use hub_store::Result;
use hub_store::jobs::{self, Job, NewJob, Outcome};
use hub_store::usage::Call;

use super::Queue;
use crate::Context;

/// The queue of platforms to tell.
#[derive(Clone)]
pub struct Install {
    context: Context,
}

impl Install {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

/// Enqueues what the configured platforms want to be told.
pub async fn enqueue(context: &Context) -> Result<()> {
    let store = context.store();
    let mut tx = hub_store::transaction::begin(store.pool()).await?;
    for platform in Platform::ALL {
        let wants = context
            .platform(platform)
            .is_some_and(|(adapter, app)| !adapter.install(app).is_empty());
        if wants {
            let job = NewJob {
                shard: store.sharding().of_name(platform.name()),
                queue: Install::NAME,
                key: platform.name().to_owned(),
                payload: serde_json::json!({ "platform": platform }),
                delay: Duration::ZERO,
            };
            jobs::enqueue(&mut tx, &job).await?;
        }
    }
    tx.commit().await?;
    store.signals().raise_queue(Install::NAME);
    Ok(())
}

impl Queue for Install {
    const NAME: &'static str = "install";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let platform = job.payload["platform"]
            .as_str()
            .and_then(|name| name.parse::<Platform>().ok());
        let Some((adapter, app)) = platform.and_then(|platform| self.context.platform(platform))
        else {
            return Ok(Outcome::Done);
        };
        let call = Call {
            platform: adapter.platform(),
            endpoint: "install",
            user: None,
            account: None,
        };
        for request in adapter.install(app) {
            let answer = self.context.call(call, request).await;
            let reason = match answer {
                Ok(answer) if answer.is_success() => continue,
                Ok(answer) => format!("{platform:?} answered {}", answer.status),
                Err(error) => format!("{platform:?} was not reached ({error:?})"),
            };
            return Ok(super::again(job, reason));
        }
        Ok(Outcome::Done)
    }
}
