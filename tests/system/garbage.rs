//! Whatever is thrown at the hub gets the contract's answer, changes nothing, and leaves no trace.

use hub_domain::signature::meta_sign;
use serde_json::json;

use crate::client::Answer;
use crate::world::World;

/// The secret that the sandbox's platform signs with, in development.
const APP_SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

async fn signed(world: &World, body: &str) -> Answer {
    let signature = meta_sign(APP_SECRET, body.as_bytes());
    let headers = [("x-hub-signature-256", signature.as_str())];
    let url = format!("{}/api/webhooks/facebook", world.base());
    world
        .http()
        .post_raw(&url, &headers, body.as_bytes().to_vec())
        .await
}

fn message(page: &str, mid: &str, text: &str) -> String {
    format!(
        r#"{{"object":"page","entry":[{{"id":"{page}","time":1791201600900,"messaging":[{{"sender":{{"id":"77"}},"recipient":{{"id":"{page}"}},"timestamp":1791201600000,"message":{{"mid":"{mid}","text":"{text}"}}}}]}}]}}"#
    )
}

#[tokio::test]
async fn garbage_gets_the_contracts_answers() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    let (base, http) = (world.base(), world.http());
    let json_type = [("content-type", "application/json")];

    let register = format!("{base}/api/auth/register");
    let answer = http
        .post_raw(&register, &json_type, b"{\"email\":".to_vec())
        .await;
    answer.refuses(400, "VALIDATION_ERROR");
    let short = json!({ "email": "a@b.test", "password": "1234567" });
    http.post(&register, &short)
        .await
        .refuses(400, "VALIDATION_ERROR");
    let taken = json!({ "email": user.email.to_uppercase(), "password": "correct horse" });
    http.post(&register, &taken)
        .await
        .refuses(409, "USER_EXISTS");
    let big = vec![b'a'; 20 * 1024 * 1024];
    if let Some(answer) = http.try_post_raw(&register, &json_type, big).await {
        answer.refuses(413, "VALIDATION_ERROR");
    }

    http.get(&format!("{base}/api/nothing"))
        .await
        .refuses(404, "NOT_FOUND");
    http.delete(&format!("{base}/api/auth/login"))
        .await
        .refuses(405, "METHOD_NOT_ALLOWED");
    http.get(&format!("{base}/api/auth/me/"))
        .await
        .refuses(401, "UNAUTHORIZED");
    http.bearer("nonsense")
        .get(&format!("{base}/api/auth/me"))
        .await
        .refuses(401, "INVALID_TOKEN");

    // Another user's ids are unknown ids.
    world.incoming(&page, "701", "private").await;
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id");
    let other = world.register().await;
    other
        .get(&format!("/api/messages/{id}"))
        .await
        .refuses(403, "FORBIDDEN");
    other
        .send(id, "mine now")
        .await
        .refuses(404, "CONVERSATION_NOT_FOUND");
    other
        .get(&format!("/api/conversations/{id}"))
        .await
        .refuses(404, "CONVERSATION_NOT_FOUND");
    let thread = user.get(&format!("/api/messages/{id}")).await;
    let message = thread.text("/messages/0/id");
    other
        .patch(&format!("/api/messages/{message}/read"))
        .await
        .refuses(404, "MESSAGE_NOT_FOUND");
    user.conversation(1).await;
    user.get("/api/messages/not-a-uuid")
        .await
        .refuses(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn a_forged_webhook_leaves_nothing_but_a_counter() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    let url = format!("{}/api/webhooks/facebook", world.base());
    let body = message(&page, "m_1", "forged");
    let wrong = format!("sha256={}", "0".repeat(64));
    for headers in [
        vec![],
        vec![("x-hub-signature-256", wrong.as_str())],
        vec![("x-hub-signature-256", "sha256=abc")],
    ] {
        let answer = world
            .http()
            .post_raw(&url, &headers, body.clone().into_bytes())
            .await;
        answer.expect(401);
        assert_eq!(answer.body, json!({ "error": "Invalid signature" }));
    }
    assert_eq!(user.get("/api/conversations").await.body["total"], 0);
    let metrics = world.http().get(&format!("{}/metrics", world.base())).await;
    let counter = metrics
        .raw
        .lines()
        .find(|line| line.starts_with("hub_webhooks_refused_total") && line.contains("facebook"));
    assert!(
        counter.is_some_and(|line| line.ends_with(" 3")),
        "{counter:?}"
    );
}

#[tokio::test]
async fn signed_nonsense_is_taken_put_aside_and_keeps_nobody_waiting() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    for nonsense in [
        "",
        "not json",
        "[]",
        "{\"object\":7}",
        "{\"entry\":[null,{}]}",
    ] {
        let answer = signed(&world, nonsense).await;
        answer.expect(200);
        assert_eq!(answer.body, json!({ "ok": true }), "{nonsense}");
    }
    // The same message five times, then one for a page that nobody here has connected.
    for _ in 0..5 {
        signed(&world, &message(&page, "m_five", "once"))
            .await
            .expect(200);
    }
    signed(&world, &message("1", "m_nobody", "for nobody"))
        .await
        .expect(200);
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id");
    let thread = user.get(&format!("/api/messages/{id}")).await;
    assert_eq!(thread.body["total"], 1);
    assert_eq!(thread.body["messages"][0]["content"], "once");
    let metrics = world.http().get(&format!("{}/metrics", world.base())).await;
    assert!(
        metrics
            .raw
            .contains("hub_parked_total{reactor=\"translate\"} 2"),
        "{}",
        metrics.raw
    );
}
