//! When accounts are polled: how often, and what comes after trouble.
//!
//! Pure arithmetic: the clock and the randomness are the caller's. Nothing here ever says "never":
//! an account stays in the schedule whatever happened to its last poll.

use std::time::Duration;

/// Polls in a row that bring nothing before the pause doubles.
const IDLE_STEP: u32 = 5;

/// Doublings of the pause of an account where nothing happens.
const DOUBLINGS_MAX: u32 = 2;

/// Share of an interval by which polls are spread, so that a crowd does not come back together.
const JITTER: f64 = 0.1;

/// Pauses between the tries of one poll that the platform or the network broke.
const TRIES: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// The pause after a poll of which every try was broken, the first time in a row.
pub const AFTER_TROUBLE: Duration = Duration::from_secs(120);

/// Bounds of the wait that a platform asks for.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a poll is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollKind {
    /// The only way messages come in.
    Source,
    /// Behind webhooks, for what they missed: whatever it brings is a repair.
    Sweep,
}

/// How a platform's accounts are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// The interval while something happens. It fits the account's budget of calls.
    pub every: Duration,
    /// What a poll is for.
    pub kind: PollKind,
}

impl Polling {
    /// Polls are the only way messages come in.
    pub fn source(every: Duration) -> Self {
        let kind = PollKind::Source;
        Self { every, kind }
    }

    /// Polls are behind webhooks.
    pub fn sweep(every: Duration) -> Self {
        let kind = PollKind::Sweep;
        Self { every, kind }
    }

    /// The interval after this many polls in a row that brought nothing: it grows in steps, to a
    /// bound, and is back at once when something comes.
    pub fn interval(self, idle: u32) -> Duration {
        self.every * 2_u32.pow((idle / IDLE_STEP).min(DOUBLINGS_MAX))
    }

    /// The pause after a poll that stayed broken, when `before` polls in a row had been broken
    /// before it. A budget must not go into a platform that is down for long.
    pub fn after_trouble(self, before: u32) -> Duration {
        match before {
            0 => AFTER_TROUBLE,
            _ => self.every.max(AFTER_TROUBLE),
        }
    }
}

/// The pause before try `tried + 1` of a poll; `None` when it has had all.
pub fn again_after(tried: u32) -> Option<Duration> {
    TRIES.get(tried.saturating_sub(1) as usize).copied()
}

/// The wait a platform asked for, within reason.
pub fn asked(wait: Duration) -> Duration {
    wait.clamp(WAIT_MIN, WAIT_MAX)
}

/// An interval spread around itself. `entropy` is uniform in [0, 1).
pub fn spread(interval: Duration, entropy: f64) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * entropy.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const POLLING: Polling = Polling {
        every: MINUTE,
        kind: PollKind::Source,
    };

    #[test]
    fn quiet_accounts_are_asked_less_often_and_never_dropped() {
        assert_eq!(POLLING.interval(0), MINUTE);
        assert_eq!(POLLING.interval(4), MINUTE);
        assert_eq!(POLLING.interval(5), 2 * MINUTE);
        assert_eq!(POLLING.interval(10), 4 * MINUTE);
        assert_eq!(POLLING.interval(u32::MAX), 4 * MINUTE);
    }

    #[test]
    fn a_broken_poll_is_tried_three_times_more_and_then_waits() {
        let pauses: Vec<_> = (1..5).map_while(again_after).collect();
        assert_eq!(pauses, TRIES);
        assert_eq!(POLLING.after_trouble(0), 2 * MINUTE);
        assert_eq!(POLLING.after_trouble(7), 2 * MINUTE);
        let rare = Polling {
            every: 15 * MINUTE,
            ..POLLING
        };
        assert_eq!(rare.after_trouble(0), 2 * MINUTE);
        assert_eq!(rare.after_trouble(1), 15 * MINUTE);
    }

    #[test]
    fn a_spread_stays_near_its_interval_and_a_wait_within_reason() {
        for entropy in [-1.0, 0.0, 0.5, 0.99, 2.0] {
            let spread = spread(MINUTE, entropy);
            assert!((54..=66).contains(&spread.as_secs()), "{spread:?}");
        }
        assert_eq!(asked(Duration::ZERO), WAIT_MIN);
        assert_eq!(asked(MINUTE), MINUTE);
        assert_eq!(asked(Duration::MAX), WAIT_MAX);
    }
}
