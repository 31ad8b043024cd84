//! Uploads: what is taken, that a repetition keeps nothing twice, and what a message may name.

use axum::body::Body;
use axum::http::Request;
use hub_domain::event::Thread;
use hub_domain::platform::Platform;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::hub::{Answer, Hub, Person, call, request};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n a picture of a teapot";
const GIF: &[u8] = b"GIF89a a teapot that boils";
const PDF: &[u8] = b"%PDF-1.7\nthe price of tea";

/// A form with these fields: name, file name, content.
fn form(fields: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in fields {
        let file = file
            .map(|it| format!("; filename=\"{it}\""))
            .unwrap_or_default();
        let head = format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    body
}

async fn post(hub: &Hub, who: &Person, key: Option<&str>, kind: &str, body: Vec<u8>) -> Answer {
    let mut call = Request::post("/api/media")
        .header("authorization", format!("Bearer {}", who.access))
        .header("content-type", kind);
    if let Some(key) = key {
        call = call.header("idempotency-key", key);
    }
    hub.call(call.body(Body::from(body)).unwrap()).await
}

const FORM: &str = "multipart/form-data; boundary=b";

async fn upload(hub: &Hub, who: &Person, key: Option<&str>, name: &str, bytes: &[u8]) -> Answer {
    post(hub, who, key, FORM, form(&[("file", Some(name), bytes)])).await
}

async fn uploaded(hub: &Hub, who: &Person, bytes: &[u8]) -> String {
    let answer = upload(hub, who, None, "tea", bytes).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body["mediaUrl"].as_str().unwrap().to_owned()
}

async fn inbox(hub: &Hub, who: &Person, platform: Platform) -> Thread {
    let account = hub.account(who, platform, "page").await;
    let thread = who.thread(account, platform, "t_10");
    hub.receive(who, &thread, "m_1", "hello").await;
    thread
}

async fn send(hub: &Hub, who: &Person, at: &Thread, body: &Value, key: Option<&str>) -> Answer {
    let path = format!("/api/messages/{}/send", at.conversation);
    let mut call = request("POST", &path, Some(&who.access), Some(body));
    if let Some(key) = key {
        let headers = call.headers_mut();
        headers.insert("idempotency-key", key.parse().unwrap());
    }
    hub.call(call).await
}

/// Loads an address as a browser does.
async fn load(hub: &Hub, url: &str) -> Answer {
    let path = url
        .strip_prefix("https://hub.example")
        .expect("an address of ours");
    call(&hub.router, request("GET", path, None, None)).await
}

#[tokio::test]
async fn an_upload_is_known_by_its_content_and_can_be_loaded() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let answer = upload(&hub, &ann, None, "C:\\pictures\\tea pot.jpg", PNG).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    for (name, value) in [
        ("mimeType", json!("image/png")),
        ("size", json!(PNG.len())),
        ("name", json!("tea pot.jpg")),
        ("messageType", json!("image")),
    ] {
        assert_eq!(answer.body[name], value, "{name}");
    }
    let url = answer.body["mediaUrl"].as_str().unwrap();
    assert!(url.contains(answer.body["id"].as_str().unwrap()), "{url}");
    let loaded = load(&hub, url).await;
    assert_eq!(
        (loaded.status, loaded.header("content-type")),
        (200, "image/png")
    );
    assert!(loaded.text.ends_with("a picture of a teapot"));
    assert_eq!(
        load(&hub, &url.replace("signature=", "signature=0"))
            .await
            .status,
        403
    );

    // Nothing of it is in the log in the clear.
    let query = "SELECT payload::text FROM events WHERE kind = 'MediaUploaded'";
    let kept: String = sqlx::query_scalar(query)
        .fetch_one(hub.store().pool())
        .await
        .unwrap();
    assert!(!kept.contains("tea pot"), "{kept}");
}

#[tokio::test]
async fn what_is_no_upload_is_refused_and_leaves_nothing() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let events = hub.count("events").await;
    let big = [PNG, &[0; 1024 * 1024]].concat();
    let page = b"<!doctype html><script>alert(1)</script>";
    let file = |bytes: &[u8]| form(&[("file", Some("a.png"), bytes)]);
    let cases: [(&str, Vec<u8>, u16); 12] = [
        ("application/json", b"{}".to_vec(), 415),
        ("image/png", PNG.to_vec(), 415),
        ("multipart/form-data", file(PNG), 415),
        (FORM, b"no form".to_vec(), 400),
        (FORM, Vec::new(), 400),
        (FORM, form(&[("file", None, PNG)]), 400),
        (
            FORM,
            form(&[("a", Some("a"), PNG), ("b", Some("b"), PNG)]),
            400,
        ),
        (FORM, file(b""), 400),
        (FORM, file(&big), 413),
        (FORM, file(page), 415),
        (FORM, file(b"<svg onload=alert(1)>"), 415),
        (FORM, file(b"MZ\x90\x00\x03\x00"), 415),
    ];
    for (at, (kind, body, status)) in cases.into_iter().enumerate() {
        let answer = post(&hub, &ann, None, kind, body).await;
        assert_eq!(answer.status, status, "case {at}: {}", answer.text);
        assert_eq!(answer.code(), "VALIDATION_ERROR", "case {at}");
    }
    assert_eq!(hub.count("events").await, events);
    let beside = form(&[("caption", None, b"ignored"), ("file", Some("a.png"), PNG)]);
    assert_eq!(post(&hub, &ann, None, FORM, beside).await.status, 201);
}

#[tokio::test]
async fn one_key_keeps_one_file() {
    let hub = Hub::start().await;
    let (ann, eve) = (hub.person("ann").await, hub.person("eve").await);
    let first = upload(&hub, &ann, Some("k"), "a.png", PNG).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let events = hub.count("events").await;
    let again = upload(&hub, &ann, Some("k"), "a.png", PNG).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    // A file that was not kept, because of a crash, is kept by the repetition.
    let object = first.body["id"].as_str().unwrap().parse::<Uuid>().unwrap();
    let folder = hub.api.settings().media.dir.clone();
    let place = folder.join(ann.user.to_string()).join(object.to_string());
    std::fs::remove_file(&place).unwrap();
    let thread = inbox(&hub, &ann, Platform::Telegram).await;
    let url = first.body["mediaUrl"].clone();
    let lost = send(&hub, &ann, &thread, &json!({"mediaUrl": url}), None).await;
    assert_eq!((lost.status, lost.code()), (422, "MEDIA_NOT_FOUND"));
    assert_eq!(
        upload(&hub, &ann, Some("k"), "a.png", PNG).await.status,
        201
    );
    assert!(place.exists());

    for (name, bytes) in [("a.png", PDF), ("b.png", PNG)] {
        let other = upload(&hub, &ann, Some("k"), name, bytes).await;
        assert_eq!(
            (other.status, other.code()),
            (422, "IDEMPOTENCY_KEY_REUSED")
        );
    }
    // Of the same type and size, and not the same.
    let mut alike = PNG.to_vec();
    *alike.last_mut().unwrap() ^= 1;
    assert_eq!(
        upload(&hub, &ann, Some("k"), "a.png", &alike).await.status,
        422
    );
    let others = upload(&hub, &eve, Some("k"), "a.png", PDF).await;
    assert_eq!(others.status, 201);
    assert_eq!(hub.count("events WHERE kind = 'MediaUploaded'").await, 2);
    assert!(hub.count("events").await > events);
}

#[tokio::test]
async fn a_message_has_its_file_in_the_thread() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let thread = inbox(&hub, &ann, Platform::Telegram).await;
    let url = uploaded(&hub, &ann, PNG).await;
    let body = json!({"content": "look", "mediaUrl": url});
    let answer = send(&hub, &ann, &thread, &body, Some("once")).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let message = &answer.body["message"];
    assert_eq!(message["messageType"], "image");
    assert_eq!(message["content"], "look");
    let shown = message["mediaUrl"].as_str().expect("an address");
    assert_eq!(load(&hub, shown).await.status, 200);
    let path = format!("/api/messages/{}", thread.conversation);
    assert_eq!(hub.get(&ann, &path).await.body["messages"][0], *message);

    // The same key: the same message, also when the address was signed at another time.
    let events = hub.count("events").await;
    let stale = url.replace("expires=", "expires=1");
    let again = json!({"content": "look", "mediaUrl": stale});
    let again = send(&hub, &ann, &thread, &again, Some("once")).await;
    assert_eq!(again.body["message"]["id"], message["id"]);
    let other = uploaded(&hub, &ann, GIF).await;
    let before = events + 1;
    for different in [
        json!({"content": "look"}),
        json!({"content": "look", "mediaUrl": other}),
        json!({"content": "look", "mediaUrl": url, "messageType": "file"}),
        json!({"content": "other", "mediaUrl": url}),
    ] {
        let refused = send(&hub, &ann, &thread, &different, Some("once")).await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "IDEMPOTENCY_KEY_REUSED")
        );
    }
    // An upload goes with one message, with a key or without.
    for key in [None, Some("another")] {
        let refused = send(&hub, &ann, &thread, &body, key).await;
        assert_eq!(
            (refused.status, refused.code()),
            (422, "MEDIA_ALREADY_SENT")
        );
    }
    assert_eq!(hub.count("events").await, before);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_it_is_queued() {
    let hub = Hub::start().await;
    let (ann, eve) = (hub.person("ann").await, hub.person("eve").await);
    let telegram = inbox(&hub, &ann, Platform::Telegram).await;
    let facebook = inbox(&hub, &ann, Platform::Facebook).await;
    let whatsapp = inbox(&hub, &ann, Platform::Whatsapp).await;
    let (png, gif) = (
        uploaded(&hub, &ann, PNG).await,
        uploaded(&hub, &ann, GIF).await,
    );
    let pdf = uploaded(&hub, &ann, PDF).await;
    let theirs = uploaded(&hub, &eve, PNG).await;
    let never = Uuid::now_v7();
    let id = png
        .split("/api/media/")
        .nth(1)
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let queued = "events WHERE kind = 'MessageQueued'";
    let refused = async |at: &Thread, body: Value, status: u16, code: &str| {
        let answer = send(&hub, &ann, at, &body, None).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert_eq!(answer.code(), code, "{body}");
        answer.body["error"]["message"].as_str().unwrap().to_owned()
    };
    for foreign in [
        "https://x.example/p.jpg",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        &png.replace("https://hub.example", "https://hub.example.evil"),
        &png.replace(&id, &never.to_string()),
        &png.replace("signature=", "signature=0"),
        &png.replace("expires=", "expires=1"),
        &theirs,
    ] {
        let body = json!({"content": "x", "mediaUrl": foreign});
        refused(&telegram, body, 422, "MEDIA_NOT_FOUND").await;
    }
    let typed = |kind: &str, url: &str, text: &str| json!({"content": text, "messageType": kind, "mediaUrl": url});
    refused(&telegram, typed("text", &png, "x"), 400, "VALIDATION_ERROR").await;
    let no_file = json!({"content": "x", "messageType": "image"});
    refused(&telegram, no_file, 400, "VALIDATION_ERROR").await;
    refused(&telegram, json!({"mediaUrl": ""}), 400, "VALIDATION_ERROR").await;
    let unable = "PLATFORM_API_ERROR";
    let said = refused(&telegram, typed("image", &pdf, ""), 422, unable).await;
    assert!(
        said.contains("application/pdf cannot be sent there"),
        "{said}"
    );
    let long = "x".repeat(1025);
    let said = refused(&telegram, typed("image", &png, &long), 422, unable).await;
    assert!(said.contains("1025 of at most 1024"), "{said}");
    let said = refused(&facebook, typed("image", &png, "a text"), 422, unable).await;
    assert!(said.contains("no room for a text"), "{said}");
    let said = refused(&whatsapp, typed("image", &gif, ""), 422, unable).await;
    assert!(said.contains("image/jpeg, image/png"), "{said}");
    // A thread of LinkedIn's that nobody can answer, and Instagram loads files itself.
    let linkedin = inbox(&hub, &ann, Platform::Linkedin).await;
    refused(&linkedin, typed("image", &png, ""), 422, unable).await;
    let here = [
        ("WEBHOOK_BASE_URL", "http://127.0.0.1:3000"),
        ("INSTAGRAM_API_BASE", "https://graph.example"),
    ];
    let near = hub.another(&here).await;
    let instagram = inbox(&hub, &ann, Platform::Instagram).await;
    let path = format!("/api/messages/{}/send", instagram.conversation);
    let there = png.replace("https://hub.example", "http://127.0.0.1:3000");
    let body = json!({"mediaUrl": there});
    let answer = call(
        &near,
        request("POST", &path, Some(&ann.access), Some(&body)),
    )
    .await;
    assert_eq!((answer.status, answer.code()), (422, unable));
    assert!(answer.text.contains("no https address"), "{}", answer.text);
    assert_eq!(hub.count(queued).await, 0);
    // None of that has used the upload up.
    let sent = send(&hub, &ann, &facebook, &typed("image", &png, ""), None).await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    assert_eq!(sent.body["message"]["content"], "");
    assert_eq!(hub.count(queued).await, 1);
}

#[tokio::test]
async fn an_upload_is_sent_within_a_day() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let thread = inbox(&hub, &ann, Platform::Telegram).await;
    let url = uploaded(&hub, &ann, PNG).await;
    let older = "UPDATE events SET recorded_at = recorded_at - interval '1 day' \
         WHERE kind = 'MediaUploaded'";
    sqlx::query(older)
        .execute(hub.store().pool())
        .await
        .unwrap();
    let refused = send(&hub, &ann, &thread, &json!({"mediaUrl": url}), None).await;
    assert_eq!((refused.status, refused.code()), (422, "MEDIA_GONE"));
}
