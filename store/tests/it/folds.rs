//! Which version of a fold made what.
//!
//! The golden files hold the rows that a fixed history ends in, as the current folds write them. A
//! fold that makes other rows of it is another version: raise `Projection::fold`, run the test once
//! (it writes the file that is missing and fails), look at what changed, and commit the file. Never
//! change one that was committed (`.ci/golden` refuses): databases have generations of that version.

mod history;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use hub_domain::event::Event;
use hub_domain::projection::accounts::CONCERNS;
use hub_domain::projection::inbox::Touch;
use hub_store::Error;
use hub_store::generation::{End, Fate, Until, Verdict, discard, rebuild, reconstruct};
use hub_store::project::Projection;

use crate::facts::user;
use crate::generation::{connect, quiet, receive, replay, settle};
use crate::world::World;

fn golden(projection: Projection) -> PathBuf {
    let name = format!("{}.v{}.txt", projection.name(), projection.fold());
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden_folds");
    folder.join(name)
}

/// Every row of a projection, as PostgreSQL writes it.
async fn rows(world: &World, projection: Projection) -> String {
    let mut text = String::new();
    for table in projection.tables() {
        let statement = format!(
            "SELECT (to_jsonb(r) - 'generation')::text FROM read.{table} r ORDER BY shard, id"
        );
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_all(world.pool())
            .await
            .unwrap();
        assert!(rows.len() > 3, "{table} has {} rows", rows.len());
        for row in rows {
            text.push_str(&format!("{table} {row}\n"));
        }
    }
    text
}

#[tokio::test]
async fn a_fold_that_makes_other_rows_has_another_version() {
    let world = World::new().await;
    history::write(world.pool()).await;
    settle(world.pool()).await;
    let parked: i64 = sqlx::query_scalar("SELECT count(*) FROM parked")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(parked, 0);
    for projection in Projection::ALL {
        let (path, now) = (golden(projection), rows(&world, projection).await);
        let Ok(was) = fs::read_to_string(&path) else {
            fs::write(&path, now).unwrap();
            panic!("{} was missing and is written: commit it", path.display());
        };
        for (was, now) in was.lines().zip(now.lines()) {
            assert_eq!(
                was,
                now,
                "the fold of {} makes another row than its version {} did: raise `Projection::fold`",
                projection.name(),
                projection.fold()
            );
        }
        assert_eq!(
            was.lines().count(),
            now.lines().count(),
            "{}",
            projection.name()
        );
    }
    // Folded in one piece it is the same.
    for projection in Projection::ALL {
        let certificate = replay(world.pool(), projection, End::Drop).await;
        assert_eq!(certificate.verdict, Verdict::Equal, "{certificate:?}");
    }
}

/// A kind that the history does not have could change its meaning unseen.
#[test]
fn the_history_has_every_kind_and_version_that_rows_are_made_of() {
    let there: HashSet<(String, i16)> = history::lines()
        .into_iter()
        .map(|line| (line.kind, line.schema))
        .collect();
    for (kind, current) in Event::KINDS {
        for schema in 1..=*current {
            let path = format!(
                "{}/../domain/tests/golden_events/{kind}.v{schema}.json",
                env!("CARGO_MANIFEST_DIR")
            );
            let event = Event::read(kind, schema, &fs::read_to_string(path).unwrap()).unwrap();
            let matters = Touch::default().add(&event) || CONCERNS.contains(kind);
            let has = there.contains(&((*kind).to_owned(), schema));
            assert!(!matters || has, "{kind} v{schema} is not in the history");
        }
    }
}

async fn made_by(world: &World, generation: i16, fold: i32) {
    sqlx::query("UPDATE checkpoints SET fold = $2 WHERE generation = $1 AND position > 0")
        .bind(generation)
        .bind(fold)
        .execute(world.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_another_version_has_begun_is_not_gone_on_with() {
    let world = World::new().await;
    let owner = user(5);
    connect(&world.store, owner).await;
    receive(&world.store, owner, 0..60).await;
    settle(world.pool()).await;
    for projection in Projection::ALL {
        let kept = replay(world.pool(), projection, End::Keep).await;
        assert_eq!(
            (kept.fate, kept.live_fold),
            (Fate::Kept, Some(projection.fold()))
        );
        // With our own it goes on.
        assert!(replay(world.pool(), projection, End::Keep).await.resumed);
    }
    for foreign in [9_999, 0] {
        made_by(&world, 2, foreign).await;
        for projection in Projection::ALL {
            let until = Until::Time(chrono::Utc::now());
            let outcomes = [
                rebuild(world.pool(), projection, End::Switch, &quiet)
                    .await
                    .err(),
                rebuild(
                    world.pool(),
                    projection,
                    End::SwitchDespiteDifferences,
                    &quiet,
                )
                .await
                .err(),
                rebuild(world.pool(), projection, End::Drop, &quiet)
                    .await
                    .err(),
                reconstruct(world.pool(), projection, until, &quiet)
                    .await
                    .err(),
            ];
            for outcome in outcomes {
                let Some(Error::Refused(why)) = outcome else {
                    panic!("{outcome:?}")
                };
                assert!(why.contains("--discard"), "{why}");
            }
        }
    }
    for projection in Projection::ALL {
        discard(world.pool(), projection).await.unwrap();
        let certificate = replay(world.pool(), projection, End::Switch).await;
        assert_eq!(certificate.fate, Fate::Live);
    }
}

#[tokio::test]
async fn who_has_folded_what_is_written_down_with_every_turn() {
    let world = World::new().await;
    let owner = user(5);
    connect(&world.store, owner).await;
    receive(&world.store, owner, 0..60).await;
    settle(world.pool()).await;
    let folds = async || -> Vec<(String, i32)> {
        sqlx::query_as(
            "SELECT DISTINCT reactor, fold FROM checkpoints WHERE position > 0 ORDER BY 1",
        )
        .fetch_all(world.pool())
        .await
        .unwrap()
    };
    let ours = Projection::ALL.map(|it| (it.name().to_owned(), it.fold()));
    assert_eq!(folds().await, ours);
    // An older build folded this much; its fold and ours have made the rest together.
    made_by(&world, 1, 9_999).await;
    receive(&world.store, owner, 60..70).await;
    settle(world.pool()).await;
    let several = Projection::ALL.map(|it| (it.name().to_owned(), 0));
    assert_eq!(folds().await, several);
    for projection in Projection::ALL {
        let certificate = replay(world.pool(), projection, End::Switch).await;
        assert_eq!(certificate.live_fold, Some(0));
        assert_eq!(certificate.verdict, Verdict::Equal);
        let certificate = replay(world.pool(), projection, End::Drop).await;
        assert_eq!(certificate.live_fold, Some(projection.fold()));
    }
}
