//! A person is forgotten while everything goes on, by themselves and by the operator, with workers
//! and without.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{User, World, eventually};

fn hub(world: &World, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hub"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("DATABASE_URL", world.database())
        .output()
        .expect("the binary runs")
}

fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn verify(world: &World) {
    let verified = hub(world, &["verify", "all"]);
    assert!(verified.status.success(), "{verified:?}");
}

/// A person with a page of their own, and a conversation on it.
async fn person(world: &World, text: &str) -> (User, String, String) {
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "501", text).await.expect(200);
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id").to_owned();
    user.send(&id, &format!("answer to {text}"))
        .await
        .expect(201);
    (user, page, id)
}

/// What the platform was asked about a page with this method.
async fn asked(world: &World, method: &str, page: &str) -> usize {
    let url = format!("{}/control/requests", world.sandbox());
    let requests = world.http().get(&url).await.body["requests"].clone();
    let requests = requests.as_array().cloned().unwrap_or_default();
    requests
        .iter()
        .map(Value::to_string)
        .filter(|it| it.contains(&format!("{page}/subscribed_apps")) && it.contains(method))
        .count()
}

async fn count(world: &World, query: &'static str) -> i64 {
    let pool = sqlx::PgPool::connect(&world.database()).await;
    let pool = pool.expect("the hub's database");
    sqlx::query_scalar(query)
        .fetch_one(&pool)
        .await
        .expect("a count")
}

async fn is_locked_out(user: &User) {
    eventually("refusal", Duration::from_secs(3), async || {
        let answer = user.get("/api/conversations").await;
        (answer.status == 401).then_some(()).ok_or(answer.status)
    })
    .await;
}

#[tokio::test]
async fn people_are_forgotten_while_messages_come_and_go() {
    let mut world = World::start().await;
    let (ada, ada_page, thread) = person(&world, "for ada").await;
    let (bob, bob_page, _) = person(&world, "for bob").await;
    let (eve, eve_page, _) = person(&world, "for eve").await;

    // Something of ada's is still to be sent when she goes.
    let fault = json!({ "platform": "facebook", "op": "send", "mode": "status", "status": 503 });
    world.fault(fault).await;
    ada.send(&thread, "never to leave").await.expect(201);
    let erasing = async {
        let url = format!("{}/api/auth/me", world.base());
        let body = json!({ "password": "correct horse" });
        let answer = ada.http.delete_with(&url, &body).await;
        answer.expect(200);
    };
    let writing = async {
        for n in 0..20 {
            world.incoming(&ada_page, "501", &format!("late {n}")).await;
            world
                .incoming(&bob_page, "501", &format!("more {n}"))
                .await
                .expect(200);
        }
    };
    tokio::join!(erasing, writing);
    is_locked_out(&ada).await;
    assert_eq!(asked(&world, "DELETE", &ada_page).await, 1);
    assert_eq!(asked(&world, "DELETE", &bob_page).await, 0);
    let faults = format!("{}/control/faults", world.sandbox());
    world.http().delete(&faults).await.expect(200);
    eventually(
        "the send is given up",
        Duration::from_secs(20),
        async || {
            let given_up = "SELECT count(*) FROM read.messages \
             WHERE state = 'failed' AND failure = 'disconnected'";
            match count(&world, given_up).await {
                1 => Ok(()),
                other => Err(other),
            }
        },
    )
    .await;
    let sent = json!(world.sent(&ada_page).await).to_string();
    assert!(sent.contains("answer to for ada"), "{sent}");
    assert!(!sent.contains("never to leave"), "{sent}");
    // The others got everything.
    bob.conversation(21).await;
    assert_eq!(
        count(&world, "SELECT count(*) FROM logins").await,
        3,
        "the demo user, bob and eve"
    );
    verify(&world);

    // By the operator's hand: an unknown address, a look, and the act.
    let unknown = hub(&world, &["erase", "user", "nobody@example.test", "--yes"]);
    assert_eq!(unknown.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(complaint.contains("nobody is registered"), "{complaint}");
    let look = hub(&world, &["erase", "user", &bob.email, "--json"]);
    assert_eq!(look.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&look.stdout).expect("one JSON object");
    assert_eq!(found["found"]["messages"], 22, "{found}");
    assert_eq!(found["erased"], false);
    bob.get("/api/conversations").await.expect(200);
    let done = said(&hub(
        &world,
        &["erase", "user", &bob.email, "--yes", "--json"],
    ));
    assert_eq!(done["found"]["accounts"], 1, "{done}");
    assert_eq!(
        (&done["erased"], &done["platformsTold"]),
        (&json!(true), &json!(true))
    );
    is_locked_out(&bob).await;
    assert_eq!(asked(&world, "DELETE", &bob_page).await, 1);
    let left = "SELECT count(*) FROM data_keys k WHERE wrapped IS NOT NULL AND EXISTS (\
                SELECT FROM data_keys o WHERE o.subject = k.owner AND o.wrapped IS NULL)";
    assert_eq!(count(&world, left).await, 0);

    // Each was counted once, whoever did it.
    let metrics = world.http().get(&format!("{}/metrics", world.base())).await;
    assert!(
        metrics.raw.contains("hub_erasures_total 2\n"),
        "{}",
        metrics.raw
    );

    // With nobody running but the database.
    world.kill();
    let done = said(&hub(
        &world,
        &["erase", "user", &eve.email, "--yes", "--json"],
    ));
    assert_eq!(
        (&done["erased"], &done["platformsTold"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(count(&world, left).await, 0);
    assert_eq!(count(&world, "SELECT count(*) FROM logins").await, 1);
    let gone = hub(&world, &["erase", "user", &eve.email, "--yes"]);
    assert_eq!(gone.status.code(), Some(1), "there is nobody left to erase");
    world.start_again().await;
    is_locked_out(&eve).await;
    world.incoming(&eve_page, "501", "anybody there?").await;
    verify(&world);
    let again = world.register().await;
    let (_, page) = world.connect_facebook(&again).await;
    world.incoming(&page, "501", "hello").await.expect(200);
    again.conversation(1).await;
}
