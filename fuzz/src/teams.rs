//! Teams' checks beside those of every adapter. It proves itself by a word in the body instead of a
//! header, names what has to be fetched, and may bring that encrypted for us.

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use hub_domain::platform::call::{Fetch, SubscribeStep};
use hub_domain::platform::fact::FactKind;
use hub_domain::platform::{self, Adapter, App, Platform};
use hub_domain::{jwt, signature, text as texts};
use serde_json::{Value, json};

use crate::{ACCOUNT, STATUSES, answer, credentials, is_at_home, media, poll, read};

/// The recorded keys, tokens and encrypted content.
const VECTORS: &str = include_str!("../../domain/tests/fixtures/vectors/teams.json");

/// The word in `clientState` of the recorded notices.
const WORD: &str = "hub-client-state-4f9b";

/// Where Graph is.
const GRAPH: &str = "https://api.example";

/// A subscription that takes more steps does not end.
const STEPS_MAX: usize = 10;

fn vectors() -> Value {
    serde_json::from_str(VECTORS).expect("the vectors are JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The installation that the recorded payloads were made for.
fn app(vectors: &Value) -> App {
    let key = &vectors["graph_encryption"]["encryption_private_key_pkcs8_der_base64"];
    let id = text(&vectors["graph_validation_tokens"]["expected_aud"]);
    App {
        client_id: id.into(),
        webhook_audience: id.into(),
        webhook_secret: WORD.into(),
        webhook_url: "https://hub.example/api/webhooks/teams".into(),
        webhook_keys: vectors["jwks"].to_string(),
        encryption_key: text(key).into(),
        api_base: GRAPH.into(),
        api_version: "v1.0".into(),
        ..App::default()
    }
}

/// Deliveries and handshakes, what notices name and bring, pages, media and subscriptions.
///
/// # Panics
/// When something does not hold.
pub fn everything(data: &[u8]) {
    let Some(adapter) = platform::adapter(Platform::Teams) else {
        return;
    };
    let vectors = vectors();
    let app = app(&vectors);
    let now_s = vectors["now"].as_i64().expect("a time");
    delivery(adapter, &app, now_s, data);
    // Keys of RSA are slow: what is no JSON is not worth them.
    if serde_json::from_slice::<Value>(data).is_ok() {
        rich(adapter, &app, now_s, &vectors, data);
    }
    for status in STATUSES {
        let answer = answer(status, data);
        let _ = adapter.interpret(&answer);
        let _ = adapter.refreshed(&answer);
        if let Ok(Some(found)) = adapter.fetched(&answer) {
            let _ = adapter.translate(&app, Some(ACCOUNT), &found);
        }
        poll(adapter, &app, &answer, data);
        subscribe(adapter, &app, now_s, status, data);
    }
}

fn delivery(adapter: &dyn Adapter, app: &App, now_s: i64, data: &[u8]) {
    let repaired = texts::repair_json(data);
    let body: Value = serde_json::from_slice(&repaired).unwrap_or_default();
    let items = body["value"].as_array().map_or(&[][..], Vec::as_slice);
    let has_word = items.iter().any(|item| item["clientState"] == WORD);
    let is_let_in = adapter.verify(app, &[], data).is_ok();
    assert_eq!(is_let_in, has_word, "our word is the proof");
    let given = String::from_utf8_lossy(data).into_owned();
    let bearer = [("Authorization".to_owned(), format!("Bearer {given}"))];
    let with_bearer = adapter.verify(app, &bearer, data).is_ok();
    assert!(!with_bearer, "this body is no token");
    assert!(jwt::verified(&app.webhook_keys, &given, "another's", now_s).is_none());
    let query = [("validationToken".to_owned(), given)];
    for query in [&query[..], &[]] {
        let _ = adapter.handshake_by_post(app, query, data);
    }

    let route = adapter.route(app, data);
    for fact in read(adapter, app, None, data) {
        assert!(fact.route().is_none_or(|account| route.contains(account)));
        if fact.kind == FactKind::ResourceChanged {
            named(adapter, app, now_s, &fact.detail["notice"]);
        }
    }
    for fact in read(adapter, app, Some(ACCOUNT), data) {
        media(adapter, app, &fact, data);
    }
    // A notice as an older build, or nobody at all, may have stored it.
    let _ = adapter.fetch(app, &credentials(), &body, at(now_s));
}

/// What a notice names is a thing of Graph's, whatever the notice says; what it brings is a message.
fn named(adapter: &dyn Adapter, app: &App, now_s: i64, notice: &Value) {
    match adapter.fetch(app, &credentials(), notice, at(now_s)) {
        Some(Fetch::Call(call)) => {
            assert!(is_at_home(app, &call), "{}", call.url);
            let path = call.url.strip_prefix("https://api.example/v1.0/");
            let path = path.expect("a path of this version");
            let begins = ["chats/", "teams/"].map(|word| path.starts_with(word));
            assert!(begins.contains(&true), "{path}");
            let dots = |part: &str| part.bytes().all(|byte| byte == b'.');
            assert!(!path.split('/').any(dots), "{path}");
            assert!(!path.contains(['?', '#', '\\']), "{path}");
        }
        Some(Fetch::Have(message)) => {
            let _ = read(adapter, app, Some(ACCOUNT), &message);
        }
        None => panic!("a notice names something"),
    }
}

/// Content that is really encrypted for us comes out as it went in, if it is a message; content that
/// was touched does not come out at all.
fn rich(adapter: &dyn Adapter, app: &App, now_s: i64, vectors: &Value, data: &[u8]) {
    let part = &vectors["graph_validation_tokens"];
    let tokens = part["tokens"].as_array().expect("tokens");
    let token = tokens.iter().find(|token| token["valid"] == true);
    let open = |content: &Value| {
        let notice = json!({
            "path": "chats/1/messages/2",
            "tenantId": part["notification_tenant"],
            "validationTokens": [token.expect("a good token")["jwt"]],
            "encryptedContent": content,
        });
        match adapter.fetch(app, &credentials(), &notice, at(now_s)) {
            Some(Fetch::Have(message)) => Some(message),
            Some(Fetch::Call(_)) => None,
            None => panic!("the path is there"),
        }
    };
    let body: Value = serde_json::from_slice(data).unwrap_or_default();
    if let Some(message) = open(&body["value"][0]["encryptedContent"]) {
        let _ = read(adapter, app, Some(ACCOUNT), &message);
    }

    let encryption = &vectors["graph_encryption"];
    let key = hex::decode(text(&encryption["symmetric_key_hex"])).expect("a key");
    let is_message = body["messageType"].is_string();
    // Bytes that nobody encrypted may be signed with the right key all the same.
    let raw = sealed(encryption, &key, data.to_vec());
    let encrypted = sealed(encryption, &key, encrypt(&key, data));
    let opened = open(&encrypted);
    assert_eq!(opened.as_deref(), is_message.then_some(data));
    assert_eq!(open(&raw), None, "nobody encrypted this");
    let mut touched = encrypted;
    let mut bytes = STANDARD.decode(text(&touched["data"])).expect("base64");
    let place = data.len() % bytes.len();
    bytes[place] ^= 1;
    touched["data"] = STANDARD.encode(bytes).into();
    assert_eq!(open(&touched), None, "it was touched");
}

/// AES-256 in CBC mode, as Graph does it: the key's first half is where it begins.
fn encrypt(key: &[u8], plain: &[u8]) -> Vec<u8> {
    let begin: [u8; 16] = key[..16].try_into().expect("half a key");
    let key = UnboundCipherKey::new(&AES_256, key).expect("a key");
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).expect("a cipher");
    let mut bytes = plain.to_vec();
    key.less_safe_encrypt(
        &mut bytes,
        EncryptionContext::Iv128(FixedLength::from(begin)),
    )
    .expect("encrypted");
    bytes
}

/// The content of a notice with these bytes, rightly signed.
fn sealed(encryption: &Value, key: &[u8], bytes: Vec<u8>) -> Value {
    json!({
        "data": STANDARD.encode(&bytes),
        "dataSignature": STANDARD.encode(signature::hmac_sha256(key, &bytes)),
        "dataKey": encryption["encryptedContent"]["dataKey"],
    })
}

/// Subscribing ends, and tells our word and token to Graph alone.
fn subscribe(adapter: &dyn Adapter, app: &App, now_s: i64, status: u16, data: &[u8]) {
    for current in [None, Some("subscription")] {
        let flow = adapter.subscribe(app, &credentials(), current, at(now_s));
        let mut flow = flow.expect("there is somewhere to deliver to");
        let mut last = None;
        for step in 0.. {
            assert!(step < STEPS_MAX, "subscribing does not end");
            match flow.next(last.take()) {
                SubscribeStep::Call(call) => {
                    assert!(is_at_home(app, &call), "{}", call.url);
                    // What is there already is looked for once creating was refused.
                    let refused = call.url.ends_with("/subscriptions") && !call.body.is_empty();
                    last = Some(answer(if refused { 409 } else { status }, data));
                }
                SubscribeStep::Done(_) | SubscribeStep::Failed(_) => break,
            }
        }
    }
}

fn at(now_s: i64) -> DateTime<chrono::Utc> {
    DateTime::from_timestamp(now_s, 0).expect("a time")
}
