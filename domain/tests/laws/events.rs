//! Stored events: what was written once is read for ever, byte for byte.
//!
//! The golden files are written by hand, not by this code. Never change one that was committed
//! (`.ci/golden` refuses): give the kind a new version in `events!`, add a file for it, and a step
//! from the old one to `UPCASTS`.

use std::fs;
use std::path::PathBuf;

use hub_domain::event::{Event, ReadError, UPCASTS};
use hub_domain::projection::accounts::{CONCERNS, needs};
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
        assert_eq!(
            event.payload(),
            text,
            "{kind} has another shape than v{schema}: give it a new version"
        );
    }
}

#[test]
fn every_version_of_every_kind_has_a_golden_file_and_is_read_as_the_current_one() {
    let mut read = 0;
    for (kind, current) in Event::KINDS {
        for schema in 1..=*current {
            let event = Event::read(kind, schema, &golden(kind, schema));
            let event = event.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((event.kind(), event.schema()), (*kind, *current));
            // What was brought up is as good as written today.
            let again = Event::read(kind, *current, &event.payload()).unwrap();
            assert_eq!(again, event, "{kind} v{schema}");
            read += 1;
        }
    }
    let files = fs::read_dir(folder()).unwrap().count();
    assert_eq!(files, read, "a golden file that no kind has");
}

#[test]
fn every_step_up_is_of_a_kind_and_stands_once() {
    for step in UPCASTS {
        let known = Event::KINDS
            .iter()
            .any(|(kind, current)| *kind == step.kind && (1..*current).contains(&step.from));
        assert!(known, "{step:?}");
        let same = UPCASTS
            .iter()
            .filter(|it| (it.kind, it.from) == (step.kind, step.from));
        assert_eq!(same.count(), 1, "{step:?}");
    }
}

/// A field that is left out when it is empty would be in no golden file, and adding it would pass
/// for the same shape.
#[test]
fn no_field_can_hide_from_its_golden_file() {
    let source = include_str!("../../src/event.rs");
    for hiding in ["skip_serializing", "serde(skip", "serde(default", "flatten"] {
        assert!(!source.contains(hiding), "domain/src/event.rs: {hiding}");
    }
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

/// Readers pass other kinds without a look.
#[test]
fn the_accounts_care_about_the_kinds_they_name_and_no_others() {
    for (kind, schema) in Event::KINDS {
        let event = Event::read(kind, *schema, &golden(kind, *schema)).unwrap();
        assert_eq!(needs(&event).is_some(), CONCERNS.contains(kind), "{kind}");
    }
}
