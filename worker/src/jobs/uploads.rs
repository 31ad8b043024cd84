//! Uploads that no message has.
//!
//! A job for each upload, due when it can no longer be sent and clocks that differ are past it too.
//! Whoever queues a message with an upload appends under the upload's key, so the log says for certain
//! whether one has it. If none has, the file goes. Erasing its owner needs no job: their keys go.

use std::time::Duration;

use hub_domain::event::MediaUploaded;
use hub_domain::id::{ObjectId, Shard, UserId, attached_key};
use hub_domain::limits::UPLOAD_AGE_MAX;
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::{Result, read};
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::Context;

/// By how much clocks may differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3600);

/// The queue of uploads to look after.
#[derive(Clone)]
pub struct Uploads {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    user: UserId,
    object: ObjectId,
}

/// The job that removes an upload, unless a message has it by then.
pub fn job(shard: Shard, event: &MediaUploaded) -> NewJob {
    let (user, object) = (event.user, event.file.object);
    NewJob {
        shard,
        queue: Uploads::NAME,
        key: object.to_string(),
        payload: serde_json::json!(Payload { user, object }),
        delay: UPLOAD_AGE_MAX + CLOCKS_DIFFER,
    }
}

impl Uploads {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Queue for Uploads {
    const NAME: &'static str = "uploads";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let Payload { user, object } = match serde_json::from_value(job.payload.clone()) {
            Ok(payload) => payload,
            Err(error) => {
                let reason = error.to_string();
                return Ok(Outcome::Park { reason });
            }
        };
        let pool = self.context.store().pool();
        let sent = read::place_of(pool, job.shard, attached_key(object)).await?;
        if sent.is_none() {
            self.context.objects().remove_all(user, &[object]).await?;
            metrics::counter!("hub_uploads_removed_total").increment(1);
        }
        Ok(Outcome::Done)
    }
}
