//! An earlier installation is taken over by the binary, killed on the way, while the hub runs; then
//! its people and its platforms go on here.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::world::{World, eventually};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const OWN_KEY: &str = "seals what the hub of this test has";

/// Two people had the same page connected; one of them has message m_1 already.
const ROWS: &str = "\
INSERT INTO users (id, email, password_hash) VALUES \
    ('11111111-0000-4000-8000-000000000011', 'gus@example.com', \
     '$2b$10$abcdefghijklmnopqrstuu2njjerFUdKeNqVoGia/slSqhJQ.vuAy'), \
    ('11111111-0000-4000-8000-000000000012', 'ida@example.com', \
     '$2b$10$abcdefghijklmnopqrstuu2njjerFUdKeNqVoGia/slSqhJQ.vuAy'); \
INSERT INTO connected_accounts (id, user_id, platform, platform_user_id, access_token) VALUES \
    ('33333333-0000-4000-8000-000000000011', '11111111-0000-4000-8000-000000000011', \
     'facebook', 'PAGE1', 'token'), \
    ('33333333-0000-4000-8000-000000000012', '11111111-0000-4000-8000-000000000012', \
     'facebook', 'PAGE1', 'token'); \
INSERT INTO conversations (id, account_id, platform_conversation_id, participant_name, \
        participant_id) VALUES \
    ('44444444-0000-4000-8000-000000000011', '33333333-0000-4000-8000-000000000011', \
     't_77', 'Bob', 'PSID9'), \
    ('44444444-0000-4000-8000-000000000012', '33333333-0000-4000-8000-000000000012', \
     'PSID9', 'Bob', 'PSID9'); \
INSERT INTO messages (conversation_id, platform_message_id, sender_id, content, sent_at) VALUES \
    ('44444444-0000-4000-8000-000000000011', 'm_0', 'PSID9', 'before', '2023-11-01'), \
    ('44444444-0000-4000-8000-000000000012', 'm_1', 'PSID9', 'came before', '2023-11-14')";

/// Contract, appendix A.
const WEBHOOK: &str = r#"{"object":"page","entry":[{"id":"PAGE1","time":1700000000000,"messaging":[{"sender":{"id":"PSID9"},"recipient":{"id":"PAGE1"},"timestamp":1700000000000,"message":{"mid":"m_1","text":"Tom & Jerry <b>hi</b>"}}]}]}"#;
const SIGNATURE: &str = "sha256=f7dada6053235c779ed04a7a6fc13238bd68d7a3a196601307149ae9cf78a246";

async fn earlier(world: &World, messages: i32) -> String {
    let pool = PgPool::connect(&world.database())
        .await
        .expect("the hub's server");
    let made = sqlx::query("CREATE DATABASE earlier").execute(&pool).await;
    made.expect("another database");
    let url = world.database().replace("/hub?", "/earlier?");
    let pool = PgPool::connect(&url).await.expect("the other database");
    let scripts = [
        include_str!("../../store/tests/it/import/g1_base.sql"),
        include_str!("../../store/tests/it/import/g1_rows.sql"),
        ROWS,
    ];
    for script in scripts {
        sqlx::raw_sql(script)
            .execute(&pool)
            .await
            .expect("its rows");
    }
    let filled = sqlx::query(
        "INSERT INTO messages (conversation_id, platform_message_id, sender_id, content, sent_at) \
         SELECT '44444444-0000-4000-8000-000000000001', 'bulk ' || n, '7214', 'text ' || n, \
             timestamp '2025-01-01' + n * interval '1 second' FROM generate_series(1, $1) n",
    );
    filled
        .bind(messages)
        .execute(&pool)
        .await
        .expect("more rows");
    url
}

fn import(world: &World, from: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    command
        .args(["import", "--json", "--from", from])
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("DATABASE_URL", world.database())
        .env("ENCRYPTION_KEY", OWN_KEY)
        // On the command line everybody on the machine would read it.
        .env("HUB_IMPORT_KEY", KEY)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

async fn imported(world: &World) -> i64 {
    let pool = PgPool::connect(&world.database())
        .await
        .expect("the hub's database");
    sqlx::query_scalar("SELECT count(*) FROM events WHERE kind = 'MessageImported'")
        .fetch_one(&pool)
        .await
        .expect("a count")
}

/// Kills an import as soon as it has taken over some messages. True when it was on its way.
async fn killed(world: &World, mut child: Child, after: i64) -> bool {
    while imported(world).await < after {
        if child.try_wait().expect("the child's state").is_some() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = child.try_wait().expect("the child's state");
    child.kill().expect("it can be killed");
    child.wait().expect("it is gone");
    ended.is_none()
}

#[tokio::test]
async fn an_earlier_installation_goes_on_here() {
    let settings = [
        ("ENCRYPTION_KEY", OWN_KEY),
        ("FACEBOOK_APP_SECRET", "fb-secret"),
    ];
    let world = World::with(&settings).await;
    let messages = 6_000;
    let from = earlier(&world, messages).await;

    let refused = import(&world, &from)
        .env("HUB_IMPORT_KEY", "not it")
        .output();
    let refused = refused.expect("the binary runs");
    assert_eq!(refused.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(complaint.contains("not the ENCRYPTION_KEY"), "{complaint}");
    let dry = import(&world, &from).arg("--dry-run").output();
    let dry = said(&dry.expect("the binary runs"));
    assert_eq!(
        (&dry["dryRun"], &dry["comparison"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(imported(&world).await, 0);

    let child = import(&world, &from).spawn().expect("the binary runs");
    assert!(
        killed(&world, child, 1_000).await,
        "it was done before it was killed"
    );
    let report = said(&import(&world, &from).output().expect("the binary runs"));
    assert!(
        report["messages"]["already"].as_i64() >= Some(1_000),
        "{report}"
    );
    assert_eq!(report["comparison"]["different"], 0, "{report}");
    assert_eq!(imported(&world).await, i64::from(messages) + 18);
    let again = said(&import(&world, &from).output().expect("the binary runs"));
    assert_eq!(again["messages"]["imported"], 0, "{again}");

    // Both get what the platform delivers, twice: one has it, the other gets it once.
    let url = format!("{}/api/webhooks/facebook", world.base());
    for _ in 0..2 {
        let headers = [
            ("X-Hub-Signature-256", SIGNATURE),
            ("Content-Type", "application/json"),
        ];
        let answer = world.http().post_raw(&url, &headers, WEBHOOK.into()).await;
        answer.expect(200);
    }
    for (email, conversation, unread, last) in [
        (
            "gus@example.com",
            "44444444-0000-4000-8000-000000000011",
            2,
            "2023-11-14T22:13:20.000Z",
        ),
        (
            "ida@example.com",
            "44444444-0000-4000-8000-000000000012",
            1,
            "2023-11-14T00:00:00.000Z",
        ),
    ] {
        let body = json!({ "email": email, "password": "password1" });
        let url = format!("{}/api/auth/login", world.base());
        let login = world.http().post(&url, &body).await;
        login.expect(200);
        let http = world.http().bearer(&login.text("/tokens/accessToken"));
        let list = format!("{}/api/conversations", world.base());
        let found = eventually("the message", Duration::from_secs(20), async || {
            let answer = http.get(&list).await;
            let first = answer.body["conversations"][0].clone();
            match first["unreadCount"] == json!(unread) && answer.body["total"] == json!(1) {
                true => Ok(first),
                false => Err(answer.body),
            }
        });
        let found = found.await;
        assert_eq!(found["id"], conversation, "{found}");
        assert_eq!(found["lastMessageAt"], last, "{found}");
        let thread = http
            .get(&format!("{}/api/messages/{conversation}", world.base()))
            .await;
        assert_eq!(thread.body["total"], unread, "{:?}", thread.body);
    }

    let verified = Command::new(env!("CARGO_BIN_EXE_hub"))
        .args(["verify", "all"])
        .env_clear()
        .env("DATABASE_URL", world.database())
        .output()
        .expect("the binary runs");
    assert!(verified.status.success(), "{verified:?}");
    let last = said(&import(&world, &from).output().expect("the binary runs"));
    assert_eq!(last["comparison"]["goneOn"], 1, "{last}");
}
