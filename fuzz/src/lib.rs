//! What must hold of any bytes at all, wherever the hub reads bytes of others.
//!
//! Nothing panics; what is JSON is read; what is read can be stored and told apart; what carries no
//! right signature is refused; a poll ends. `just fuzz` runs every target of `fuzz_targets/`, seeded
//! with the recorded payloads of `domain/tests`. What a target finds lies in `artifacts/`; it belongs
//! into a test of `domain/` with the fix.
//!
//! A new platform is one file in `fuzz_targets/` and one entry in `Cargo.toml`. Telegram user accounts
//! have a check of their own: what they tell comes from a session and not over a webhook.

pub mod teams;

use chrono::DateTime;
use hub_domain::event::Event;
use hub_domain::id::Epoch;
use hub_domain::platform::call::PollStep;
use hub_domain::platform::fact::Fact;
use hub_domain::platform::http::{HttpRequest, HttpResponse, TransportError};
use hub_domain::platform::media::{self as places, MediaStep};
use hub_domain::platform::telegram_user::{Chat, Told};
use hub_domain::platform::{self, Adapter, App, Credentials, Platform};
use hub_domain::secret::Secret;
use hub_domain::{signature, text as texts};
use serde_json::Value;

/// The account that bytes were fetched for.
const ACCOUNT: &str = "1700000000000000101";

/// The token of that account.
const TOKEN: &str = "the-account's-token";

/// Finding a medium takes no more steps.
const MEDIA_STEPS_MAX: usize = 10;

/// A poll that takes more steps does not end.
const STEPS_MAX: usize = 10_000;

/// Statuses that adapters treat differently.
const STATUSES: [u16; 5] = [200, 400, 401, 429, 500];

/// The app that the recorded payloads were made with.
fn app() -> App {
    App {
        client_id: "845120034567890".into(),
        client_secret: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
        verify_token: "verify".into(),
        bot_token: "7100000001:AAHub-fictional_TokenForTests0123456789".into(),
        webhook_secret: "hub_Secret-Token_01".into(),
        api_base: "https://api.example".into(),
        api_version: "v26.0".into(),
        ..App::default()
    }
}

/// A platform's adapter: webhooks, handshakes, answers to calls, and polls.
///
/// # Panics
/// When something does not hold.
pub fn adapter(platform: Platform, data: &[u8]) {
    let Some(adapter) = platform::adapter(platform) else {
        return;
    };
    let app = app();
    webhook(adapter, &app, data);
    handshake(adapter, &app, data);
    for status in STATUSES {
        let answer = answer(status, data);
        let _ = adapter.interpret(&answer);
        let _ = adapter.refreshed(&answer);
        poll(adapter, &app, &answer, data);
    }
}

/// What a session of a Telegram user account writes down: as a whole, and its items told twice in the
/// first epoch and in a later one, by themselves and as history.
///
/// # Panics
/// When something does not hold.
pub fn telegram_user(data: &[u8]) {
    let Some(adapter) = platform::adapter(Platform::Telegram) else {
        return;
    };
    let app = app();
    // A future version is the one thing that is JSON and cannot be read.
    for fact in adapter.translate(&app, None, data).unwrap_or_default() {
        can_be_stored(&fact);
    }
    let Ok(body) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let items = match body["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![body.clone()],
    };
    // Nobody but a session says such things.
    let secret = [(
        "x-telegram-bot-api-secret-token".to_owned(),
        app.webhook_secret.expose().to_owned(),
    )];
    let is_told = body.get("mtproto").is_some();
    assert!(!is_told || adapter.verify(&app, &secret, data).is_err());
    for (epoch, history) in [
        (Epoch::FIRST, false),
        (Epoch::FIRST, true),
        (Epoch(7), false),
        (Epoch(7), true),
    ] {
        let told = Told {
            epoch,
            history,
            items: [&items[..], &items[..]].concat(),
            ..Told::new(ACCOUNT, &[])
        };
        let raw = serde_json::to_vec(&told).expect("what was told is plain data");
        let facts = read(adapter, &app, None, &raw);
        for fact in &facts {
            assert_eq!(fact.account.as_deref(), Some(ACCOUNT));
            assert_eq!(fact.epoch, epoch);
            assert_eq!(fact.retold, history && !epoch.is_first());
            // Where an answer goes is where the message came from.
            let thread = fact.thread.as_deref();
            if let Some(chat) = thread.and_then(Chat::of_thread) {
                assert_eq!(Some(&*chat.thread()), thread);
            }
        }
    }
}

fn webhook(adapter: &dyn Adapter, app: &App, data: &[u8]) {
    let signed = [
        "x-hub-signature-256",
        "x-twitter-webhooks-signature",
        "x-li-signature",
        "x-telegram-bot-api-secret-token",
    ];
    let given = String::from_utf8_lossy(data).into_owned();
    let forged: Vec<_> = signed
        .iter()
        .map(|name| ((*name).to_owned(), given.clone()))
        .collect();
    assert!(
        adapter.verify(app, &[], data).is_err(),
        "nothing was signed"
    );
    assert!(given == app.webhook_secret.expose() || adapter.verify(app, &forged, data).is_err());
    let route = adapter.route(app, data);
    let facts = read(adapter, app, None, data);
    for fact in &facts {
        assert!(fact.route().is_none_or(|account| route.contains(account)));
    }
    for fact in read(adapter, app, Some(ACCOUNT), data) {
        assert!(fact.account.is_some(), "what was fetched is somebody's");
        media(adapter, app, &fact, data);
    }
}

/// The account that calls are made for. Its token is not to be told to anybody but the platform.
fn credentials() -> Credentials {
    Credentials {
        route: ACCOUNT.to_owned(),
        access_token: TOKEN.into(),
        ..Credentials::default()
    }
}

/// Whether a call goes to the platform. Only then may it carry a token.
fn is_at_home(app: &App, call: &HttpRequest) -> bool {
    places::is_same_origin(&call.url, &app.api_base)
}

fn keeps_token(app: &App, call: &HttpRequest) {
    let told = call.headers.iter().any(|(_, value)| value.contains(TOKEN));
    let told = told || call.url.contains(TOKEN);
    assert!(!told || is_at_home(app, call), "{}", call.url);
}

/// Finding out where a medium is ends, whatever is answered, and tells nobody the token.
fn media(adapter: &dyn Adapter, app: &App, fact: &Fact, data: &[u8]) {
    for medium in &fact.media {
        let mut flow = adapter.media(app, &credentials(), medium);
        let mut last = None;
        for step in 0.. {
            assert!(step < MEDIA_STEPS_MAX, "it is never found");
            match flow.next(last.take()) {
                MediaStep::Call(call) => {
                    keeps_token(app, &call);
                    last = Some(answer(200, data));
                }
                MediaStep::Fetch(download) => {
                    keeps_token(app, &download.request);
                    let _ = flow.refused();
                    break;
                }
                MediaStep::Gone | MediaStep::Failed(_) => break,
            }
        }
    }
}

/// Reads a body. Whatever is JSON can be read.
fn read(adapter: &dyn Adapter, app: &App, account: Option<&str>, data: &[u8]) -> Vec<Fact> {
    let is_json = serde_json::from_slice::<Value>(data).is_ok();
    let facts = adapter.translate(app, account, data);
    assert!(facts.is_ok() || !is_json, "this is JSON");
    let facts = facts.unwrap_or_default();
    for fact in &facts {
        can_be_stored(fact);
    }
    facts
}

fn can_be_stored(fact: &Fact) {
    assert!(!fact.dedup.is_empty());
    let shown = serde_json::to_value(fact).expect("a fact is JSON");
    assert!(!has_zero(&shown), "PostgreSQL takes no such text: {shown}");
}

fn has_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_zero),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, field)| name.contains('\0') || has_zero(field)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn handshake(adapter: &dyn Adapter, app: &App, data: &[u8]) {
    let given = String::from_utf8_lossy(data);
    let query: Vec<_> = given
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let _ = adapter.handshake(app, &query);
    let named = [
        "hub.mode",
        "hub.verify_token",
        "hub.challenge",
        "crc_token",
        "challengeCode",
    ];
    let query: Vec<_> = named
        .iter()
        .map(|name| ((*name).to_owned(), given.clone().into_owned()))
        .collect();
    let _ = adapter.handshake(app, &query);
}

fn answer(status: u16, data: &[u8]) -> Result<HttpResponse, TransportError> {
    Ok(HttpResponse {
        status,
        headers: vec![(
            "retry-after".to_owned(),
            String::from_utf8_lossy(&data[..data.len().min(20)]).into_owned(),
        )],
        body: data.to_vec(),
    })
}

/// Polls with this answer to every call, from the start and from a cursor of whatever kind.
fn poll(
    adapter: &dyn Adapter,
    app: &App,
    answer: &Result<HttpResponse, TransportError>,
    data: &[u8],
) {
    let credentials = credentials();
    let now = DateTime::from_timestamp(1_791_201_600, 0).expect("a time");
    let cursor: Option<Value> = serde_json::from_slice(data).ok();
    for cursor in [None, cursor.as_ref()] {
        let Some(mut flow) = adapter.poll(app, &credentials, cursor, now) else {
            return;
        };
        let mut last = None;
        for step in 0.. {
            assert!(step < STEPS_MAX, "the poll does not end");
            last = match flow.next(last.take()) {
                PollStep::Call(call) => {
                    keeps_token(app, &call);
                    Some(answer.clone())
                }
                PollStep::Keep(body) => {
                    read(adapter, app, Some(ACCOUNT), &body);
                    None
                }
                PollStep::Done { .. } | PollStep::Failed(_) => break,
            };
        }
    }
}

/// Events as they are stored: what can be read is written and read as the same again.
///
/// # Panics
/// When something does not hold.
pub fn events(data: &[u8]) {
    let Ok(payload) = std::str::from_utf8(data) else {
        return;
    };
    for (kind, current) in Event::KINDS {
        for schema in 0..=*current + 1 {
            let Ok(event) = Event::read(kind, schema, payload) else {
                continue;
            };
            let written = event.payload();
            let again = Event::read(kind, *current, &written).expect("what was written is read");
            assert_eq!(again.payload(), written);
        }
    }
}

/// What proves who sent something: only what was signed with the secret passes.
///
/// # Panics
/// When something does not hold.
pub fn signatures(data: &[u8]) {
    let given = String::from_utf8_lossy(data);
    let (secret, none) = (Secret::new("secret"), Secret::default());
    assert!(!signature::meta(Some(&given), data, &secret, &none));
    assert!(!signature::hex_matches(&secret, data, &given));
    assert!(!signature::base64_matches(&secret, data, &given));
    assert!(!signature::shared_secret(Some(&given), &none, &none));
    let signed = signature::meta_sign("secret", data);
    assert!(signature::meta(Some(&signed), data, &secret, &none));
    assert!(!signature::meta(Some(&signed), data, &none, &none));

    assert!(signature::signed_request(&given, &secret, &none).is_err());
    let payload = serde_json::from_slice(data).unwrap_or(Value::Null);
    let request = signature::signed_request_sign("secret", &payload);
    let _ = signature::signed_request(&request, &secret, &none);
    assert!(signature::signed_request(&request, &none, &none).is_err());

    let mut fields: Vec<_> = given
        .split('\n')
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(signature::widget(&secret, &fields, 1_791_201_600, 86_400).is_err());
    fields.retain(|(name, _)| name != "hash");
    let hash = signature::widget_sign("secret", &fields);
    fields.push(("hash".to_owned(), hash));
    let _ = signature::widget(&secret, &fields, 1_791_201_600, 86_400);
    assert!(signature::widget(&Secret::new("other"), &fields, 1_791_201_600, 86_400).is_err());
}

/// Repairing and cutting text.
///
/// # Panics
/// When something does not hold.
pub fn text(data: &[u8]) {
    let repaired = texts::repair_json(data);
    assert_eq!(texts::repair_json(&repaired), repaired, "once is enough");
    let value: Option<Value> = serde_json::from_slice(data).ok();
    assert!(value.is_none() || serde_json::from_slice::<Value>(&repaired).is_ok());
    let given = String::from_utf8_lossy(data);
    assert!(!texts::repair(&given).contains('\0'));
    let (offset, length) = (data.len() / 3, data.len() / 2);
    if let Some(part) = texts::utf16_slice(&given, offset, length) {
        assert_eq!(part.encode_utf16().count(), length);
    }
}
