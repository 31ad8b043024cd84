//! What is counted is written once, reported by day and platform, bounded, and forgotten.

use std::time::Duration;

use chrono::{Days, NaiveDate, Utc};
use hub_domain::envelope::Meta;
use hub_domain::platform::Platform;
use hub_store::PgPool;
use hub_store::usage::{Call, Line, keep, prune, report};
use uuid::Uuid;

use crate::facts::user;
use crate::jobs::count;
use crate::person::Person;
use crate::world::World;

const ROWS: &str = "SELECT count(*) FROM api_usage_logs";

fn send_of(n: u128) -> Call {
    Call {
        platform: Platform::Facebook,
        endpoint: "send",
        user: Some(user(n)),
        account: None,
    }
}

/// A row of another day, as an earlier process wrote it.
async fn row(pool: &PgPool, n: u128, day: NaiveDate, platform: Option<&str>, requests: i64) {
    sqlx::query(
        "INSERT INTO api_usage_logs \
             (shard, id, user_id, platform, endpoint, request_count, timestamp) \
         VALUES (0, $1, $2, $3, 'GET /', $4, ($5::date + interval '23:59:59') AT TIME ZONE 'UTC')",
    )
    .bind(Uuid::new_v4())
    .bind(user(n).0)
    .bind(platform)
    .bind(requests)
    .bind(day)
    .execute(pool)
    .await
    .unwrap();
}

fn line(day: NaiveDate, platform: Option<&str>, requests: i64, users: i64) -> Line {
    let platform = platform.map(str::to_owned);
    Line {
        day,
        platform,
        requests,
        users,
    }
}

#[tokio::test]
async fn what_was_counted_is_written_once_and_reported() {
    let world = World::new().await;
    let usage = world.store.usage();
    let today = Utc::now().date_naive();
    for n in [1, 1, 1, 2] {
        usage.request(user(n), "GET /api/messages/{id}".to_owned());
    }
    usage.call(send_of(1));
    usage.call(send_of(3));
    usage.call(Call {
        user: None,
        endpoint: "install",
        ..send_of(0)
    });
    usage.write().await.unwrap();
    usage.write().await.unwrap();
    assert_eq!(count(world.pool(), ROWS).await, 5, "equal ones are one row");
    let tomorrow = today + Days::new(1);
    let lines = report(world.pool(), today, tomorrow).await.unwrap();
    let facebook = Some("facebook");
    assert_eq!(
        lines,
        [line(today, None, 4, 2), line(today, facebook, 3, 2)]
    );
    let misplaced = "SELECT count(DISTINCT shard) FROM api_usage_logs GROUP BY user_id \
                     ORDER BY 1 DESC LIMIT 1";
    assert_eq!(count(world.pool(), misplaced).await, 1);
    assert_eq!(usage.dropped(), 0);
}

#[tokio::test]
async fn the_report_goes_by_utc_day_newest_first_and_then_by_volume() {
    let world = World::new().await;
    let pool = world.pool();
    let last: NaiveDate = "2026-01-31".parse().unwrap();
    let day = |earlier| last - Days::new(earlier);
    row(pool, 1, day(0), None, 5).await;
    row(pool, 1, day(0), Some("telegram"), 9).await;
    row(pool, 1, day(1), None, 1).await;
    row(pool, 2, day(1), None, 2).await;
    row(pool, 2, day(1), None, 4).await;
    row(pool, 1, day(2), None, 100).await;
    let lines = report(pool, day(1), day(0) + Days::new(1)).await.unwrap();
    let expected = [
        line(day(0), Some("telegram"), 9, 1),
        line(day(0), None, 5, 1),
        line(day(1), None, 7, 2),
    ];
    assert_eq!(lines, expected);

    for lines in [&lines[..1], &lines] {
        let kept = keep(pool, world.store.sharding(), last, lines);
        kept.await.unwrap();
    }
    let kept: Vec<(NaiveDate, String)> =
        sqlx::query_as("SELECT day, lines::text FROM usage_reports")
            .fetch_all(pool)
            .await
            .unwrap();
    let [(day_of_report, text)] = kept.as_slice() else {
        panic!("one report a day: {kept:?}");
    };
    assert_eq!(*day_of_report, last);
    assert_eq!(serde_json::from_str::<Vec<Line>>(text).unwrap(), expected);

    let pruned = prune(pool, world.store.sharding(), day(1)).await.unwrap();
    assert_eq!(pruned, 1);
    assert_eq!(
        count(pool, ROWS).await,
        5,
        "of its first day on all is kept"
    );
}

#[tokio::test]
async fn what_nobody_can_write_is_bounded_and_the_loss_is_counted() {
    let world = World::new().await;
    let usage = world.store.usage();
    for n in 0..10_002 {
        usage.request(user(n), "GET /api/messages".to_owned());
    }
    assert_eq!(usage.dropped(), 2);
    // What is counted already goes on being counted.
    usage.request(user(0), "GET /api/messages".to_owned());
    assert_eq!(usage.dropped(), 2);
    usage.write().await.unwrap();
    let all = "SELECT sum(request_count)::bigint FROM api_usage_logs";
    assert_eq!(count(world.pool(), all).await, 10_001);
}

#[tokio::test]
async fn a_database_that_is_away_for_a_moment_loses_nothing() {
    let world = World::new().await;
    let usage = world.store.usage();
    usage.request(user(1), "GET /api/messages".to_owned());
    let mut taken = Vec::new();
    while let Ok(Ok(connection)) =
        tokio::time::timeout(Duration::from_millis(200), world.pool().acquire()).await
    {
        taken.push(connection);
    }
    usage.write().await.unwrap_err();
    usage.request(user(1), "GET /api/messages".to_owned());
    drop(taken);
    usage.write().await.unwrap();
    usage.write().await.unwrap();
    let all = "SELECT sum(request_count)::bigint FROM api_usage_logs";
    assert_eq!(count(world.pool(), all).await, 2);
    assert_eq!(usage.dropped(), 0);

    // What the database will never take is given up, and not tried for ever.
    let gone = "ALTER TABLE api_usage_logs RENAME TO elsewhere";
    sqlx::raw_sql(gone).execute(world.pool()).await.unwrap();
    usage.request(user(1), "GET /api/messages".to_owned());
    usage.write().await.unwrap();
    assert_eq!(usage.dropped(), 1);
}

#[tokio::test]
async fn an_erased_person_leaves_no_usage() {
    let world = World::new().await;
    let (ann, bob) = (Person::new(1, "ann"), Person::new(2, "bob"));
    let usage = world.store.usage();
    for person in [&ann, &bob] {
        usage.request(person.user, "GET /api/messages".to_owned());
        usage.call(Call {
            user: Some(person.user),
            ..send_of(0)
        });
    }
    usage.write().await.unwrap();
    let begun = world.store.begin_erasure(ann.user, Meta::default());
    let begun = begun.await.unwrap();
    // What another process still had in memory comes late; the job runs once more for it.
    for written_late in [2, 1] {
        let erased = world.store.finish_erasure(ann.user, begun).await.unwrap();
        assert_eq!(erased.usage, written_late);
        usage.request(ann.user, "GET /api/messages".to_owned());
        usage.write().await.unwrap();
    }
    world.store.finish_erasure(ann.user, begun).await.unwrap();
    let left: Vec<Uuid> = sqlx::query_scalar("SELECT DISTINCT user_id FROM api_usage_logs")
        .fetch_all(world.pool())
        .await
        .unwrap();
    assert_eq!(left, [bob.user.0]);
}
