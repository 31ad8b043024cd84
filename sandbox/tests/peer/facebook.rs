//! Messenger: connecting, sending, reading.

use serde_json::json;

use crate::harness::*;

#[tokio::test]
async fn oauth_round_trip_gives_a_page_token() {
    let peer = Peer::start().await;
    let query = peer.dialog("").await;
    assert_eq!(value_of(&query, "state"), "s1");
    let (id, name, token) = peer.connect("").await;
    assert_eq!((id.as_str(), name.as_str()), (PAGE, "Teapots"));

    let path = format!(
        "/v26.0/debug_token?input_token={token}&access_token={}",
        encoded(&format!("{APP_ID}|{APP_SECRET}"))
    );
    let debug = peer.get(&path).await.body["data"].clone();
    assert_eq!(
        (&debug["is_valid"], &debug["type"]),
        (&json!(true), &json!("PAGE"))
    );
    assert_eq!(
        (&debug["expires_at"], &debug["profile_id"]),
        (&json!(0), &json!(PAGE))
    );

    let apps = format!("/v26.0/{PAGE}/subscribed_apps");
    let subscribed = peer
        .post_as(
            &token,
            &format!("{apps}?subscribed_fields=messages,message_echoes"),
            json!({}),
        )
        .await;
    assert_eq!(subscribed.body, json!({"success": true}));
    let listed = peer.get_as(&token, &apps).await.body["data"][0]["subscribed_fields"].clone();
    assert_eq!(listed, json!(["messages", "message_echoes"]));
    // Graph takes a list as JSON too; its SDKs write it so.
    let fields = encoded(r#"["messages","message_reads"]"#);
    let path = format!("{apps}?subscribed_fields={fields}");
    peer.post_as(&token, &path, json!({})).await;
    let listed = peer.get_as(&token, &apps).await.body["data"][0]["subscribed_fields"].clone();
    assert_eq!(listed, json!(["messages", "message_reads"]));
    assert_eq!(
        peer.delete_as(&token, &apps).await.body,
        json!({"success": true})
    );
    assert_eq!(peer.get_as(&token, &apps).await.body["data"], json!([]));
}

/// Meta's SDK resolves `me` first and then asks by the id.
#[tokio::test]
async fn a_persons_pages_are_listed_by_id_as_well() {
    let peer = Peer::start().await;
    let code = value_of(&peer.dialog("").await, "code");
    let answer = peer.exchange_code(&code, REDIRECT).await;
    let token = answer.body["access_token"].as_str().unwrap();
    let me = peer.get_as(token, "/v26.0/me").await.body["id"].clone();
    let path = format!("/v26.0/{}/accounts", me.as_str().unwrap());
    let pages = peer.get_as(token, &path).await;
    assert_eq!(pages.body["data"][0]["id"], PAGE);
    let strangers = peer
        .get_as(token, "/v26.0/10158000000000002/accounts")
        .await;
    assert_eq!(strangers.status, 400);
}

#[tokio::test]
async fn a_code_is_good_once_and_for_its_redirect_uri() {
    let peer = Peer::start().await;
    let code = value_of(&peer.dialog("").await, "code");
    assert_eq!(peer.exchange_code(&code, REDIRECT).await.status, 200);
    let again = peer.exchange_code(&code, REDIRECT).await;
    assert_eq!(
        (again.status, &again.body["error"]["code"]),
        (400, &json!(100))
    );

    let code = value_of(&peer.dialog("").await, "code");
    let elsewhere = peer.exchange_code(&code, "http://127.0.0.1:9/other").await;
    assert_eq!(elsewhere.body["error"]["error_subcode"], 36008);

    let code = value_of(&peer.dialog("").await, "code");
    let path = format!(
        "/v26.0/oauth/access_token?client_id={APP_ID}&client_secret=wrong&code={code}\
         &redirect_uri={}",
        encoded(REDIRECT)
    );
    assert_eq!(peer.get(&path).await.body["error"]["code"], 1);
}

#[tokio::test]
async fn the_dialog_refuses_strangers_and_plays_a_refusal() {
    let peer = Peer::start().await;
    let target = encoded(REDIRECT);
    for bad in [
        format!("client_id=1&redirect_uri={target}&response_type=code"),
        format!("client_id={APP_ID}&redirect_uri=nonsense&response_type=code"),
        format!("client_id={APP_ID}&redirect_uri={target}&response_type=token"),
        format!("client_id={APP_ID}"),
    ] {
        assert_eq!(
            peer.get(&format!("/v26.0/dialog/oauth?{bad}")).await.status,
            400,
            "{bad}"
        );
    }
    for refused in [peer.dialog("&deny=1").await, {
        peer.fault(json!({"platform": "facebook", "op": "dialog", "mode": "status", "times": 1}))
            .await;
        peer.dialog("").await
    }] {
        assert_eq!(value_of(&refused, "error"), "access_denied");
        assert_eq!(value_of(&refused, "error_reason"), "user_denied");
        assert_eq!(value_of(&refused, "state"), "s1");
        assert!(refused.iter().all(|(key, _)| key != "code"));
    }
    value_of(&peer.dialog("").await, "code");
}

#[tokio::test]
async fn every_session_can_have_its_own_page() {
    let peer = Peer::start().await;
    for (id, name) in [("2001", "Kettles"), ("2002", "Cups")] {
        let made = peer
            .call("POST", "/control/pages", json!({"id": id, "name": name}))
            .await;
        assert_eq!(made.body, json!({"ok": true}));
    }
    assert_eq!(peer.connect("").await.1, "Kettles");
    assert_eq!(peer.connect("").await.1, "Cups");
    assert_eq!(peer.connect("").await.1, "Teapots");
    assert_eq!(peer.connect("&page=2001").await.1, "Kettles");
    assert_eq!(peer.connect("&login_hint=2002").await.0, "2002");
    let bad = peer
        .call("POST", "/control/pages", json!({"id": "x", "name": "y"}))
        .await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn tokens_survive_a_restart_and_die_with_their_own_grant_only() {
    let before = Peer::start().await;
    let (_, _, mine) = before.connect("").await;
    let (_, _, other) = before.connect("").await;
    let after = Peer::start().await;
    let message = json!({"recipient": {"id": PSID}, "message": {"text": "still here"}});
    let send = format!("/v26.0/{PAGE}/messages");
    assert_eq!(
        after.post_as(&mine, &send, message.clone()).await.status,
        200
    );

    let gone = after.delete_as(&mine, "/v26.0/me/permissions").await;
    assert_eq!(gone.body, json!({"success": true}));
    let refused = after.post_as(&mine, &send, message.clone()).await;
    assert_eq!(refused.body["error"]["code"], 190);
    assert_eq!(after.post_as(&other, &send, message).await.status, 200);
}

#[tokio::test]
async fn a_send_is_accepted_echoed_and_receipted() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    let proof = hmac_hex(APP_SECRET.as_bytes(), token.as_bytes());
    let path = format!("/v26.0/{PAGE}/messages?appsecret_proof={proof}");
    let body = json!({"recipient": {"id": PSID}, "messaging_type": "RESPONSE",
        "message": {"text": "Yes, three left.", "metadata": "hub:out-000123"}});
    let answer = peer.post_as(&token, &path, body).await;
    assert_eq!(
        (answer.status, &answer.body["recipient_id"]),
        (200, &json!(PSID))
    );
    let mid = answer.body["message_id"]
        .as_str()
        .expect("a mid")
        .to_owned();
    assert!(mid.starts_with("m_"));
    assert!(answer.headers.contains_key("x-business-use-case-usage"));

    let sent = peer
        .sent(&format!("?platform=facebook&account={PAGE}"))
        .await;
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["platformMessageId"], mid);
    assert_eq!(
        (&sent[0]["to"], &sent[0]["text"]),
        (&json!(PSID), &json!("Yes, three left."))
    );
    assert_eq!(sent[0]["metadata"], "hub:out-000123");
    assert!(peer.sent("?platform=telegram").await.is_empty());

    let got = peer.hub.wait_for(2).await;
    let (echo, receipt) = (got[0].item(), got[1].item());
    assert_eq!(echo["message"]["is_echo"], true);
    assert_eq!(echo["message"]["mid"], mid);
    assert_eq!(echo["message"]["metadata"], "hub:out-000123");
    assert_eq!(echo["message"]["app_id"], 845_120_034_567_890_u64);
    assert_eq!(
        (&echo["sender"]["id"], &echo["recipient"]["id"]),
        (&json!(PAGE), &json!(PSID))
    );
    assert_eq!(receipt["delivery"]["mids"], json!([mid]));
    assert!(receipt["delivery"]["watermark"].as_i64() >= echo["timestamp"].as_i64());
}

#[tokio::test]
async fn sends_are_checked_like_the_platform_checks() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    let path = format!("/v26.0/{PAGE}/messages");
    let to = json!({"id": PSID});
    for bad in [
        json!({"message": {"text": "x"}}),
        json!({"recipient": to}),
        json!({"recipient": to, "message": {"text": ""}}),
        json!({"recipient": to, "message": {"text": "é".repeat(2000)}}),
        json!({"recipient": to, "message": {"text": "x", "metadata": "m".repeat(1000)}}),
        json!({"recipient": to, "messaging_type": "SHOUT", "message": {"text": "x"}}),
        json!({"recipient": to, "messaging_type": "MESSAGE_TAG", "tag": "ACCOUNT_UPDATE",
            "message": {"text": "x"}}),
    ] {
        let answer = peer.post_as(&token, &path, bad.clone()).await;
        assert_eq!(
            (answer.status, &answer.body["error"]["code"]),
            (400, &json!(100)),
            "{bad}"
        );
        assert!(answer.body["error"]["fbtrace_id"].is_string());
    }
    let good = json!({"recipient": to, "message": {"text": "é".repeat(1999)}});
    let forged = peer
        .post_as(&token, &format!("{path}?appsecret_proof=00"), good.clone())
        .await;
    assert_eq!(forged.body["error"]["code"], 100);
    let stranger = peer.post_as("EAAGnobody", &path, good.clone()).await;
    assert_eq!(stranger.body["error"]["code"], 190);
    let other_page = peer
        .post_as(&token, "/v26.0/999/messages", good.clone())
        .await;
    assert_eq!(other_page.body["error"]["error_subcode"], 33);
    assert_eq!(peer.call("POST", &path, good.clone()).await.status, 400);
    let typing = json!({"recipient": to, "sender_action": "typing_on"});
    assert_eq!(
        peer.post_as(&token, &path, typing).await.body,
        json!({"recipient_id": PSID})
    );
    assert!(peer.sent("").await.is_empty());

    // By the other way in: the token as a parameter, and `me` for the page.
    let me = format!("/v26.0/me/messages?access_token={token}");
    assert_eq!(peer.call("POST", &me, good).await.status, 200);
    assert_eq!(peer.sent("").await.len(), 1);
}

#[tokio::test]
async fn threads_hold_what_was_exchanged() {
    let peer = Peer::start().await;
    let (_, _, token) = peer.connect("").await;
    let asked = peer.customer_writes("facebook", "Blue teapot?").await;
    let body = json!({"recipient": {"id": PSID}, "message": {"text": "Three left."}});
    let answered = peer
        .post_as(&token, &format!("/v26.0/{PAGE}/messages"), body)
        .await;

    let threads = peer
        .get_as(
            &token,
            &format!("/v26.0/{PAGE}/conversations?platform=messenger"),
        )
        .await;
    let thread = &threads.body["data"][0];
    assert_eq!(
        (&thread["snippet"], &thread["message_count"]),
        (&json!("Three left."), &json!(2))
    );
    let id = thread["id"].as_str().expect("an id");
    let first = peer
        .get_as(&token, &format!("/v26.0/{id}/messages?limit=1"))
        .await;
    assert_eq!(first.body["data"][0]["id"], answered.body["message_id"]);
    let next = first.body["paging"]["next"].as_str().expect("a next page");
    let second = peer
        .get_as(&token, next.strip_prefix(&peer.base).expect("our address"))
        .await;
    assert_eq!(second.body["data"][0]["id"], asked.body["messageId"]);
    assert_eq!(second.body["data"][0]["from"]["name"], "Mira Quill");
    assert!(second.body["paging"].get("next").is_none());

    let profile = peer
        .get_as(&token, &format!("/v26.0/{PSID}?fields=name"))
        .await;
    assert_eq!(profile.body["first_name"], "Mira");
    let nobody = peer.get_as(&token, "/v26.0/404").await;
    assert_eq!(nobody.body["error"]["error_subcode"], 33);
}

#[tokio::test]
async fn page_tokens_expire_and_rotate_when_they_are_told_to() {
    let peer = Peer::start().await;
    let (_, _, first) = peer.connect("").await;
    let exchange = |token: &str| {
        format!(
            "/v26.0/oauth/access_token?grant_type=fb_exchange_token&fb_exchange_token={token}\
             &client_id={APP_ID}&client_secret={APP_SECRET}"
        )
    };
    // The real ones are nothing to exchange.
    let refused = peer.get(&exchange(&first)).await;
    assert_eq!(refused.body["error"]["code"], 190);
    let lives = |seconds: u64| peer.call("PUT", "/control/tokens", json!({"livesS": seconds}));
    assert_eq!(lives(1).await.status, 200);
    assert_eq!(lives(0).await.status, 400);
    let second = peer.get(&exchange(&first)).await;
    assert_eq!(second.body["expires_in"], 1);
    let second = second.body["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let me = async |token: &str| peer.get_as(token, "/v26.0/me").await.body;
    assert_eq!(me(&second).await["id"], PAGE);
    assert_eq!(me(&first).await["error"]["code"], 190);
    assert_eq!(peer.get(&exchange(&first)).await.body["error"]["code"], 190);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(me(&second).await["error"]["error_subcode"], 463);
    assert_eq!(peer.get(&exchange(&second)).await.status, 200);
}
