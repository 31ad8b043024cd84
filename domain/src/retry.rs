//! When to try again. The only user of the `backoff` crate, kept as a pure delay calculator:
//! the clock and the randomness are arguments.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// How delays grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Delay before the second attempt.
    pub first: Duration,
    /// No delay is longer.
    pub cap: Duration,
    /// Attempts in all; after that the work is parked or failed.
    pub attempts_max: u32,
}

/// Sending a message: patient, because a person waits for it and the platform may be down for hours.
pub const SEND: Policy = Policy {
    first: Duration::from_secs(2),
    cap: Duration::from_secs(15 * 60),
    attempts_max: 12,
};

/// Background jobs that read or maintain.
pub const JOB: Policy = Policy {
    first: Duration::from_secs(1),
    cap: Duration::from_secs(10 * 60),
    attempts_max: 10,
};

/// The delay before attempt `attempt + 1`, or `None` when the policy is exhausted.
///
/// `attempt` counts from 1. `entropy` is uniform in [0, 1): the delay is spread over the upper half
/// of its range ("equal jitter"), so that it is never close to zero and a crowd never comes back
/// together.
pub fn delay(policy: Policy, attempt: u32, entropy: f64) -> Option<Duration> {
    if attempt >= policy.attempts_max {
        return None;
    }
    let mut curve = ExponentialBackoff {
        current_interval: policy.first,
        initial_interval: policy.first,
        randomization_factor: 0.0,
        multiplier: 2.0,
        max_interval: policy.cap,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    let mut full = policy.first;
    for _ in 0..attempt.max(1) {
        full = curve.next_backoff().unwrap_or(policy.cap);
    }
    let full = full.min(policy.cap);
    let half = full / 2;
    Some(half + half.mul_f64(entropy.clamp(0.0, 1.0)))
}

/// As [`delay`], but never shorter than the wait a platform asked for.
pub fn delay_at_least(
    policy: Policy,
    attempt: u32,
    asked: Duration,
    entropy: f64,
) -> Option<Duration> {
    if attempt >= policy.attempts_max {
        return None;
    }
    // A little later than asked, never earlier: clocks differ and crowds form at the second.
    Some(
        asked
            + Duration::from_millis(50)
            + Duration::from_millis(450).mul_f64(entropy.clamp(0.0, 1.0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        first: Duration::from_secs(2),
        cap: Duration::from_secs(60),
        attempts_max: 8,
    };

    #[test]
    fn doubles_up_to_the_cap() {
        let upper: Vec<u64> = (1..8)
            .map(|attempt| delay(POLICY, attempt, 1.0).unwrap().as_secs())
            .collect();
        assert_eq!(upper, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(POLICY, 1, 0.0), Some(Duration::from_secs(1)));
    }

    #[test]
    fn ends() {
        assert_eq!(delay(POLICY, 8, 0.5), None);
        assert_eq!(delay_at_least(POLICY, 8, Duration::ZERO, 0.5), None);
    }

    #[test]
    fn never_earlier_than_asked() {
        for entropy in [0.0, 0.3, 0.999] {
            let wait = delay_at_least(POLICY, 1, Duration::from_secs(14), entropy).unwrap();
            assert!(wait >= Duration::from_secs(14) && wait < Duration::from_secs(15));
        }
    }
}
