//! How far the read models show the log, for whoever has to wait for that.
//!
//! A crowd waits at the same time (a request for its own write, every turn of sends for its queue),
//! and read models move many times a second. So only the first look of somebody who waits is their
//! own; the later ones are shared: one query for all of them after each move.
//!
//! What is seen may be older than what is there, never newer: positions only grow.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_domain::id::{Place, Shard};
use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::Store;
use crate::checkpoint;
use crate::error::Result;
use crate::project::Projection;
use crate::signal::{Signals, Topic};

/// Signals are hints and may be lost: so often somebody looks in any case.
const LOOK: Duration = Duration::from_millis(50);

/// Of a shard and a projection, where the live generation is.
type Positions = HashMap<(i16, String), i64>;

/// What was seen last, by all who wait in this process.
#[derive(Clone, Default)]
pub(crate) struct Shown {
    seen: Arc<Mutex<Option<Seen>>>,
}

struct Seen {
    moved: u64,
    at: Instant,
    positions: Arc<Positions>,
}

impl Shown {
    /// Where all live read models are: as they were seen since they last moved, or now.
    async fn look(&self, pool: &PgPool, signals: &Signals) -> Result<Arc<Positions>> {
        let mut seen = self.seen.lock().await;
        // Before the query: what is raised while it runs makes the next one look again.
        let moved = signals.count(Topic::Projected);
        if let Some(seen) = &*seen
            && seen.moved == moved
            && seen.at.elapsed() < LOOK
        {
            return Ok(Arc::clone(&seen.positions));
        }
        let at = Instant::now();
        let positions = Arc::new(checkpoint::live_positions_of_all(pool).await?);
        *seen = Some(Seen {
            moved,
            at,
            positions: Arc::clone(&positions),
        });
        Ok(positions)
    }
}

impl Store {
    /// Waits until the live generation of a projection has passed a place, at most this long.
    /// True when it has. This is how a request reads its own writes.
    pub async fn wait_for_projection(
        &self,
        projection: Projection,
        place: Place,
        at_most: Duration,
    ) -> Result<bool> {
        let deadline = Instant::now() + at_most;
        let position =
            checkpoint::live_position(self.pool(), projection.name(), place.shard).await?;
        if position >= place.position {
            return Ok(true);
        }
        self.wait_until(&[projection], place, deadline).await
    }

    /// Waits until every live read model shows what a shard's log has now. False when that took
    /// longer than this. What is appended meanwhile is not waited for.
    pub async fn wait_for_projections(&self, shard: Shard, at_most: Duration) -> Result<bool> {
        let deadline = Instant::now() + at_most;
        let (position, shown) = checkpoint::head_and_shown(self.pool(), shard).await?;
        if shown >= position {
            return Ok(true);
        }
        let place = Place { shard, position };
        self.wait_until(&Projection::ALL, place, deadline).await
    }

    async fn wait_until(
        &self,
        projections: &[Projection],
        place: Place,
        deadline: Instant,
    ) -> Result<bool> {
        let mut listener = self.signals().listen(Topic::Projected);
        loop {
            let positions = self.shown.look(self.pool(), self.signals()).await?;
            let shows = |projection: &Projection| {
                let at = positions.get(&(place.shard.0, projection.name().to_owned()));
                at.is_some_and(|at| *at >= place.position)
            };
            if projections.iter().all(shows) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            listener.wait(left.min(LOOK)).await;
        }
    }
}
