//! Counters: one window for everybody who counts, nothing is lost between two who ask at once, and
//! without Redis everything passes. What the pure part promises is tested beside it.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hub_domain::secret::Secret;
use hub_store::limit::{Budget, Limits, Patience, Verdict};

use crate::redis::Redis;

const HUNDRED: Budget = Budget {
    name: "api",
    requests: 100,
    window: Duration::from_secs(60),
};

const FEW: Budget = Budget {
    name: "strict",
    requests: 2,
    window: Duration::from_millis(600),
};

const PATIENCE: Patience = Patience {
    free: 3,
    first: Duration::from_millis(200),
    longest: Duration::from_secs(1),
    memory: Duration::from_secs(10),
};

async fn on(redis: &Redis) -> Limits {
    Limits::new(Some(&Secret::new(redis.url()))).await.unwrap()
}

/// Two that should behave as one: two processes with Redis, one in memory without.
async fn pairs(redis: Option<&Redis>) -> Vec<[Limits; 2]> {
    let alone = Limits::new(None).await.unwrap();
    let mut pairs = vec![[alone.clone(), alone]];
    if let Some(redis) = redis {
        pairs.push([on(redis).await, on(redis).await]);
    }
    pairs
}

async fn take(limits: &Limits, who: &str, budgets: &[Budget]) -> Verdict {
    limits.take(who, budgets).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_of_a_hundred_and_one_at_once_pass() {
    let redis = Redis::start();
    for pair in pairs(redis.as_ref()).await {
        let calls = (0..101).map(|n| {
            let limits = pair[n % 2].clone();
            tokio::spawn(async move { take(&limits, "ann", &[HUNDRED]).await })
        });
        let verdicts = join_all(calls).await.into_iter().map(Result::unwrap);
        let (refused, passed): (Vec<_>, Vec<_>) =
            verdicts.partition(|verdict| verdict.retry_after.is_some());
        let mut left: Vec<u32> = passed.iter().map(|verdict| verdict.remaining).collect();
        left.sort_unstable();
        assert_eq!(left, (0..100).collect::<Vec<_>>(), "each place once");
        assert_eq!(refused.len(), 1);
        let wait = refused[0].retry_after.unwrap();
        assert!(wait > Duration::from_secs(50) && wait <= HUNDRED.window);
        let other = take(&pair[0], "bob", &[HUNDRED]).await;
        assert_eq!((other.remaining, other.retry_after), (99, None));
    }
}

#[tokio::test]
async fn the_window_slides_and_refusals_count_nowhere() {
    let redis = Redis::start();
    for pair in pairs(redis.as_ref()).await {
        let [one, two] = &pair;
        assert_eq!(take(one, "ann", &[HUNDRED, FEW]).await.remaining, 1);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(take(two, "ann", &[HUNDRED, FEW]).await.remaining, 0);
        for limits in &pair {
            let refused = take(limits, "ann", &[HUNDRED, FEW]).await;
            assert_eq!(refused.budget, FEW);
            let wait = refused.retry_after.unwrap();
            assert!(wait <= Duration::from_millis(300), "{wait:?}");
        }
        assert_eq!(take(one, "ann", &[HUNDRED]).await.remaining, 97);
        // The first leaves, the second is still there.
        let wait = take(one, "ann", &[FEW]).await.retry_after.unwrap();
        tokio::time::sleep(wait).await;
        assert_eq!(take(two, "ann", &[FEW]).await.retry_after, None);
        assert!(take(two, "ann", &[FEW]).await.retry_after.is_some());
    }
}

#[tokio::test]
async fn looking_tells_what_the_other_has_counted_and_counts_nothing() {
    let redis = Redis::start();
    for [one, two] in pairs(redis.as_ref()).await {
        for _ in 0..2 {
            let level = two.look("ann", &FEW).await;
            assert_eq!((level.remaining, level.room_after), (2, FEW.window));
        }
        take(&one, "ann", &[FEW]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let level = two.look("ann", &FEW).await;
        assert_eq!(level.remaining, 1);
        assert!(level.room_after <= Duration::from_millis(500), "{level:?}");
        take(&two, "ann", &[FEW]).await;
        let level = one.look("ann", &FEW).await;
        assert_eq!(level.remaining, 0);
        tokio::time::sleep(level.room_after).await;
        assert!(one.look("ann", &FEW).await.remaining > 0);
    }
}

#[tokio::test]
async fn failures_wait_longer_until_one_succeeds() {
    let redis = Redis::start();
    for [one, two] in pairs(redis.as_ref()).await {
        // At once, before anybody knows how they end.
        let both = [&one, &two].repeat(10);
        let attempts = both.iter().map(|limits| limits.attempt("ann", &PATIENCE));
        let waits: Vec<_> = join_all(attempts).await.into_iter().flatten().collect();
        assert_eq!(waits.len(), 17, "three are free");
        assert!(waits.iter().all(|wait| *wait <= PATIENCE.first));
        tokio::time::sleep(PATIENCE.first).await;
        assert_eq!(two.attempt("ann", &PATIENCE).await, None);
        let wait = one.attempt("ann", &PATIENCE).await.unwrap();
        assert!(wait > PATIENCE.first && wait <= 2 * PATIENCE.first);
        assert_eq!(one.attempt("bob", &PATIENCE).await, None);
        one.forgive("ann").await;
        assert_eq!(two.attempt("ann", &PATIENCE).await, None);
    }
}

#[tokio::test]
async fn without_redis_everything_passes_and_later_it_counts_again() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let limits = on(&redis).await;
    for _ in 0..2 {
        assert_eq!(take(&limits, "ann", &[FEW]).await.retry_after, None);
    }
    assert!(take(&limits, "ann", &[FEW]).await.retry_after.is_some());
    redis.kill();
    let began = Instant::now();
    for _ in 0..50 {
        let verdict = take(&limits, "ann", &[FEW]).await;
        assert_eq!((verdict.remaining, verdict.retry_after), (1, None));
        assert_eq!(limits.attempt("ann", &PATIENCE).await, None);
        limits.forgive("ann").await;
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(2),
        "its absence delays: {took:?}"
    );
    redis.start_again();
    let long = Budget {
        window: Duration::from_secs(60),
        ..FEW
    };
    crate::world::eventually("Redis counts", async || {
        take(&limits, "ann", &[long]).await.retry_after.is_some()
    })
    .await;
}
