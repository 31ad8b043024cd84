//! Files by a Telegram user account: parts that go out before their message, and pieces that come in,
//! with a Telegram that loses, forgets and asks for patience.

use std::time::Duration;

use serde_json::{Value, json};

use crate::apart::Apart;
use crate::media::{losses, shelve};
use crate::telegram_user::{PATIENT, SOON, conversation, sign_in};
use crate::uploading::{load, received, upload};
use crate::world::{User, World, eventually};

/// More than two parts of a file.
const LONG: usize = 1_200_000;

/// No piece of it looks like another.
fn bytes(head: &[u8], length: usize) -> Vec<u8> {
    let numbers = (0_u32..).flat_map(u32::to_be_bytes);
    head.iter().copied().chain(numbers).take(length).collect()
}

fn picture() -> Vec<u8> {
    bytes(b"\x89PNG\r\n\x1a\n", LONG)
}

fn document() -> Vec<u8> {
    bytes(b"%PDF-1.7\n", LONG)
}

async fn fault(world: &World, op: &str, more: Value) {
    let mut fault = json!({ "platform": "telegram-user", "op": op, "times": 1 });
    let own = fault.as_object_mut().expect("an object");
    own.extend(more.as_object().cloned().expect("an object"));
    world.fault(fault).await;
}

/// What Telegram accepted, in order.
async fn sent(world: &World) -> Vec<Value> {
    let url = format!("{}/control/sent?platform=telegram-user", world.sandbox());
    let answer = world.http().get(&url).await;
    let all = answer.body["messages"].as_array().cloned();
    all.unwrap_or_default()
}

async fn sent_in_all(world: &World, count: usize) -> Vec<Value> {
    eventually("the messages", 2 * SOON, async || {
        let all = sent(world).await;
        if all.len() == count {
            Ok(all)
        } else {
            Err(all)
        }
    })
    .await
}

async fn asked(world: &World, method: &str) -> usize {
    let path = format!("/mtproto/{method}");
    let all = world.requests().await;
    all.iter().filter(|(_, it, _)| *it == path).count()
}

async fn thread(user: &User, id: &str) -> Vec<Value> {
    let answer = user.get(&format!("/api/messages/{id}")).await;
    answer.body["messages"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

#[tokio::test]
async fn files_go_out_in_parts_and_each_message_once() {
    let world = World::with(&[PATIENT, ("HUB_SEND_RETRY_FIRST_MS", "200")]).await;
    let user = world.register().await;
    sign_in(&user).await;
    let mira = conversation(&user, "Mira Q", |_| true).await;
    let id = mira["id"].as_str().expect("an id");
    let path = format!("/api/messages/{id}/send");

    let file = upload(&world, &user, "tea pot.png", &picture()).await;
    let body = json!({ "content": "look", "messageType": "image", "mediaUrl": file["mediaUrl"] });
    let answer = user.post(&path, &body).await;
    answer.expect(201);
    assert_eq!(answer.body["message"]["status"], "sent", "{}", answer.raw);
    let there = sent(&world).await;
    assert_eq!(
        (there.len(), &there[0]["text"]),
        (1, &json!("look")),
        "{there:?}"
    );
    assert_eq!(there[0]["media"]["kind"], "photo");
    assert_eq!(received(&world, &there[0]).await, picture());
    assert_eq!(asked(&world, "save_part").await, 3);
    // What Telegram tells of it afterwards is the same message, with the file it was sent with.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let rows = thread(&user, id).await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    let shown = rows[0]["mediaUrl"].as_str().expect("an address");
    assert_eq!(load(shown).await, picture());
    assert_eq!(asked(&world, "locate").await, 0, "the file is here already");

    let faults = [
        (
            "upload",
            json!({ "mode": "status", "status": 420, "retryAfter": 1 }),
        ),
        ("upload", json!({ "mode": "status", "status": 500 })),
        // The part is there, and nobody heard of it.
        ("upload", json!({ "mode": "accept_no_reply" })),
        // It was taken and is not there: the message is refused, and all of it is handed over again.
        ("upload", json!({ "mode": "drop" })),
        // The message is there, and nobody heard of it.
        ("send", json!({ "mode": "accept_no_reply" })),
        (
            "send",
            json!({ "mode": "status", "status": 420, "retryAfter": 1 }),
        ),
    ];
    for (round, (op, setting)) in faults.into_iter().enumerate() {
        fault(&world, op, setting.clone()).await;
        let file = upload(&world, &user, "order 42.pdf", &document()).await;
        let body = json!({ "messageType": "file", "mediaUrl": file["mediaUrl"] });
        user.post(&path, &body).await.expect(201);
        // What is queued behind it keeps its place.
        user.queue(id, &format!("after {round}")).await;
        let all = sent_in_all(&world, 2 * round + 3).await;
        let newest = &all[2 * round + 1];
        assert_eq!(newest["media"]["kind"], "file", "{setting}: {newest}");
        assert_eq!(newest["media"]["name"], "order 42.pdf");
        assert_eq!(received(&world, newest).await, document(), "{setting}");
        assert_eq!(all[2 * round + 2]["text"], format!("after {round}"));
    }
    eventually("all of them are sent", SOON, async || {
        let rows = thread(&user, id).await;
        let is_sent = |it: &Value| it["status"] == "sent" || it["platformMessageId"].is_string();
        match rows.len() == 3 + 12 && rows.iter().all(is_sent) {
            true => Ok(()),
            false => Err(rows),
        }
    })
    .await;

    // What Telegram certainly does not take is refused before anything is queued.
    let file = upload(&world, &user, "a.pdf", b"%PDF-1.7\n").await;
    let refused = [
        json!({ "messageType": "image", "mediaUrl": file["mediaUrl"] }),
        json!({ "content": "ä".repeat(1025), "mediaUrl": file["mediaUrl"] }),
    ];
    for body in refused {
        user.post(&path, &body)
            .await
            .refuses(422, "PLATFORM_API_ERROR");
    }
    // A text of that length goes where it stands alone, and one that fits goes with the file.
    let body = json!({ "content": "ä".repeat(1024), "mediaUrl": file["mediaUrl"] });
    user.post(&path, &body).await.expect(201);
    // And what it refuses for good is a failure, at once.
    fault(&world, "send", json!({ "mode": "status", "status": 403 })).await;
    let file = upload(&world, &user, "b.pdf", b"%PDF-1.7\n").await;
    let body = json!({ "mediaUrl": file["mediaUrl"] });
    let refused = user.post(&path, &body).await;
    refused.refuses(422, "PLATFORM_API_ERROR");
    assert_eq!(refused.body["error"]["details"]["class"], "permanent");
    assert_eq!(sent(&world).await.len(), 14);
}

/// Both workers die while Telegram has the message and has not said so: whoever takes the session
/// hands the file over again, under its own number, and learns that the message is there.
#[tokio::test]
async fn workers_that_die_in_the_middle_of_a_send_leave_one_message_with_its_file() {
    let folder = std::env::temp_dir().join(format!("hub-media-{}", uuid::Uuid::new_v4()));
    let dir = folder.to_str().expect("a path").to_owned();
    let mut apart = Apart::start(None, &[("HUB_MEDIA_DIR", &dir), PATIENT]).await;
    let world = apart.world(0);
    let user = world.register().await;
    sign_in(&user).await;
    let mira = conversation(&user, "Mira Q", |_| true).await;
    let id = mira["id"].as_str().expect("an id");
    let path = format!("/api/messages/{id}/send");

    // One of the two workers holds the session: whoever has the job, that one sends.
    let file = upload(&world, &user, "a.pdf", &document()).await;
    let body = json!({ "mediaUrl": file["mediaUrl"] });
    user.post(&path, &body).await.expect(201);
    sent_in_all(&world, 1).await;

    fault(&world, "send", json!({ "mode": "accept_no_reply" })).await;
    let file = upload(&world, &user, "b.pdf", &picture()).await;
    let body = json!({ "content": "b", "messageType": "file", "mediaUrl": file["mediaUrl"] });
    let headers = [
        ("prefer", "respond-async"),
        ("content-type", "application/json"),
    ];
    let url = format!("{}{path}", world.base());
    let queued = user
        .http
        .post_raw(&url, &headers, body.to_string().into_bytes())
        .await;
    queued.expect(202);
    sent_in_all(&world, 2).await;
    apart.replace_workers();
    eventually(
        "it is known to be sent",
        Duration::from_secs(150),
        async || {
            let rows = thread(&user, id).await;
            match rows[0]["status"] == "sent" {
                true => Ok(()),
                false => Err(rows),
            }
        },
    )
    .await;
    let all = sent(&world).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(received(&world, &all[1]).await, picture());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rows = thread(&user, id).await;
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(rows[0]["platformMessageId"], all[1]["platformMessageId"]);
    let shown = rows[0]["mediaUrl"].as_str().expect("an address");
    assert_eq!(load(shown).await, picture());
    let _ = std::fs::remove_dir_all(folder);
}

/// Somebody writes with a file of the shelf.
async fn attach(world: &World, kind: &str, name: &str) {
    let body = json!({
        "platform": "telegram-user", "account": "15550000001",
        "from": { "id": 5_501_000_001_i64, "name": "Mira Q" },
        "media": { "kind": kind, "name": name },
    });
    let url = format!("{}/control/incoming", world.sandbox());
    world.http().post(&url, &body).await.expect(200);
}

#[tokio::test]
async fn files_come_in_piece_by_piece() {
    let world = World::with(&[("HUB_MEDIA_BYTES", "1500000")]).await;
    let user = world.register().await;
    sign_in(&user).await;
    let mira = conversation(&user, "Mira Q", |_| true).await;
    let id = mira["id"].as_str().expect("an id");
    shelve(&world, "teapot.png", &picture()).await;
    shelve(&world, "order.pdf", &document()).await;
    shelve(&world, "film.pdf", &bytes(b"%PDF-1.7\n", 1_600_000)).await;

    let faults = [
        None,
        // The place of the file is good no more.
        Some(json!({ "mode": "status", "status": 400 })),
        Some(json!({ "mode": "status", "status": 420, "retryAfter": 1 })),
        Some(json!({ "mode": "status", "status": 500 })),
        Some(json!({ "mode": "cut_off" })),
    ];
    for (round, setting) in faults.into_iter().enumerate() {
        if let Some(setting) = &setting {
            fault(&world, "media", setting.clone()).await;
        }
        let (kind, name, expected) = match round % 2 {
            0 => ("image", "teapot.png", picture()),
            _ => ("file", "order.pdf", document()),
        };
        attach(&world, kind, name).await;
        let url = eventually("the message", SOON, async || {
            let rows = thread(&user, id).await;
            let url = rows[0]["mediaUrl"].as_str().map(str::to_owned);
            url.filter(|_| rows.len() == 3 + round).ok_or(rows)
        })
        .await;
        let found = eventually("the medium", SOON, async || {
            let answer = reqwest::get(&url).await.expect("the hub answers");
            match answer.status().as_u16() {
                200 => Ok(answer.bytes().await.expect("a body")),
                status => Err(status),
            }
        })
        .await;
        assert_eq!(found, expected, "{setting:?}");
    }
    assert_eq!(losses(&world).await, Vec::<String>::new());

    // What is larger than the hub takes is not even begun.
    let read = asked(&world, "read").await;
    attach(&world, "file", "film.pdf").await;
    eventually("it is known to be too big", SOON, async || {
        let losses = losses(&world).await;
        if losses == ["too_big"] {
            Ok(())
        } else {
            Err(losses)
        }
    })
    .await;
    assert_eq!(asked(&world, "read").await, read);
}
