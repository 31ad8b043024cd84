//! Webhooks: signed over their bytes, repeated until taken, and disturbed when told.

use serde_json::json;

use crate::harness::*;

#[tokio::test]
async fn a_webhook_is_signed_over_its_raw_bytes() {
    let peer = Peer::start().await;
    let text = "Grüße ☕ 😀 https://shop.example/a \"quoted\"";
    let written = peer.customer_writes("facebook", text).await;
    assert_eq!(
        (&written.body["status"], &written.body["outcome"]),
        (&json!(200), &json!("answered"))
    );
    let got = peer.hub.got()[0].clone();
    assert_eq!(got.path, "/api/webhooks/facebook");
    assert_eq!(got.header("content-type"), "application/json");
    let expected = format!("sha256={}", hmac_hex(APP_SECRET.as_bytes(), &got.raw));
    assert_eq!(got.header("x-hub-signature-256"), expected);
    let raw = std::str::from_utf8(&got.raw).unwrap();
    assert!(raw.is_ascii() && raw.contains(r"Gr\u00fc\u00dfe \u2615 \ud83d\ude00 https:\/\/shop"));

    let body = got.body();
    assert_eq!(
        (&body["object"], &body["entry"][0]["id"]),
        (&json!("page"), &json!(PAGE))
    );
    let item = got.item();
    assert_eq!(item["message"]["text"], text);
    assert_eq!(item["message"]["mid"], written.body["messageId"]);
    assert_eq!(
        (&item["sender"]["id"], &item["recipient"]["id"]),
        (&json!(PSID), &json!(PAGE))
    );
}

#[tokio::test]
async fn what_the_hub_refuses_comes_again() {
    let peer = Peer::start().await;
    peer.hub.answers(&[500, 503]);
    let written = peer.customer_writes("facebook", "stubborn").await;
    assert_eq!(written.body["status"], 500);
    let got = peer.hub.wait_for(3).await;
    assert!(got.iter().all(|webhook| webhook.raw == got[0].raw));
}

#[tokio::test]
async fn what_an_absent_hub_missed_reaches_the_next_one() {
    let peer = Peer::start().await;
    let (next, base) = Hub::start().await;
    // A port nobody listens on: the discard service.
    let moved = peer
        .call("PUT", "/control/hub", json!({"base": "http://127.0.0.1:9"}))
        .await;
    assert_eq!(moved.body, json!({"ok": true}));
    let written = peer.customer_writes("telegram", "anybody?").await;
    assert_eq!(
        (&written.body["status"], &written.body["outcome"]),
        (&json!(0), &json!("unreachable"))
    );
    peer.call("PUT", "/control/hub", json!({"base": base}))
        .await;
    next.wait_for(1).await;
    assert_eq!(next.texts(), ["anybody?"]);
    assert!(peer.hub.got().is_empty());
}

#[tokio::test]
async fn duplicates_are_the_same_bytes() {
    let peer = Peer::start().await;
    peer.fault(json!({"platform": "facebook", "op": "webhook", "mode": "duplicate", "times": 1}))
        .await;
    peer.customer_writes("facebook", "twice").await;
    peer.customer_writes("facebook", "once").await;
    peer.hub.wait_for(3).await;
    assert_eq!(peer.hub.texts(), ["twice", "twice", "once"]);
    let got = peer.hub.got();
    assert_eq!(got[0].raw, got[1].raw);

    let body = json!({"platform": "telegram", "account": "unknown", "repeat": 3,
        "from": {"id": "42", "name": "Ann"}, "text": "thrice"});
    peer.call("POST", "/control/incoming", body).await;
    peer.hub.wait_for(6).await;
    assert_eq!(peer.hub.texts()[3..], ["thrice", "thrice", "thrice"]);
}

#[tokio::test]
async fn pairs_are_swapped_and_a_lonely_one_still_comes() {
    let peer = Peer::start().await;
    peer.fault(json!({"platform": "telegram", "op": "webhook", "mode": "reorder"}))
        .await;
    assert_eq!(
        peer.customer_writes("telegram", "1").await.body["outcome"],
        "held"
    );
    // Other platforms are not concerned.
    assert_eq!(
        peer.customer_writes("facebook", "other").await.body["status"],
        200
    );
    assert_eq!(
        peer.customer_writes("telegram", "2").await.body["status"],
        200
    );
    peer.customer_writes("telegram", "3").await;
    assert_eq!(peer.hub.texts(), ["other", "2", "1"]);
    let cleared = peer.call("DELETE", "/control/faults", json!({})).await;
    assert_eq!(cleared.body, json!({"ok": true}));
    peer.hub.wait_for(4).await;
    assert_eq!(peer.hub.texts()[3], "3");
}

#[tokio::test]
async fn a_dropped_webhook_never_comes() {
    let peer = Peer::start().await;
    peer.fault(json!({"platform": "facebook", "op": "webhook", "mode": "drop", "times": 1}))
        .await;
    let lost = peer.customer_writes("facebook", "lost").await;
    assert_eq!(
        (&lost.body["status"], &lost.body["outcome"]),
        (&json!(0), &json!("dropped"))
    );
    peer.customer_writes("facebook", "kept").await;
    assert_eq!(peer.hub.texts(), ["kept"]);
}

#[tokio::test]
async fn a_rate_is_reproducible() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let peer = Peer::start().await;
        peer.fault(
            json!({"platform": "facebook", "op": "webhook", "mode": "drop", "rate": 0.5,
            "seed": 7}),
        )
        .await;
        for number in 0..20 {
            peer.customer_writes("facebook", &number.to_string()).await;
        }
        runs.push(peer.hub.texts());
    }
    assert_eq!(runs[0], runs[1]);
    assert!((1..20).contains(&runs[0].len()), "{runs:?}");
}
