//! Instagram: both logins, sending, and what comes back.

use serde_json::{Value, json};

use crate::harness::*;

const ACCOUNT: &str = "17841478800123456";
const PERSON: &str = "1284736450912837";
const BACK: &str = "http://127.0.0.1:9/api/auth/callback/instagram";
const DIALOG: &str = "/v26.0/dialog/oauth";

/// The Page's token of the login through Facebook.
async fn linked(peer: &Peer) -> String {
    let code = peer.code(DIALOG, IG_APP_ID, "instagram_basic", BACK).await;
    let secret = format!("client_id={IG_APP_ID}&client_secret={IG_APP_SECRET}");
    let back = encoded(BACK);
    let exchange = format!("/v26.0/oauth/access_token?{secret}&code={code}&redirect_uri={back}");
    let short = peer.get(&exchange).await.body["access_token"].clone();
    let long = peer
        .get(&format!(
            "/v26.0/oauth/access_token?{secret}&grant_type=fb_exchange_token&fb_exchange_token={}",
            short.as_str().expect("a short token")
        ))
        .await;
    let long = long.body["access_token"]
        .as_str()
        .expect("a long token")
        .to_owned();
    let pages = peer.get_as(&long, "/v26.0/me/accounts").await;
    let page = &pages.body["data"][0];
    assert_eq!(page["instagram_business_account"]["id"], ACCOUNT);
    page["access_token"]
        .as_str()
        .expect("a page token")
        .to_owned()
}

/// The token of sixty days of Instagram's own login.
async fn own(peer: &Peer) -> String {
    let scope = "instagram_business_basic";
    let code = peer.code("/oauth/authorize", IG_APP_ID, scope, BACK).await;
    let exchange = json!({"client_id": IG_APP_ID, "client_secret": IG_APP_SECRET,
        "grant_type": "authorization_code", "redirect_uri": BACK, "code": code});
    let short = peer
        .call("POST", "/oauth/access_token", exchange.clone())
        .await;
    assert_eq!(short.status, 200, "{short:?}");
    let again = peer.call("POST", "/oauth/access_token", exchange).await;
    assert_eq!((again.status, &again.body["code"]), (400, &json!(400)));
    assert!(again.body["error_message"].is_string());
    let short = short.body["data"][0]["access_token"]
        .as_str()
        .expect("a short token");
    let path = format!(
        "/access_token?grant_type=ig_exchange_token&client_secret={IG_APP_SECRET}\
         &access_token={short}"
    );
    let long = peer.get(&path).await;
    long.body["access_token"]
        .as_str()
        .expect("a long token")
        .to_owned()
}

fn message(text: &str) -> Value {
    json!({"recipient": {"id": PERSON}, "message": {"text": text, "metadata": "hub:1"}})
}

#[tokio::test]
async fn both_logins_give_a_token_that_sends_as_the_account() {
    let peer = Peer::start().await;
    for token in [linked(&peer).await, own(&peer).await] {
        let sent = peer
            .post_as(&token, "/v26.0/me/messages", message("hi"))
            .await;
        assert_eq!(
            (sent.status, &sent.body["recipient_id"]),
            (200, &json!(PERSON))
        );
        let fields = "/v26.0/me/subscribed_apps?subscribed_fields=messages";
        let subscribed = peer.post_as(&token, fields, json!({})).await;
        assert_eq!(subscribed.body, json!({"success": true}));
    }
    let accounts: Vec<Value> = peer.sent("?platform=instagram").await;
    assert!(accounts.iter().all(|sent| sent["account"] == ACCOUNT));
    let me = peer
        .get_as(&own(&peer).await, "/v26.0/me?fields=id,user_id")
        .await;
    assert_eq!(me.body["user_id"], ACCOUNT);
    assert_ne!(me.body["id"], ACCOUNT);
}

#[tokio::test]
async fn a_send_is_echoed_seen_and_signed() {
    let peer = Peer::start().await;
    let token = own(&peer).await;
    let sent = peer
        .post_as(&token, "/v26.0/me/messages", message("Zürich"))
        .await;
    let got = peer.hub.wait_for(2).await;
    for webhook in &got {
        let expected = format!(
            "sha256={}",
            hmac_hex(IG_APP_SECRET.as_bytes(), &webhook.raw)
        );
        assert_eq!(webhook.header("x-hub-signature-256"), expected);
        assert_eq!(webhook.path, "/api/webhooks/instagram");
        assert_eq!(webhook.body()["object"], "instagram");
        assert_eq!(webhook.body()["entry"][0]["id"], ACCOUNT);
    }
    let (echo, seen) = (got[0].item(), got[1].item());
    assert_eq!(echo["message"]["mid"], sent.body["message_id"]);
    assert_eq!(echo["message"]["metadata"], "hub:1");
    assert_eq!(seen["read"]["mid"], sent.body["message_id"]);
    let quiet = peer
        .call("PUT", "/control/instagram", json!({"metadata": false}))
        .await;
    assert_eq!(quiet.status, 200);
    peer.post_as(&token, "/v26.0/me/messages", message("x"))
        .await;
    let echo = peer.hub.wait_for(3).await[2].item();
    assert_eq!(echo["message"]["metadata"], Value::Null);
}

#[tokio::test]
async fn texts_are_counted_in_bytes_and_refusals_are_the_platforms() {
    let peer = Peer::start().await;
    let token = own(&peer).await;
    let path = "/v26.0/me/messages";
    let fits = "é".repeat(500);
    assert_eq!(peer.post_as(&token, path, message(&fits)).await.status, 200);
    let long = peer
        .post_as(&token, path, message(&format!("{fits}x")))
        .await;
    assert_eq!(
        (long.status, &long.body["error"]["code"]),
        (400, &json!(100))
    );
    for (status, code, subcode) in [(403, 10, json!(2_534_022)), (401, 190, json!(463))] {
        peer.fault(
            json!({"platform": "instagram", "op": "send", "mode": "status",
            "status": status, "times": 1}),
        )
        .await;
        let refused = peer.post_as(&token, path, message("x")).await;
        assert_eq!(refused.body["error"]["code"], code);
        assert_eq!(refused.body["error"]["error_subcode"], subcode);
    }
    peer.fault(
        json!({"platform": "instagram", "op": "send", "mode": "status",
        "status": 429, "retryAfter": 90, "times": 1}),
    )
    .await;
    let throttled = peer.post_as(&token, path, message("x")).await;
    let usage = throttled.headers["x-business-use-case-usage"]
        .to_str()
        .unwrap();
    let usage: Value = serde_json::from_str(usage).unwrap();
    assert_eq!(usage[ACCOUNT][0]["type"], "instagram");
    assert_eq!(usage[ACCOUNT][0]["estimated_time_to_regain_access"], 2);
    let other = peer
        .post_as(&token, "/v26.0/999/messages", message("x"))
        .await;
    assert_eq!(other.body["error"]["error_subcode"], 33);
}

#[tokio::test]
async fn tokens_end_and_are_exchanged_before_they_do() {
    let peer = Peer::start().await;
    let token = own(&peer).await;
    let next = |token: String| {
        format!("/refresh_access_token?grant_type=ig_refresh_token&access_token={token}")
    };
    let short_lived = json!({"tokenSeconds": 1});
    peer.call("PUT", "/control/instagram", short_lived).await;
    let answer = peer.get(&next(token.clone())).await;
    assert_eq!(answer.body["expires_in"], 1);
    let ending = answer.body["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert_ne!(ending, token);
    eventually("the end", || async {
        let answer = peer.get_as(&ending, "/v26.0/me").await;
        answer.body["error"]["error_subcode"] == 463
    })
    .await;
    assert_eq!(peer.get(&next(ending)).await.body["error"]["code"], 190);
    assert_eq!(peer.get_as(&token, "/v26.0/me").await.status, 200);
    let all = json!({"platform": "instagram", "account": ACCOUNT});
    assert_eq!(peer.call("POST", "/control/expire", all).await.status, 200);
    assert_eq!(
        peer.get_as(&token, "/v26.0/me").await.body["error"]["code"],
        190
    );
    let again = own(&peer).await;
    assert_eq!(peer.get_as(&again, "/v26.0/me").await.status, 200);
}

#[tokio::test]
async fn a_profile_and_a_picture() {
    let peer = Peer::start().await;
    let token = linked(&peer).await;
    let unknown = peer.get_as(&token, &format!("/v26.0/{PERSON}")).await;
    assert_eq!(unknown.body["error"]["error_subcode"], 33);
    peer.writes("instagram", ACCOUNT, PERSON, true).await;
    let profile = peer
        .get_as(&token, &format!("/v26.0/{PERSON}?fields=name"))
        .await;
    assert_eq!(profile.body["name"], "Mira Quill");
    assert_eq!(profile.body["username"], "mira.quill");
    let item = peer.hub.wait_for(1).await[0].item();
    let url = item["message"]["attachments"][0]["payload"]["url"]
        .as_str()
        .expect("a URL");
    let (status, bytes) = peer.bytes(url, None).await;
    assert_eq!((status, &bytes[1..4]), (200, &b"PNG"[..]));
    let (status, _) = peer.bytes(&format!("{url}0"), None).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn threads_hold_what_was_exchanged_for_both_logins() {
    let peer = Peer::start().await;
    peer.writes("instagram", ACCOUNT, PERSON, false).await;
    for (number, token) in [linked(&peer).await, own(&peer).await].iter().enumerate() {
        let path = "/v26.0/me/messages";
        let answered = peer.post_as(token, path, message("Three left.")).await;
        let list = "/v26.0/me/conversations?platform=instagram";
        let threads = peer.get_as(token, list).await;
        let thread = &threads.body["data"][0];
        let newest = &thread["messages"]["data"][0]["id"];
        assert_eq!(*newest, answered.body["message_id"]);
        assert!(thread.get("message_count").is_none());
        let id = thread["id"].as_str().expect("an id");
        let fields = "fields=messages.limit(20)%7Bid%7D";
        let whole = peer.get_as(token, &format!("/v26.0/{id}?{fields}")).await;
        let lines = whole.body["messages"]["data"].as_array().expect("a list");
        assert_eq!(lines.len(), number + 2);
        assert_eq!(lines[0]["from"]["id"], ACCOUNT);
        assert_eq!(lines[0]["to"]["data"][0]["id"], PERSON);
        let first = &lines[number + 1];
        assert_eq!(first["from"]["username"], "mira.quill");
        assert_eq!(first["to"]["data"][0]["id"], ACCOUNT);
        let edge = format!("/v26.0/{id}/messages?limit=1");
        let first = peer.get_as(token, &edge).await;
        assert_eq!(first.body["data"][0]["id"], *newest);
    }
}
