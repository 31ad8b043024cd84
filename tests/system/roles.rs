//! The verbs: what they say when a setting is missing or wrong, and what `translate` shows.

use std::process::{Command, Output};

fn hub(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hub"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .envs(settings.iter().copied())
        .output()
        .expect("the binary runs")
}

fn complains(output: &Output, about: &str) {
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(about), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "one sentence: {said}");
}

#[test]
fn a_missing_or_wrong_setting_is_one_sentence() {
    complains(&hub(&["api"], &[]), "DATABASE_URL");
    complains(&hub(&["worker"], &[]), "DATABASE_URL");
    complains(&hub(&["migrate"], &[]), "DATABASE_URL");
    let url = ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    complains(&hub(&["api"], &[url]), "JWT_SECRET");
    complains(&hub(&["migrate"], &[url, ("PORT", "abc")]), "PORT");
    complains(&hub(&["migrate"], &[url]), "database");
}

#[test]
fn translate_shows_one_object_per_fact() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/domain/tests/fixtures");
    let shown = hub(
        &[
            "translate",
            "facebook",
            &format!("{dir}/facebook/24_batch_mixed.json"),
        ],
        &[],
    );
    assert!(shown.status.success());
    let facts: Vec<serde_json::Value> = String::from_utf8_lossy(&shown.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect();
    let kinds: Vec<_> = facts
        .iter()
        .map(|fact| fact["kind"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == "message.received")
            .count(),
        2,
        "{kinds:?}"
    );
    assert!(kinds.contains(&"receipt.read"), "{kinds:?}");
    for fact in &facts {
        for field in [
            "account",
            "conversation",
            "sender",
            "direction",
            "message_id",
            "ts_ms",
            "content",
            "text",
            "media",
        ] {
            assert!(fact.get(field).is_some(), "{field} is missing in {fact}");
        }
    }
    complains(
        &hub(&["translate", "facebook", "/nowhere"], &[]),
        "cannot be read",
    );
}
