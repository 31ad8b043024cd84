//! Looking into a running hub: what happened to a message, what is in the log, what was before.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::world::{User, World, eventually};

const ASKED: &str = "Is the teapot there?";
const ANSWERED: &str = "Three of them are.";

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("DATABASE_URL", world.database());
    command
}

fn hub(world: &World, arguments: &[&str]) -> Output {
    command(world, arguments).output().expect("the binary runs")
}

/// What a verb prints; it must succeed.
fn said(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What a verb complains about; it must fail.
fn complaint(world: &World, arguments: &[&str]) -> String {
    let output = hub(world, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn lines(said: &str) -> Vec<Value> {
    let json = |line| serde_json::from_str(line).expect("one JSON object a line");
    said.lines().map(json).collect()
}

/// With the key of the hub that `cargo run` runs.
fn opened(world: &World, arguments: &[&str]) -> String {
    let secrets = std::fs::read_to_string(world.dir().join("data/secrets.toml")).expect("secrets");
    let key = secrets
        .lines()
        .find_map(|line| line.strip_prefix("encryption_key = \"")?.strip_suffix('"'))
        .expect("the key");
    let output = command(world, arguments)
        .env("ENCRYPTION_KEY", key)
        .output();
    said(output.expect("the binary runs"))
}

fn kinds(events: &Value) -> Vec<&str> {
    let events = events.as_array().expect("a list").iter();
    events.filter_map(|event| event["kind"].as_str()).collect()
}

fn at(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().expect("a time");
    text.parse().expect("RFC 3339")
}

/// One number or text out of the hub's database.
async fn stored(world: &World, query: &'static str, id: &str) -> String {
    let pool = sqlx::PgPool::connect(&world.database()).await;
    let found = sqlx::query_scalar(query).bind(id);
    let found = found.fetch_one(&pool.expect("the hub's database")).await;
    found.expect("a row")
}

/// A message came in and was read; the answer was refused once, then sent and delivered.
struct Story {
    conversation: String,
    account: String,
    incoming: String,
    outgoing: String,
    /// Between the two, with what was answered then.
    between: (String, Value, Value),
}

async fn answers(user: &User, conversation: &str, query: &str) -> (Value, Value) {
    let list = user.get(&format!("/api/conversations{query}")).await;
    let thread = user
        .get(&format!("/api/messages/{conversation}{query}"))
        .await;
    list.expect(200);
    thread.expect(200);
    (list.body, thread.body)
}

async fn story(world: &World, user: &User) -> Story {
    let (account, page) = world.connect_facebook(user).await;
    // A look at an account that was just connected may find a message before its webhook is here, and
    // this is the story of a webhook.
    eventually("the first look", Duration::from_secs(10), async || {
        let looked = "SELECT count(*)::text FROM job_history WHERE queue = 'poll' AND key = $1";
        match stored(world, looked, &account).await.as_str() {
            "0" => Err("not yet"),
            _ => Ok(()),
        }
    })
    .await;
    world.incoming(&page, "777", ASKED).await.expect(200);
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id").to_owned();
    let thread = user.get(&format!("/api/messages/{id}")).await;
    let incoming = thread.text("/messages/0/id");
    // The name is looked up meanwhile, and "then" is to have one answer.
    eventually("the name", Duration::from_secs(10), async || {
        let list = user.get("/api/conversations").await;
        match list.text("/conversations/0/participantName") {
            name if name == "777" => Err(name),
            _ => Ok(()),
        }
    })
    .await;
    let then = answers(user, &id, "").await;
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    user.patch(&format!("/api/messages/{incoming}/read"))
        .await
        .expect(200);
    world
        .fault(
            json!({ "platform": "facebook", "op": "send", "mode": "status",
                       "status": 429, "retryAfter": 1, "times": 1 }),
        )
        .await;
    user.send(&id, ANSWERED).await.expect(201);
    let outgoing = eventually("the receipt", Duration::from_secs(15), async || {
        let thread = user.get(&format!("/api/messages/{id}")).await;
        let newest = thread.body["messages"][0].clone();
        match newest["deliveredAt"].is_string() && newest["status"] == "sent" {
            true => Ok(newest["id"].as_str().expect("an id").to_owned()),
            false => Err(newest),
        }
    })
    .await;
    Story {
        conversation: id,
        account,
        incoming,
        outgoing,
        between: (now, then.0, then.1),
    }
}

/// Checks that an event of an explanation is where the log has it, and was told of after it was
/// folded, after it was recorded.
async fn check_step(world: &World, step: &Value) {
    let place = step["place"].as_str().expect("a place");
    let kind = "SELECT kind FROM events WHERE shard || '-' || position = $1";
    assert_eq!(step["kind"], stored(world, kind, place).await.as_str());
    let position: i64 = place.split_once('-').unwrap().1.parse().unwrap();
    let told = &step["told"];
    assert!(told["after"].as_i64().unwrap() < position, "{step}");
    assert!(told["through"].as_i64().unwrap() >= position, "{step}");
    assert!(at(&step["recorded_at"]) <= at(&told["folded_at"]), "{step}");
    assert!(at(&told["folded_at"]) <= at(&told["at"]), "{step}");
}

#[tokio::test]
async fn a_message_is_explained_from_webhook_to_socket() {
    let world = World::with(&[("HUB_SEND_WAIT_MS", "8000")]).await;
    let user = world.register().await;
    let it = story(&world, &user).await;

    let explained = said(hub(&world, &["explain", &it.incoming, "--json"]));
    let explained: Value = serde_json::from_str(&explained).expect("JSON");
    assert_eq!(explained["message"]["state"], "received");
    assert_eq!(
        explained["message"]["conversation_id"],
        json!(it.conversation)
    );
    assert_eq!(
        kinds(&explained["events"]),
        ["MessageReceived", "MessageRead"]
    );
    for step in explained["events"].as_array().unwrap() {
        check_step(&world, step).await;
    }
    let received = &explained["events"][0];
    assert_eq!(received["payload"]["message"], json!(it.incoming));
    let input = &explained["inputs"][0];
    let place = input["place"].as_str().expect("a place");
    assert_eq!(received["meta"]["causation"], json!(format!("c:{place}")));
    let size = "SELECT octet_length(payload::text)::text FROM commands \
                WHERE kind = 'webhook' AND shard || '-' || position = $1";
    let size = stored(&world, size, place).await;
    assert_eq!(input["kept"]["stored_bytes"].to_string(), size);
    assert_eq!(input["kept"]["platform"], "facebook");
    assert!(at(&input["kept"]["received_at"]) <= at(&received["recorded_at"]));
    let position = explained["message"]["position"].as_i64().unwrap();
    for name in ["accounts", "inbox", "notify", "places", "dispatch"] {
        let all = explained["checkpoints"].as_array().unwrap();
        let of = all.iter().find(|it| it["reactor"] == name).expect(name);
        assert!(of["position"].as_i64().unwrap() >= position, "{of}");
    }
    let timeline = explained["timeline"].as_array().unwrap();
    let what = timeline.iter().filter_map(|it| it["what"].as_str());
    // A job of the conversation (asking for a name) may end anywhere in between.
    let what: Vec<&str> = what.filter(|what| *what != "job ended").collect();
    assert_eq!(what[..4], ["webhook", "MessageReceived", "folded", "told"]);
    let offsets: Vec<f64> = timeline
        .iter()
        .filter_map(|it| it["offsetMs"].as_f64())
        .collect();
    assert_eq!((offsets[0], offsets.len()), (0.0, timeline.len()));
    assert!(offsets.is_sorted() && offsets[1] < 20_000.0, "{offsets:?}");

    let explained = said(hub(&world, &["explain", &it.outgoing, "--json"]));
    let explained: Value = serde_json::from_str(&explained).expect("JSON");
    let told = kinds(&explained["events"]);
    assert_eq!(
        told[..5],
        [
            "MessageQueued",
            "SendAttempted",
            "SendDelayed",
            "SendAttempted",
            "MessageSent"
        ]
    );
    assert!(told[5..].contains(&"ReceiptReceived"), "{told:?}");
    for step in explained["events"].as_array().unwrap() {
        check_step(&world, step).await;
    }
    assert_eq!(explained["events"][2]["payload"]["class"], "rate_limited");
    assert!(explained["events"][0]["meta"]["actor"].is_string());
    let jobs = [&explained["ended"], &explained["asked"]];
    let queues = jobs.iter().flat_map(|jobs| jobs.as_array().unwrap());
    assert!(queues.into_iter().any(|job| job["queue"] == "send"));

    // For people, without a word of what was said; with the key, with all of it.
    for message in [&it.incoming, &it.outgoing] {
        let shown = said(hub(&world, &["explain", message]));
        assert!(
            shown.contains("+0.0 ms") && shown.contains("sockets: events"),
            "{shown}"
        );
        for word in [ASKED, ANSWERED, "Mira"] {
            assert!(!shown.contains(word), "{shown}");
        }
    }
    let shown = opened(&world, &["explain", &it.incoming, "--open"]);
    assert!(shown.matches(ASKED).count() == 2, "body and event: {shown}");
    assert!(
        shown.contains("\"object\":\"page\""),
        "the raw body: {shown}"
    );
    let complaint_without = complaint(&world, &["explain", &it.incoming, "--open"]);
    assert!(
        complaint_without.contains("ENCRYPTION_KEY"),
        "{complaint_without}"
    );
    let unknown = complaint(&world, &["explain", &it.conversation]);
    assert!(unknown.contains("no message"), "{unknown}");
}

#[tokio::test]
async fn the_log_is_looked_into_and_the_past_is_there() {
    let world = World::with(&[("HUB_SEND_WAIT_MS", "8000")]).await;
    let user = world.register().await;
    let it = story(&world, &user).await;

    // Every id that the API shows leads to its events.
    let me = user.get("/api/auth/me").await.text("/user/id");
    let first = |id: &str| {
        let events = lines(&said(hub(&world, &["events", "stream", id, "--json"])));
        let versions: Vec<_> = events.iter().map(|it| it["version"].as_u64()).collect();
        let expected: Vec<_> = (1..=events.len() as u64).map(Some).collect();
        assert_eq!(versions, expected);
        events[0]["kind"].as_str().expect("a kind").to_owned()
    };
    assert_eq!(first(&it.conversation), "MessageReceived");
    assert_eq!(first(&it.incoming), "MessageReceived");
    assert_eq!(first(&it.account), "AccountConnected");
    assert_eq!(first(&me), "UserRegistered");
    assert_eq!(first(&user.email.to_uppercase()), "UserRegistered");
    let shown = said(hub(&world, &["events", "stream", &it.incoming]));
    assert!(
        shown.contains("the conversation of that message"),
        "{shown}"
    );
    for (odd, why) in [
        ("tea", "neither an id"),
        ("00000000-0000-4000-8000-000000000000", "nothing is known"),
        ("nobody@example.test", "nothing is known"),
    ] {
        let complaint = complaint(&world, &["events", "stream", odd]);
        assert!(complaint.contains(why), "{complaint}");
    }

    // One event, hidden and opened.
    let place = "SELECT shard || '-' || position FROM events \
                 WHERE kind = 'MessageQueued' AND payload->>'message' = $1";
    let place = stored(&world, place, &it.outgoing).await;
    let hidden = said(hub(&world, &["events", "show", &place, "--json"]));
    assert_eq!(lines(&hidden)[0]["payload"]["text"], "<sealed>");
    assert_eq!(lines(&hidden)[0]["place"], json!(place));
    let shown = said(hub(&world, &["events", "show", &place]));
    assert!(shown.contains("MessageQueued, schema 2"), "{shown}");
    let open = opened(&world, &["events", "show", &place, "--open", "--json"]);
    assert_eq!(lines(&open)[0]["payload"]["text"], ANSWERED);
    let nothing = complaint(&world, &["events", "show", "0-99999999"]);
    assert!(nothing.contains("no event 0-99999999"), "{nothing}");

    // The newest, by time across shards.
    let tail = |more: &[&str]| {
        let arguments = [&["events", "tail", "--json"], more].concat();
        lines(&said(hub(&world, &arguments)))
    };
    let newest = tail(&["-n", "7"]);
    assert_eq!(newest.len(), 7);
    assert!(newest.is_sorted_by_key(|event| at(&event["recorded_at"])));
    let sent = tail(&["--kind", "MessageSent"]);
    assert!(sent.iter().any(|it| it["payload"]["message"].is_string()));
    assert!(sent.iter().all(|it| it["kind"] == "MessageSent"));
    let since = tail(&["--since", &place, "-n", "1000"]);
    let queued = stored(
        &world,
        "SELECT to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
         FROM events WHERE shard || '-' || position = $1",
        &place,
    )
    .await;
    assert!(since.len() >= 4 && since.iter().all(|it| it["place"] != json!(place)));
    assert!(
        since
            .iter()
            .all(|it| at(&it["recorded_at"]) >= at(&json!(queued)))
    );
    for (odd, why) in [
        (["--kind", "Nonsense"], "one of UserRegistered"),
        (["--shard", "99"], "there is no shard 99"),
    ] {
        let complaint = complaint(&world, &[&["events", "tail"], &odd[..]].concat());
        assert!(complaint.contains(why), "{complaint}");
    }
    follow(&world, &user, &it).await;

    // What was answered between then and now, by HTTP and by SQL.
    let (between, list, thread) = &it.between;
    let query = format!("?asOf={between}");
    let (list_then, thread_then) = answers(&user, &it.conversation, &query).await;
    assert_eq!((&list_then, &thread_then), (list, thread));
    let until = hub(&world, &["replay", "inbox", "--until", between, "--json"]);
    let until = &lines(&said(until))[0];
    assert_eq!(
        (&until["live"], &until["generation"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(until["tables"][1]["partition"], "read.messages_2");
    let read = "SELECT count(*) || ' ' || bool_or(is_read) FROM read.messages_2 \
                WHERE conversation_id::text = $1";
    assert_eq!(stored(&world, read, &it.conversation).await, "1 false");
    let earlier = complaint(
        &world,
        &["replay", "inbox", "--until", "2001-01-01T00:00:00Z"],
    );
    assert!(earlier.contains("--discard"), "{earlier}");
    let replayed = &lines(&said(hub(&world, &["replay", "inbox", "--json"])))[0];
    assert_eq!(
        (
            &replayed["resumed"],
            &replayed["verdict"],
            &replayed["fate"]
        ),
        (&json!(true), &json!("equal"), &json!("live"))
    );
}

/// Ends the process however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who follows is shown what comes.
async fn follow(world: &World, user: &User, it: &Story) {
    let child = command(world, &["events", "tail", "-f", "-n", "1", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut following = Running(child);
    let out = following.0.stdout.take().expect("its output");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let within = Duration::from_secs(15);
    let first = tokio::time::timeout(within, told.recv()).await;
    assert!(first.expect("the newest in time").is_some());
    user.send(&it.conversation, "One more thing.")
        .await
        .expect(201);
    loop {
        let line = tokio::time::timeout(within, told.recv()).await;
        let line = line.expect("in time").expect("it goes on");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        if event["kind"] == "MessageSent" {
            return;
        }
    }
}
