//! Delays: bounded on both sides, growing, and ended by the policy.

use std::time::Duration;

use hub_domain::retry::{JOB, Policy, SEND, delay, delay_at_least};
use proptest::prelude::*;

fn policy() -> impl Strategy<Value = Policy> {
    let any = (1..60_000_u64, 0..3_600_000_u64, 1..40_u32);
    let any = any.prop_map(|(first, more, attempts_max)| Policy {
        first: Duration::from_millis(first),
        cap: Duration::from_millis(first + more),
        attempts_max,
    });
    prop_oneof![Just(SEND), Just(JOB), any]
}

/// The longest delay before the next attempt, said in another way: doubled each time up to the cap.
fn longest(policy: Policy, attempt: u32) -> Duration {
    let doublings = attempt.max(1) - 1;
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    policy.first.saturating_mul(factor).min(policy.cap)
}

proptest! {
    #[test]
    fn a_delay_is_in_the_upper_half_of_its_range(
        policy in policy(), attempt in 0..50_u32, entropy in 0.0..1.0_f64
    ) {
        match delay(policy, attempt, entropy) {
            None => prop_assert!(attempt >= policy.attempts_max),
            Some(delay) => {
                prop_assert!(attempt < policy.attempts_max);
                let longest = longest(policy, attempt);
                prop_assert!(delay <= longest, "{delay:?} > {longest:?}");
                // A nanosecond for the rounding of halves.
                prop_assert!(delay + Duration::from_nanos(1) >= longest / 2);
                prop_assert!(delay > Duration::ZERO);
            }
        }
    }

    #[test]
    fn more_attempts_and_more_entropy_never_wait_less(
        policy in policy(), attempt in 1..40_u32, low in 0.0..1.0_f64, high in 0.0..1.0_f64
    ) {
        let (low, high) = if low <= high { (low, high) } else { (high, low) };
        prop_assert!(delay(policy, attempt, low) <= delay(policy, attempt, high));
        if let Some(next) = delay(policy, attempt + 1, low) {
            prop_assert!(delay(policy, attempt, low) <= Some(next));
        }
    }

    #[test]
    fn a_platform_that_asked_to_wait_is_not_called_earlier_nor_much_later(
        policy in policy(), attempt in 0..50_u32, asked in 0..86_400_000_u64, entropy in 0.0..1.0_f64
    ) {
        let asked = Duration::from_millis(asked);
        let waits = delay_at_least(policy, attempt, asked, entropy);
        prop_assert_eq!(waits.is_none(), attempt >= policy.attempts_max);
        if let Some(wait) = waits {
            prop_assert!(wait > asked && wait <= asked + Duration::from_millis(500));
        }
    }

    #[test]
    fn entropy_out_of_range_is_taken_as_its_nearest_bound(
        policy in policy(), attempt in 1..40_u32, entropy in -1e9..1e9_f64
    ) {
        prop_assert_eq!(
            delay(policy, attempt, entropy),
            delay(policy, attempt, entropy.clamp(0.0, 1.0))
        );
    }
}
