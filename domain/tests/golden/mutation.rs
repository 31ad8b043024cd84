//! Every payload, damaged in many ways: reading it gives facts or says that it is unreadable.
//!
//! The damage is drawn from a seed. A failure prints it; set `HUB_SEED` to repeat it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hub_domain::platform::{App, Platform, adapter};
use serde_json::{Value, json};

use crate::{app, fixtures, teams};

const ROUNDS: u64 = 100;

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides.max(1) as u64).unwrap()
    }
}

/// The paths of all values inside a value, the root included.
fn paths(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                paths(field, format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                paths(item, format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(path);
}

fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

/// One damaged copy of the payload.
fn mutate(raw: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(raw).unwrap();
    let mut found = Vec::new();
    paths(&value, String::new(), &mut found);
    let path = found[dice.roll(found.len())].clone();
    // Damage no `Value` can hold is marked and put in as text.
    const MARK: &str = "\"<here>\"";
    let put = match dice.roll(16) {
        0 => {
            if let Some((parent, name)) = path.rsplit_once('/') {
                match value.pointer_mut(parent) {
                    Some(Value::Object(fields)) => drop(fields.remove(name)),
                    Some(Value::Array(items)) => drop(items.remove(name.parse().unwrap())),
                    _ => {}
                }
            }
            return value.to_string().into_bytes();
        }
        1 => "null".into(),
        2 => "{}".into(),
        3 => "[]".into(),
        4 => "[null,7,{},\"x\",[[]]]".into(),
        5 => "true".into(),
        6 => "-1".into(),
        7 => "1e308".into(),
        8 => "1e999".into(),
        9 => "99999999999999999999999999".into(),
        10 => u64::MAX.to_string(),
        11 => i64::MIN.to_string(),
        12 => nested(10_000),
        13 => r#""\ud800 \u0000 \udc00""#.into(),
        14 => json!("long ".repeat(20_000)).to_string(),
        _ => {
            let length = dice.roll(raw.len());
            return raw[..length].to_vec();
        }
    };
    *value.pointer_mut(&path).unwrap() = json!("<here>");
    value.to_string().replace(MARK, &put).into_bytes()
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a failing seed is repeated by naming it"
)]
fn damaged_payloads_never_panic() {
    let seed = std::env::var("HUB_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    println!("HUB_SEED={seed}");
    for platform in Platform::ALL {
        let adapter = adapter(platform).unwrap();
        let mut app = match platform {
            Platform::Teams => teams::app(),
            _ => app(),
        };
        // Graph signs nothing: without a word of our own nothing proves itself.
        let stranger = App::default();
        for (path, raw) in fixtures(platform) {
            let mut dice = Dice(seed);
            for round in 0..ROUNDS {
                let damaged = mutate(&raw, &mut dice);
                app.client_id = if round % 2 == 0 {
                    String::new()
                } else {
                    "845120034567890".into()
                };
                let read = catch_unwind(AssertUnwindSafe(|| {
                    adapter.verify(&stranger, &[], &damaged).unwrap_err();
                    let _either = adapter.verify(&app, &[], &damaged);
                    let _either = adapter.handshake_by_post(&app, &[], &damaged);
                    (
                        adapter.translate(&app, None, &damaged),
                        // What was fetched names no account: it is read as somebody's.
                        adapter.translate(&app, Some("1700000000000000101"), &damaged),
                        adapter.route(&app, &damaged),
                    )
                }));
                let shown: String = String::from_utf8_lossy(&damaged)
                    .chars()
                    .take(2000)
                    .collect();
                let (facts, fetched, route) = read
                    .unwrap_or_else(|_| panic!("HUB_SEED={seed} {path} round {round}: {}", shown));
                // Whatever is JSON is read; only what is none may be unreadable.
                let is_json = serde_json::from_slice::<Value>(&damaged).is_ok();
                assert!(
                    facts.is_ok() || !is_json,
                    "HUB_SEED={seed} {path} round {round}"
                );
                for fact in fetched.unwrap_or_default() {
                    assert!(!fact.dedup.is_empty());
                    assert!(
                        fact.account.is_some(),
                        "HUB_SEED={seed} {path} round {round}"
                    );
                }
                for fact in facts.unwrap_or_default() {
                    let shown = serde_json::to_string(&fact).unwrap();
                    assert!(
                        !shown.contains("\\u0000"),
                        "HUB_SEED={seed} {path} round {round}"
                    );
                    assert!(!fact.dedup.is_empty());
                    assert!(fact.route().is_none_or(|account| route.contains(account)));
                }
            }
        }
    }
}

/// What an item may be broken into.
fn broken_items() -> [String; 7] {
    [
        "null".to_owned(),
        "7".to_owned(),
        "[]".to_owned(),
        r#"{"message":null}"#.to_owned(),
        "1e999".to_owned(),
        r#""\ud800""#.to_owned(),
        nested(9_999),
    ]
}

#[test]
fn damage_to_one_item_spares_its_neighbours() {
    for (platform, object) in [
        (Platform::Facebook, "page"),
        (Platform::Instagram, "instagram"),
    ] {
        let adapter = adapter(platform).unwrap();
        for broken in broken_items() {
            let body = format!(
                r#"{{"object":"{object}","entry":[{{"id":"1","time":1,"messaging":[{broken},
                {{"sender":{{"id":"2"}},"recipient":{{"id":"1"}},"timestamp":1,
                "message":{{"mid":"m","text":"x"}}}}]}}]}}"#
            );
            let facts = adapter.translate(&app(), None, body.as_bytes()).unwrap();
            let expected = ["unknown", "message.received"];
            assert_eq!(crate::kinds(&facts), expected, "{broken:.20}");
        }
    }
}

#[test]
fn damage_to_one_message_or_change_spares_its_neighbours_at_whatsapp() {
    let adapter = adapter(Platform::Whatsapp).unwrap();
    let message = r#"{"from":"49","id":"m","timestamp":"1","type":"text","text":{"body":"x"}}"#;
    let number = r#""metadata":{"phone_number_id":"1"}"#;
    for broken in broken_items() {
        let body = format!(
            r#"{{"object":"whatsapp_business_account","entry":[{{"id":"1","changes":[{broken},
            {{"field":"messages","value":{{{number},"statuses":[{broken}],
            "messages":[{broken},{message}]}}}}]}}]}}"#
        );
        let facts = adapter.translate(&app(), None, body.as_bytes()).unwrap();
        let known = facts.iter().filter(|fact| fact.kind.name() != "unknown");
        let known: Vec<_> = known.map(|fact| fact.text.as_deref()).collect();
        assert_eq!(known, [Some("x")], "{broken:.20}");
        assert!(facts.len() > 1, "what is broken is counted");
    }
}
