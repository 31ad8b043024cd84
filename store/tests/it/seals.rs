//! Seals: whatever is done to sealed events is found, at the right place.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use hub_domain::id::Shard;
use hub_domain::limits::SEAL_EVENTS_MAX;
use hub_domain::secret::Secret;
use hub_store::generation::Verdict;
use hub_store::seal::{Report, SealKey, behind, export, step, verify};
use hub_store::{Error, PgPool, Store};

use crate::facts::note;
use crate::random::Random;
use crate::world::World;

const SHARD: Shard = Shard(0);

async fn run(pool: &PgPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(pool).await.unwrap();
}

fn key(world: &World) -> &SealKey {
    world.store.vault().seal_key()
}

/// Seals what there is in the shard as if it had waited long enough. Returns how many events.
async fn seal_all(pool: &PgPool, key: &SealKey) -> usize {
    run(
        pool,
        "UPDATE events e SET recorded_at = recorded_at - interval '1 minute' FROM checkpoints c \
         WHERE c.shard = e.shard AND c.reactor = 'seal' AND e.position > c.position",
    )
    .await;
    seal_due(pool, key).await
}

/// Seals what is due in the shard. Returns how many events.
async fn seal_due(pool: &PgPool, key: &SealKey) -> usize {
    let mut sealed = 0;
    loop {
        match step(pool, key, SHARD).await.unwrap() {
            0 => return sealed,
            more => sealed += more,
        }
    }
}

async fn append(world: &World, from: u128, to: u128) {
    for n in from..=to {
        let appended = world.store.append(note(SHARD.0, n, "event")).await;
        assert_eq!(appended.unwrap().place().position, n as i64);
    }
}

/// Three seals of ten events, and two events without.
async fn sealed() -> World {
    let world = World::new().await;
    for tens in 0..3 {
        append(&world, tens * 10 + 1, tens * 10 + 10).await;
        assert_eq!(seal_all(world.pool(), key(&world)).await, 10);
    }
    append(&world, 31, 32).await;
    world
}

async fn check(world: &World) -> Report {
    verify(world.pool(), Some(key(world)), None).await.unwrap()
}

/// The same with what was exported before.
async fn check_against(world: &World, exported: &[u8]) -> Report {
    let mut lines = exported;
    verify(world.pool(), Some(key(world)), Some(&mut lines))
        .await
        .unwrap()
}

fn findings(report: &Report) -> Vec<String> {
    let findings = report.shards.iter().flat_map(|shard| &shard.findings);
    let findings: Vec<String> = findings.map(ToString::to_string).collect();
    assert_eq!(report.verdict == Verdict::Equal, findings.is_empty());
    findings
}

async fn exported(world: &World, heads: bool) -> Vec<u8> {
    let mut out = Vec::new();
    export(world.pool(), heads, &mut out).await.unwrap();
    out
}

const SAVE: &str = "CREATE TABLE e AS TABLE events; CREATE TABLE l AS TABLE seals; \
     CREATE TABLE h AS TABLE shards; CREATE TABLE c AS TABLE checkpoints;";
const RESTORE: &str = "TRUNCATE events, seals, shards, checkpoints; \
     INSERT INTO events TABLE e; INSERT INTO seals TABLE l; INSERT INTO shards TABLE h; \
     INSERT INTO checkpoints TABLE c;";

#[tokio::test]
async fn whatever_is_done_to_the_log_is_found_and_named() {
    let cases = [
        (
            "UPDATE events SET payload = replace(payload::text, 'event', 'Event')::json WHERE position = 15",
            "0-15 was altered",
        ),
        (
            "UPDATE events SET payload = (payload::text || ' ')::json WHERE position = 15",
            "0-15 was altered",
        ),
        (
            "UPDATE events SET meta = '{\"actor\":null}' WHERE position = 15",
            "0-15 was altered",
        ),
        (
            "UPDATE events SET kind = 'MessageRead' WHERE position = 15",
            "0-15 was altered",
        ),
        (
            "UPDATE events SET schema = 2 WHERE position = 15",
            "0-15 was altered",
        ),
        (
            "UPDATE events SET recorded_at = recorded_at + interval '1 microsecond' WHERE position = 15",
            "0-15 was altered",
        ),
        (
            "UPDATE events SET stream = '00000000-0000-0000-0000-00000000abcd' WHERE position = 15",
            "0-15 was altered",
        ),
        (
            "UPDATE events SET version = version + 1 WHERE position = 15",
            "0-15 was altered",
        ),
        (
            "UPDATE events SET version = 9 WHERE position IN (30, 1, 20)",
            "0-1 was altered",
        ),
        ("DELETE FROM events WHERE position = 15", "0-15 is missing"),
        (
            "UPDATE events SET shard = 1 WHERE position = 15",
            "0-15 is missing; 1-15 is beyond the head of its shard",
        ),
        ("DELETE FROM events WHERE position >= 30", "0-30 is missing"),
        (
            "DELETE FROM events WHERE position >= 30; \
          UPDATE shards SET head = 29 WHERE shard = 0 AND log = 'events'",
            "0-30 is missing",
        ),
        ("DELETE FROM events", "0-1 is missing"),
        ("DELETE FROM events WHERE position = 32", "0-32 is missing"),
        ("DELETE FROM events WHERE position = 31", "0-31 is missing"),
        (
            "INSERT INTO events SELECT shard, 33, stream, 2, kind, schema, payload, meta FROM events \
          WHERE position = 32",
            "0-33 is beyond the head of its shard",
        ),
        (
            "UPDATE shards SET head = 31 WHERE shard = 0 AND log = 'events'",
            "0-32 is beyond the head of its shard",
        ),
        (
            "UPDATE events SET position = -4 WHERE position = 4; \
          UPDATE events SET position = 4 WHERE position = 25; \
          UPDATE events SET position = 25 WHERE position = -4",
            "0-4 holds what was sealed as 0-25",
        ),
        (
            "DELETE FROM events WHERE position = 12; \
          UPDATE events SET position = -position WHERE position > 12; \
          UPDATE events SET position = -position - 1 WHERE position < 0; \
          UPDATE shards SET head = head - 1 WHERE shard = 0 AND log = 'events'",
            "0-12 holds what was sealed as 0-13",
        ),
        (
            "DELETE FROM seals WHERE through = 20",
            "the seal of 0-11 to 20 is missing",
        ),
        (
            "DELETE FROM seals WHERE through = 10",
            "the seal of 0-1 to 10 is missing",
        ),
        (
            "DELETE FROM seals WHERE through = 30",
            "the seals end at 0-20, but the log was sealed up to position 30",
        ),
        (
            "DELETE FROM seals",
            "the seals end at 0-0, but the log was sealed up to position 30",
        ),
        (
            "UPDATE checkpoints SET position = 20 WHERE reactor = 'seal' AND shard = 0",
            "the seals end at 0-30, but the log was sealed up to position 20",
        ),
        (
            "UPDATE seals SET leaves = overlay(leaves PLACING '\\x00'::bytea FROM 70) WHERE through = 20",
            "the seal of 0-11 to 20 was altered",
        ),
        (
            "UPDATE seals SET leaves = substr(leaves, 1, 144) WHERE through = 20",
            "the seal of 0-11 to 20 was altered",
        ),
        (
            "UPDATE seals SET hash = sha256(hash) WHERE through = 20",
            "the seal of 0-11 to 20 was altered",
        ),
        (
            "UPDATE seals SET hash = sha256(hash) WHERE through = 30",
            "the seal of 0-21 to 30 was altered",
        ),
        (
            "UPDATE seals SET previous = sha256(previous) WHERE through = 20",
            "the seal of 0-11 to 20 does not continue the one before",
        ),
        (
            "UPDATE seals SET after = 5 WHERE through = 20",
            "the seal of 0-6 to 20 does not continue the one before",
        ),
        (
            "UPDATE seals SET through = 9223372036854775807 WHERE through = 30",
            "the seal of 0-21 to 9223372036854775807 was altered",
        ),
        (
            "UPDATE seals SET mac = sha256(mac) WHERE through = 20",
            "the seal of 0-11 to 20 was not made with this ENCRYPTION_KEY",
        ),
        (
            "UPDATE seals SET sealed_at = sealed_at - interval '1 second' WHERE through = 20",
            "the seal of 0-11 to 20 was not made with this ENCRYPTION_KEY",
        ),
        (
            "UPDATE seals SET first_recorded_at = last_recorded_at + interval '1 day' WHERE through = 20",
            "the seal of 0-11 to 20 names other times than its events",
        ),
        (
            "UPDATE seals SET last_recorded_at = now() WHERE through = 20",
            "the seal of 0-11 to 20 names other times than its events",
        ),
        (
            "UPDATE seals SET format = 2 WHERE through = 20",
            "the seal of 0-11 to 20 has a format that this build does not know",
        ),
    ];
    let world = sealed().await;
    let whole = check(&world).await;
    assert_eq!(findings(&whole), Vec::<String>::new());
    assert_eq!((whole.events, whole.verified, whole.unsealed), (32, 30, 2));
    assert!(whole.macs_checked);
    run(world.pool(), SAVE).await;
    for (damage, expected) in cases {
        run(world.pool(), damage).await;
        assert_eq!(
            findings(&check(&world).await).join("; "),
            expected,
            "{damage}"
        );
        run(world.pool(), RESTORE).await;
    }
    assert_eq!(findings(&check(&world).await), Vec::<String>::new());
}

#[tokio::test]
async fn without_the_key_everything_but_the_maker_is_checked() {
    let world = sealed().await;
    run(world.pool(), "UPDATE seals SET mac = sha256(mac)").await;
    let report = verify(world.pool(), None, None).await.unwrap();
    assert_eq!(findings(&report), Vec::<String>::new());
    assert!(!report.macs_checked);
    run(world.pool(), "DELETE FROM events WHERE position = 7").await;
    let report = verify(world.pool(), None, None).await.unwrap();
    assert_eq!(findings(&report), ["0-7 is missing"]);
}

const FORGE: &str = "DELETE FROM seals WHERE through > 10; \
     UPDATE checkpoints SET position = 10 WHERE reactor = 'seal' AND shard = 0; \
     UPDATE events SET payload = replace(payload::text, 'event', 'Event')::json WHERE position = 15";

#[tokio::test]
async fn who_seals_again_without_the_key_is_found() {
    let world = sealed().await;
    run(world.pool(), FORGE).await;
    let forged = SealKey::new(&Secret::new("a guess"));
    assert_eq!(seal_due(world.pool(), &forged).await, 22);
    assert_eq!(
        findings(&check(&world).await),
        ["the seal of 0-11 to 32 was not made with this ENCRYPTION_KEY"]
    );
}

#[tokio::test]
async fn who_seals_again_with_the_key_is_found_by_what_was_exported() {
    let world = sealed().await;
    let (all, heads) = (exported(&world, false).await, exported(&world, true).await);
    assert_eq!(all.split(|byte| *byte == b'\n').count(), 3 + 1);
    assert_eq!(heads.split(|byte| *byte == b'\n').count(), 1 + 1);
    for (file, seals) in [(&all, 3), (&heads, 1)] {
        let report = check_against(&world, file).await;
        assert_eq!(findings(&report), Vec::<String>::new());
        assert_eq!(report.exported_seals, Some(seals));
    }
    // Sealing goes on, and what was exported stays true.
    assert_eq!(seal_all(world.pool(), key(&world)).await, 2);
    assert_eq!(
        findings(&check_against(&world, &all).await),
        Vec::<String>::new()
    );

    run(world.pool(), FORGE).await;
    assert_eq!(seal_due(world.pool(), key(&world)).await, 22);
    assert_eq!(findings(&check(&world).await), Vec::<String>::new());
    assert_eq!(
        findings(&check_against(&world, &heads).await),
        ["the seal of 0-21 to 30 is not the one that was exported"]
    );
    assert_eq!(
        findings(&check_against(&world, &all).await),
        ["0-15 was altered"]
    );
}

#[tokio::test]
async fn seals_that_were_made_again_much_later_are_mentioned() {
    let world = sealed().await;
    assert!(
        check(&world)
            .await
            .shards
            .iter()
            .all(|it| it.late.is_none())
    );
    run(
        world.pool(),
        "DELETE FROM seals; UPDATE checkpoints SET position = 0 WHERE reactor = 'seal'; \
         UPDATE events SET recorded_at = recorded_at - interval '2 days'",
    )
    .await;
    assert_eq!(seal_all(world.pool(), key(&world)).await, 32);
    let report = check(&world).await;
    assert_eq!(findings(&report), Vec::<String>::new());
    let late = report.shards[0].late.clone().expect("it is mentioned");
    assert_eq!(late.through, 32);
    assert!((late.sealed_at - late.recorded_at).num_hours() >= 48);
}

#[tokio::test]
async fn a_file_that_is_no_export_is_refused() {
    let world = sealed().await;
    let all = String::from_utf8(exported(&world, false).await).unwrap();
    let first = all.lines().next().unwrap();
    let cases = [
        (String::new(), "no seals"),
        ("{}".to_owned(), "line 1"),
        (format!("{first}\nnot json"), "line 2"),
        (first.replace("\"through\":10", "\"through\":11"), "line 1"),
        (first.replace("\"shard\":0", "\"shard\":1"), "line 1"),
        (first.replace("\"format\":1", "\"format\":9"), "format 9"),
        (
            String::from_utf8(exported(&world, true).await)
                .unwrap()
                .replace("\"shard\":0", "\"shard\":77"),
            "shard 77",
        ),
    ];
    for (file, complaint) in cases {
        let mut lines = file.as_bytes();
        let refused = verify(world.pool(), None, Some(&mut lines)).await;
        let refused = refused.expect_err(&file).to_string();
        assert!(refused.contains(complaint), "{refused}");
    }
}

#[tokio::test]
async fn a_part_is_sealed_when_it_is_full_or_old_and_not_before() {
    let world = World::new().await;
    let pool = world.pool();
    append(&world, 1, 3).await;
    assert_eq!(behind(pool).await.unwrap(), []);
    assert_eq!(step(pool, key(&world), SHARD).await.unwrap(), 0);
    run(
        pool,
        "UPDATE events SET recorded_at = recorded_at - interval '11 seconds' WHERE position = 1",
    )
    .await;
    assert_eq!(behind(pool).await.unwrap(), [SHARD]);
    assert_eq!(step(pool, key(&world), SHARD).await.unwrap(), 3);
    assert_eq!(behind(pool).await.unwrap(), []);

    let many = (0..SEAL_EVENTS_MAX as u128 + 5).map(|n| world.store.append(note(0, n, "many")));
    for appended in join_all(many).await {
        appended.unwrap();
    }
    assert_eq!(behind(pool).await.unwrap(), [SHARD]);
    let full = step(pool, key(&world), SHARD).await.unwrap();
    assert_eq!(full as i64, SEAL_EVENTS_MAX);
    assert_eq!(behind(pool).await.unwrap(), []);
    assert_eq!(step(pool, key(&world), SHARD).await.unwrap(), 0);
    let report = check(&world).await;
    assert_eq!((report.verified, report.unsealed), (3 + SEAL_EVENTS_MAX, 5));
}

#[tokio::test]
async fn events_of_newer_code_are_sealed_and_a_hole_is_not() {
    let world = World::new().await;
    append(&world, 1, 4).await;
    run(
        world.pool(),
        "UPDATE events SET kind = 'MessageTeleported', payload = '[]' WHERE position = 2",
    )
    .await;
    assert_eq!(seal_all(world.pool(), key(&world)).await, 4);
    assert_eq!(findings(&check(&world).await), Vec::<String>::new());

    append(&world, 5, 8).await;
    run(world.pool(), "DELETE FROM events WHERE position = 5").await;
    assert_eq!(behind(world.pool()).await.unwrap(), [SHARD]);
    let stopped = step(world.pool(), key(&world), SHARD).await;
    assert!(matches!(stopped, Err(Error::Corrupt { .. })), "{stopped:?}");
    assert_eq!(findings(&check(&world).await), ["0-5 is missing"]);
}

#[tokio::test]
async fn sealing_stops_where_the_chain_was_cut() {
    let world = sealed().await;
    run(
        world.pool(),
        "DELETE FROM seals WHERE through = 30; \
         UPDATE events SET recorded_at = recorded_at - interval '1 minute'",
    )
    .await;
    match step(world.pool(), key(&world), SHARD).await {
        Err(Error::Corrupt { place, .. }) => assert_eq!(place.to_string(), "0-30"),
        other => panic!("{other:?}"),
    }
}

/// Seals shard 0 until everything is written and no full part is left. Returns how many events.
async fn keep_sealing(store: Store, ended: Arc<AtomicBool>, mut random: Random) -> usize {
    let mut sealed = 0;
    loop {
        let is_last_look = ended.load(Ordering::SeqCst);
        let more = step(store.pool(), store.vault().seal_key(), SHARD).await;
        let more = more.unwrap();
        sealed += more;
        if more == 0 && is_last_look && behind(store.pool()).await.unwrap().is_empty() {
            return sealed;
        }
        tokio::time::sleep(random.millis_below(4)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sealers_beside_many_writers_make_one_chain() {
    let mut random = Random::from_env();
    let world = World::new().await;
    let other = world.another_store().await;
    let ended = Arc::new(AtomicBool::new(false));
    let sealers: Vec<_> = (0..4)
        .map(|n| {
            let store = if n % 2 == 0 { &world.store } else { &other }.clone();
            tokio::spawn(keep_sealing(store, ended.clone(), random.fork()))
        })
        .collect();
    let mut verified_while_writing = 0;
    for round in 0..10 {
        let appends = (0..600).map(|n| {
            let store = if n % 2 == 0 { &world.store } else { &other };
            store.append(note(SHARD.0, n % 40, "crowd"))
        });
        for appended in join_all(appends).await {
            appended.unwrap();
        }
        let report = check(&world).await;
        assert_eq!(findings(&report), Vec::<String>::new(), "round {round}");
        verified_while_writing = report.verified;
    }
    ended.store(true, Ordering::SeqCst);
    let mut sealed = 0;
    for sealer in sealers {
        sealed += sealer.await.unwrap();
    }
    assert!(verified_while_writing > 0, "nothing was sealed under load");
    assert_eq!(sealed as i64, 6_000 / SEAL_EVENTS_MAX * SEAL_EVENTS_MAX);
    let report = check(&world).await;
    assert_eq!(report.verified, sealed as i64);
    assert_eq!((report.events, report.shards[0].seals), (6_000, 5));
}

/// The fenced block of this language in the document.
fn block(language: &str) -> String {
    let document = include_str!("../../../docs/seals.md");
    let block = document.split(&format!("```{language}\n")).nth(1);
    let block = block.and_then(|rest| rest.split("```").next());
    block.expect("the document has the block").to_owned()
}

#[tokio::test]
async fn an_outsider_verifies_with_the_script_in_the_document() {
    let world = sealed().await;
    for n in 0..3 {
        let appended = world
            .store
            .append(note(2, n, "Grüße ☕ \"quoted\" \\ and more"));
        appended.await.unwrap();
    }
    run(
        world.pool(),
        "UPDATE events SET recorded_at = recorded_at - interval '1 minute' WHERE shard = 2",
    )
    .await;
    assert_eq!(step(world.pool(), key(&world), Shard(2)).await.unwrap(), 3);
    let folder = std::env::temp_dir().join(format!("hub-seals-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let (script, seals, events) = (
        folder.join("verify.py"),
        folder.join("seals.jsonl"),
        folder.join("events.jsonl"),
    );
    std::fs::write(&script, block("python")).unwrap();
    std::fs::write(&seals, exported(&world, false).await).unwrap();
    let outside = async || {
        let query = sqlx::AssertSqlSafe(block("sql"));
        let lines: Vec<String> = sqlx::query_scalar(query)
            .fetch_all(world.pool())
            .await
            .unwrap();
        std::fs::write(&events, lines.join("\n")).unwrap();
        Command::new("python3")
            .arg(&script)
            .arg(&seals)
            .arg(&events)
            .output()
    };
    let Ok(output) = outside().await else {
        eprintln!("SKIPPED: python3 is not installed, so the document was not held to its word");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "33 events are as they were sealed\n", "{output:?}");
    for (damage, complaint) in [
        (
            "UPDATE events SET meta = '{ }' WHERE shard = 2 AND position = 2",
            "2-2 was altered\n",
        ),
        (
            "DELETE FROM events WHERE shard = 0 AND position = 11",
            "0-11 is missing\n",
        ),
    ] {
        run(world.pool(), damage).await;
        let output = outside().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), complaint);
        assert!(!output.status.success());
    }
    std::fs::remove_dir_all(folder).unwrap();
}
