//! Stored commands: whatever an older API has accepted, a newer worker reads, byte for byte.
//!
//! The golden files are written by hand. They are never changed: a command has no version, so a new
//! shape is a new kind.

use std::fs;

use hub_domain::command::{Command, StoredGrant};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The golden file of a command. A new kind does not compile until it has one.
fn golden_of(command: &Command) -> &'static str {
    match command {
        Command::Webhook { .. } => include_str!("../golden_commands/webhook.json"),
        Command::Connect { .. } => include_str!("../golden_commands/connect.json"),
        Command::Page { .. } => include_str!("../golden_commands/page.json"),
        Command::PollAccount { .. } => include_str!("../golden_commands/poll_account.json"),
        Command::Renew { .. } => include_str!("../golden_commands/renew.json"),
        Command::Departure { .. } => include_str!("../golden_commands/departure.json"),
    }
}

/// The golden file of what is sealed into a command.
fn golden_of_grant(grant: &StoredGrant) -> &'static str {
    match grant {
        StoredGrant::Code { .. } => include_str!("../golden_commands/grant_code.json"),
        StoredGrant::Widget { .. } => include_str!("../golden_commands/grant_widget.json"),
    }
}

/// Reads a file and writes it again; the bytes are the same.
fn reads<T: DeserializeOwned + Serialize>(name: &str, text: &str) -> T {
    let read: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = serde_json::to_string(&read).unwrap() + "\n";
    assert_eq!(
        written, text,
        "{name} has another shape: make it a new kind"
    );
    read
}

#[test]
fn every_command_and_grant_reads_its_golden_file_and_writes_the_same_bytes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden_commands");
    let mut kinds = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        if name.starts_with("grant_") {
            let grant: StoredGrant = reads(&name, &text);
            assert_eq!(golden_of_grant(&grant), text);
        } else {
            let command: Command = reads(&name, &text);
            assert_eq!(command.kind(), name);
            assert_eq!(golden_of(&command), text);
        }
        kinds.push(name);
    }
    kinds.sort();
    let expected = [
        "connect",
        "departure",
        "grant_code",
        "grant_widget",
        "page",
        "poll_account",
        "renew",
        "webhook",
    ];
    assert_eq!(kinds, expected);
}
