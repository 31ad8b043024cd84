//! Teams from end to end: a notice leads to a message, a message goes out once, and a subscription
//! that is gone is made anew while nothing is lost.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{User, World, eventually};

const MIRA: &str = "b2b2b2b2-0000-4000-8000-000000000002";
const SOON: Duration = Duration::from_secs(15);

/// Connects a person of the user's own. Returns the account's id and the person's.
async fn connect(world: &World, user: &User) -> (String, String) {
    let person = uuid::Uuid::new_v4().to_string();
    let named = json!({ "id": person, "name": "Nora Wind" });
    world.control("teams/people", &named).await;
    let start = user.get("/api/oauth/connect/teams").await;
    let url = start.text("/authorizationUrl");
    assert!(url.contains("/consumers/oauth2/v2.0/authorize") && url.contains("code_challenge="));
    (world.connect(user, "teams").await, person)
}

async fn subscriptions(world: &World, person: &str) -> Vec<Value> {
    let url = format!("{}/control/teams/subscriptions/{person}", world.sandbox());
    let listed = world.http().get(&url).await;
    listed.body["subscriptions"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// The only subscription, once there is one that is not this.
async fn subscribed(world: &World, person: &str, not: &Value) -> Value {
    eventually("a subscription", SOON, async || {
        let all = subscriptions(world, person).await;
        match &all[..] {
            [one] if one != not => Ok(one.clone()),
            _ => Err(all),
        }
    })
    .await
}

async fn writes(world: &World, person: &str, text: &str) -> Value {
    let body = json!({ "platform": "teams", "account": person, "text": text,
                       "from": { "id": MIRA, "name": "Mira Quist" } });
    let url = format!("{}/control/incoming", world.sandbox());
    let answer = world.http().post(&url, &body).await;
    answer.expect(200);
    answer.body
}

fn chat(person: &str) -> String {
    let (one, other) = if person <= MIRA {
        (person, MIRA)
    } else {
        (MIRA, person)
    };
    format!("19:{one}_{other}@unq.gbl.spaces")
}

/// Waits until the thread reads like this, newest first, and no message more is counted.
async fn reads(user: &User, conversation: &str, texts: &[&str]) {
    eventually("the thread", SOON, async || {
        let thread = user
            .get(&format!("/api/messages/{conversation}"))
            .await
            .body;
        let found: Vec<Value> = thread["messages"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|message| message["content"].clone())
            .collect();
        if found == texts && thread["total"] == json!(texts.len()) {
            Ok(())
        } else {
            Err(thread)
        }
    })
    .await
}

#[tokio::test]
async fn a_notice_leads_to_a_message_and_an_answer_goes_out_once() {
    let world = World::with(&[("HUB_SEND_WAIT_MS", "8000")]).await;
    let user = world.register().await;
    let (account, person) = connect(&world, &user).await;
    let accounts = user.get("/api/oauth/accounts").await;
    assert_eq!(
        accounts.body["accounts"][0]["platformUserId"],
        json!(person)
    );
    assert_eq!(
        accounts.body["accounts"][0]["platformUsername"],
        "Nora Wind"
    );
    subscribed(&world, &person, &Value::Null).await;

    let written = writes(&world, &person, "5 < 7 & \"Grüße\" ☕").await;
    assert_eq!(written["status"], 202);
    let conversation = user.conversation(1).await;
    assert_eq!(conversation["platform"], "teams");
    assert_eq!(conversation["participantId"], MIRA);
    assert_eq!(conversation["participantName"], "Mira Quist");
    let id = conversation["id"].as_str().expect("an id");
    reads(&user, id, &["5 < 7 & \"Grüße\" ☕"]).await;

    let sent = user.send(id, "<b>Yes</b> & no\nbye").await;
    sent.expect(201);
    let message = sent.text("/message/platformMessageId");
    // Graph tells of it as of any other message; it is ours, and no second one.
    let url = format!("{}/control/requests", world.sandbox());
    eventually("the look at our own message", SOON, async || {
        let asked = world.http().get(&url).await.body;
        let path = |it: &Value| it["path"].as_str().unwrap_or_default().ends_with(&message);
        let looked = asked["requests"]
            .as_array()
            .is_some_and(|all| all.iter().any(path));
        if looked { Ok(()) } else { Err("not yet") }
    })
    .await;
    let first = writes(&world, &person, "fine").await;
    let texts = ["fine", "<b>Yes</b> & no\nbye", "5 < 7 & \"Grüße\" ☕"];
    reads(&user, id, &texts).await;
    let url = format!(
        "{}/control/sent?platform=teams&account={person}",
        world.sandbox()
    );
    let there = world.http().get(&url).await.body;
    assert_eq!(there["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(there["messages"][0]["text"], "<b>Yes</b> & no\nbye");
    assert_eq!(there["messages"][0]["to"], MIRA);

    // An edit and a deletion.
    let url = format!("{}/control/teams/messages", world.sandbox());
    let change = |action: &str| {
        json!({ "chat": chat(&person), "message": first["messageId"], "action": action,
                "text": "fine, thanks" })
    };
    let edited = world.http().post(&url, &change("edit")).await;
    assert_eq!(edited.body["status"], 202);
    let texts = [
        "fine, thanks",
        "<b>Yes</b> & no\nbye",
        "5 < 7 & \"Grüße\" ☕",
    ];
    reads(&user, id, &texts).await;
    world.http().post(&url, &change("delete")).await.expect(200);
    let texts = ["", "<b>Yes</b> & no\nbye", "5 < 7 & \"Grüße\" ☕"];
    reads(&user, id, &texts).await;

    // Nobody listens any more, and Graph is told so.
    user.delete(&format!("/api/oauth/disconnect/{account}"))
        .await
        .expect(200);
    eventually("the end of the subscription", SOON, async || {
        let all = subscriptions(&world, &person).await;
        if all.is_empty() { Ok(()) } else { Err(all) }
    })
    .await;
}

#[tokio::test]
async fn a_subscription_that_is_gone_is_made_anew_and_nothing_is_lost() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, person) = connect(&world, &user).await;
    let before = subscribed(&world, &person, &Value::Null).await;
    writes(&world, &person, "one").await;
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id");

    // Removed, and told so; what is written before the new one is there is told to nobody.
    let url = format!("{}/control/teams/subscriptions/{person}", world.sandbox());
    let ended = json!({ "event": "expired" });
    world.http().post(&url, &ended).await.expect(200);
    let unheard = writes(&world, &person, "two").await;
    assert_eq!(unheard["outcome"], "queued");
    let notice = json!({ "value": [{
        "subscriptionId": before, "clientState": "teams_webhook_secret",
        "lifecycleEvent": "subscriptionRemoved", "tenantId": "t",
        "subscriptionExpirationDateTime": "2030-01-01T00:00:00.0000000Z" }] });
    let hook = format!("{}/api/webhooks/teams", world.base());
    world.http().post(&hook, &notice).await.expect(202);
    let after = subscribed(&world, &person, &before).await;
    reads(&user, id, &["two", "one"]).await;
    writes(&world, &person, "three").await;
    reads(&user, id, &["three", "two", "one"]).await;
    assert_ne!(before, after);

    // A renewal that is asked for keeps it.
    world
        .http()
        .post(&url, &json!({ "event": "reauthorizationRequired" }))
        .await
        .expect(200);
    let requests = format!("{}/control/requests", world.sandbox());
    eventually("the renewal", SOON, async || {
        let asked = world.http().get(&requests).await.body;
        let renewed = asked["requests"]
            .as_array()
            .is_some_and(|all| all.iter().any(|it| it["method"] == "PATCH"));
        if renewed { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert_eq!(subscriptions(&world, &person).await, [after]);
}

#[tokio::test]
async fn a_send_without_an_answer_is_recognised_by_its_text_and_not_repeated() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, person) = connect(&world, &user).await;
    subscribed(&world, &person, &Value::Null).await;
    writes(&world, &person, "hello").await;
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id");
    world
        .fault(json!({ "platform": "teams", "op": "send", "mode": "accept_no_reply", "times": 1 }))
        .await;
    user.send(id, "did it\narrive?").await.expect(201);
    let patience = Duration::from_secs(60);
    let sent = eventually("the recognition", patience, async || {
        let thread = user.get(&format!("/api/messages/{id}")).await;
        let newest = thread.body["messages"][0].clone();
        let known = newest["platformMessageId"].is_string() && newest["status"] == "sent";
        if known && thread.body["total"] == 2 {
            Ok(newest)
        } else {
            Err(thread.body)
        }
    })
    .await;
    assert_eq!(sent["content"], "did it\narrive?");
    user.send(id, "the next").await.expect(201);
    reads(&user, id, &["the next", "did it\narrive?", "hello"]).await;
    let url = format!(
        "{}/control/sent?platform=teams&account={person}",
        world.sandbox()
    );
    let there = world.http().get(&url).await.body;
    assert_eq!(there["messages"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn the_address_proves_itself_and_strangers_are_refused() {
    let world = World::start().await;
    let hook = format!("{}/api/webhooks/teams", world.base());
    let http = world.http();
    let token = "Validation%3A+Testing%2B%26%3Cb%3E";
    let plain = "Validation: Testing+&<b>";
    let asked = http
        .post_raw(&format!("{hook}?validationToken={token}"), &[], Vec::new())
        .await;
    asked.expect(200);
    assert_eq!(asked.raw, plain);
    assert_eq!(
        asked.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(asked.header("x-content-type-options"), Some("nosniff"));
    let body = json!({ "validationToken": plain });
    assert_eq!(http.post(&hook, &body).await.raw, plain);

    let notice = |word: &str| {
        json!({ "value": [{ "subscriptionId": "s", "changeType": "created", "clientState": word,
                            "resource": "chats('19:x')/messages('1')" }] })
    };
    let taken = http.post(&hook, &notice("teams_webhook_secret")).await;
    taken.expect(202);
    assert_eq!(taken.body, json!({ "ok": true }));
    for word in ["", "guess", "teams_webhook_secret "] {
        let refused = http.post(&hook, &notice(word)).await;
        refused.expect(401);
        assert_eq!(refused.body, json!({ "error": "Invalid signature" }));
    }
    let raw = notice("teams_webhook_secret").to_string().into_bytes();
    let foreign = [(
        "authorization",
        "Bearer eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.x",
    )];
    http.post_raw(&hook, &foreign, raw).await.expect(401);
}
