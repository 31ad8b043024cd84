//! The control routes themselves, and the scripted customers.

use serde_json::{Value, json};

use crate::harness::*;

#[tokio::test]
async fn bad_input_is_refused_in_words() {
    let peer = Peer::start().await;
    let from = json!({"id": 1, "name": "Ann"});
    for (method, path, body) in [
        (
            "POST",
            "/control/incoming",
            json!({"platform": "myspace", "from": from, "text": "x"}),
        ),
        (
            "POST",
            "/control/incoming",
            json!({"platform": "facebook", "text": "x"}),
        ),
        (
            "POST",
            "/control/incoming",
            json!({"platform": "facebook", "from": from, "text": ""}),
        ),
        ("POST", "/control/incoming", json!([])),
        (
            "POST",
            "/control/incoming",
            json!({"platform": "telegram", "from": {"id": "ann"}, "text": "x"}),
        ),
        (
            "POST",
            "/control/incoming",
            json!({"platform": "telegram", "from": from, "text": "x", "repeat": 0}),
        ),
        ("PUT", "/control/hub", json!({"base": "nowhere"})),
        ("PUT", "/control/hub", json!({})),
        (
            "PUT",
            "/control/faults",
            json!({"platform": "facebook", "op": "send", "mode": "drop"}),
        ),
        ("PUT", "/control/faults", json!({"platform": "facebook"})),
    ] {
        let answer = peer.call(method, path, body.clone()).await;
        assert_eq!(answer.status, 400, "{path} {body}");
        assert!(
            answer.body["error"]
                .as_str()
                .is_some_and(|words| words.len() > 5),
            "{answer:?}"
        );
    }
    assert!(peer.hub.got().is_empty());
}

#[tokio::test]
async fn requests_are_noted_without_secrets() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    peer.get(&format!("/v26.0/me?access_token={token}")).await;
    peer.bot("getMe", json!({})).await;
    peer.call("POST", "/bot123:mistyped/getMe", json!({})).await;
    let noted = peer.get("/control/requests").await.body["requests"].clone();
    let paths: Vec<String> = noted
        .as_array()
        .expect("requests")
        .iter()
        .map(|request| {
            format!(
                "{} {}",
                request["method"].as_str().unwrap(),
                request["path"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        paths,
        [
            "GET /v26.0/dialog/oauth",
            "GET /v26.0/oauth/access_token",
            "GET /v26.0/oauth/access_token",
            "GET /v26.0/me/accounts",
            "GET /v26.0/me",
            "POST /bot***/getMe",
            "POST /bot***/getMe",
        ]
    );
    assert!(noted[0]["at"].as_str().is_some_and(|at| at.ends_with('Z')));
}

#[tokio::test]
async fn a_reset_forgets_what_happened_and_keeps_what_is_configured() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    peer.call(
        "POST",
        "/control/pages",
        json!({"id": "2001", "name": "Kettles"}),
    )
    .await;
    peer.fault(json!({"platform": "telegram", "op": "send", "mode": "hang"}))
        .await;
    let body = json!({"recipient": {"id": PSID}, "message": {"text": "x"}});
    peer.post_as(&token, &format!("/v26.0/{PAGE}/messages"), body)
        .await;
    assert_eq!(peer.sent("").await.len(), 1);

    assert_eq!(
        peer.call("POST", "/control/reset", json!({})).await.body,
        json!({"ok": true})
    );
    assert!(peer.sent("").await.is_empty());
    assert_eq!(
        peer.get("/control/requests").await.body["requests"],
        json!([])
    );
    let sent = peer
        .bot("sendMessage", json!({"chat_id": 1, "text": "x"}))
        .await;
    assert_eq!(sent.status, 200);
    assert_eq!(peer.connect("").await.1, "Teapots");
    assert_eq!(peer.connect("&page=2001").await.1, "Kettles");
    assert_eq!(peer.get_as(&token, "/v26.0/me").await.body["id"], PAGE);
}

#[tokio::test]
async fn the_front_page_names_the_controls() {
    let peer = Peer::start().await;
    let page = peer.get("/").await;
    let Value::String(page) = page.body else {
        panic!("a page")
    };
    for path in [
        "/control/incoming",
        "/control/faults",
        "/control/hub",
        "/control/pages",
    ] {
        assert!(page.contains(path), "{path}");
    }
    assert_eq!(peer.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn a_stop_waits_neither_for_silences_nor_for_customers() {
    let mut peer = Peer::start_with(true).await;
    peer.fault(json!({"platform": "telegram", "op": "token", "mode": "hang"}))
        .await;
    let path = format!("/bot{BOT_TOKEN}/getMe");
    let body = json!({});
    let patience = std::time::Duration::from_millis(200);
    let silent = peer
        .try_call("POST", &path, None, Some(&body), patience)
        .await;
    assert!(silent.is_none());
    peer.stop().await;
}

#[tokio::test]
async fn customers_write_and_answer() {
    let peer = Peer::start_with(true).await;
    let first = peer.hub.wait_for(1).await[0].clone();
    // Whoever it is: each platform has its own place for the text.
    assert!(first.body().is_object());
    // Enough answers that one of them is surely answered back.
    for _ in 0..20 {
        peer.bot(
            "sendMessage",
            json!({"chat_id": 5_501_000_001_i64, "text": "Yes"}),
        )
        .await;
    }
    let replied = || async {
        peer.hub
            .texts()
            .iter()
            .any(|text| text == "Great, see you then!")
    };
    eventually("an answer to an answer", replied).await;
}
