//! LinkedIn, as far as it goes: comments on a company's post are read and answered, also those that
//! were never pushed; messages of the member are read, and answered where that was granted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sweep::{repaired, sync};
use crate::uploading::upload;
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
        refused.raw.contains("LinkedIn takes answers"),
        "{}",
        refused.raw
    );
    let thread = user.get(&format!("/api/messages/{id}")).await;
    assert_eq!(thread.body["total"], 1, "nothing was queued");
}

#[tokio::test]
async fn comments_that_were_never_pushed_are_made_up_for() {
    let world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    connect(&world, &user).await;
    // Connecting is followed by a subscription for the organization, to be renewed in a day.
    eventually("the subscription", Duration::from_secs(10), async || {
        let asked = world.requests().await;
        let puts = asked.iter().filter(|(method, path, _)| {
            method == "PUT" && path.starts_with("/rest/eventSubscriptions/")
        });
        match puts.count() {
            1 => Ok(()),
            _ => Err(asked),
        }
    })
    .await;
    let pool = sqlx::PgPool::connect(&world.database()).await;
    let pool = pool.expect("the database");
    eventually("the next one", Duration::from_secs(10), async || {
        let tomorrow = "SELECT count(*) FROM subscriptions WHERE \
             renew_at BETWEEN now() + interval '23 hours' AND now() + interval '25 hours'";
        match sqlx::query_scalar::<_, i64>(tomorrow)
            .fetch_one(&pool)
            .await
        {
            Ok(1) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    // The first sweep is over, and so is the one that the new subscription has asked for.
    eventually("the first polls", Duration::from_secs(10), async || {
        let jobs = "SELECT count(*) FROM jobs WHERE queue = 'poll' AND due_at <= now()";
        let stats = user.get("/api/debug/polling/stats").await.body;
        let left = sqlx::query_scalar::<_, i64>(jobs).fetch_one(&pool).await;
        match (stats["stats"]["totalPolls"].as_i64(), left) {
            (Some(1..), Ok(0)) => Ok(()),
            _ => Err(stats),
        }
    })
    .await;
    comments(&world, "Hello").await;
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id").to_owned();
    assert_eq!(sync(&user).await, 0, "the webhook was first");
    let fault = json!({ "platform": "linkedin", "op": "webhook", "mode": "drop", "times": 2 });
    world.fault(fault).await;
    for text in ["Are you there?", "Hm."] {
        assert_eq!(comments(&world, text).await["outcome"], "dropped");
    }
    assert_eq!(repaired(&world, "linkedin").await, 0.0);
    assert_eq!(sync(&user).await, 2);
    assert_eq!(repaired(&world, "linkedin").await, 2.0);
    eventually("both in the thread", Duration::from_secs(10), async || {
        let thread = user.get(&format!("/api/messages/{id}")).await;
        match thread.body["total"].as_i64() {
            Some(3) => Ok(()),
            _ => Err(thread.body),
        }
    })
    .await;
    // Once; and what was found can be answered.
    assert_eq!(sync(&user).await, 0);
    assert_eq!(repaired(&world, "linkedin").await, 2.0);
    user.send(&id, "Here I am").await.expect(201);
}

#[tokio::test]
async fn members_are_answered_with_files_where_that_was_granted() {
    let scopes = "openid profile w_organization_social rw_organization_admin \
         r_dma_portability_self_serve w_messages";
    let world = World::with(&[PATIENT, ("LINKEDIN_SCOPES", scopes)]).await;
    let user = world.register().await;
    connect(&world, &user).await;
    let picture = b"\x89PNG\r\n\x1a\n a broken teapot";
    let url = format!("{}/control/media/pot.png", world.sandbox());
    let laid = reqwest::Client::new()
        .put(&url)
        .body(picture.to_vec())
        .send()
        .await;
    assert!(laid.expect("an answer").status().is_success());
    let body = json!({ "platform": "linkedin", "account": MEMBER,
        "from": { "id": "Kontakt-B7", "name": "Dana Fox" }, "text": "look",
        "media": { "kind": "image", "name": "pot.png" } });
    world.control("incoming", &body).await;
    sync(&user).await;
    let conversation = user.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id").to_owned();
    let thread = conversation["platformConversationId"].clone();
    let path = format!("/api/messages/{id}");
    // Fetched with the token from LinkedIn, without it from where LinkedIn redirects to.
    let shown = eventually("the picture", Duration::from_secs(15), async || {
        let shown = user.get(&path).await.body["messages"][0].clone();
        match shown["mediaUrl"].as_str().map(str::to_owned) {
            Some(url) => Ok(url),
            None => Err(shown),
        }
    })
    .await;
    let loaded = reqwest::get(&shown).await.expect("an answer");
    assert_eq!(loaded.status(), 200);
    assert_eq!(&loaded.bytes().await.expect("a body")[..], picture);

    user.send(&id, "Oh! Here is the warranty").await.expect(201);
    let file = upload(&world, &user, "warranty.pdf", b"%PDF-1.7 two years").await;
    let body = json!({ "content": "as a file", "messageType": "file",
        "mediaUrl": file["mediaUrl"] });
    let sent = user.post(&format!("{path}/send"), &body).await;
    sent.expect(201);
    assert_eq!(sent.body["message"]["status"], "sent", "{}", sent.raw);
    let url = format!("{}/control/sent?platform=linkedin", world.sandbox());
    let there = world.http().get(&url).await.body["messages"].clone();
    assert_eq!(there[1]["to"], thread);
    assert_eq!(there[1]["media"]["mimeType"], "application/pdf", "{there}");
    assert_eq!(there.as_array().map(Vec::len), Some(2));
    // The change log shows both of ours, and they are not doubled.
    sync(&user).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let thread = user.get(&path).await;
    assert_eq!(thread.body["total"], 3, "{}", thread.raw);
}
