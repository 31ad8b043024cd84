//! Jobs: claimed by one, written under a fence, never lost and never run for ever.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use hub_domain::id::Shard;
use hub_store::jobs::{self, CLAIMS_MAX, Job, NewJob, Outcome};
use hub_store::{Error, PgPool};
use serde_json::json;

use crate::world::{SHARDS, World};

pub const QUEUE: &str = "test";
const LEASE: Duration = Duration::from_secs(60);

pub fn job(key: &str) -> NewJob {
    NewJob {
        shard: Shard(key.len() as i16 % SHARDS as i16),
        queue: QUEUE,
        key: key.to_owned(),
        payload: json!({ "key": key }),
        delay: Duration::ZERO,
    }
}

pub async fn enqueue(pool: &PgPool, job: &NewJob) {
    let mut connection = pool.acquire().await.unwrap();
    jobs::enqueue(&mut connection, job).await.unwrap();
}

pub async fn claim(pool: &PgPool, limit: i64) -> Vec<Job> {
    let shards: Vec<i16> = (0..SHARDS as i16).collect();
    jobs::claim(pool, &shards, QUEUE, "me", LEASE, limit)
        .await
        .unwrap()
}

/// Claims what must be the only due job.
async fn claim_one(pool: &PgPool) -> Job {
    let mut claimed = claim(pool, 10).await;
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    claimed.remove(0)
}

/// Lets the leases and delays of all jobs pass, on the clock that counts: the database's.
async fn time_passes(pool: &PgPool) {
    sqlx::query("UPDATE jobs SET due_at = now()")
        .execute(pool)
        .await
        .unwrap();
}

/// Seconds until the only job is due.
async fn due_in(pool: &PgPool) -> f64 {
    sqlx::query_scalar("SELECT extract(epoch FROM due_at - now())::float8 FROM jobs")
        .fetch_one(pool)
        .await
        .unwrap()
}

pub async fn count(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

async fn retry(pool: &PgPool, job: &Job, after: Duration) {
    let reason = "not today".to_owned();
    let outcome = Outcome::Retry { after, reason };
    jobs::finish(pool, QUEUE, job, &outcome).await.unwrap();
}

#[tokio::test]
async fn a_job_exists_if_and_only_if_its_transaction_commits() {
    let world = World::new().await;
    let mut tx = world.pool().begin().await.unwrap();
    jobs::enqueue(&mut tx, &job("a")).await.unwrap();
    assert!(claim(world.pool(), 10).await.is_empty());
    tx.commit().await.unwrap();
    let claimed = claim_one(world.pool()).await;
    assert_eq!((claimed.key.as_str(), claimed.attempts), ("a", 1));
    assert_eq!(claimed.payload, json!({ "key": "a" }));
    let mut tx = world.pool().begin().await.unwrap();
    jobs::enqueue(&mut tx, &job("b")).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(count(world.pool(), "SELECT count(*) FROM jobs").await, 1);
}

#[tokio::test]
async fn asking_again_keeps_one_row_and_raises_its_seq() {
    let world = World::new().await;
    for _ in 0..3 {
        enqueue(world.pool(), &job("a")).await;
    }
    assert_eq!(claim_one(world.pool()).await.seq, 3);
}

#[tokio::test]
async fn many_are_enqueued_at_once_and_the_same_counts_once() {
    let world = World::new().await;
    enqueue(world.pool(), &job("a")).await;
    let later = NewJob {
        delay: LEASE,
        ..job("b")
    };
    let wanted = [job("b"), later, job("a"), job("c"), job("c")];
    let mut connection = world.pool().acquire().await.unwrap();
    jobs::enqueue_all(&mut connection, &wanted).await.unwrap();
    jobs::enqueue_all(&mut connection, &[]).await.unwrap();
    let claimed = claim(world.pool(), 10).await;
    let mut claimed: Vec<_> = claimed.iter().map(|it| (it.key.as_str(), it.seq)).collect();
    claimed.sort_unstable();
    assert_eq!(claimed, [("a", 2), ("b", 1), ("c", 1)]);
}

#[tokio::test]
async fn an_end_says_whether_the_job_is_due_again_by_now() {
    let world = World::new().await;
    enqueue(world.pool(), &job("a")).await;
    let end = async |outcome| {
        let claimed = claim_one(world.pool()).await;
        jobs::finish(world.pool(), QUEUE, &claimed, &outcome)
            .await
            .unwrap()
    };
    assert!(end(Outcome::Again(Duration::ZERO)).await);
    assert!(!end(Outcome::Again(LEASE)).await);
    time_passes(world.pool()).await;
    let claimed = claim_one(world.pool()).await;
    enqueue(world.pool(), &job("a")).await;
    let done = jobs::finish(world.pool(), QUEUE, &claimed, &Outcome::Done);
    assert!(done.await.unwrap(), "somebody asked again while it ran");
    assert!(!end(Outcome::Done).await);
    assert_eq!(count(world.pool(), "SELECT count(*) FROM jobs").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_claimers_never_get_the_same_job() {
    let world = World::new().await;
    for n in 0..200 {
        enqueue(
            world.pool(),
            &job(&format!("{n:0width$}", width = 3 + n % 4)),
        )
        .await;
    }
    let claimers = (0..6).map(|_| {
        let pool = world.pool().clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = claim(&pool, 7).await;
                assert!(claimed.len() <= 7);
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(claimed.into_iter().map(|job| job.id));
            }
        })
    });
    let mut all = Vec::new();
    for claimed in join_all(claimers).await {
        all.extend(claimed.unwrap());
    }
    // A claimer that meets only rows held by others gives up early; those go to the others.
    all.extend(claim(world.pool(), 200).await.into_iter().map(|job| job.id));
    assert_eq!(all.len(), 200);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 200);
}

#[tokio::test]
async fn a_job_rests_until_it_is_due_and_while_it_is_leased() {
    let world = World::new().await;
    let later = NewJob {
        delay: Duration::from_secs(30),
        ..job("a")
    };
    enqueue(world.pool(), &later).await;
    assert!(claim(world.pool(), 10).await.is_empty());
    let due = due_in(world.pool()).await;
    assert!((25.0..=30.0).contains(&due), "{due}");
    time_passes(world.pool()).await;
    let first = claim_one(world.pool()).await;
    assert!(claim(world.pool(), 10).await.is_empty());
    let leased = due_in(world.pool()).await;
    assert!((55.0..=60.0).contains(&leased), "{leased}");
    // The worker died; its lease ends.
    time_passes(world.pool()).await;
    let second = claim_one(world.pool()).await;
    assert_eq!((second.attempts, second.fence), (2, first.fence + 1));
}

#[tokio::test]
async fn a_finished_job_leaves_for_the_history() {
    let world = World::new().await;
    enqueue(world.pool(), &job("a")).await;
    let claimed = claim_one(world.pool()).await;
    jobs::finish(world.pool(), QUEUE, &claimed, &Outcome::Done)
        .await
        .unwrap();
    assert_eq!(count(world.pool(), "SELECT count(*) FROM jobs").await, 0);
    let row: (uuid::Uuid, i64, String, String, i32, Option<String>) =
        sqlx::query_as("SELECT id, fence, queue, key, attempts, lease_owner FROM job_history")
            .fetch_one(world.pool())
            .await
            .unwrap();
    let owner = Some("me".to_owned());
    assert_eq!(
        row,
        (
            claimed.id,
            claimed.fence,
            QUEUE.into(),
            "a".into(),
            1,
            owner
        )
    );
    // The same key is free again and is another job.
    enqueue(world.pool(), &job("a")).await;
    assert_ne!(claim_one(world.pool()).await.id, claimed.id);
    let pruned = jobs::prune_history(world.pool(), Duration::ZERO).await;
    assert_eq!(pruned.unwrap(), 1);
}

#[tokio::test]
async fn nothing_is_written_under_a_lease_that_ended() {
    let world = World::new().await;
    enqueue(world.pool(), &job("a")).await;
    let stale = claim_one(world.pool()).await;
    time_passes(world.pool()).await;
    let current = claim_one(world.pool()).await;
    let row = "SELECT to_jsonb(j)::text FROM jobs j";
    let before: String = sqlx::query_scalar(row)
        .fetch_one(world.pool())
        .await
        .unwrap();
    let reason = || "zombie".to_owned();
    for outcome in [
        Outcome::Done,
        Outcome::Again(Duration::ZERO),
        Outcome::Retry {
            after: Duration::ZERO,
            reason: reason(),
        },
        Outcome::Park { reason: reason() },
    ] {
        let refused = jobs::finish(world.pool(), QUEUE, &stale, &outcome).await;
        assert!(
            matches!(refused, Err(Error::Fenced)),
            "{outcome:?}: {refused:?}"
        );
    }
    jobs::give_back(world.pool(), &[stale]).await.unwrap();
    let after: String = sqlx::query_scalar(row)
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(
        count(world.pool(), "SELECT count(*) FROM job_history").await,
        0
    );
    jobs::finish(world.pool(), QUEUE, &current, &Outcome::Done)
        .await
        .unwrap();
    let again = jobs::finish(world.pool(), QUEUE, &current, &Outcome::Done).await;
    assert!(matches!(again, Err(Error::Fenced)));
}

#[tokio::test]
async fn asked_again_while_it_runs_it_runs_once_more() {
    let world = World::new().await;
    enqueue(world.pool(), &job("a")).await;
    let first = claim_one(world.pool()).await;
    enqueue(world.pool(), &job("a")).await;
    enqueue(world.pool(), &job("a")).await;
    assert!(
        claim(world.pool(), 10).await.is_empty(),
        "not beside the first"
    );
    jobs::finish(world.pool(), QUEUE, &first, &Outcome::Done)
        .await
        .unwrap();
    let second = claim_one(world.pool()).await;
    assert_eq!((second.id, second.attempts), (first.id, 1));
    jobs::finish(world.pool(), QUEUE, &second, &Outcome::Done)
        .await
        .unwrap();
    assert!(claim(world.pool(), 10).await.is_empty());
    assert_eq!(count(world.pool(), "SELECT count(*) FROM jobs").await, 0);
}

#[tokio::test]
async fn a_job_that_keeps_killing_its_worker_is_parked() {
    let world = World::new().await;
    enqueue(world.pool(), &job("a")).await;
    enqueue(world.pool(), &job("healthy")).await;
    for attempt in 1..=CLAIMS_MAX {
        let claimed = claim(world.pool(), 10).await;
        let killer = claimed.iter().find(|job| job.key == "a").unwrap();
        assert_eq!(killer.attempts, attempt);
        for job in claimed.iter().filter(|job| job.key != "a") {
            let again = Outcome::Again(Duration::ZERO);
            jobs::finish(world.pool(), QUEUE, job, &again)
                .await
                .unwrap();
        }
        time_passes(world.pool()).await;
    }
    // The claim that finds it parks it and still brings the others.
    let claimed = claim_one(world.pool()).await;
    assert_eq!((claimed.key.as_str(), claimed.attempts), ("healthy", 1));
    let reason: String =
        sqlx::query_scalar("SELECT last_error FROM jobs WHERE parked_at IS NOT NULL")
            .fetch_one(world.pool())
            .await
            .unwrap();
    assert!(reason.contains("10 times"), "{reason}");
    time_passes(world.pool()).await;
    assert_eq!(claim_one(world.pool()).await.key, "healthy");
}

#[tokio::test]
async fn parked_by_its_handler_it_waits_for_a_person() {
    let world = World::new().await;
    enqueue(world.pool(), &job("a")).await;
    let claimed = claim_one(world.pool()).await;
    let reason = "no such account".to_owned();
    jobs::finish(world.pool(), QUEUE, &claimed, &Outcome::Park { reason })
        .await
        .unwrap();
    enqueue(world.pool(), &job("a")).await;
    time_passes(world.pool()).await;
    assert!(claim(world.pool(), 10).await.is_empty());
    let parked = "SELECT count(*) FROM jobs WHERE parked_at IS NOT NULL";
    assert_eq!(count(world.pool(), parked).await, 1);
}

#[tokio::test]
async fn pauses_and_retries_are_due_by_the_clock_of_the_database() {
    let world = World::new().await;
    enqueue(world.pool(), &job("a")).await;
    let claimed = claim_one(world.pool()).await;
    retry(world.pool(), &claimed, Duration::from_millis(12_500)).await;
    let due = due_in(world.pool()).await;
    assert!((9.0..=12.5).contains(&due), "{due}");
    time_passes(world.pool()).await;
    let claimed = claim_one(world.pool()).await;
    assert_eq!(claimed.attempts, 2, "a retry goes on counting");
    let again = Outcome::Again(Duration::from_secs(40));
    jobs::finish(world.pool(), QUEUE, &claimed, &again)
        .await
        .unwrap();
    let due = due_in(world.pool()).await;
    assert!((36.0..=40.0).contains(&due), "{due}");
    time_passes(world.pool()).await;
    let claimed = claim_one(world.pool()).await;
    assert_eq!(claimed.attempts, 1, "an orderly pause counts anew");
    jobs::give_back(world.pool(), &[claimed]).await.unwrap();
    assert_eq!(claim_one(world.pool()).await.attempts, 1);
}

#[tokio::test]
async fn a_claim_is_fair_to_the_shard_that_is_named_first() {
    let world = World::new().await;
    for n in 0..20 {
        let shard = Shard(n % 2);
        enqueue(
            world.pool(),
            &NewJob {
                shard,
                ..job(&format!("{n}"))
            },
        )
        .await;
    }
    let claimed = jobs::claim(world.pool(), &[1, 0], QUEUE, "me", LEASE, 5).await;
    assert!(claimed.unwrap().iter().all(|job| job.shard == Shard(1)));
    let claimed = jobs::claim(world.pool(), &[0, 1], "other", "me", LEASE, 5).await;
    assert!(claimed.unwrap().is_empty(), "queues are apart");
}

#[tokio::test]
async fn a_long_run_keeps_its_lease_and_learns_when_it_has_lost_it() {
    let world = World::new().await;
    enqueue(world.pool(), &job("a")).await;
    let first = claim_one(world.pool()).await;
    sqlx::query("UPDATE jobs SET due_at = now() + interval '1 second'")
        .execute(world.pool())
        .await
        .unwrap();
    jobs::extend(world.pool(), &first, LEASE).await.unwrap();
    assert!(due_in(world.pool()).await > 50.0);
    time_passes(world.pool()).await;
    let second = claim_one(world.pool()).await;
    let lost = jobs::extend(world.pool(), &first, LEASE).await;
    assert!(matches!(lost, Err(Error::Fenced)), "{lost:?}");
    jobs::extend(world.pool(), &second, LEASE).await.unwrap();
    jobs::finish(world.pool(), QUEUE, &second, &Outcome::Done)
        .await
        .unwrap();
    let over = jobs::extend(world.pool(), &second, LEASE).await;
    assert!(matches!(over, Err(Error::Fenced)), "{over:?}");
}

#[tokio::test]
async fn what_somebody_waits_for_is_due_at_once_and_disturbs_no_run() {
    let world = World::new().await;
    let hasten = async || {
        let mut connection = world.pool().acquire().await.unwrap();
        jobs::hasten(&mut connection, &job("a")).await.unwrap();
    };
    let later = NewJob {
        delay: Duration::from_secs(600),
        ..job("a")
    };
    enqueue(world.pool(), &later).await;
    assert!(claim(world.pool(), 10).await.is_empty());
    hasten().await;
    let running = claim_one(world.pool()).await;
    hasten().await;
    assert!(claim(world.pool(), 10).await.is_empty(), "it runs");
    jobs::finish(world.pool(), QUEUE, &running, &Outcome::Done)
        .await
        .unwrap();
    let again = claim_one(world.pool()).await;
    assert_eq!(again.id, running.id, "once more");
    jobs::finish(world.pool(), QUEUE, &again, &Outcome::Done)
        .await
        .unwrap();
    // One that there is not yet is made.
    hasten().await;
    claim_one(world.pool()).await;
}
