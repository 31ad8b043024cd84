//! Teams: signing in, subscriptions, chats, sending, and every way it can go wrong.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::*;

const NORA: &str = "a1a1a1a1-0000-4000-8000-000000000001";
const MIRA: &str = "b2b2b2b2-0000-4000-8000-000000000002";
const CHAT: &str =
    "19:a1a1a1a1-0000-4000-8000-000000000001_b2b2b2b2-0000-4000-8000-000000000002@unq.gbl.spaces";
const BACK: &str = "http://127.0.0.1:9/api/oauth/callback/teams";
const PKCE: (&str, &str) = (
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
);
const PATIENCE: Duration = Duration::from_millis(700);

async fn dialog(peer: &Peer, extra: &str) -> Vec<(String, String)> {
    let path = format!(
        "/consumers/oauth2/v2.0/authorize?client_id={TEAMS_ID}&response_type=code&redirect_uri={}\
         &scope=offline_access+User.Read&state=s1&code_challenge={}&code_challenge_method=S256{extra}",
        encoded(BACK),
        PKCE.1
    );
    query_of(&peer.get(&path).await)
}

async fn token(peer: &Peer, tenant: &str, fields: Value) -> Answer {
    let mut body = json!({"client_id": TEAMS_ID, "client_secret": TEAMS_SECRET,
        "scope": "offline_access User.Read"});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    peer.call("POST", &format!("/{tenant}/oauth2/v2.0/token"), body)
        .await
}

async fn redeem(peer: &Peer, code: &str, verifier: &str) -> Answer {
    let fields = json!({"grant_type": "authorization_code", "code": code, "redirect_uri": BACK,
        "code_verifier": verifier});
    token(peer, "consumers", fields).await
}

/// The whole way: access token and refresh token.
async fn connect(peer: &Peer, extra: &str) -> (String, String) {
    let code = value_of(&dialog(peer, extra).await, "code");
    let answer = redeem(peer, &code, PKCE.0).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let field = |name: &str| answer.body[name].as_str().expect(name).to_owned();
    (field("access_token"), field("refresh_token"))
}

fn until(minutes: i64) -> String {
    let until = Utc::now() + TimeDelta::minutes(minutes);
    until.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn wish(minutes: i64) -> Value {
    json!({"changeType": "created,updated,deleted", "resource": "/me/chats/getAllMessages",
        "notificationUrl": "https://hub.example/api/webhooks/teams",
        "lifecycleNotificationUrl": "https://hub.example/api/webhooks/teams",
        "expirationDateTime": until(minutes), "clientState": "our-word"})
}

async fn subscribe(peer: &Peer, token: &str) -> String {
    let made = peer.post_as(token, "/v1.0/subscriptions", wish(60)).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.body["id"].as_str().expect("an id").to_owned()
}

fn messages(chat: &str) -> String {
    format!("/v1.0/chats/{}/messages", encoded(chat))
}

fn says(text: &str) -> Value {
    json!({"body": {"contentType": "text", "content": text}})
}

#[tokio::test]
async fn signing_in_gives_tokens_and_a_name() {
    let peer = Peer::start().await;
    let query = dialog(&peer, "").await;
    assert_eq!(value_of(&query, "state"), "s1");
    let code = value_of(&query, "code");
    let tokens = redeem(&peer, &code, PKCE.0).await.body;
    assert_eq!(tokens["token_type"], "Bearer");
    let me = peer
        .get_as(tokens["access_token"].as_str().unwrap(), "/v1.0/me")
        .await;
    assert_eq!(
        (&me.body["id"], &me.body["displayName"]),
        (&json!(NORA), &json!("Nora Wind"))
    );
    // A code is good once, for whoever asked for it.
    let again = redeem(&peer, &code, PKCE.0).await;
    assert_eq!(
        (again.status, &again.body["error"]),
        (400, &json!("invalid_grant"))
    );
    let other = value_of(&dialog(&peer, "").await, "code");
    let stolen = redeem(&peer, &other, "guessed").await;
    assert_eq!(stolen.body["error_codes"], json!([501_481]));
    let refused = dialog(&peer, "&deny=1").await;
    assert_eq!(value_of(&refused, "error"), "access_denied");
    let person = json!({"id": "p-7", "name": "Ines"});
    peer.call("POST", "/control/teams/people", person).await;
    let (access, _) = connect(&peer, "").await;
    assert_eq!(
        peer.get_as(&access, "/v1.0/me").await.body["displayName"],
        "Ines"
    );
    for (field, value, error) in [
        ("client_secret", "wrong", "invalid_client"),
        ("client_id", "wrong", "unauthorized_client"),
        ("grant_type", "password", "unsupported_grant_type"),
    ] {
        let answer = token(&peer, "consumers", json!({"grant_type": "x", field: value})).await;
        assert_eq!(answer.body["error"], error);
    }
}

#[tokio::test]
async fn refresh_tokens_rotate_at_their_tenant_and_survive_a_restart() {
    let peer = Peer::start().await;
    let (access, refresh) = connect(&peer, "").await;
    let ask = |refresh: &str| json!({"grant_type": "refresh_token", "refresh_token": refresh});
    let renewed = token(&peer, "consumers", ask(&refresh)).await;
    let next = renewed.body["refresh_token"]
        .as_str()
        .expect("a refresh token")
        .to_owned();
    assert_ne!(next, refresh);
    // The old one is not revoked by use.
    assert_eq!(token(&peer, "consumers", ask(&refresh)).await.status, 200);
    let elsewhere = token(&peer, "common", ask(&next)).await;
    assert_eq!(
        (elsewhere.status, &elsewhere.body["error"]),
        (400, &json!("invalid_grant"))
    );
    let after = Peer::start().await;
    assert_eq!(after.get_as(&access, "/v1.0/me").await.status, 200);

    let path = format!("/control/teams/tokens/{NORA}");
    peer.call("POST", &path, json!({})).await;
    let expired = peer.get_as(&access, "/v1.0/me").await;
    assert_eq!(
        (expired.status, &expired.body["error"]["code"]),
        (401, &json!("InvalidAuthenticationToken"))
    );
    assert_eq!(token(&peer, "consumers", ask(&next)).await.status, 200);
    peer.call("POST", &path, json!({"revoked": true})).await;
    let revoked = token(&peer, "consumers", ask(&next)).await;
    assert_eq!(revoked.body["error_codes"], json!([50_173]));
}

#[tokio::test]
async fn a_subscription_is_proved_made_renewed_and_ended() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    let id = subscribe(&peer, &access).await;
    let again = peer.post_as(&access, "/v1.0/subscriptions", wish(60)).await;
    assert_eq!(again.status, 409);
    let path = format!("/v1.0/subscriptions/{id}");
    let patch = async |minutes: i64| {
        let body = json!({ "expirationDateTime": until(minutes) });
        let answer = peer.try_call("PATCH", &path, Some(&access), Some(&body), PATIENCE);
        answer.await.expect("an answer")
    };
    let renewed = patch(120).await;
    assert_eq!((renewed.status, &renewed.body["id"]), (200, &json!(id)));
    let listed = peer.get_as(&access, "/v1.0/subscriptions").await;
    assert_eq!(listed.body["value"][0]["id"], json!(id));
    assert_eq!(peer.delete_as(&access, &path).await.status, 204);
    let gone = patch(60).await;
    assert_eq!(gone.status, 404);

    let mut long = wish(120);
    long["lifecycleNotificationUrl"] = Value::Null;
    for bad in [long, wish(5000), wish(-1), json!({})] {
        let answer = peer
            .post_as(&access, "/v1.0/subscriptions", bad.clone())
            .await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    // Nobody answers at this address.
    peer.call("PUT", "/control/hub", json!({"base": "http://127.0.0.1:9"}))
        .await;
    let unproved = peer.post_as(&access, "/v1.0/subscriptions", wish(60)).await;
    assert_eq!(
        (unproved.status, &unproved.body["error"]["code"]),
        (400, &json!("ValidationError"))
    );
}

#[tokio::test]
async fn what_people_do_is_told_and_can_be_fetched() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    let incoming = json!({"platform": "teams", "account": NORA, "text": "5 < 7 & ☕",
        "from": {"id": MIRA, "name": "Mira Quist"}});
    // Nobody has subscribed: it waits to be fetched.
    let quiet = peer
        .call("POST", "/control/incoming", incoming.clone())
        .await;
    assert_eq!(quiet.body["outcome"], "queued");
    let subscription = subscribe(&peer, &access).await;
    let told = peer.call("POST", "/control/incoming", incoming).await;
    let id = told.body["messageId"].as_str().expect("an id").to_owned();
    let notice = peer.hub.wait_for(1).await[0].body()["value"][0].clone();
    assert_eq!(notice["subscriptionId"], json!(subscription));
    assert_eq!(
        (&notice["changeType"], &notice["clientState"]),
        (&json!("created"), &json!("our-word"))
    );
    assert_eq!(
        notice["resource"],
        format!("chats('{CHAT}')/messages('{id}')")
    );

    let message = peer
        .get_as(&access, &format!("{}/{id}", messages(CHAT)))
        .await
        .body;
    assert_eq!(message["body"]["content"], "5 < 7 & ☕");
    assert_eq!(message["from"]["user"]["displayName"], "Mira Quist");
    let do_it = |action: Value| {
        let mut body = json!({"chat": CHAT, "message": id});
        for (name, value) in action.as_object().unwrap() {
            body[name] = value.clone();
        }
        peer.call("POST", "/control/teams/messages", body)
    };
    do_it(json!({"action": "react", "from": MIRA, "reaction": "like"})).await;
    do_it(json!({"action": "unreact", "from": MIRA, "reaction": "like"})).await;
    do_it(json!({"action": "edit", "text": "corrected"})).await;
    let message = peer
        .get_as(&access, &format!("{}/{id}", messages(CHAT)))
        .await
        .body;
    assert_eq!(message["body"]["content"], "corrected");
    assert!(message["lastEditedDateTime"].is_string() && message["reactions"] == json!([]));
    assert_eq!(message["messageHistory"][0]["actions"], "reactionRemoved");
    do_it(json!({"action": "delete"})).await;
    let kinds: Vec<Value> = peer.hub.wait_for(5).await[1..]
        .iter()
        .map(|told| told.body()["value"][0]["changeType"].clone())
        .collect();
    assert_eq!(kinds, ["updated", "updated", "updated", "deleted"]);

    let stranger = connect(&peer, "&login_hint=p-9").await.0;
    assert_eq!(peer.get_as(&stranger, &messages(CHAT)).await.status, 403);
    assert_eq!(
        peer.get_as(&stranger, "/v1.0/me/chats").await.body["value"],
        json!([])
    );
}

#[tokio::test]
async fn lists_are_paged_ordered_and_filtered() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    for (from, text) in [("m-1", "one"), ("m-2", "two"), ("m-1", "three")] {
        let body = json!({"platform": "teams", "account": NORA, "text": text,
            "from": {"id": from, "name": "M"}});
        peer.call("POST", "/control/incoming", body).await;
    }
    let chats = peer.get_as(&access, "/v1.0/me/chats?$top=1").await.body;
    let first = &chats["value"][0];
    assert_eq!(first["lastMessagePreview"]["body"]["content"], "three");
    let next = chats["@odata.nextLink"].as_str().expect("a next page");
    let rest = peer
        .get_as(&access, next.strip_prefix(&peer.base).expect("our address"))
        .await;
    assert_eq!(
        rest.body["value"][0]["lastMessagePreview"]["body"]["content"],
        "two"
    );
    assert!(rest.body.get("@odata.nextLink").is_none());
    let path = messages(first["id"].as_str().unwrap());
    let all = peer.get_as(&access, &path).await.body;
    let texts: Vec<_> = all["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["body"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["three", "one"]);
    let after = all["value"][1]["lastModifiedDateTime"].as_str().unwrap();
    let order = "$orderby=lastModifiedDateTime%20desc";
    let filter = format!(
        "$filter={}",
        encoded(&format!("lastModifiedDateTime gt {after}"))
    );
    let some = peer
        .get_as(&access, &format!("{path}?{order}&{filter}"))
        .await
        .body;
    assert_eq!(some["value"].as_array().unwrap().len(), 1);
    for bad in [
        format!("?{filter}"),
        "?$top=51".into(),
        format!("?{order}&$filter=x"),
    ] {
        assert_eq!(
            peer.get_as(&access, &format!("{path}{bad}")).await.status,
            400,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_send_is_checked_accepted_and_told() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    subscribe(&peer, &access).await;
    let sent = peer
        .post_as(&access, &messages(CHAT), says("Yes <b>&\nno"))
        .await;
    assert_eq!(sent.status, 201);
    assert_eq!(sent.body["from"]["user"]["id"], NORA);
    let there = peer.sent(&format!("?platform=teams&account={NORA}")).await;
    assert_eq!(there.len(), 1);
    assert_eq!(
        (&there[0]["text"], &there[0]["to"]),
        (&json!("Yes <b>&\nno"), &json!(MIRA))
    );
    assert_eq!(there[0]["platformMessageId"], sent.body["id"]);
    let notice = peer.hub.wait_for(1).await[0].body()["value"][0].clone();
    assert_eq!(notice["resourceData"]["id"], sent.body["id"]);

    for (chat, body, status) in [
        (CHAT, json!({}), 400),
        (
            CHAT,
            json!({"body": {"contentType": "markdown", "content": "x"}}),
            400,
        ),
        (CHAT, says(&"é".repeat(15_000)), 413),
        ("19:x_y@unq.gbl.spaces", says("x"), 403),
        ("19:x@thread.v2", says("x"), 404),
    ] {
        let answer = peer.post_as(&access, &messages(chat), body).await;
        assert_eq!(answer.status, status);
        assert!(answer.body["error"]["innerError"]["request-id"].is_string());
    }
    assert_eq!(
        peer.post_as("eyJ0", &messages(CHAT), says("x"))
            .await
            .status,
        401
    );
    assert_eq!(peer.sent("").await.len(), 1);
}

#[tokio::test]
async fn faults_are_in_graphs_words() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    let fault = |op: &str, mode: &str, status: u16| {
        peer.fault(
            json!({"platform": "teams", "op": op, "mode": mode, "status": status,
            "retryAfter": 17, "times": 1}),
        )
    };
    for (status, code) in [
        (401, "InvalidAuthenticationToken"),
        (403, "Forbidden"),
        (429, "TooManyRequests"),
        (503, "ServiceUnavailable"),
    ] {
        fault("send", "status", status).await;
        let answer = peer.post_as(&access, &messages(CHAT), says("x")).await;
        assert_eq!(
            (answer.status, &answer.body["error"]["code"]),
            (status, &json!(code))
        );
        assert_eq!(answer.headers["retry-after"], "17");
    }
    fault("fetch", "status", 500).await;
    assert_eq!(peer.get_as(&access, "/v1.0/me/chats").await.status, 500);
    fault("token", "status", 503).await;
    assert_eq!(peer.get_as(&access, "/v1.0/me").await.status, 503);
    assert!(peer.sent("").await.is_empty());
    for (mode, accepted) in [("hang", 0), ("accept_no_reply", 1)] {
        fault("send", mode, 500).await;
        let body = says("anybody?");
        let path = messages(CHAT);
        let silent = peer.try_call("POST", &path, Some(&access), Some(&body), PATIENCE);
        assert!(silent.await.is_none());
        assert_eq!(peer.sent("").await.len(), accepted);
    }
}

#[tokio::test]
async fn lifecycle_events_come_when_told() {
    let peer = Peer::start().await;
    let (access, _) = connect(&peer, "").await;
    let id = subscribe(&peer, &access).await;
    let path = format!("/control/teams/subscriptions/{NORA}");
    for event in ["reauthorizationRequired", "missed", "subscriptionRemoved"] {
        let told = peer.call("POST", &path, json!({ "event": event })).await;
        assert_eq!(told.body["status"], 200);
    }
    let told: Vec<Value> = peer
        .hub
        .wait_for(3)
        .await
        .iter()
        .map(|it| it.body()["value"][0].clone())
        .collect();
    assert!(
        told.iter()
            .all(|it| it["subscriptionId"] == json!(id) && it["clientState"] == "our-word")
    );
    assert_eq!(told[2]["lifecycleEvent"], "subscriptionRemoved");
    assert_eq!(peer.get(&path).await.body["subscriptions"], json!([]));
    assert_eq!(
        peer.call("POST", &path, json!({"event": "x"})).await.status,
        400
    );
}
