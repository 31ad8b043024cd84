//! LinkedIn: signing in, comments of an organization, the change log.

use serde_json::{Value, json};

use crate::harness::*;

const MEMBER: &str = "HubOwn3r_A";
const ORGANIZATION: &str = "urn:li:organization:90210042";
const POST: &str = "urn:li:activity:7200000000090210042";
const BACK: &str = "http://127.0.0.1:9/api/oauth/callback/linkedin";
const SCOPE: &str = "openid profile w_organization_social r_dma_portability_self_serve";

async fn dialog(peer: &Peer, scope: &str, extra: &str) -> Vec<(String, String)> {
    let path = format!(
        "/oauth/v2/authorization?response_type=code&client_id={}&redirect_uri={}&state=s1&scope={}{extra}",
        LI_CLIENT.0,
        encoded(BACK),
        encoded(scope)
    );
    query_of(&peer.get(&path).await)
}

async fn token(peer: &Peer, form: &[(&str, &str)]) -> Answer {
    let mut form = form.to_vec();
    form.push(("client_id", LI_CLIENT.0));
    form.push(("client_secret", LI_CLIENT.1));
    peer.form("/oauth/v2/accessToken", None, &form).await
}

async fn exchange(peer: &Peer, code: &str) -> Answer {
    let grant = ("grant_type", "authorization_code");
    token(peer, &[grant, ("code", code), ("redirect_uri", BACK)]).await
}

async fn connect_as(peer: &Peer, scope: &str, extra: &str) -> String {
    let code = value_of(&dialog(peer, scope, extra).await, "code");
    let given = exchange(peer, &code).await;
    given.body["access_token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

async fn connect(peer: &Peer) -> String {
    connect_as(peer, SCOPE, "").await
}

async fn versioned(
    peer: &Peer,
    method: &str,
    token: &str,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let version = if path.contains("memberChangeLogs") {
        "202312"
    } else {
        "202610"
    };
    let headers = [
        ("linkedin-version", version),
        ("x-restli-protocol-version", "2.0.0"),
    ];
    peer.with_headers(method, path, token, &headers, body).await
}

fn comments() -> String {
    format!("/rest/socialActions/{}/comments", encoded(POST))
}

async fn comment(peer: &Peer, token: &str, body: Value) -> Answer {
    versioned(peer, "POST", token, &comments(), Some(body)).await
}

fn words(text: &str) -> Value {
    json!({"actor": ORGANIZATION, "object": POST, "message": {"text": text}})
}

async fn writes(peer: &Peer, account: &str, text: &str) -> Answer {
    let from = json!({"id": "Kontakt-B7", "name": "Dana Fox"});
    let body = json!({"platform": "linkedin", "account": account, "from": from, "text": text});
    peer.call("POST", "/control/incoming", body).await
}

#[tokio::test]
async fn oauth_round_trip() {
    let peer = Peer::start().await;
    let query = dialog(&peer, SCOPE, "").await;
    assert_eq!(value_of(&query, "state"), "s1");
    let code = value_of(&query, "code");
    let given = exchange(&peer, &code).await;
    assert_eq!(given.body["expires_in"], 5_184_000);
    assert!(given.body.get("refresh_token").is_none());
    let access = given.body["access_token"].as_str().unwrap();
    let me = peer.get_as(access, "/v2/userinfo").await;
    assert_eq!(
        (&me.body["sub"], &me.body["name"]),
        (&json!(MEMBER), &json!("Nora Wind"))
    );
    assert_eq!(
        exchange(&peer, &code).await.body["error"],
        "invalid_request"
    );
    let wrong = [
        ("grant_type", "refresh_token"),
        ("client_id", LI_CLIENT.0),
        ("client_secret", "x"),
    ];
    let wrong = peer.form("/oauth/v2/accessToken", None, &wrong).await;
    assert_eq!(wrong.body["error"], "invalid_client");
    let denied = dialog(&peer, SCOPE, "&deny=1").await;
    assert_eq!(value_of(&denied, "error"), "user_cancelled_authorize");
    let member = json!({"id": "N3w", "name": "Ann Lee"});
    peer.call("POST", "/control/linkedin/members", member).await;
    let ann = connect(&peer).await;
    assert_eq!(peer.get_as(&ann, "/v2/userinfo").await.body["sub"], "N3w");
}

#[tokio::test]
async fn tokens_are_renewed_where_that_is_granted_and_taken_back() {
    let peer = Peer::start().await;
    peer.call("PUT", "/control/linkedin/tokens", json!({"refresh": true}))
        .await;
    let code = value_of(&dialog(&peer, SCOPE, "").await, "code");
    let given = exchange(&peer, &code).await;
    let refresh = given.body["refresh_token"]
        .as_str()
        .expect("a refresh token")
        .to_owned();
    let access = given.body["access_token"].as_str().unwrap().to_owned();
    peer.call("POST", "/control/linkedin/expire", json!({}))
        .await;
    let expired = peer.get_as(&access, "/v2/userinfo").await;
    assert_eq!(
        (expired.status, &expired.body["serviceErrorCode"]),
        (401, &json!(65602))
    );
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let grant = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.as_str()),
    ];
    let renewed = token(&peer, &grant).await;
    assert_eq!(renewed.body["refresh_token"], refresh, "it is not rotated");
    let access = renewed.body["access_token"].as_str().unwrap();
    assert_eq!(peer.get_as(access, "/v2/userinfo").await.status, 200);
    let form = [
        ("token", access),
        ("client_id", LI_CLIENT.0),
        ("client_secret", LI_CLIENT.1),
    ];
    assert_eq!(peer.form("/oauth/v2/revoke", None, &form).await.status, 200);
    let revoked = peer.get_as(access, "/v2/userinfo").await;
    assert_eq!(revoked.body["code"], "REVOKED_ACCESS_TOKEN");
    assert_eq!(token(&peer, &grant).await.body["error"], "invalid_grant");
}

#[tokio::test]
async fn a_comment_is_pushed_with_its_signature() {
    let peer = Peer::start().await;
    let written = writes(&peer, ORGANIZATION, "Grüße <3 & more").await;
    assert_eq!(written.body["status"], 200);
    let got = peer.hub.got()[0].clone();
    assert_eq!(got.path, "/api/webhooks/linkedin");
    let signed = [b"hmacsha256=", &got.raw[..]].concat();
    assert_eq!(
        got.header("x-li-signature"),
        hmac_hex(LI_CLIENT.1.as_bytes(), &signed)
    );
    let notification = got.body()["notifications"][0].clone();
    assert_eq!(notification["organizationalEntity"], ORGANIZATION);
    assert_eq!(notification["sourcePost"], POST);
    assert_eq!(
        notification["subscriber"],
        format!("urn:li:person:{MEMBER}")
    );
    assert_eq!(notification["generatedActivity"], written.body["messageId"]);
    let comment = &notification["decoratedGeneratedActivity"]["comment"];
    assert_eq!(comment["text"], "Grüße <3 & more");
    assert_eq!(comment["owner"], "urn:li:person:Kontakt-B7");
}

#[tokio::test]
async fn an_organization_answers() {
    let peer = Peer::start().await;
    let access = connect(&peer).await;
    let answer = comment(&peer, &access, words("Yes, since Monday")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let urn = answer.body["commentUrn"].clone();
    assert_eq!(
        answer.headers["x-restli-id"].to_str().unwrap(),
        answer.body["id"]
    );
    let sent = peer
        .sent(&format!("?platform=linkedin&account={ORGANIZATION}"))
        .await;
    assert_eq!(sent[0]["platformMessageId"], urn);
    let echo = peer.hub.wait_for(1).await[0].body()["notifications"][0].clone();
    assert_eq!(
        (&echo["action"], &echo["generatedActivity"]),
        (&json!("ADMIN_COMMENT"), &urn)
    );

    for bad in [
        words(""),
        words(&"é".repeat(1251)),
        json!({"object": POST, "actor": ORGANIZATION}),
    ] {
        assert_eq!(comment(&peer, &access, bad).await.status, 400);
    }
    let mut foreign = words("x");
    foreign["actor"] = "urn:li:organization:1".into();
    assert_eq!(comment(&peer, &access, foreign).await.status, 403);
    let reader = connect_as(&peer, "openid profile", "").await;
    assert_eq!(comment(&peer, &reader, words("x")).await.status, 403);
    let unversioned = peer.post_as(&access, &comments(), words("x")).await;
    assert_eq!(
        (unversioned.status, &unversioned.body["code"]),
        (426, &json!("NONEXISTENT_VERSION"))
    );
    let dm = peer
        .post_as(&access, "/v2/messages", json!({"body": "x"}))
        .await;
    assert_eq!(
        (dm.status, &dm.body["code"]),
        (403, &json!("ACCESS_DENIED"))
    );
    assert_eq!(peer.sent("").await.len(), 1);
}

#[tokio::test]
async fn messages_wait_in_the_change_log() {
    let peer = Peer::start().await;
    let access = connect(&peer).await;
    let first = writes(&peer, MEMBER, "one").await;
    assert_eq!(first.body["outcome"], "queued");
    writes(&peer, &format!("urn:li:person:{MEMBER}"), "two").await;
    assert!(peer.hub.got().is_empty());
    let path = "/rest/memberChangeLogs?q=memberAndApplication&count=1";
    let page = versioned(&peer, "GET", &access, path, None).await;
    let element = page.body["elements"][0].clone();
    assert_eq!(element["resourceId"], first.body["messageId"]);
    assert_eq!(element["activity"]["content"]["fallback"], "one");
    let since = element["processedAt"].as_i64().unwrap();
    let path = format!("/rest/memberChangeLogs?q=memberAndApplication&startTime={since}&count=50");
    let page = versioned(&peer, "GET", &access, &path, None).await;
    assert_eq!(
        page.body["elements"].as_array().unwrap().len(),
        2,
        "inclusive"
    );
    let reader = connect_as(&peer, "openid profile", "").await;
    assert_eq!(
        versioned(&peer, "GET", &reader, &path, None).await.status,
        403
    );
    for _ in 0..98 {
        assert_eq!(
            versioned(&peer, "GET", &access, &path, None).await.status,
            200
        );
    }
    let over = versioned(&peer, "GET", &access, &path, None).await;
    assert_eq!(over.status, 429);
    assert!(over.body["message"].as_str().unwrap().contains("DAY limit"));
}

#[tokio::test]
async fn a_picture_is_announced_put_worked_on_and_shown() {
    let peer = Peer::start().await;
    let access = connect(&peer).await;
    let announce = |owner: &str| json!({"initializeUploadRequest": {"owner": owner}});
    let path = "/rest/images?action=initializeUpload";
    let foreign = announce("urn:li:organization:1");
    let foreign = versioned(&peer, "POST", &access, path, Some(foreign)).await;
    assert_eq!(foreign.status, 403);
    let announced = announce(ORGANIZATION);
    let announced = versioned(&peer, "POST", &access, path, Some(announced)).await;
    let value = announced.body["value"].clone();
    let (url, image) = (value["uploadUrl"].as_str().unwrap(), &value["image"]);
    let with_image = |urn: &Value| {
        let mut body = words("look");
        body["content"] = json!([{"entity": {"image": urn}}]);
        body
    };
    let early = comment(&peer, &access, with_image(image)).await;
    assert_eq!(early.status, 400, "it is not there");
    let put = async |token: &str, bytes: &'static [u8]| {
        let call = reqwest::Client::new()
            .put(url)
            .bearer_auth(token)
            .body(bytes);
        call.send().await.unwrap().status().as_u16()
    };
    assert_eq!(put("other", b"\x89PNG x").await, 401);
    assert_eq!(put(&access, b"no picture").await, 415);
    assert_eq!(put(&access, b"\x89PNG x").await, 201);
    let look = format!("/rest/images/{}", encoded(image.as_str().unwrap()));
    for status in ["PROCESSING", "AVAILABLE"] {
        let seen = versioned(&peer, "GET", &access, &look, None).await;
        assert_eq!(seen.body["status"], status);
    }
    let answer = comment(&peer, &access, with_image(image)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let sent = peer.sent("?platform=linkedin").await;
    assert_eq!(sent[0]["media"]["size"], 6);
}

#[tokio::test]
async fn members_are_written_to_by_who_may() {
    let peer = Peer::start().await;
    writes(&peer, MEMBER, "hello").await;
    let thread = format!("urn:li:messagingThread:2-{}", hex::encode("Kontakt-B7"));
    let message =
        |thread: &str| json!({"thread": thread, "body": "hi", "messageType": "MEMBER_TO_MEMBER"});
    let reader = connect(&peer).await;
    let denied = peer
        .post_as(&reader, "/v2/messages", message(&thread))
        .await;
    assert_eq!(denied.status, 403);
    let access = connect_as(&peer, &format!("{SCOPE} w_messages"), "").await;
    let stranger = peer.post_as(
        &access,
        "/v2/messages",
        message("urn:li:messagingThread:2-x"),
    );
    assert_eq!(stranger.await.status, 403);
    let answer = peer
        .post_as(&access, "/v2/messages", message(&thread))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = answer.headers["x-restli-id"].to_str().unwrap();
    let path = "/rest/memberChangeLogs?q=memberAndApplication&count=50";
    let page = versioned(&peer, "GET", &access, path, None).await;
    let ours = page.body["elements"][1].clone();
    assert_eq!(
        (&ours["resourceId"], &ours["actor"]),
        (&json!(id), &ours["owner"])
    );
}

#[tokio::test]
async fn what_was_told_of_an_organization_can_be_asked_for() {
    let peer = Peer::start().await;
    peer.fault(json!({"platform": "linkedin", "op": "webhook", "mode": "drop", "times": 1}))
        .await;
    let dropped = writes(&peer, ORGANIZATION, "unheard").await;
    assert_eq!(dropped.body["outcome"], "dropped");
    let access = connect_as(&peer, &format!("{SCOPE} rw_organization_admin"), "").await;
    let path = |actions: &str, range: &str| {
        format!(
            "/rest/organizationalEntityNotifications?q=criteria&organizationalEntity={}\
             &actions={actions}&timeRange={range}&start=0&count=100",
            encoded(ORGANIZATION)
        )
    };
    let all = "(start:0,end:9999999999999)";
    let ask = async |token: &str, path: &str| versioned(&peer, "GET", token, path, None).await;
    let told = ask(&access, &path("List(COMMENT,LIKE)", all)).await;
    let element = told.body["elements"][0].clone();
    assert_eq!(element["generatedActivity"], dropped.body["messageId"]);
    assert!(element.get("subscriber").is_none());
    for (actions, range) in [("List(LIKE)", all), ("List(COMMENT)", "(start:0,end:1)")] {
        let none = ask(&access, &path(actions, range)).await;
        assert_eq!(none.body["elements"], json!([]), "{actions} {range}");
    }
    assert_eq!(ask(&access, &path("COMMENT", all)).await.status, 400);
    let reader = connect(&peer).await;
    assert_eq!(ask(&reader, &path("List(COMMENT)", all)).await.status, 403);
}

#[tokio::test]
async fn subscriptions_need_an_administrator_and_a_proved_address() {
    let peer = Peer::start().await;
    let access = connect(&peer).await;
    let acls = versioned(
        &peer,
        "GET",
        &access,
        "/rest/organizationAcls?q=roleAssignee",
        None,
    )
    .await;
    assert_eq!(acls.body["elements"][0]["organization"], ORGANIZATION);
    let key = |organization: &str| {
        format!(
            "/rest/eventSubscriptions/(developerApplication:{},user:{},entity:{},\
             eventType:ORGANIZATION_SOCIAL_ACTION_NOTIFICATIONS)",
            encoded("urn:li:developerApplication:31000043"),
            encoded(&format!("urn:li:person:{MEMBER}")),
            encoded(organization)
        )
    };
    let body = json!({"webhook": "https://hub.example/api/webhooks/linkedin"});
    let unproved = versioned(
        &peer,
        "PUT",
        &access,
        &key(ORGANIZATION),
        Some(body.clone()),
    )
    .await;
    assert_eq!(unproved.status, 400);
    assert_eq!(
        writes(&peer, ORGANIZATION, "unheard").await.body["outcome"],
        "queued"
    );
    let (_, base) = Prover::start(LI_CLIENT.1).await;
    peer.call("PUT", "/control/hub", json!({"base": base}))
        .await;
    let made = versioned(
        &peer,
        "PUT",
        &access,
        &key(ORGANIZATION),
        Some(body.clone()),
    )
    .await;
    assert_eq!(made.status, 204);
    let foreign = versioned(
        &peer,
        "PUT",
        &access,
        &key("urn:li:organization:1"),
        Some(body),
    )
    .await;
    assert_eq!(foreign.status, 403);
    let challenge = peer
        .call("POST", "/control/linkedin/challenge", json!({}))
        .await;
    assert_eq!(challenge.body, json!({"valid": true}));
}

#[tokio::test]
async fn faults() {
    let peer = Peer::start().await;
    let access = connect(&peer).await;
    for (status, code) in [
        (401, "REVOKED_ACCESS_TOKEN"),
        (403, "ACCESS_DENIED"),
        (429, "TOO_MANY_REQUESTS"),
        (503, "INTERNAL_SERVER_ERROR"),
    ] {
        peer.fault(
            json!({"platform": "linkedin", "op": "send", "mode": "status",
            "status": status, "retryAfter": 3, "times": 1}),
        )
        .await;
        let answer = comment(&peer, &access, words("x")).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (status, &json!(code))
        );
    }
    assert!(peer.sent("").await.is_empty());
    peer.fault(json!({"platform": "linkedin", "op": "webhook", "mode": "duplicate", "times": 1}))
        .await;
    writes(&peer, ORGANIZATION, "twice").await;
    assert_eq!(peer.hub.wait_for(2).await[0].raw, peer.hub.got()[1].raw);
}
