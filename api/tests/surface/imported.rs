//! People of an earlier installation, after it was imported: they log in as they always did.

use axum::http::StatusCode;
use chrono::Utc;
use hub_cluster::{TestDatabase, shared_for_tests};
use hub_domain::id::UserId;
use hub_domain::secret::Secret;
use hub_store::import::{Options, Report, run};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::hub::{Hub, request};

const ANN: &str = "11111111-0000-4000-8000-000000000001";
const REFRESH_SECRET: &str = "signs refresh tokens of a test";

async fn earlier(statements: &[&str]) -> TestDatabase {
    let shared = shared_for_tests().await.unwrap();
    let database = shared.empty_database().await.unwrap();
    let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
    let scripts = [
        include_str!("../../../store/tests/it/import/g1_base.sql"),
        include_str!("../../../store/tests/it/import/g1_migration.sql"),
        include_str!("../../../store/tests/it/import/g1_rows.sql"),
    ];
    for script in scripts.iter().chain(statements) {
        let script = sqlx::AssertSqlSafe((*script).to_owned());
        sqlx::raw_sql(script).execute(&pool).await.unwrap();
    }
    pool.close().await;
    database
}

async fn import(hub: &Hub, from: &TestDatabase) -> Report {
    let options = Options {
        source: Secret::new(from.url()),
        encryption_key: Some(Secret::new("0123456789abcdef0123456789abcdef")),
        timezone: "UTC",
        dry_run: false,
        kept_from: None,
        telegram_sessions: false,
        owner_of_token: &|token| {
            let claims = hub_api::auth::verify_refresh(&hub.api.settings().auth, token);
            claims.ok().map(|claims| claims.user)
        },
        progress: &|_| {},
    };
    let report = run(hub.store(), &options).await.unwrap();
    assert!(!report.differs(), "{report:?}");
    report
}

/// A refresh token as an earlier generation made them: four claims and no more.
fn old_token(email: &str, secret: &str) -> String {
    let now = Utc::now().timestamp();
    let claims = json!({"userId": ANN, "email": email, "iat": now - 60, "exp": now + 86_400});
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::default(), &claims, &key).unwrap()
}

async fn stored(hub: &Hub, user: u128) -> (String, bool) {
    sqlx::query_as("SELECT password_hash, imported FROM logins WHERE user_id = $1")
        .bind(Uuid::from_u128(
            0x1111_1111_0000_4000_8000_0000_0000_0000 | user,
        ))
        .fetch_one(hub.store().pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn people_log_in_with_the_passwords_they_have() {
    let hub = Hub::start().await;
    let trimmed = bcrypt::hash("correct horse", 12).unwrap();
    let costly = format!("UPDATE users SET password_hash = '{trimmed}' WHERE email LIKE 'eve%'");
    import(&hub, &earlier(&[&costly]).await).await;
    let login = async |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        hub.post("/api/auth/login", &body).await
    };
    for (email, wrong) in [
        ("ann@example.com", "password2"),
        ("bob@example.com", "pass&word<2>x"),
        ("eve@example.com", "correct  horse"),
    ] {
        let refused = login(email, wrong).await;
        assert_eq!(
            (refused.status, refused.code()),
            (401, "AUTHENTICATION_FAILED")
        );
    }
    // As it was hashed: nothing to make anew.
    let before = stored(&hub, 1).await;
    let ann = login(" Ann@example.com", "password1")
        .await
        .expect(StatusCode::OK);
    assert_eq!(ann.body["user"]["id"], ANN);
    assert_eq!(ann.body["user"]["createdAt"], "2025-01-02T03:04:05.678Z");
    assert_eq!(stored(&hub, 1).await, before);
    // What the first generation's sanitiser made of it.
    login("bob@example.com", "pass&word<1>x")
        .await
        .expect(StatusCode::OK);
    assert!(!stored(&hub, 2).await.1, "from now on it is what it is");
    login("bob@example.com", "pass&word<1>x")
        .await
        .expect(StatusCode::OK);
    let refused = login("bob@example.com", "pass&amp;word&lt;1&gt;x").await;
    assert_eq!(refused.status, 401);
    // With white space around it, and dearer than new ones.
    login("eve@example.com", " correct horse ")
        .await
        .expect(StatusCode::OK);
    assert!(stored(&hub, 3).await.0.starts_with("$2b$10$"));
    login("eve@example.com", "correct horse")
        .await
        .expect(StatusCode::OK);
    login("eve@example.com", "correct horse ")
        .await
        .expect(StatusCode::OK);
}

#[tokio::test]
async fn open_sessions_go_on_and_show_what_was_there() {
    let hub = Hub::start().await;
    let token = old_token("ann@example.com", REFRESH_SECRET);
    let other = old_token("ann@example.com", "another secret altogether");
    let rows = format!(
        "INSERT INTO refresh_tokens (user_id, token, expires_at) VALUES \
         ('{ANN}', '{token}', now() + interval '1 day'), \
         ('{ANN}', '{other}', now() + interval '1 day')"
    );
    let report = import(&hub, &earlier(&[&rows]).await).await;
    assert_eq!(
        (
            report.refresh_tokens.imported,
            report.refresh_tokens.skipped.len()
        ),
        (1, 1)
    );
    let refresh = async |token: &str| {
        let body = json!({ "refreshToken": token });
        hub.post("/api/auth/refresh", &body).await
    };
    assert_eq!(refresh(&other).await.status, 401);
    let pair = refresh(&token).await.expect(StatusCode::OK);
    assert_eq!(refresh(&token).await.status, 401, "exchanged is exchanged");
    let access = pair.body["accessToken"].as_str();
    let get = async |path: &str| hub.call(request("GET", path, access, None)).await.body;

    let me = get("/api/auth/me").await;
    assert_eq!(me["user"]["email"], "ann@example.com");
    let accounts = get("/api/oauth/accounts").await;
    let platforms: Vec<&Value> = accounts["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["platform"])
        .collect();
    assert_eq!(platforms, ["facebook", "telegram", "instagram"]);
    assert_eq!(
        accounts["accounts"][0]["createdAt"],
        "2025-01-31T09:30:00.123Z"
    );
    let list = get("/api/conversations?platform=facebook").await;
    let bob = list["conversations"].as_array().unwrap().iter();
    let bob = bob
        .clone()
        .find(|it| it["participantName"] == "Bob")
        .unwrap();
    assert_eq!(bob["id"], "44444444-0000-4000-8000-000000000001");
    assert_eq!(bob["unreadCount"], 4);
    assert_eq!(bob["lastMessageAt"], "2025-03-01T09:22:00.000Z");
    assert_eq!(bob["createdAt"], "2025-02-01T00:00:00.500Z");
    let thread = get("/api/messages/44444444-0000-4000-8000-000000000001").await;
    let ours = thread["messages"].as_array().unwrap().iter();
    let ours = ours.clone().find(|it| it["isOutgoing"] == true).unwrap();
    assert_eq!(ours["content"], "ours");
    assert_eq!(ours["isRead"], false);
    assert_eq!(ours["deliveredAt"], "2025-03-01T09:02:05.000Z");
    assert_eq!(thread["total"], 7);
    let owner = UserId(ANN.parse().unwrap());
    assert_eq!(
        hub.store().unread(owner).await.unwrap().by_platform["facebook"],
        5
    );
}
