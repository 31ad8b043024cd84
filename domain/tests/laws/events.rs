//! Stored events: what was written once is read for ever, byte for byte.
//!
//! The golden files are written by hand, not by this code. Never change one that was released: add
//! a file with the next schema version, and an upcast for the old one.

use std::fs;
use std::path::PathBuf;

use hub_domain::event::{Event, ReadError};
use proptest::prelude::*;

use crate::history::anything;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden_events")
}

fn golden(kind: &str, schema: i16) -> String {
    let path = folder().join(format!("{kind}.v{schema}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{kind} v{schema} has no golden file (write one by hand): {error}")
    });
    let line = text.strip_suffix('\n').expect("ends with a line feed");
    line.to_owned()
}

#[test]
fn every_kind_reads_its_golden_file_and_writes_the_same_bytes() {
    for (kind, schema) in Event::KINDS {
        let text = golden(kind, *schema);
        let event = Event::read(kind, *schema, &text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((event.kind(), event.schema()), (*kind, *schema));
        assert_eq!(event.payload(), text, "{kind}");
    }
}

#[test]
fn every_golden_file_of_any_version_is_still_read() {
    let mut read = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let (kind, version) = name
            .strip_suffix(".json")
            .and_then(|name| name.split_once(".v"))
            .unwrap_or_else(|| panic!("what is {name}?"));
        let schema: i16 = version.parse().unwrap();
        let event = Event::read(kind, schema, &golden(kind, schema));
        let event = event.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(event.kind(), kind);
        assert!(event.schema() >= schema, "{name} is from the future");
        read += 1;
    }
    assert!(read >= Event::KINDS.len());
}

#[test]
fn a_field_that_newer_code_added_does_not_stop_older_code() {
    for (kind, schema) in Event::KINDS {
        let text = golden(kind, *schema);
        let more = text.replacen('{', "{\"added_later\":[1,{\"x\":null}],", 1);
        let event = Event::read(kind, *schema, &more);
        let event = event.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(event.payload(), text);
    }
}

#[test]
fn an_unknown_kind_or_version_asks_for_newer_code_and_a_wrong_shape_says_so() {
    let newer = |kind, schema| {
        matches!(
            Event::read(kind, schema, "{}"),
            Err(ReadError::NeedsNewerCode { .. })
        )
    };
    assert!(newer("MessageTeleported", 1));
    for (kind, schema) in Event::KINDS {
        assert!(newer(kind, schema + 1), "{kind}");
        let wrong = Event::read(kind, *schema, "{}");
        assert!(matches!(wrong, Err(ReadError::Malformed { .. })), "{kind}");
    }
}

#[test]
fn kinds_are_unique() {
    let mut kinds: Vec<&str> = Event::KINDS.iter().map(|(kind, _)| *kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), Event::KINDS.len());
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(events in anything(), text in any::<String>()) {
        for mut event in events {
            if let Event::SendFailed(it) = &mut event {
                it.reason.clone_from(&text);
            }
            let read = Event::read(event.kind(), event.schema(), &event.payload()).unwrap();
            prop_assert_eq!(read, event);
        }
    }
}
