//! People who tell Meta that they leave: their accounts need somebody, or they are forgotten, and
//! nobody else is. A Page that no list shows is connected all the same.

use std::time::Duration;

use serde_json::{Value, json};

use crate::dlq::{dlq, parked};
use crate::replay::hub;
use crate::world::{User, World, eventually};

const SOON: Duration = Duration::from_secs(20);

/// A Page that this person has agreed to, connected for a user.
async fn connect(world: &World, user: &User, page: &str, more: Value) -> String {
    let mut offer = json!({ "platform": "facebook", "id": page, "name": "Teapots" });
    for (name, value) in more.as_object().into_iter().flatten() {
        offer[name] = value.clone();
    }
    let url = format!("{}/control/accounts", world.sandbox());
    world.http().post(&url, &offer).await.expect(200);
    let start = user.get("/api/oauth/connect/facebook").await;
    let page = start.text("/authorizationUrl");
    world.http().follow(&page, "/connect?").await
}

/// The hub's answers to somebody's wish to leave.
async fn leave(world: &World, wish: &str, person: &str, more: Value) -> Vec<(u64, Value)> {
    let mut body = json!({ "platform": "facebook", "wish": wish, "person": person });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let url = format!("{}/control/departures", world.sandbox());
    let answer = world.http().post(&url, &body).await;
    let answers = answer.expect(200).body["answers"].as_array().cloned();
    let answers = answers.unwrap_or_default().into_iter();
    answers
        .map(|it| (it["status"].as_u64().unwrap_or(0), it["body"].clone()))
        .collect()
}

async fn count(world: &World, query: &'static str) -> i64 {
    let pool = sqlx::PgPool::connect(&world.database()).await;
    let pool = pool.expect("the hub's database");
    let count = sqlx::query_scalar(query).fetch_one(&pool).await;
    count.expect("a count")
}

/// Waits until so many wishes to leave were fulfilled.
async fn attended(world: &World, wanted: i64) {
    eventually("the departure", SOON, async || {
        let query = "SELECT count(*) FROM departures WHERE done_at IS NOT NULL";
        match count(world, query).await {
            done if done == wanted => Ok(()),
            done => Err(done),
        }
    })
    .await;
}

const NEEDS: &str = "SELECT count(*) FROM events WHERE kind = 'AccountNeedsReconnect'";

#[tokio::test]
async fn whoever_takes_the_permission_back_needs_to_connect_again() {
    let world = World::start().await;
    let user = world.register().await;
    let (page, mine) = ("104857600450001", json!({ "person": "10158000000000007" }));
    let end = connect(&world, &user, page, mine.clone()).await;
    assert!(end.contains("success=true"), "{end}");
    world.incoming(page, "501", "hello").await.expect(200);
    let conversation = user.conversation(1).await;
    let conversation = conversation["id"].as_str().expect("an id");

    // Forged, expired, and somebody else's: nothing changes.
    let me = "10158000000000007";
    let forged = leave(&world, "deauthorize", me, json!({ "forged": true })).await;
    assert_eq!(
        forged,
        [(401, json!({ "error": "Invalid signed request" }))]
    );
    let late = leave(&world, "deauthorize", me, json!({ "expiresInS": -1 })).await;
    let refusal = json!({ "error": "The signed request has expired" });
    assert_eq!(late, [(401, refusal)]);
    let other = leave(&world, "deauthorize", "10158000000000008", json!({})).await;
    assert_eq!(other, [(200, json!({ "ok": true }))]);
    attended(&world, 1).await;
    assert_eq!(count(&world, NEEDS).await, 0);
    user.send(conversation, "still here").await.expect(201);

    let twice = leave(&world, "deauthorize", me, json!({ "repeat": 2 })).await;
    let taken = (200, json!({ "ok": true }));
    assert_eq!(twice, [taken.clone(), taken]);
    attended(&world, 2).await;
    assert_eq!(count(&world, NEEDS).await, 1);
    eventually("a refusal", SOON, async || {
        let answer = user.send(conversation, "too late").await;
        (answer.status == 422).then_some(()).ok_or(answer.raw)
    })
    .await;
    // Receiving goes on, and whoever connects again is back.
    world
        .incoming(page, "501", "are you there?")
        .await
        .expect(200);
    user.conversation(2).await;
    let end = connect(&world, &user, page, mine).await;
    assert!(end.contains("success=true"), "{end}");
    user.send(conversation, "back again").await.expect(201);
    assert_eq!(count(&world, NEEDS).await, 1);
}

#[tokio::test]
async fn whoever_wants_their_data_deleted_is_forgotten_and_nobody_else() {
    let world = World::start().await;
    let (ada, bob) = (world.register().await, world.register().await);
    let (hers, his) = ("104857600450002", "104857600450003");
    let (her_id, his_id) = ("10158000000000002", "10158000000000003");
    connect(&world, &ada, hers, json!({ "person": her_id })).await;
    connect(&world, &bob, his, json!({ "person": his_id })).await;
    world.incoming(hers, "501", "for ada").await.expect(200);
    world.incoming(his, "502", "for bob").await.expect(200);
    ada.conversation(1).await;
    bob.conversation(1).await;

    let answers = leave(&world, "delete", her_id, json!({ "repeat": 2 })).await;
    assert_eq!(answers[0], answers[1]);
    let (status, body) = &answers[0];
    assert_eq!(*status, 200);
    let code = body["confirmation_code"].as_str().expect("a code");
    let url = body["url"].as_str().expect("a page");
    assert!(code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let page = format!("{}/api/deletion/{code}", world.base());
    assert!(url.ends_with(&format!("/api/deletion/{code}")), "{url}");
    eventually("the end", SOON, async || {
        let answer = world.http().get(&page).await;
        let text = answer.expect(200).raw.clone();
        let is_over = text.contains("Finished on") && text.contains("is deleted");
        is_over.then_some(()).ok_or(text)
    })
    .await;
    assert_eq!(ada.get("/api/auth/me").await.status, 401);
    bob.get("/api/auth/me").await.expect(200);
    assert_eq!(bob.conversation(1).await["unreadCount"], json!(1));
    let erased = "SELECT count(*) FROM events WHERE kind = 'UserErased'";
    assert_eq!(count(&world, erased).await, 1);
    let kept = "SELECT count(*) FROM agreements WHERE user_id IN \
         (SELECT (payload ->> 'user')::uuid FROM events WHERE kind = 'UserErased')";
    assert_eq!(count(&world, kept).await, 0);

    // Of somebody the hub does not know there is nothing; a code that it did not make is none.
    let stranger = leave(&world, "delete", "10158000000000009", json!({})).await;
    let code = stranger[0].1["confirmation_code"].as_str();
    let page = format!("{}/api/deletion/{}", world.base(), code.expect("a code"));
    eventually("the end", SOON, async || {
        let text = world.http().get(&page).await.raw;
        text.contains("nothing is kept").then_some(()).ok_or(text)
    })
    .await;
    let unknown = format!("{}/api/deletion/{}", world.base(), "0".repeat(48));
    world.http().get(&unknown).await.refuses(404, "NOT_FOUND");
}

#[tokio::test]
async fn whoever_has_more_waits_for_an_operator_before_all_of_it_goes() {
    let world = World::start().await;
    let cay = world.register().await;
    let (page, person) = ("104857600450005", "10158000000000005");
    connect(&world, &cay, page, json!({ "person": person })).await;
    world.connect_facebook(&cay).await;

    let answers = leave(&world, "delete", person, json!({})).await;
    let code = answers[0].1["confirmation_code"].as_str().expect("a code");
    let status = format!("{}/api/deletion/{code}", world.base());
    let mut entry = Value::Null;
    eventually("somebody is asked", SOON, async || {
        let all = parked(&world, &["--queue", "departure"]);
        entry = all.first().cloned().unwrap_or_default();
        (all.len() == 1).then_some(()).ok_or(all)
    })
    .await;
    assert_eq!(count(&world, NEEDS).await, 1);
    cay.get("/api/auth/me").await.expect(200);
    let text = world.http().get(&status).await.raw;
    assert!(text.contains("are being deleted"), "{text}");

    let reason = entry["reason"].as_str().expect("a reason");
    let (_, rest) = reason.split_once("user ").expect("whom it is about");
    let user = &rest[..36];
    let erased = hub(&world, &["erase", "user", user, "--yes"]);
    assert!(erased.status.success(), "{erased:?}");
    let id = entry["id"].as_str().expect("an id");
    dlq(&world, &["retry", id]).expect("nobody is in the way");
    eventually("the end", SOON, async || {
        let text = world.http().get(&status).await.raw;
        text.contains("is deleted").then_some(()).ok_or(text)
    })
    .await;
    assert_eq!(cay.get("/api/auth/me").await.status, 401);
    let nobody = uuid::Uuid::new_v4().to_string();
    let nothing = hub(&world, &["erase", "user", &nobody, "--yes"]);
    assert!(!nothing.status.success(), "{nothing:?}");
}

#[tokio::test]
async fn a_page_of_a_portfolio_is_connected_although_no_list_shows_it() {
    let world = World::start().await;
    let user = world.register().await;
    let page = "104857600450004";
    let end = connect(&world, &user, page, json!({ "portfolio": true })).await;
    assert!(end.contains("success=true"), "{end}");
    world.incoming(page, "501", "hello").await.expect(200);
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id");
    user.send(id, "hello yourself").await.expect(201);
    assert_eq!(world.sent(page).await.len(), 1);
}
