//! Media that are still on their way: clients are told of a message once, so its address is given out
//! ahead, and waits.

use std::time::Duration;

use axum::http::StatusCode;
use hub_domain::event::{MessageReceived, MessageType};
use hub_domain::id::{ObjectId, object_id};
use hub_domain::platform::Platform;
use hub_store::objects::Objects;
use serde_json::Value;
use uuid::Uuid;

use crate::hub::{Hub, call, request};

const PNG: &[u8] = b"\x89PNG a teapot";

#[tokio::test]
async fn the_medium_of_a_message_that_has_just_come_is_waited_for() {
    let folder = std::env::temp_dir().join(format!("hub-ahead-{}", Uuid::new_v4()));
    let hub = Hub::start_with(&[("HUB_MEDIA_DIR", folder.to_str().unwrap())]).await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "PAGE1").await;
    let at = ann.thread(account, Platform::Facebook, "PSID9");
    let mut received = hub.message(&ann, &at, "m_1", "");
    received.message_type = MessageType::Image;
    received.media = Some(ann.key.seal("[]"));
    let object = object_id(received.message, 0);
    hub.happen(ann.user, at.conversation, MessageReceived(received))
        .await;
    // One without media has no address, however new it is.
    hub.receive(&ann, &at, "m_2", "hello").await;

    let thread = format!("/api/messages/{}", at.conversation);
    let thread = hub.get(&ann, &thread).await.expect(StatusCode::OK);
    assert_eq!(thread.body["messages"][0]["mediaUrl"], Value::Null);
    let url = thread.body["messages"][1]["mediaUrl"].as_str().unwrap();
    let path = &url[url.find("/api/media/").unwrap()..];
    assert!(
        path.starts_with(&format!("/api/media/{}?", object.0)),
        "{url}"
    );

    let objects = Objects::in_folder(&folder);
    let coming = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let put = objects.put(ann.user, object, &ann.key, "image/png", PNG.to_vec());
        put.await.unwrap();
    };
    // Bytes, which the document describes as anything.
    let loading = call(&hub.router, request("GET", path, None, None));
    let (answer, ()) = tokio::join!(loading, coming);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "image/png");
    assert_eq!(answer.text, String::from_utf8_lossy(PNG));
    // The address is for this medium and no other.
    let other = ObjectId(Uuid::new_v4()).0.to_string();
    let other = path.replace(&object.0.to_string(), &other);
    let refused = hub.call(request("GET", &other, None, None)).await;
    assert_eq!((refused.status, refused.code()), (403, "FORBIDDEN"));
    std::fs::remove_dir_all(&folder).unwrap();
}
