//! What cannot be processed is put aside, shown, and made up for, while the hub runs.

use std::process::Output;
use std::time::Duration;

use hub_domain::signature::meta_sign;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::live::Door;
use crate::replay::hub;
use crate::world::{User, World, eventually};

const SOON: Duration = Duration::from_secs(20);

/// The secret that the sandbox's platform signs with, in development.
const APP_SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs `hub dlq` and returns what it said, if it went well.
pub fn dlq(world: &World, arguments: &[&str]) -> Result<String, String> {
    let output = hub(world, &[&["dlq"], arguments].concat());
    match output.status.success() {
        true => Ok(said(&output)),
        false => Err(said(&output)),
    }
}

/// Everything that is parked.
pub fn parked(world: &World, arguments: &[&str]) -> Vec<Value> {
    let said = dlq(world, &[&["list", "--json"], arguments].concat()).expect("a list");
    let lines = said.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect()
}

async fn pool(world: &World) -> PgPool {
    PgPool::connect(&world.database())
        .await
        .expect("the hub's database")
}

/// Puts an event at the end of a stream behind the hub's back. Returns its place.
async fn smuggle(pool: &PgPool, stream: Uuid, kind: &str, payload: &Value) -> String {
    sqlx::query_scalar(
        "WITH s AS (UPDATE streams SET version = version + 1 WHERE stream = $1 \
             RETURNING shard, version), \
         h AS (UPDATE shards SET head = head + 1 FROM s \
             WHERE shards.shard = s.shard AND log = 'events' RETURNING head) \
         INSERT INTO events (shard, position, stream, version, kind, schema, payload, meta) \
         SELECT s.shard, h.head, $1, s.version, $2, 1, $3::json, '{}' FROM s, h \
         RETURNING shard || '-' || position",
    )
    .bind(stream)
    .bind(kind)
    .bind(payload.to_string())
    .fetch_one(pool)
    .await
    .expect("an event behind the hub's back")
}

async fn mend(pool: &PgPool, place: &str, kind: &str, payload: &Value) {
    sqlx::query(
        "UPDATE events SET kind = $2, payload = $3::json \
         WHERE shard || '-' || position = $1",
    )
    .bind(place)
    .bind(kind)
    .bind(payload.to_string())
    .execute(pool)
    .await
    .expect("a mended event");
}

/// The conversation with this customer, once it has so many unread messages.
async fn conversation(user: &User, customer: &str, unread: i64) -> String {
    eventually("the conversation", SOON, async || {
        let answer = user.get("/api/conversations").await;
        let all = answer.body["conversations"].as_array().cloned();
        let found = all
            .unwrap_or_default()
            .into_iter()
            .find(|it| it["participantId"] == customer && it["unreadCount"] == json!(unread));
        found
            .and_then(|it| it["id"].as_str().map(str::to_owned))
            .ok_or(answer.raw)
    })
    .await
}

async fn texts(user: &User, conversation: &str) -> Vec<String> {
    let thread = user.get(&format!("/api/messages/{conversation}")).await;
    let messages = thread.body["messages"].as_array().cloned();
    let texts = messages.unwrap_or_default().into_iter();
    texts
        .map(|it| it["content"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn equal(world: &World) {
    let verified = hub(world, &["verify", "all"]);
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(!said(&verified).contains("parked"), "{}", said(&verified));
}

#[tokio::test]
async fn a_stream_in_trouble_waits_and_is_made_up_for() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "501", "one").await;
    let id = conversation(&user, "501", 1).await;
    let stream: Uuid = id.parse().expect("a UUID");
    let pool = pool(&world).await;
    let broken = json!({ "note": "Bratwurst" });
    let place = smuggle(&pool, stream, "ConversationRead", &broken).await;

    // The neighbour goes on, the stream waits.
    world.incoming(&page, "501", "two").await;
    world.incoming(&page, "502", "hello").await;
    conversation(&user, "502", 1).await;
    user.send(&id, "answer").await.expect(201);
    // The contact's name may come in behind them.
    eventually("all of it is parked", SOON, async || {
        let all = parked(&world, &["--stream", &id]);
        match all.iter().map(|it| it["held"].as_i64()).collect::<Vec<_>>()[..] {
            [Some(2..=3)] => Ok(()),
            _ => Err(all),
        }
    })
    .await;
    assert_eq!(texts(&user, &id).await, ["one"]);
    assert!(world.sent(&page).await.is_empty());
    let shown = dlq(&world, &["show", &format!("inbox/{place}")]).expect("details");
    assert!(shown.contains("<text, 9 characters>"), "{shown}");
    assert!(!shown.contains("Bratwurst"), "{shown}");
    let listed = dlq(&world, &["list"]).expect("a list");
    assert!(
        listed.contains(&format!("inbox/{place}  ConversationRead unreadable")),
        "{listed}"
    );

    // Many are only counted unless one says yes, and everything must be said.
    let preview = dlq(&world, &["retry", "--all"]).expect("a preview");
    assert!(preview.contains("would retry 1 stream ("), "{preview}");
    let preview = dlq(&world, &["discard", "--stream", &id, "--why", "no"]).expect("a preview");
    assert!(preview.contains("would discard 1 stream"), "{preview}");
    assert!(dlq(&world, &["retry"]).is_err());
    assert_eq!(parked(&world, &[]).len(), 1);
    let behind = format!("inbox/{}", {
        let (shard, position) = place.split_once('-').expect("a place");
        let position: i64 = position.parse().expect("a position");
        format!("{shard}-{}", position + 1)
    });
    let refused = dlq(&world, &["discard", &behind, "--why", "no"]).expect_err("not the first");
    assert!(
        refused.contains(&format!("waits behind inbox/{place}")),
        "{refused}"
    );

    // Still broken; then mended.
    let again = dlq(&world, &["retry", &format!("inbox/{place}")]).expect_err("still broken");
    assert!(again.contains("parked again"), "{again}");
    let read = json!({ "user": owner(&pool, stream).await, "conversation": id });
    mend(&pool, &place, "ConversationRead", &read).await;
    let mut door = Door::plain(&world, &user).await;
    let done = dlq(&world, &["retry", "--stream", &id, "--yes"]).expect("all is well");
    assert_eq!(done.matches("  done").count(), 1, "{done}");
    // Whoever watches is told what was made up for.
    eventually("the message is told", SOON, async || {
        let (name, told) = door.next().await;
        match name == "new_message" && told.to_string().contains("two") {
            true => Ok(()),
            false => Err((name, told)),
        }
    })
    .await;
    eventually("the answer is sent", SOON, async || {
        let sent = world.sent(&page).await;
        if sent.len() == 1 { Ok(()) } else { Err(sent) }
    })
    .await;
    assert_eq!(texts(&user, &id).await, ["answer", "two", "one"]);
    conversation(&user, "501", 1).await;
    assert_eq!(parked(&world, &[]), Vec::<Value>::new());
    equal(&world);
}

async fn owner(pool: &PgPool, conversation: Uuid) -> Uuid {
    sqlx::query_scalar("SELECT user_id FROM read.conversations WHERE id = $1")
        .bind(conversation)
        .fetch_one(pool)
        .await
        .expect("an owner")
}

#[tokio::test]
async fn newer_code_takes_up_what_the_older_one_parked() {
    let mut world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "501", "one").await;
    let id = conversation(&user, "501", 1).await;
    let stream: Uuid = id.parse().expect("a UUID");
    let database = pool(&world).await;
    // The name that is asked for is an event of the stream too, and would be held like the next message.
    eventually("the name", SOON, async || {
        let named = "SELECT count(*) FROM events WHERE stream = $1 AND kind = 'ContactNamed'";
        let named = sqlx::query_scalar::<_, i64>(named).bind(stream);
        match named.fetch_one(&database).await.expect("a count") {
            0 => Err("not yet"),
            _ => Ok(()),
        }
    })
    .await;
    let read = json!({ "user": owner(&database, stream).await, "conversation": id });
    let place = smuggle(&database, stream, "ConversationTeleported", &read).await;
    world.incoming(&page, "501", "two").await;
    eventually("it is parked", SOON, async || {
        let all = parked(&world, &["--reactor", "inbox"]);
        let waits = |it: &Value| it["class"] == "needs_newer_code" && it["held"] == 1;
        if all.iter().any(waits) {
            Ok(())
        } else {
            Err(all)
        }
    })
    .await;
    // Deploy a build that knows the kind.
    world.stop();
    let database = eventually("the database", SOON, async || {
        world.start_again().await;
        Ok::<_, ()>(pool(&world).await)
    })
    .await;
    assert_eq!(parked(&world, &["--reactor", "inbox"]).len(), 1);
    mend(&database, &place, "ConversationRead", &read).await;
    sqlx::query("UPDATE parked SET kind = 'ConversationRead' WHERE class <> 'held'")
        .execute(&database)
        .await
        .expect("a kind that is known");
    world.kill();
    world.start_again().await;
    eventually("it heals by itself", SOON, async || {
        let all = parked(&world, &[]);
        if all.is_empty() { Ok(()) } else { Err(all) }
    })
    .await;
    conversation(&user, "501", 1).await;
    assert_eq!(texts(&user, &id).await, ["two", "one"]);
    equal(&world);
}

async fn signed(world: &World, body: &str) {
    let signature = meta_sign(APP_SECRET, body.as_bytes());
    let headers = [("x-hub-signature-256", signature.as_str())];
    let url = format!("{}/api/webhooks/facebook", world.base());
    let body = body.as_bytes().to_vec();
    let answer = world.http().post_raw(&url, &headers, body).await;
    answer.expect(200);
}

fn webhook(page: &str, mid: &str, text: &str) -> String {
    json!({ "object": "page", "entry": [{ "id": page, "time": 1_791_201_600_900_i64, "messaging": [{
        "sender": { "id": "501" }, "recipient": { "id": page },
        "timestamp": 1_791_201_600_000_i64, "message": { "mid": mid, "text": text },
    }] }] })
    .to_string()
}

#[tokio::test]
async fn a_poisonous_command_waits_alone_and_is_translated_again() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    let database = pool(&world).await;
    for nonsense in ["", "not json"] {
        signed(&world, nonsense).await;
    }
    signed(&world, &webhook(&page, "m_1", "first")).await;
    let id = conversation(&user, "501", 1).await;
    let all = eventually("both are parked", SOON, async || {
        let all = parked(&world, &["--reactor", "translate"]);
        if all.len() == 2 { Ok(all) } else { Err(all) }
    })
    .await;
    for it in &all {
        assert_eq!(
            (&it["kind"], &it["class"]),
            (&json!("webhook"), &json!("failed"))
        );
        assert_eq!(it["stream"], Value::Null);
        let shown = dlq(&world, &["show", it["id"].as_str().expect("an id")]).expect("details");
        assert!(shown.contains("<sealed>"), "{shown}");
    }
    let again = dlq(&world, &["retry", "--reactor", "translate", "--yes"]);
    assert!(again.expect_err("still poison").contains("2 failed again"));

    // A webhook that this build cannot read, until it can: a copy of the first one, whose event
    // was lost with its key.
    let place: String = sqlx::query_scalar(
        "WITH c AS (SELECT c.shard, c.payload FROM commands c JOIN events e \
             ON e.meta ->> 'causation' = 'c:' || c.shard || '-' || c.position \
             WHERE e.stream = $1::uuid AND e.kind = 'MessageReceived'), \
         h AS (UPDATE shards s SET head = head + 1 FROM c \
             WHERE s.shard = c.shard AND s.log = 'commands' RETURNING s.head) \
         INSERT INTO commands (shard, position, kind, payload) \
         SELECT c.shard, h.head, 'webhook', replace(payload::text, 'sealed_at', 'sealed')::json \
         FROM c, h RETURNING shard || '-' || position",
    )
    .bind(&id)
    .fetch_one(&database)
    .await
    .expect("a damaged command");
    let entry = format!("translate/{place}");
    eventually("it is parked", SOON, async || {
        let all = parked(&world, &["--reactor", "translate"]);
        let found = all
            .iter()
            .any(|it| it["id"] == entry && it["class"] == "unreadable");
        if found { Ok(()) } else { Err(all) }
    })
    .await;
    sqlx::query("DELETE FROM keys")
        .execute(&database)
        .await
        .expect("keys that are forgotten");
    sqlx::query(
        "UPDATE commands SET payload = replace(payload::text, '\"sealed\"', '\"sealed_at\"')::json \
         WHERE shard || '-' || position = $1",
    )
    .bind(&place)
    .execute(&database)
    .await
    .expect("a mended command");
    let before: i64 = events(&database, &id).await;
    let done = dlq(&world, &["retry", &entry]).expect("it works now");
    assert!(done.contains("done"), "{done}");
    assert_eq!(events(&database, &id).await, before + 1);
    // The others are given up on.
    let why = [
        "discard",
        "--reactor",
        "translate",
        "--why",
        "noise",
        "--yes",
    ];
    assert_eq!(
        dlq(&world, &why)
            .expect("gone")
            .matches("discarded")
            .count(),
        2
    );
    assert_eq!(parked(&world, &[]), Vec::<Value>::new());
}

async fn events(pool: &PgPool, conversation: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM events WHERE stream = $1::uuid")
        .bind(conversation)
        .fetch_one(pool)
        .await
        .expect("events")
}

/// Puts the job of a conversation's sends aside, as ten deaths of its workers would.
async fn park_sends(pool: &PgPool, conversation: &str) {
    eventually("the job", SOON, async || {
        let parked = sqlx::query(
            "UPDATE jobs SET parked_at = now(), lease_owner = NULL, fence = fence + 1, \
                 last_error = 'claimed 10 times without an end' \
             WHERE queue = 'send' AND key = $1",
        )
        .bind(conversation)
        .execute(pool)
        .await
        .expect("a statement");
        if parked.rows_affected() == 1 {
            Ok(())
        } else {
            Err(())
        }
    })
    .await;
}

async fn states(pool: &PgPool, conversation: &str) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT state FROM read.messages WHERE conversation_id = $1::uuid AND outgoing \
         ORDER BY position",
    )
    .bind(conversation)
    .fetch_all(pool)
    .await
    .expect("states")
}

#[tokio::test]
async fn a_parked_job_is_seen_and_run_again_or_given_up() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "501", "one").await;
    let id = conversation(&user, "501", 1).await;
    let database = pool(&world).await;
    world
        .fault(json!({ "platform": "facebook", "op": "send", "mode": "status", "status": 500 }))
        .await;
    let entry = format!("send/{id}");
    user.send(&id, "first").await;
    park_sends(&database, &id).await;
    user.send(&id, "second").await;
    eventually("both wait", SOON, async || {
        let all = parked(&world, &["--queue", "send"]);
        let waits = |it: &Value| it["id"] == entry && it["waiting"] == 2;
        if all.iter().any(waits) {
            Ok(())
        } else {
            Err(all)
        }
    })
    .await;
    let listed = dlq(&world, &["list", "--stream", &id]).expect("a list");
    assert!(
        listed.contains("2 messages wait for it; for 0 min"),
        "{listed}"
    );
    let url = format!("{}/control/faults", world.sandbox());
    world.http().delete(&url).await;

    // Given up: both fail visibly, nothing is left, and the conversation goes on.
    dlq(&world, &["discard", &entry, "--why", "too late"]).expect("given up");
    eventually("both have an end", SOON, async || {
        let states = states(&database, &id).await;
        if states == ["failed", "failed"] {
            Ok(())
        } else {
            Err(states)
        }
    })
    .await;
    eventually("the job is gone", SOON, async || {
        let all = parked(&world, &[]);
        if all.is_empty() { Ok(()) } else { Err(all) }
    })
    .await;
    let reason: String = sqlx::query_scalar(
        "SELECT reason FROM job_history WHERE queue = 'send' AND reason IS NOT NULL",
    )
    .fetch_one(&database)
    .await
    .expect("a reason");
    assert!(reason.ends_with(": too late"), "{reason}");
    user.send(&id, "third").await.expect(201);
    let sent = world.sent(&page).await;
    assert_eq!(sent.len(), 1, "{sent:?}");

    // Run again: sent once.
    world
        .fault(json!({ "platform": "facebook", "op": "send", "mode": "status", "status": 500 }))
        .await;
    user.send(&id, "fourth").await;
    park_sends(&database, &id).await;
    world.http().delete(&url).await;
    let done = dlq(&world, &["retry", &entry, "--wait", "60"]).expect("run again");
    assert!(done.contains(&format!("{entry}  done")), "{done}");
    assert_eq!(world.sent(&page).await.len(), 2);
    equal(&world);
}
