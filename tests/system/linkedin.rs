//! LinkedIn, as far as it goes: comments on a company's post are read and answered, messages of
//! the member are read only.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{User, World, eventually};

const PATIENT: (&str, &str) = ("HUB_SEND_WAIT_MS", "8000");
const ORGANIZATION: &str = "urn:li:organization:90210777";
const MEMBER: &str = "Syst3m_A";

/// Connects a member who administers an organization.
async fn connect(world: &World, user: &User) {
    let named = json!({ "id": MEMBER, "name": "Nora Wind", "organization": ORGANIZATION });
    world.control("linkedin/members", &named).await;
    world.connect(user, "linkedin").await;
}

async fn comments(world: &World, text: &str) -> Value {
    let body = json!({ "platform": "linkedin", "account": ORGANIZATION,
        "from": { "id": "Kontakt-B7", "name": "Dana Fox" }, "text": text });
    world.control("incoming", &body).await
}

#[tokio::test]
async fn a_comment_comes_in_and_is_answered_in_the_companys_name() {
    let world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    connect(&world, &user).await;
    let accounts = user.get("/api/oauth/accounts").await;
    assert_eq!(accounts.body["accounts"][0]["platformUserId"], MEMBER);
    assert_eq!(
        accounts.body["accounts"][0]["platformUsername"],
        "Nora Wind"
    );
    assert_eq!(
        comments(&world, "Do you ship to Oslo? <3 &").await["status"],
        200
    );
    let conversation = user.conversation(1).await;
    assert_eq!(conversation["participantId"], "urn:li:person:Kontakt-B7");
    let id = conversation["id"].as_str().expect("an id");
    let thread = user.get(&format!("/api/messages/{id}")).await;
    assert_eq!(
        thread.body["messages"][0]["content"],
        "Do you ship to Oslo? <3 &"
    );

    let sent = user.send(id, "Yes, to all of Norway.").await;
    sent.expect(201);
    let platform_id = sent.text("/message/platformMessageId");
    assert!(
        platform_id.starts_with("urn:li:comment:(urn:li:activity:"),
        "{platform_id}"
    );
    let url = format!("{}/control/sent?platform=linkedin", world.sandbox());
    let there = world.http().get(&url).await;
    assert_eq!(
        there.body["messages"][0]["platformMessageId"],
        json!(platform_id)
    );
    // After its notification has come in, a third comment shows that there is no fourth.
    tokio::time::sleep(Duration::from_millis(300)).await;
    comments(&world, "Great").await;
    eventually("the next comment", Duration::from_secs(10), async || {
        let thread = user.get(&format!("/api/messages/{id}")).await;
        if thread.body["total"] == 3 {
            Ok(())
        } else {
            Err(thread.body)
        }
    })
    .await;

    let fault = json!({ "platform": "linkedin", "op": "send", "mode": "status", "status": 403,
        "times": 1 });
    world.fault(fault).await;
    user.send(id, "no longer allowed")
        .await
        .refuses(422, "PLATFORM_API_ERROR");
}

#[tokio::test]
async fn a_members_message_is_read_and_cannot_be_answered() {
    let world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    connect(&world, &user).await;
    // In the form earlier hubs were sent, signed as it was then.
    let body = json!({ "eventType": "MESSAGE_EVENT", "data": {
        "conversationId": "c9", "messageId": "lm1", "from": "urn:li:person:b",
        "recipient": format!("urn:li:person:{MEMBER}"), "text": "hello",
        "createdAt": 1_700_000_000_000_i64 } });
    let raw = body.to_string().into_bytes();
    let digest = hub_domain::signature::meta_sign("hubTestLinkedInSecret42", &raw);
    let signature = digest.trim_start_matches("sha256=");
    let url = format!("{}/api/webhooks/linkedin", world.base());
    let headers = [("x-li-signature", signature)];
    world
        .http()
        .post_raw(&url, &headers, raw.clone())
        .await
        .expect(200);
    let conversation = user.conversation(1).await;
    assert_eq!(conversation["platformConversationId"], "c9");
    let id = conversation["id"].as_str().expect("an id");
    let refused = user.send(id, "hello back").await;
    refused.refuses(422, "PLATFORM_API_ERROR");
    assert!(
        refused.raw.contains("LinkedIn does not let apps"),
        "{}",
        refused.raw
    );
    let thread = user.get(&format!("/api/messages/{id}")).await;
    assert_eq!(thread.body["total"], 1, "nothing was queued");
}
