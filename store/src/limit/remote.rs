//! The counters of all processes, in Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hub_domain::secret::Secret;
use redis::aio::ConnectionManager;
use redis::{RedisResult, Script};

use super::{Budget, Level, Patience, Verdict, uncounted};
use crate::error::Result;

/// How long a request may wait for its count.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// How long nobody asks a Redis that has just failed, so that its absence delays one request and
/// not every one.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Remote {
    connection: ConnectionManager,
    scripts: Arc<Scripts>,
    health: Arc<Health>,
}

struct Scripts {
    take: Script,
    attempt: Script,
}

struct Health {
    began: Instant,
    is_away: AtomicBool,
    /// Milliseconds after `began` before which nobody asks.
    ask_again: AtomicU64,
}

impl Remote {
    pub(super) async fn new(url: &Secret) -> Result<Self> {
        let client = redis::Client::open(url.expose())?;
        Ok(Self {
            connection: client.get_connection_manager().await?,
            scripts: Arc::new(Scripts {
                take: Script::new(include_str!("../../lua/take.lua")),
                attempt: Script::new(include_str!("../../lua/attempt.lua")),
            }),
            health: Arc::new(Health {
                began: Instant::now(),
                is_away: AtomicBool::new(false),
                ask_again: AtomicU64::new(0),
            }),
        })
    }

    pub(super) async fn take(&self, who: &str, budgets: &[Budget]) -> Option<Verdict> {
        let (full, wait, left) = self.ask_for(who, budgets, 1).await?;
        match full.checked_sub(1) {
            Some(full) => {
                let budget = *budgets.get(full)?;
                Some(Verdict::refused(budget, Duration::from_millis(wait)))
            }
            None => Some(Verdict::passed(*budgets.last()?, left)),
        }
    }

    pub(super) async fn look(&self, who: &str, budget: &Budget) -> Option<Level> {
        let (_, wait, remaining) = self.ask_for(who, &[*budget], 0).await?;
        Some(Level {
            remaining,
            room_after: Duration::from_millis(wait),
        })
    }

    /// Which budget is full, when there is room, how many more requests the last one takes.
    async fn ask_for(
        &self,
        who: &str,
        budgets: &[Budget],
        requests: u32,
    ) -> Option<(usize, u64, u32)> {
        let mut call = self.scripts.take.prepare_invoke();
        for budget in budgets {
            // Braces keep somebody's counters on one node of a cluster.
            call.key(format!("hub:limit:{{{who}}}:{}", budget.name));
            call.arg(budget.requests).arg(millis(budget.window));
        }
        call.arg(requests);
        let mut connection = self.connection.clone();
        self.ask(call.invoke_async(&mut connection)).await
    }

    pub(super) async fn attempt(&self, what: &str, patience: &Patience) -> Option<Duration> {
        let mut call = self.scripts.attempt.key(failures(what));
        call.arg(patience.free);
        for time in [patience.first, patience.longest, patience.memory] {
            call.arg(millis(time));
        }
        let mut connection = self.connection.clone();
        let wait = self.ask(call.invoke_async::<u64>(&mut connection)).await?;
        (wait > 0).then(|| Duration::from_millis(wait))
    }

    pub(super) async fn forgive(&self, what: &str) {
        let mut command = redis::cmd("DEL");
        command.arg(failures(what));
        let mut connection = self.connection.clone();
        self.ask(command.query_async::<i64>(&mut connection)).await;
    }

    async fn ask<T>(&self, question: impl Future<Output = RedisResult<T>>) -> Option<T> {
        let health = &self.health;
        let now = || u64::try_from(health.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now() < health.ask_again.load(Ordering::Relaxed) {
            uncounted();
            return None;
        }
        let error = match tokio::time::timeout(ANSWER_WITHIN, question).await {
            Ok(Ok(answer)) => {
                if health.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!("Redis counts again");
                }
                return Some(answer);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        health
            .ask_again
            .store(now().saturating_add(pause), Ordering::Relaxed);
        if !health.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(error, "Redis does not count; requests pass without limits");
        }
        uncounted();
        None
    }
}

fn failures(what: &str) -> String {
    format!("hub:failures:{what}")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
