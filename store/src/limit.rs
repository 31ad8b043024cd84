//! Counting what people do, and what is done in their accounts' names, so that it is not too much.
//!
//! Two ways of counting. A [`Budget`] is so many requests in a sliding window: every request's time
//! is kept until it leaves the window, and what is refused is not counted. [`Patience`] is for
//! guessing: failures make the next attempt wait longer and longer, until one succeeds.
//!
//! With Redis all processes count together: one script decides and counts in one step, by the clock
//! of Redis. Without, every process counts for itself, in bounded memory. Counting never stands in
//! anybody's way: when Redis does not answer, or memory is full, everything passes. That is logged
//! when it begins and when it ends, and counted in `hub_limit_uncounted_total`.

mod memory;
mod remote;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_domain::secret::Secret;

use crate::error::Result;
use memory::Memory;
use remote::Remote;

/// So many requests in a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Which of somebody's budgets.
    pub name: &'static str,
    /// Requests in the window, at least one.
    pub requests: u32,
    /// The window's length.
    pub window: Duration,
}

impl Budget {
    /// The budget of calls of a platform in the name of one account; `who` is the account's id.
    pub fn calls((requests, window): (u32, Duration)) -> Self {
        Self {
            name: "calls",
            requests,
            window,
        }
    }
}

/// What became of a request that asked for its place in budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The budget that is full, or the last one that was asked for.
    pub budget: Budget,
    /// How many more requests it takes now.
    pub remaining: u32,
    /// The request is refused; there is room after this time.
    pub retry_after: Option<Duration>,
}

impl Verdict {
    fn passed(budget: Budget, remaining: u32) -> Self {
        Self {
            budget,
            remaining,
            retry_after: None,
        }
    }

    fn refused(budget: Budget, after: Duration) -> Self {
        Self {
            budget,
            remaining: 0,
            retry_after: Some(after),
        }
    }
}

/// How much of a budget there is, for somebody who only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// How many requests it takes now.
    pub remaining: u32,
    /// When the oldest counted request leaves the window, and with it makes room for one; the whole
    /// window when nothing is counted.
    pub room_after: Duration,
}

/// How failures make the next attempt wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Failures that cost nothing.
    pub free: u32,
    /// The wait after the last free one; every further failure doubles it.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// Failures are forgotten this long after the last one. Longer than the longest wait.
    pub memory: Duration,
}

/// The counters. Clones share them.
#[derive(Clone)]
pub struct Limits {
    memory: Arc<Memory>,
    remote: Option<Remote>,
    began: Instant,
}

impl Limits {
    /// Counters of this process, or of all processes when Redis is named.
    pub async fn new(redis: Option<&Secret>) -> Result<Self> {
        let remote = match redis {
            Some(url) => Some(Remote::new(url).await?),
            None => None,
        };
        Ok(Self {
            memory: Arc::new(Memory::default()),
            remote,
            began: Instant::now(),
        })
    }

    /// Counts one request of `who` in each of the budgets, or in none of them when one is full.
    /// `None` when nothing was asked for.
    pub async fn take(&self, who: &str, budgets: &[Budget]) -> Option<Verdict> {
        let last = *budgets.last()?;
        let verdict = match &self.remote {
            Some(remote) => remote.take(who, budgets).await,
            None => self.memory.take(who, budgets, self.began.elapsed()),
        };
        // Nobody counted: as if it were the first.
        Some(verdict.unwrap_or_else(|| Verdict::passed(last, last.requests.saturating_sub(1))))
    }

    /// How much there is of a budget of `who`. Counts nothing.
    pub async fn look(&self, who: &str, budget: &Budget) -> Level {
        let level = match &self.remote {
            Some(remote) => remote.look(who, budget).await,
            None => Some(self.memory.look(who, budget, self.began.elapsed())),
        };
        // Nobody counts: as if there were nothing to count.
        level.unwrap_or(Level {
            remaining: budget.requests,
            room_after: budget.window,
        })
    }

    /// Asks for an attempt at something that can be guessed. It counts as a failure at once, so that
    /// attempts at the same time count as well; say [`Limits::forgive`] when it succeeds. An answer
    /// is how long to wait first; such an attempt is not counted.
    pub async fn attempt(&self, what: &str, patience: &Patience) -> Option<Duration> {
        match &self.remote {
            Some(remote) => remote.attempt(what, patience).await,
            None => self.memory.attempt(what, patience, self.began.elapsed()),
        }
    }

    /// Forgets the failures: an attempt succeeded.
    pub async fn forgive(&self, what: &str) {
        match &self.remote {
            Some(remote) => remote.forgive(what).await,
            None => self.memory.forgive(what),
        }
    }
}

/// Something passed without being counted.
fn uncounted() {
    metrics::counter!("hub_limit_uncounted_total").increment(1);
}
