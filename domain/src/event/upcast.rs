//! Old shapes of events, brought up to the current one.
//!
//! A stored event never changes. When a kind gets another shape, its number in `events!` goes up,
//! and a step from the number before is added to [`UPCASTS`]; steps are never removed. Reading an
//! old event runs every step from its schema on. A step is a pure function from JSON to JSON and
//! knows no payload type: types change, the step must go on doing the same.

use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

use super::ReadError;

/// One step up, for one kind.
#[derive(Clone, Copy, Debug)]
pub struct Upcast {
    /// The kind.
    pub kind: &'static str,
    /// The schema it takes; it gives the next.
    pub from: i16,
    /// What it does. It refuses what is not of its schema: handed on, that could pass for the next.
    pub up: fn(Value) -> Result<Value, serde_json::Error>,
}

/// Every step there is.
pub const UPCASTS: &[Upcast] = &[
    Upcast {
        kind: "SessionRevoked",
        from: 1,
        up: logout_was_the_only_reason,
    },
    Upcast {
        kind: "SendFailed",
        from: 1,
        up: nothing_failed_after_it_was_sent,
    },
    Upcast {
        kind: "MessageQueued",
        from: 1,
        up: nothing_was_attached,
    },
];

/// Schema 2 has more reasons, and nothing else is new.
fn logout_was_the_only_reason(value: Value) -> Result<Value, serde_json::Error> {
    match value.get("reason").and_then(Value::as_str) {
        Some("logout") => Ok(value),
        _ => Err(serde_json::Error::custom("schema 1 knows only logout")),
    }
}

/// Schema 2 has a class for what the platform had taken, and nothing else is new.
fn nothing_failed_after_it_was_sent(value: Value) -> Result<Value, serde_json::Error> {
    match value.get("class").and_then(Value::as_str) {
        Some("undelivered") => Err(serde_json::Error::custom("schema 1 knows no undelivered")),
        _ => Ok(value),
    }
}

/// Schema 2 has files, and nothing else is new.
fn nothing_was_attached(value: Value) -> Result<Value, serde_json::Error> {
    let mut fields: serde_json::Map<String, Value> = serde_json::from_value(value)?;
    if fields.insert("attached".to_owned(), Value::Null).is_some() {
        return Err(serde_json::Error::custom("schema 1 knows no files"));
    }
    Ok(Value::Object(fields))
}

/// Reads the payload of a kind whose current schema is `current`. The current shape is read
/// directly; older ones walk up through `upcasts`.
pub fn read_as<T: DeserializeOwned>(
    upcasts: &[Upcast],
    kind: &str,
    schema: i16,
    current: i16,
    payload: &str,
) -> Result<T, ReadError> {
    let malformed = |source| ReadError::Malformed {
        kind: kind.to_owned(),
        schema,
        source,
    };
    if schema > current {
        return Err(ReadError::NeedsNewerCode {
            kind: kind.to_owned(),
            schema,
        });
    }
    if schema == current {
        return serde_json::from_str(payload).map_err(malformed);
    }
    let mut value: Value = serde_json::from_str(payload).map_err(malformed)?;
    for at in schema..current {
        let step = upcasts
            .iter()
            .find(|step| step.kind == kind && step.from == at)
            .ok_or_else(|| ReadError::NoWayUp {
                kind: kind.to_owned(),
                schema: at,
                current,
            })?;
        value = (step.up)(value).map_err(malformed)?;
    }
    serde_json::from_value(value).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    /// What has become of `{"name": "Mira Q"}` after two changes of mind.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Renamed {
        first: String,
        last: Option<String>,
        at: i64,
    }

    const STEPS: &[Upcast] = &[
        Upcast {
            kind: "Other",
            from: 1,
            up: |_| Ok(json!("a step of another kind")),
        },
        // Out of order on purpose: the numbers count.
        Upcast {
            kind: "Renamed",
            from: 2,
            up: |value| {
                let mut it: serde_json::Map<String, Value> = serde_json::from_value(value)?;
                it.insert("at".to_owned(), json!(0));
                Ok(Value::Object(it))
            },
        },
        Upcast {
            kind: "Renamed",
            from: 1,
            up: |value| {
                #[derive(Deserialize)]
                struct Named {
                    name: String,
                }
                let Named { name } = serde_json::from_value(value)?;
                let mut words = name.splitn(2, ' ');
                Ok(json!({ "first": words.next(), "last": words.next() }))
            },
        },
    ];

    fn read(schema: i16, payload: &str) -> Result<Renamed, ReadError> {
        read_as(STEPS, "Renamed", schema, 3, payload)
    }

    #[test]
    fn every_version_is_read_as_the_current_one() {
        let mira = |at| Renamed {
            first: "Mira".to_owned(),
            last: Some("Q".to_owned()),
            at,
        };
        assert_eq!(read(1, r#"{"name":"Mira Q"}"#).unwrap(), mira(0));
        assert_eq!(read(2, r#"{"first":"Mira","last":"Q"}"#).unwrap(), mira(0));
        let current = r#"{"first":"Mira","last":"Q","at":7}"#;
        assert_eq!(read(3, current).unwrap(), mira(7));
        assert_eq!(read(1, r#"{"name":"Mira"}"#).unwrap().last, None);
    }

    #[test]
    fn a_session_of_schema_1_ends_by_logout_only() {
        let read = |schema, reason: &str| {
            let payload = json!({ "reason": reason }).to_string();
            read_as::<Value>(UPCASTS, "SessionRevoked", schema, 2, &payload)
        };
        assert_eq!(read(1, "logout").unwrap(), json!({ "reason": "logout" }));
        let refused = read(1, "reuse").unwrap_err();
        assert!(matches!(refused, ReadError::Malformed { schema: 1, .. }));
        assert!(read(2, "reuse").is_ok());
    }

    #[test]
    fn a_send_of_schema_1_did_not_fail_after_it_was_sent() {
        let read = |schema, class: &str| {
            let payload = json!({ "class": class }).to_string();
            read_as::<Value>(UPCASTS, "SendFailed", schema, 2, &payload)
        };
        let permanent = json!({ "class": "permanent" });
        assert_eq!(read(1, "permanent").unwrap(), permanent);
        assert!(read(1, "undelivered").is_err());
        assert!(read(2, "undelivered").is_ok());
    }

    #[test]
    fn a_message_of_schema_1_has_no_file() {
        let read = |schema, payload: Value| {
            let payload = payload.to_string();
            read_as::<Value>(UPCASTS, "MessageQueued", schema, 2, &payload)
        };
        let plain = json!({ "text": "h1.x", "attached": null });
        assert_eq!(read(1, json!({ "text": "h1.x" })).unwrap(), plain);
        assert!(read(1, json!({ "text": "h1.x", "attached": {} })).is_err());
        assert!(read(2, json!({ "text": "h1.x", "attached": {} })).is_ok());
    }

    #[test]
    fn the_future_asks_for_newer_code() {
        for schema in [4, i16::MAX] {
            let refused = read(schema, "{}").unwrap_err();
            assert!(
                matches!(refused, ReadError::NeedsNewerCode { .. }),
                "{refused}"
            );
        }
    }

    #[test]
    fn what_does_not_have_the_shape_of_its_version_is_malformed() {
        for (schema, payload) in [
            (1, r#"{"first":"Mira"}"#),
            (1, "[]"),
            (2, r#"{"name":"Mira Q"}"#),
            (3, r#"{"name":"Mira Q"}"#),
            (1, "not json"),
        ] {
            match read(schema, payload).unwrap_err() {
                ReadError::Malformed { schema: named, .. } => assert_eq!(named, schema),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_missing_step_is_said_and_not_jumped_over() {
        for (steps, schema, stuck) in [(&STEPS[..2], 1, 1), (&STEPS[2..], 1, 2), (STEPS, 0, 0)] {
            let read = read_as::<Renamed>(steps, "Renamed", schema, 3, r#"{"name":"Mira Q"}"#);
            match read.unwrap_err() {
                ReadError::NoWayUp { schema, .. } => assert_eq!(schema, stuck),
                other => panic!("{other}"),
            }
        }
    }
}
