//! The counters of one process. Time is an argument, counted from any beginning.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Budget, Level, Patience, Verdict, uncounted};

/// Times and failures kept at most; a time takes 16 bytes, a person's log or failure about 100
/// more. What comes beyond passes without being counted.
const KEPT_MAX: usize = 500_000;

/// How often what has ended is thrown away.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// The same when memory is full.
const SWEEP_WHEN_FULL_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Memory {
    kept: Mutex<Kept>,
    most: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::holding(KEPT_MAX)
    }
}

#[derive(Default)]
struct Kept {
    /// The times of requests, oldest first, by person and budget.
    logs: HashMap<(String, &'static str), Log>,
    failures: HashMap<String, Failures>,
    /// Times in all logs.
    times: usize,
    swept: Duration,
}

#[derive(Default)]
struct Log {
    times: VecDeque<Duration>,
    /// When the newest has left the window.
    until: Duration,
}

struct Failures {
    count: u32,
    last: Duration,
    until: Duration,
}

impl Memory {
    fn holding(most: usize) -> Self {
        Self {
            kept: Mutex::default(),
            most,
        }
    }

    pub(super) fn take(&self, who: &str, budgets: &[Budget], now: Duration) -> Option<Verdict> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sweep(now, self.most);
        let mut remaining = 0;
        for budget in budgets {
            let (used, oldest) = kept.used(who, budget, now);
            if used >= budget.requests as usize {
                let wait = (oldest + budget.window).saturating_sub(now);
                return Some(Verdict::refused(*budget, wait));
            }
            remaining = budget.requests - u32::try_from(used).unwrap_or(u32::MAX) - 1;
        }
        if kept.len() + budgets.len() > self.most {
            uncounted();
            return None;
        }
        for budget in budgets {
            let log = kept.logs.entry((who.to_owned(), budget.name)).or_default();
            log.times.push_back(now);
            log.until = now + budget.window;
            kept.times += 1;
        }
        budgets
            .last()
            .map(|budget| Verdict::passed(*budget, remaining))
    }

    pub(super) fn look(&self, who: &str, budget: &Budget, now: Duration) -> Level {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, oldest) = kept.used(who, budget, now);
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        Level {
            remaining: budget.requests.saturating_sub(used),
            room_after: (oldest + budget.window).saturating_sub(now),
        }
    }

    pub(super) fn attempt(
        &self,
        what: &str,
        patience: &Patience,
        now: Duration,
    ) -> Option<Duration> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sweep(now, self.most);
        let known = kept.failures.get(what).filter(|known| now < known.until);
        let (count, last) = known.map_or((0, now), |known| (known.count, known.last));
        if let Some(beyond) = count.checked_sub(patience.free) {
            let delay = patience.first.saturating_mul(1 << beyond.min(30));
            let wait = (last + delay.min(patience.longest)).saturating_sub(now);
            if !wait.is_zero() {
                return Some(wait);
            }
        }
        if count == 0 && kept.len() >= self.most {
            uncounted();
            return None;
        }
        let failures = Failures {
            count: count.saturating_add(1),
            last: now,
            until: now + patience.memory,
        };
        kept.failures.insert(what.to_owned(), failures);
        None
    }

    pub(super) fn forgive(&self, what: &str) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.failures.remove(what);
    }
}

impl Kept {
    fn len(&self) -> usize {
        self.times + self.failures.len()
    }

    /// How many requests are in the window, and when the oldest of them came.
    fn used(&mut self, who: &str, budget: &Budget, now: Duration) -> (usize, Duration) {
        let Some(log) = self.logs.get_mut(&(who.to_owned(), budget.name)) else {
            return (0, now);
        };
        while log
            .times
            .front()
            .is_some_and(|it| *it + budget.window <= now)
        {
            log.times.pop_front();
            self.times -= 1;
        }
        (log.times.len(), log.times.front().copied().unwrap_or(now))
    }

    fn sweep(&mut self, now: Duration, most: usize) {
        let is_full = self.len() >= most;
        let every = if is_full {
            SWEEP_WHEN_FULL_EVERY
        } else {
            SWEEP_EVERY
        };
        if now < self.swept + every {
            return;
        }
        self.swept = now;
        self.logs.retain(|_, log| now < log.until);
        self.times = self.logs.values().map(|log| log.times.len()).sum();
        self.failures.retain(|_, failures| now < failures.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    const THREE: Budget = Budget {
        name: "api",
        requests: 3,
        window: MINUTE,
    };

    const ONE: Budget = Budget {
        name: "strict",
        requests: 1,
        window: MINUTE,
    };

    const PATIENCE: Patience = Patience {
        free: 2,
        first: Duration::from_secs(1),
        longest: Duration::from_secs(5),
        memory: Duration::from_secs(100),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn take(memory: &Memory, who: &str, budgets: &[Budget], seconds: u64) -> Verdict {
        memory.take(who, budgets, at(seconds)).expect("counted")
    }

    #[test]
    fn the_window_slides() {
        let memory = Memory::default();
        for (seconds, remaining) in [(0, 2), (20, 1), (40, 0)] {
            let verdict = take(&memory, "ann", &[THREE], seconds);
            assert_eq!(verdict, Verdict::passed(THREE, remaining));
        }
        // Refusals are not counted, so that the wait gets shorter whatever one does.
        for (seconds, wait) in [(40, 20), (45, 15), (59, 1)] {
            let verdict = take(&memory, "ann", &[THREE], seconds);
            assert_eq!(verdict, Verdict::refused(THREE, at(wait)));
        }
        // The first has left the window; the others have not.
        assert_eq!(
            take(&memory, "ann", &[THREE], 60),
            Verdict::passed(THREE, 0)
        );
        let verdict = take(&memory, "ann", &[THREE], 61);
        assert_eq!(verdict, Verdict::refused(THREE, at(19)));
        // Somebody else is not concerned.
        assert_eq!(
            take(&memory, "bob", &[THREE], 61),
            Verdict::passed(THREE, 2)
        );
        // After a quiet window everything is there again.
        assert_eq!(
            take(&memory, "ann", &[THREE], 200),
            Verdict::passed(THREE, 2)
        );
    }

    #[test]
    fn a_request_counts_in_all_its_budgets_or_in_none() {
        let memory = Memory::default();
        assert_eq!(
            take(&memory, "ann", &[THREE, ONE], 0),
            Verdict::passed(ONE, 0)
        );
        for _ in 0..5 {
            let verdict = take(&memory, "ann", &[THREE, ONE], 1);
            assert_eq!(verdict, Verdict::refused(ONE, at(59)));
        }
        assert_eq!(take(&memory, "ann", &[THREE], 2), Verdict::passed(THREE, 1));
        assert_eq!(take(&memory, "ann", &[THREE], 2), Verdict::passed(THREE, 0));
        let verdict = take(&memory, "ann", &[THREE, ONE], 3);
        assert_eq!(verdict, Verdict::refused(THREE, at(57)));
    }

    #[test]
    fn looking_counts_nothing() {
        let memory = Memory::default();
        let look = |seconds| {
            let level = memory.look("ann", &THREE, at(seconds));
            (level.remaining, level.room_after)
        };
        assert_eq!([look(0), look(0)], [(3, MINUTE), (3, MINUTE)]);
        take(&memory, "ann", &[THREE], 10);
        take(&memory, "ann", &[THREE], 20);
        assert_eq!([look(20), look(30)], [(1, at(50)), (1, at(40))]);
        take(&memory, "ann", &[THREE], 30);
        take(&memory, "ann", &[THREE], 30);
        assert_eq!([look(30), look(70)], [(0, at(40)), (1, at(10))]);
        assert_eq!(look(200), (3, MINUTE));
    }

    #[test]
    fn failures_make_the_next_attempt_wait_longer() {
        let memory = Memory::default();
        let attempt = |seconds| memory.attempt("ann", &PATIENCE, at(seconds));
        assert_eq!([attempt(0), attempt(0)], [None, None]);
        assert_eq!(attempt(0), Some(at(1)));
        assert_eq!([attempt(1), attempt(1)], [None, Some(at(2))]);
        assert_eq!([attempt(3), attempt(3)], [None, Some(at(4))]);
        // Asking does not make it longer, and there is a longest.
        assert_eq!([attempt(7), attempt(7)], [None, Some(at(5))]);
        assert_eq!([attempt(11), attempt(12)], [Some(at(1)), None]);
        assert_eq!(memory.attempt("bob", &PATIENCE, at(12)), None);
        memory.forgive("ann");
        assert_eq!([attempt(12), attempt(12)], [None, None]);
        assert_eq!(attempt(12), Some(at(1)));
        // Forgotten after a while.
        assert_eq!([attempt(112), attempt(112)], [None, None]);
    }

    #[test]
    fn memory_is_bounded_and_what_is_beyond_passes() {
        let memory = Memory::holding(10);
        for n in 0..100 {
            let who = format!("user {n}");
            let verdict = memory.take(&who, &[THREE], at(0));
            assert_eq!(verdict.is_some(), n < 5);
            assert_eq!(memory.attempt(&who, &PATIENCE, at(0)), None);
        }
        let kept = memory.kept.lock().unwrap();
        assert_eq!((kept.len(), kept.logs.len()), (10, 5));
        drop(kept);
        // When the window is over there is room again, and nothing is left of who is gone.
        assert!(memory.take("late", &[THREE], at(60)).is_some());
        let kept = memory.kept.lock().unwrap();
        assert_eq!((kept.len(), kept.logs.len()), (6, 1));
    }
}
