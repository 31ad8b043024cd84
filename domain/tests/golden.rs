//! Every recorded payload, read and compared with everything its index says about it.
//!
//! The indexes lie beside the payloads in `fixtures/`; signatures and sizes are taken from them,
//! the rest is spelled out in the modules below. Regenerating anything from the code's own output
//! would prove nothing: expectations are written by hand.

#[path = "golden/facebook.rs"]
mod facebook;
#[path = "golden/instagram.rs"]
mod instagram;
#[path = "golden/linkedin.rs"]
mod linkedin;
#[path = "golden/mutation.rs"]
mod mutation;
#[path = "golden/teams.rs"]
mod teams;
#[path = "golden/telegram.rs"]
mod telegram;
#[path = "golden/telegram_user.rs"]
mod telegram_user;
#[path = "golden/twitter.rs"]
mod twitter;
#[path = "golden/variations.rs"]
mod variations;
#[path = "golden/vectors.rs"]
mod vectors;
#[path = "golden/whatsapp.rs"]
mod whatsapp;

use std::fs;
use std::path::PathBuf;

use hub_domain::platform::fact::{Fact, FactKind};
use hub_domain::platform::{App, Platform, Refused, adapter};

/// The app the fixtures were made with.
pub fn app() -> App {
    App {
        client_id: "845120034567890".into(),
        client_secret: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
        bot_token: "7100000001:AAHub-fictional_TokenForTests0123456789".into(),
        webhook_secret: "hub_Secret-Token_01".into(),
        ..App::default()
    }
}

/// The bytes of a fixture, e.g. `facebook/01_text.json`.
pub fn fixture(path: &str) -> Vec<u8> {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fs::read(fixtures.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All payloads of a platform with their paths, in order.
pub fn fixtures(platform: Platform) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(platform.name());
    let names = fs::read_dir(folder).unwrap();
    let mut paths: Vec<String> = names
        .map(|entry| {
            format!(
                "{platform}/{}",
                entry.unwrap().file_name().to_string_lossy()
            )
        })
        .filter(|path| path.ends_with(".json"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), fixture(&path)))
        .collect()
}

/// The lines an index has about a payload.
pub fn section(platform: Platform, path: &str) -> String {
    let index = String::from_utf8(fixture(&format!("{platform}/index.md"))).unwrap();
    let name = path.rsplit('/').next().unwrap();
    let section = index
        .split("### ")
        .find(|section| section.starts_with(name));
    section
        .unwrap_or_else(|| panic!("{path} is not in the index"))
        .to_owned()
}

/// The facts of a fixture, checked for what holds of every fact.
pub fn facts(path: &str) -> Vec<Fact> {
    let platform: Platform = path.split('/').next().unwrap().parse().unwrap();
    let facts = adapter(platform)
        .unwrap()
        .translate(&app(), None, &fixture(path))
        .unwrap();
    for fact in &facts {
        assert!(!fact.dedup.is_empty(), "{path}: {fact:?}");
    }
    facts
}

/// The kinds of these facts, in order.
pub fn kinds(facts: &[Fact]) -> Vec<&'static str> {
    facts.iter().map(|fact| fact.kind.name()).collect()
}

/// The only fact, of this kind.
pub fn only(path: &str, kind: FactKind) -> Fact {
    let mut facts = facts(path);
    assert_eq!(kinds(&facts), [kind.name()], "{path}");
    facts.remove(0)
}

/// Checks every signature and size in the index of one of Meta's platforms, as each of these apps.
pub fn signatures(platform: Platform, apps: &[App]) {
    let adapter = adapter(platform).unwrap();
    let all = fixtures(platform);
    assert_eq!(all.len(), 25);
    for (path, raw) in all {
        let section = section(platform, &path);
        let (_, rest) = section.split_once("X-Hub-Signature-256: ").unwrap();
        let (signature, rest) = rest.split_once('`').unwrap();
        let size = format!(" ({} bytes)", raw.len());
        assert!(rest.starts_with(&size), "{path}");
        let headers = [("x-hub-signature-256".to_owned(), signature.to_owned())];
        let mut longer = raw.clone();
        longer.push(b'\n');
        let value: serde_json::Value = serde_json::from_slice(&raw).unwrap();
        let again = value.to_string();
        for app in apps {
            assert_eq!(adapter.verify(app, &headers, &raw), Ok(()), "{path}");
            for forged in [longer.as_slice(), again.as_bytes()] {
                let refused = adapter.verify(app, &headers, forged);
                assert_eq!(refused, Err(Refused::Signature), "{path}");
            }
            assert_eq!(adapter.verify(app, &[], &raw), Err(Refused::Signature));
        }
        let stranger = App {
            client_secret: "another".into(),
            ..App::default()
        };
        let refused = adapter.verify(&stranger, &headers, &raw);
        assert_eq!(refused, Err(Refused::Signature), "{path}");
    }
}
