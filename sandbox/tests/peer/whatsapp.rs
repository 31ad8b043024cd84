//! WhatsApp: connecting a number, sending, statuses, media in two steps.

use serde_json::{Value, json};

use crate::harness::*;

const NUMBER: &str = "205612348765432";
const PHONE: &str = "491701234567";
const BACK: &str = "http://127.0.0.1:9/api/auth/callback/whatsapp";

async fn connect(peer: &Peer) -> String {
    let scope = "whatsapp_business_messaging";
    let code = peer
        .code("/v26.0/dialog/oauth", WA_APP_ID, scope, BACK)
        .await;
    let path = format!(
        "/v26.0/oauth/access_token?client_id={WA_APP_ID}&client_secret={WA_APP_SECRET}\
         &code={code}&redirect_uri={}",
        encoded(BACK)
    );
    let answer = peer.get(&path).await;
    answer.body["access_token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

fn text_to(to: Value) -> Value {
    let mut body = json!({"messaging_product": "whatsapp", "recipient_type": "individual",
        "type": "text", "text": {"body": "Hello"}, "biz_opaque_callback_data": "hub:1"});
    for (name, value) in to.as_object().expect("fields") {
        body[name] = value.clone();
    }
    body
}

fn value(webhook: &Delivered) -> Value {
    webhook.body()["entry"][0]["changes"][0]["value"].clone()
}

#[tokio::test]
async fn a_token_leads_to_the_business_account_and_its_number() {
    let peer = Peer::start().await;
    let token = connect(&peer).await;
    let ours = encoded(&format!("{WA_APP_ID}|{WA_APP_SECRET}"));
    let path = format!("/v26.0/debug_token?input_token={token}&access_token={ours}");
    let debug = peer.get(&path).await;
    let scope = &debug.body["data"]["granular_scopes"][0];
    assert_eq!(scope["scope"], "whatsapp_business_management");
    let business = scope["target_ids"][0].as_str().expect("a business account");
    let numbers = peer
        .get_as(&token, &format!("/v26.0/{business}/phone_numbers"))
        .await;
    assert_eq!(numbers.body["data"][0]["id"], NUMBER);
    assert_eq!(numbers.body["data"][0]["platform_type"], "CLOUD_API");
    let apps = format!("/v26.0/{business}/subscribed_apps");
    let subscribed = peer.post_as(&token, &apps, json!({})).await;
    assert_eq!(subscribed.body, json!({"success": true}));
    assert_eq!(
        peer.get_as(&token, &apps).await.body["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let register = format!("/v26.0/{NUMBER}/register");
    let pin = json!({"messaging_product": "whatsapp", "pin": "12345"});
    assert_eq!(peer.post_as(&token, &register, pin).await.status, 400);
    let pin = json!({"messaging_product": "whatsapp", "pin": "123456"});
    assert_eq!(peer.post_as(&token, &register, pin).await.status, 200);
    let stranger = peer.get_as(&token, "/v26.0/999/phone_numbers").await;
    assert_eq!(stranger.body["error"]["error_subcode"], 33);
}

#[tokio::test]
async fn a_send_is_followed_by_its_statuses() {
    let peer = Peer::start().await;
    let token = connect(&peer).await;
    peer.writes("whatsapp", NUMBER, PHONE, false).await;
    let written = value(&peer.hub.wait_for(1).await[0]);
    assert_eq!(written["metadata"]["phone_number_id"], NUMBER);
    assert_eq!(written["contacts"][0]["wa_id"], PHONE);
    let user = written["messages"][0]["from_user_id"].clone();
    let path = format!("/v26.0/{NUMBER}/messages");
    let sent = peer
        .post_as(&token, &path, text_to(json!({"recipient": user})))
        .await;
    assert_eq!(sent.status, 200, "{sent:?}");
    assert_eq!(sent.body["contacts"][0]["user_id"], user);
    let id = sent.body["messages"][0]["id"].clone();
    let got = peer.hub.wait_for(4).await;
    let names = ["sent", "delivered", "read"];
    for (webhook, name) in got[1..].iter().zip(names) {
        let expected = format!(
            "sha256={}",
            hmac_hex(WA_APP_SECRET.as_bytes(), &webhook.raw)
        );
        assert_eq!(webhook.header("x-hub-signature-256"), expected);
        let status = value(webhook)["statuses"][0].clone();
        assert_eq!((&status["id"], &status["status"]), (&id, &json!(name)));
        assert_eq!(status["biz_opaque_callback_data"], "hub:1");
        assert_eq!(status["recipient_user_id"], user);
        assert!(status["timestamp"].is_string());
    }
    // The ledger names people by what they write with.
    assert_eq!(peer.sent("?platform=whatsapp").await[0]["to"], PHONE);
}

#[tokio::test]
async fn a_message_may_fail_after_it_was_taken() {
    let peer = Peer::start().await;
    let token = connect(&peer).await;
    peer.call(
        "POST",
        "/control/whatsapp/failures",
        json!({"code": 131_026}),
    )
    .await;
    let path = format!("/v26.0/{NUMBER}/messages");
    let sent = peer
        .post_as(&token, &path, text_to(json!({"to": format!("+{PHONE}")})))
        .await;
    assert_eq!(sent.body["contacts"][0]["wa_id"], PHONE);
    let failed = value(&peer.hub.wait_for(1).await[0]);
    assert_eq!(failed["statuses"][0]["status"], "failed");
    assert_eq!(failed["statuses"][0]["errors"][0]["code"], 131_026);
    assert_eq!(failed["statuses"][0]["recipient_id"], PHONE);
    assert_eq!(failed["contacts"], Value::Null);
}

#[tokio::test]
async fn refusals_are_in_the_platforms_numbers() {
    let peer = Peer::start().await;
    let token = connect(&peer).await;
    let path = format!("/v26.0/{NUMBER}/messages");
    let good = text_to(json!({"to": PHONE}));
    for (status, code) in [
        (429, 130_429),
        (423, 131_056),
        (403, 131_047),
        (401, 190),
        (503, 131_000),
    ] {
        peer.fault(
            json!({"platform": "whatsapp", "op": "send", "mode": "status",
            "status": status, "times": 1}),
        )
        .await;
        let refused = peer.post_as(&token, &path, good.clone()).await;
        assert_eq!(
            (refused.status, &refused.body["error"]["code"]),
            (status, &json!(code))
        );
    }
    for (bad, code) in [
        (json!({"text": {"body": "x"}, "to": PHONE}), 100),
        (text_to(json!({})), 131_008),
        (text_to(json!({"to": "nobody"})), 131_026),
        (text_to(json!({"to": PHONE, "text": {"body": ""}})), 131_008),
        (
            text_to(json!({"to": PHONE, "text": {"body": "x".repeat(4097)}})),
            100,
        ),
        (text_to(json!({"to": PHONE, "type": "hologram"})), 131_051),
    ] {
        let refused = peer.post_as(&token, &path, bad.clone()).await;
        assert_eq!(refused.body["error"]["code"], code, "{bad}");
    }
    assert!(peer.sent("").await.is_empty());
    assert_eq!(peer.post_as(&token, &path, good).await.status, 200);
}

#[tokio::test]
async fn media_take_two_steps_and_the_token_twice() {
    let peer = Peer::start().await;
    let token = connect(&peer).await;
    peer.writes("whatsapp", NUMBER, PHONE, true).await;
    let message = value(&peer.hub.wait_for(1).await[0])["messages"][0].clone();
    assert_eq!(message["type"], "image");
    assert_eq!(message["image"]["caption"], "like this?");
    let id = message["image"]["id"].as_str().expect("a media id");
    let found = peer
        .get_as(&token, &format!("/v26.0/{id}?phone_number_id={NUMBER}"))
        .await;
    assert_eq!(found.body["mime_type"], "image/png");
    let url = found.body["url"].as_str().expect("a URL");
    let (status, bytes) = peer.bytes(url, Some(&token)).await;
    assert_eq!((status, &bytes[1..4]), (200, &b"PNG"[..]));
    assert_eq!(found.body["file_size"], bytes.len().to_string());
    assert_eq!(peer.bytes(url, None).await.0, 401);
    assert_eq!(peer.bytes(&format!("{url}0"), Some(&token)).await.0, 404);
    let gone = peer.get_as(&token, "/v26.0/404").await;
    assert_eq!(gone.body["error"]["error_subcode"], 33);
}

#[tokio::test]
async fn tokens_expire_by_a_control() {
    let peer = Peer::start().await;
    let token = connect(&peer).await;
    let all = json!({"platform": "whatsapp", "account": NUMBER});
    peer.call("POST", "/control/expire", all).await;
    let path = format!("/v26.0/{NUMBER}");
    assert_eq!(peer.get_as(&token, &path).await.body["error"]["code"], 190);
    let again = connect(&peer).await;
    assert_eq!(peer.get_as(&again, &path).await.body["id"], NUMBER);
}
