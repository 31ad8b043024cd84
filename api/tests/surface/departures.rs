//! What Meta posts when somebody leaves: verified first, stored without a name, the same for the same.

use axum::body::Body;
use axum::http::Request;
use hub_domain::command::{Command, Departure};
use hub_domain::id::Place;
use hub_domain::platform::Platform;
use hub_domain::signature::signed_request_sign;
use hub_store::commands;
use serde_json::{Value, json};

use crate::hub::{Answer, Hub, request};

const PERSON: &str = "10158000000000001";

fn payload() -> Value {
    json!({"user_id": PERSON, "algorithm": "HMAC-SHA256", "issued_at": 1_791_201_600})
}

fn signed(payload: &Value) -> String {
    signed_request_sign("fb-secret", payload)
}

async fn post(hub: &Hub, path: &str, form: String) -> Answer {
    let post = Request::post(format!("/api/webhooks/{path}"));
    let kind = "application/x-www-form-urlencoded";
    hub.call(
        post.header("content-type", kind)
            .body(Body::from(form))
            .unwrap(),
    )
    .await
}

fn form(signed: &str) -> String {
    format!("signed_request={signed}")
}

#[tokio::test]
async fn what_is_not_metas_leaves_no_trace() {
    let hub = Hub::start().await;
    let good = signed(&payload());
    let with = |field: &str, value: Value| {
        let mut payload = payload();
        payload[field] = value;
        payload
    };
    let (signature, rest) = good.split_once('.').unwrap();
    let forged = "Invalid signed request";
    let refusals = [
        (form(&signed_request_sign("other", &payload())), 401, forged),
        (form(&signed_request_sign("", &payload())), 401, forged),
        (
            form(&signed(&with("algorithm", json!("none")))),
            401,
            forged,
        ),
        (form(&format!("{good}=")), 401, forged),
        (form(rest), 401, forged),
        (form(&format!("{signature}.")), 401, forged),
        (form(""), 401, forged),
        (
            form(&signed(&with("expires", json!(1_600_000_000)))),
            401,
            "The signed request has expired",
        ),
        (String::new(), 400, "Invalid payload structure"),
        (
            json!({"signed_request": good}).to_string(),
            400,
            "Invalid payload structure",
        ),
    ];
    for path in ["facebook/deauthorize", "facebook/delete"] {
        for (form, status, words) in &refusals {
            let answer = post(&hub, path, form.clone()).await;
            assert_eq!(answer.status, *status, "{path} {form}");
            assert_eq!(answer.body, json!({"error": words}));
        }
    }
    // All of Meta's have the addresses, and no other platform has.
    for path in ["instagram/delete", "whatsapp/deauthorize"] {
        let strange = signed_request_sign("other", &payload());
        assert_eq!(post(&hub, path, form(&strange)).await.status, 401);
    }
    for path in ["telegram/delete", "linkedin/deauthorize", "teams/delete"] {
        let answer = post(&hub, path, form(&good)).await;
        assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"), "{path}");
    }
    for table in ["commands", "events", "departures", "data_keys"] {
        assert_eq!(hub.count(table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_request_is_stored_without_a_name_and_answered_alike() {
    let hub = Hub::start().await;
    let good = form(&signed(&payload()));
    let answer = post(&hub, "facebook/deauthorize/", good.clone()).await;
    assert_eq!((answer.status, answer.body), (200, json!({"ok": true})));
    let first = post(&hub, "facebook/delete", good.clone()).await;
    assert_eq!(first.status, 200);
    assert_eq!(post(&hub, "facebook/delete", good).await.body, first.body);
    let mut later = payload();
    later["issued_at"] = json!(1_791_201_601);
    let other = post(&hub, "facebook/delete", form(&signed(&later))).await;
    let code = first.body["confirmation_code"].as_str().unwrap();
    assert_ne!(other.body["confirmation_code"], *code);
    let url = format!("https://hub.example/api/deletion/{code}");
    assert_eq!(first.body["url"], *url);

    let store = hub.store();
    let mut wishes = Vec::new();
    for shard in 0..4 {
        let start = Place {
            shard: hub_domain::id::Shard(shard),
            position: 0,
        };
        for it in commands::after(store.pool(), start, 10).await.unwrap() {
            let command = it.command.unwrap();
            let text = serde_json::to_string(&command).unwrap();
            assert!(!text.contains(PERSON), "{text}");
            let Command::Departure { person, wish, .. } = command else {
                panic!("{text}");
            };
            assert_eq!(person, store.person(Platform::Facebook, PERSON));
            assert_ne!(person, store.person(Platform::Instagram, PERSON));
            wishes.push(wish.name());
        }
    }
    wishes.sort_unstable();
    let deletion = Departure::Deletion.name();
    assert_eq!(wishes, ["deauthorized", deletion, deletion, deletion]);
}

#[tokio::test]
async fn the_page_knows_codes_of_this_hub_and_how_far_they_are() {
    let hub = Hub::start().await;
    let taken = post(&hub, "facebook/delete", form(&signed(&payload()))).await;
    let code = taken.body["confirmation_code"].as_str().unwrap().to_owned();
    let page = async |code: &str| {
        let path = format!("/api/deletion/{code}");
        hub.call(request("GET", &path, None, None)).await
    };
    let waits = page(&code).await;
    assert_eq!(waits.status, 200);
    assert!(waits.text.contains("was received"), "{}", waits.text);
    assert!(waits.header("content-type").starts_with("text/html"));
    assert!(
        waits
            .header("content-security-policy")
            .contains("default-src 'none'")
    );

    let request = hub.store().request_of(&code).unwrap();
    let user = hub.person("ann").await.user;
    let store = hub.store();
    store.begin_departure(request, 1, &[user]).await.unwrap();
    assert!(page(&code).await.text.contains("are being deleted"));
    store.end_departure(request).await.unwrap();
    let over = page(&code).await;
    assert!(over.text.contains("is deleted"), "{}", over.text);
    for text in [&waits.text, &over.text] {
        assert!(!text.contains(PERSON) && text.contains(&code));
    }

    let last = if code.ends_with('0') { "1" } else { "0" };
    let odd = [
        format!("{}{last}", &code[..47]),
        code.to_uppercase() + "A",
        code[..32].to_owned(),
        "0".repeat(48),
        "x".to_owned(),
        "%3Cscript%3E".to_owned(),
        "\u{e4}".repeat(24).replace('\u{e4}', "%C3%A4"),
    ];
    for code in odd {
        let answer = page(&code).await;
        assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"), "{code}");
    }
}
