//! Files that users send: uploaded, handed over, seen by the customer, and loaded in the thread.

use std::time::Duration;

use serde_json::{Value, json};

use crate::apart::Apart;
use crate::world::{User, World, eventually};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n a picture of a teapot";

/// An answer to a send waits for the platform's word.
const PATIENT: (&str, &str) = ("HUB_SEND_WAIT_MS", "8000");

/// Uploads a file and returns what the hub says of it.
pub async fn upload(world: &World, user: &User, name: &str, bytes: &[u8]) -> Value {
    let head = format!(
        "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n"
    );
    let body = [head.as_bytes(), bytes, b"\r\n--b--\r\n"].concat();
    let url = format!("{}/api/media", world.base());
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let answer = user.http.post_raw(&url, &headers, body).await;
    answer.expect(201);
    answer.body
}

/// What the platforms accepted with a file, in order.
async fn sent(world: &World) -> Vec<Value> {
    let answer = world
        .http()
        .get(&format!("{}/control/sent", world.sandbox()))
        .await;
    let all = answer.body["messages"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    all.into_iter()
        .filter(|it| it["media"].is_object())
        .collect()
}

/// What the customer got, byte for byte.
pub async fn received(world: &World, file: &Value) -> Vec<u8> {
    let file = file["media"]["file"].as_str().expect("a file");
    let url = format!("{}/control/media/{file}", world.sandbox());
    load(&url).await
}

pub async fn load(url: &str) -> Vec<u8> {
    let answer = reqwest::get(url).await.expect("an answer");
    assert_eq!(answer.status(), 200, "{url}");
    answer.bytes().await.expect("a body").to_vec()
}

/// Connects an account by following the pages, and has a customer write to it. Returns the
/// conversation.
async fn conversation(world: &World, user: &User, platform: &str, from: &str) -> String {
    world.connect(user, platform).await;
    let body =
        json!({ "platform": platform, "from": { "id": from, "name": "Mira Q" }, "text": "hi" });
    world.control("incoming", &body).await;
    let found = eventually("the conversation", Duration::from_secs(10), async || {
        let answer = user.get("/api/conversations").await;
        let all = answer.body["conversations"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut of_platform = all.into_iter().filter(|it| it["platform"] == platform);
        of_platform.next().ok_or(answer.body)
    });
    found.await["id"].as_str().expect("an id").to_owned()
}

/// Uploads a picture, sends it, and finds it at the customer's and in the thread.
async fn picture(platform: &str, from: &str, text: &str) -> Value {
    let world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    let id = conversation(&world, &user, platform, from).await;
    let file = upload(&world, &user, "tea pot.png", PNG).await;
    let body = json!({ "content": text, "messageType": "image", "mediaUrl": file["mediaUrl"] });
    let answer = user.post(&format!("/api/messages/{id}/send"), &body).await;
    answer.expect(201);
    assert_eq!(answer.body["message"]["status"], "sent", "{}", answer.raw);

    let there = sent(&world).await;
    assert_eq!(there.len(), 1, "{there:?}");
    assert_eq!(
        (&there[0]["platform"], &there[0]["text"]),
        (&json!(platform), &json!(text))
    );
    assert_eq!(there[0]["media"]["size"], json!(PNG.len()));
    assert_eq!(received(&world, &there[0]).await, PNG);

    let thread = user.get(&format!("/api/messages/{id}")).await;
    let message = &thread.body["messages"][0];
    assert_eq!(message["content"], text);
    assert_eq!(message["messageType"], "image");
    assert_eq!(
        load(message["mediaUrl"].as_str().expect("an address")).await,
        PNG
    );
    // An echo or a status of it makes no second message.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let later = user.get(&format!("/api/messages/{id}")).await;
    assert_eq!(
        later.body["messages"].as_array().map(Vec::len),
        Some(2),
        "{}",
        later.raw
    );
    there[0]["media"].clone()
}

#[tokio::test]
async fn a_picture_on_telegram() {
    let media = picture("telegram", "501", "look").await;
    assert_eq!(
        (&media["kind"], &media["name"]),
        (&json!("photo"), &json!("tea pot.png"))
    );
}

#[tokio::test]
async fn a_picture_on_whatsapp() {
    let media = picture("whatsapp", "491701230001", "look").await;
    assert_eq!(media["kind"], "image");
}

#[tokio::test]
async fn a_picture_on_facebook() {
    let media = picture("facebook", "7214365098100001", "").await;
    assert_eq!(media["kind"], "image");
}

#[tokio::test]
async fn a_picture_on_instagram() {
    let media = picture("instagram", "1284736450900001", "").await;
    assert_eq!(media["kind"], "image");
}

#[tokio::test]
async fn a_picture_on_x() {
    let media = picture("twitter", "1700000000000000202", "look").await;
    assert_eq!(media["kind"], "image");
}

#[tokio::test]
async fn a_picture_on_linkedin() {
    let media = picture("linkedin", "Kontakt-B7", "look").await;
    assert_eq!(
        (&media["kind"], &media["mimeType"]),
        (&json!("image"), &json!("image/png"))
    );
}

#[tokio::test]
async fn a_picture_on_teams() {
    let media = picture(
        "teams",
        "b2b2b2b2-0000-4000-8000-000000000002",
        "5 < 6 & \"look\"",
    )
    .await;
    assert_eq!(media["mimeType"], "image/png");
}

/// Turns a fault of uploads on.
async fn fault(world: &World, more: Value) {
    let mut fault = json!({ "platform": "facebook", "op": "upload", "times": 1 });
    let own = fault.as_object_mut().expect("an object");
    own.extend(more.as_object().cloned().expect("an object"));
    world.fault(fault).await;
}

async fn uploads(world: &World) -> usize {
    let all = world.requests().await;
    let is_upload = |path: &str| path.ends_with("/message_attachments");
    all.iter().filter(|(_, path, _)| is_upload(path)).count()
}

#[tokio::test]
async fn an_upload_that_fails_is_made_again_and_the_message_is_sent_once() {
    let world = World::with(&[
        ("HUB_SEND_RETRY_FIRST_MS", "200"),
        ("HUB_HTTP_TIMEOUT_MS", "2000"),
    ])
    .await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "501", "hello").await.expect(200);
    let found = user.conversation(1).await;
    let id = found["id"].as_str().expect("an id");
    let faults = [
        json!({ "mode": "status", "status": 500 }),
        json!({ "mode": "status", "status": 429, "retryAfter": 1 }),
        // The platform has the file and nobody heard of it.
        json!({ "mode": "accept_no_reply" }),
    ];
    for (round, setting) in faults.into_iter().enumerate() {
        fault(&world, setting.clone()).await;
        let file = upload(&world, &user, "a.png", PNG).await;
        let body = json!({ "messageType": "image", "mediaUrl": file["mediaUrl"] });
        let path = format!("/api/messages/{id}/send");
        user.post(&path, &body).await.expect(201);
        // What is queued behind it keeps its place.
        user.queue(id, &format!("after {round}")).await;
        let all = eventually("both", Duration::from_secs(20), async || {
            let all = world.sent(&page).await;
            match all.len() == 2 * (round + 1) {
                true => Ok(all),
                false => Err(all),
            }
        })
        .await;
        let newest: Vec<_> = all[2 * round..].iter().collect();
        assert!(newest[0]["media"].is_object(), "{setting}: {newest:?}");
        assert_eq!(newest[1]["text"], format!("after {round}"));
        assert_eq!(uploads(&world).await, 2 * (round + 1), "{setting}");
    }
}

#[tokio::test]
async fn a_send_that_is_tried_again_does_not_upload_again_and_a_refused_file_fails() {
    let world = World::with(&[("HUB_SEND_RETRY_FIRST_MS", "200"), PATIENT]).await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "501", "hello").await.expect(200);
    let found = user.conversation(1).await;
    let path = format!(
        "/api/messages/{}/send",
        found["id"].as_str().expect("an id")
    );
    let busy = json!({ "platform": "facebook", "op": "send", "mode": "status", "status": 500, "times": 1 });
    world.fault(busy).await;
    let file = upload(&world, &user, "a.png", PNG).await;
    let body = json!({ "messageType": "image", "mediaUrl": file["mediaUrl"] });
    user.post(&path, &body).await.expect(201);
    eventually("the message", Duration::from_secs(10), async || {
        let all = world.sent(&page).await;
        if all.is_empty() { Err(all) } else { Ok(()) }
    })
    .await;
    assert_eq!(
        (uploads(&world).await, world.sent(&page).await.len()),
        (1, 1)
    );

    // Facebook looks into a file and does not find what it is said to be.
    let file = upload(&world, &user, "a.webm", b"\x1A\x45\xDF\xA3 no film").await;
    let body = json!({ "messageType": "video", "mediaUrl": file["mediaUrl"] });
    let refused = user.post(&path, &body).await;
    refused.refuses(422, "PLATFORM_API_ERROR");
    assert_eq!(refused.body["error"]["details"]["class"], "permanent");
    assert_eq!(world.sent(&page).await.len(), 1);
}

/// The worker dies while the platform has the file and has not said so: another one uploads it again,
/// and the customer sees one message.
#[tokio::test]
async fn a_worker_that_dies_during_an_upload_leaves_one_message() {
    let folder = std::env::temp_dir().join(format!("hub-media-{}", uuid::Uuid::new_v4()));
    let dir = folder.to_str().expect("a path").to_owned();
    let mut apart = Apart::start(None, &[("HUB_MEDIA_DIR", &dir)]).await;
    let world = apart.world(0);
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "501", "hello").await.expect(200);
    let found = user.conversation(1).await;
    let id = found["id"].as_str().expect("an id");
    fault(&world, json!({ "mode": "accept_no_reply" })).await;
    let file = upload(&world, &user, "a.png", PNG).await;
    let body = json!({ "messageType": "image", "mediaUrl": file["mediaUrl"] });
    user.post(&format!("/api/messages/{id}/send"), &body)
        .await
        .expect(201);
    eventually(
        "the upload",
        Duration::from_secs(10),
        async || match uploads(&world).await {
            0 => Err("none"),
            _ => Ok(()),
        },
    )
    .await;
    apart.replace_workers();
    eventually("the message", Duration::from_secs(110), async || {
        let all = world.sent(&page).await;
        if all.is_empty() { Err(all) } else { Ok(()) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = world.sent(&page).await;
    assert_eq!((all.len(), uploads(&world).await), (1, 2), "{all:?}");
    let thread = user.get(&format!("/api/messages/{id}")).await;
    assert_eq!(
        thread.body["messages"][0]["status"], "sent",
        "{}",
        thread.raw
    );
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test]
async fn an_upload_that_no_message_has_is_removed() {
    let world = World::with(&[PATIENT]).await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    world.incoming(&page, "501", "hello").await.expect(200);
    let found = user.conversation(1).await;
    let id = found["id"].as_str().expect("an id");
    let lonely = upload(&world, &user, "a.png", PNG).await;
    let file = upload(&world, &user, "b.png", PNG).await;
    let body = json!({ "messageType": "image", "mediaUrl": file["mediaUrl"] });
    user.post(&format!("/api/messages/{id}/send"), &body)
        .await
        .expect(201);

    let pool = sqlx::PgPool::connect(&world.database())
        .await
        .expect("the database");
    eventually("the jobs", Duration::from_secs(10), async || {
        let due = "SELECT count(*) FROM jobs WHERE queue = 'uploads' \
             AND due_at BETWEEN now() + interval '24 hours' AND now() + interval '26 hours'";
        match sqlx::query_scalar::<_, i64>(due).fetch_one(&pool).await {
            Ok(2) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let now = "UPDATE jobs SET due_at = now() WHERE queue = 'uploads'";
    sqlx::query(now).execute(&pool).await.expect("due");
    let url = lonely["mediaUrl"].as_str().expect("an address");
    eventually(
        "nothing there",
        Duration::from_secs(10),
        async || match reqwest::get(url)
            .await
            .expect("an answer")
            .status()
            .as_u16()
        {
            404 => Ok(()),
            other => Err(other),
        },
    )
    .await;
    eventually("no jobs", Duration::from_secs(10), async || {
        let left = "SELECT count(*) FROM jobs WHERE queue = 'uploads'";
        match sqlx::query_scalar::<_, i64>(left).fetch_one(&pool).await {
            Ok(0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(
        load(file["mediaUrl"].as_str().expect("an address")).await,
        PNG
    );
}
