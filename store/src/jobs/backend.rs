//! The jobs table behind apalis's storage seam.
//!
//! apalis drives workers, layers, restarts and shutdown; [`Persisted`] drives this claim loop. The
//! outcome of a job is written by whoever handled it, under its fence ([`super::finish`]), so
//! apalis's own completion events have nothing left to do here.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::persistence::{Persisted, Persistence, State, TaskEvent};
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::layers::Identity;
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::{RandomId, TaskId};
use apalis_core::worker::context::WorkerContext;
use futures::Stream;
use futures::stream::StreamExt as _;
use sqlx::PgPool;

use super::Job;
use crate::Store;
use crate::error::Error;
use crate::signal::Listener;

/// An idle queue is looked at this often even when no signal came.
const POLL: Duration = Duration::from_millis(250);

/// A lost heartbeat means nothing here (leases are per job), so this only bounds idle wake-ups.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Claims jobs of one queue.
#[derive(Clone)]
pub struct Claims {
    pool: PgPool,
    shards: Vec<i16>,
    queue: &'static str,
    owner: String,
    lease: Duration,
    limit: i64,
}

impl Persistence for Claims {
    type Compact = Job;
    type Response = ();
    type Error = Error;

    async fn register(&mut self, _: &WorkerContext) -> Result<(), Error> {
        Ok(())
    }

    async fn heartbeat(&mut self, _: &WorkerContext) -> Result<(), Error> {
        Ok(())
    }

    async fn fetch_next(&mut self, _: &WorkerContext) -> Result<Vec<Task<Job>>, Error> {
        let mut shards = self.shards.clone();
        let turn = (uuid::Uuid::now_v7().as_u128() % shards.len().max(1) as u128) as usize;
        shards.rotate_left(turn);
        let jobs = super::claim(
            &self.pool,
            &shards,
            self.queue,
            &self.owner,
            self.lease,
            self.limit,
        )
        .await?;
        Ok(jobs
            .into_iter()
            .map(|job| {
                TaskBuilder::new(job)
                    .task_id(TaskId::from_string(RandomId::default()))
                    .build()
            })
            .collect())
    }

    async fn reenqueue_abandoned(
        &mut self,
        tasks: Vec<Task<Job>>,
        _: &WorkerContext,
    ) -> Result<u64, Error> {
        let jobs: Vec<Job> = tasks.into_iter().map(|task| task.args).collect();
        super::give_back(&self.pool, &jobs).await?;
        Ok(jobs.len() as u64)
    }

    async fn handle_events(
        &mut self,
        _: Vec<TaskEvent<()>>,
        _: &WorkerContext,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn push_tasks(&mut self, tasks: Vec<Task<Job>>) -> Result<(), Error> {
        // Jobs are enqueued inside the transaction that wants them (`jobs::enqueue`).
        super::give_back(
            &self.pool,
            &tasks.into_iter().map(|task| task.args).collect::<Vec<_>>(),
        )
        .await
    }
}

/// An apalis backend that yields the due jobs of one queue.
pub struct JobBackend {
    persisted: Persisted<Claims>,
    wake: Pin<Box<dyn Stream<Item = ()> + Send>>,
    look_again: bool,
}

impl JobBackend {
    /// The jobs of `queue`, each held for `lease`; at most `limit` are claimed at a time. `owner`
    /// names this incarnation of the worker and must never be used twice.
    pub fn new(
        store: &Store,
        queue: &'static str,
        owner: String,
        lease: Duration,
        limit: i64,
    ) -> Self {
        Self {
            persisted: Persisted::new(Claims {
                pool: store.pool().clone(),
                shards: (0..store.sharding().count).collect(),
                queue,
                owner,
                lease,
                limit,
            }),
            wake: Box::pin(wakes(store.signals().listen_queue(queue))),
            look_again: false,
        }
    }
}

fn wakes(listener: Listener) -> impl Stream<Item = ()> + Send {
    futures::stream::unfold(listener, |mut listener| async move {
        listener.wait(POLL).await;
        Some(((), listener))
    })
}

impl Backend for JobBackend {
    type Task = Task<Job>;
    type Error = Error;

    fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Error>> {
        self.persisted.poll_ready(cx, worker, HEARTBEAT)
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Task<Job>, Error>>> {
        loop {
            // Taken before looking, and kept while a look is under way: a job that became due just
            // after the look is found by the next one.
            while let Poll::Ready(Some(())) = self.wake.poll_next_unpin(cx) {
                self.look_again = true;
            }
            match self.persisted.poll_next(cx, worker) {
                Poll::Pending => {
                    let looked_in_vain = matches!(self.persisted.state(), State::Ready);
                    if looked_in_vain && std::mem::take(&mut self.look_again) {
                        continue;
                    }
                    return Poll::Pending;
                }
                ready => return ready,
            }
        }
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Error>> {
        self.persisted.poll_close(cx, worker)
    }
}

impl BackendConfig for JobBackend {
    type Args = Job;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
