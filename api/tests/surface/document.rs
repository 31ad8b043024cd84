//! Holds every answer of every test of the surface against the served document.
//!
//! An answer has to have a status the document names for its route, and a body with the fields,
//! types, formats and names the schema has: all that are required and none that is not described.
//! What the checker does not know it refuses, so that no part of a schema is silently ignored.

use std::sync::OnceLock;

use axum::Router;
use axum::body::to_bytes;
use axum::http::Method;
use chrono::DateTime;
use serde_json::Value;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::hub::{Answer, request};

/// The document, as this router serves it.
pub async fn served(router: &Router) -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    if let Some(document) = DOCUMENT.get() {
        return document;
    }
    let asking = request("GET", "/api/openapi.json", None, None);
    let response = router.clone().oneshot(asking).await.unwrap();
    let raw = to_bytes(response.into_body(), 1024 * 1024).await.unwrap();
    let document = serde_json::from_slice(&raw).unwrap();
    DOCUMENT.get_or_init(|| document)
}

/// Checks an answer, and returns the operation that gave it, when the document has one.
#[track_caller]
pub fn check(document: &Value, method: &Method, path: &str, answer: &Answer) -> Option<String> {
    let (operation, described) = operation(document, method, path)?;
    let status = answer.status.to_string();
    let response = &described["responses"][&status];
    assert!(
        response.is_object(),
        "{method} {path} answered {status}, which the document does not name: {}",
        answer.text
    );
    let content = response["content"].as_object();
    let content_type = answer.header("content-type").split(';').next().unwrap();
    match content {
        None => assert_eq!(
            answer.text, "",
            "{method} {path} {status}: no body is described"
        ),
        Some(content) => {
            let schema = content.get(content_type).unwrap_or_else(|| {
                panic!("{method} {path} {status}: {content_type} is not described")
            });
            let text = Value::String(answer.text.clone());
            let body = match content_type {
                "application/json" => &answer.body,
                _ => &text,
            };
            if let Err(mismatch) = matches(document, &schema["schema"], body) {
                panic!("{method} {path} {status}: {mismatch} in {}", answer.text);
            }
        }
    }
    Some(operation)
}

/// The operation of an address: the path with the fewest parameters that fits it.
fn operation<'a>(document: &'a Value, method: &Method, path: &str) -> Option<(String, &'a Value)> {
    let path = path.split('?').next().unwrap().trim_end_matches('/');
    let paths = document["paths"].as_object().unwrap();
    let fits = |template: &str| {
        let parts = template.split('/').zip(path.split('/'));
        template.split('/').count() == path.split('/').count()
            && parts.into_iter().all(|(a, b)| a == b || a.starts_with('{'))
    };
    let fitting = paths.iter().filter(|(template, _)| fits(template));
    let (template, item) = fitting.min_by_key(|(template, _)| template.matches('{').count())?;
    let described = item.get(method.as_str().to_lowercase())?;
    Some((format!("{method} {template}"), described))
}

/// Whether a value is what a schema says; otherwise where it is not.
pub fn matches(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let keywords = schema.as_object().ok_or("a schema is an object")?;
    for (keyword, rule) in keywords {
        let is_kept = match keyword.as_str() {
            "description" | "title" | "default" | "examples" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                let target = document.pointer(pointer);
                matches(document, target.ok_or(format!("{rule} is nowhere"))?, value)?;
                true
            }
            "oneOf" => {
                let all = rule.as_array().unwrap().iter();
                let fitting = all.filter(|rule| matches(document, rule, value).is_ok());
                fitting.count() == 1
            }
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is_of(kind, value)),
                kind => is_of(kind, value),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "required" => {
                let names = rule.as_array().unwrap().iter();
                let missing = names.filter(|name| value.get(name.as_str().unwrap()).is_none());
                let missing: Vec<_> = missing.collect();
                if !missing.is_empty() {
                    return Err(format!("{missing:?} is missing"));
                }
                true
            }
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let rule = rule.get(name).ok_or(format!("{name} is not described"))?;
                    matches(document, rule, value).map_err(|error| format!("{name}: {error}"))?;
                }
                true
            }
            "additionalProperties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    matches(document, rule, value).map_err(|error| format!("{name}: {error}"))?;
                }
                true
            }
            // The names of a map are any text.
            "propertyNames" => *rule == serde_json::json!({ "type": "string" }),
            "items" => {
                for value in value.as_array().into_iter().flatten() {
                    matches(document, rule, value)?;
                }
                true
            }
            "format" => value.as_str().is_none_or(|text| has_format(rule, text)),
            "minimum" => value.as_f64().is_none_or(|it| it >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|it| it <= rule.as_f64().unwrap()),
            "maxLength" => chars(value) <= rule.as_u64().unwrap(),
            "pattern" => value.as_str().is_some_and(|text| {
                assert!(
                    rule.as_str().unwrap().ends_with("]{64}$"),
                    "a pattern not known here"
                );
                text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            }),
            other => return Err(format!("the checker does not know {other}")),
        };
        if !is_kept {
            return Err(format!("{value} is not {keyword} {rule}"));
        }
    }
    Ok(())
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{other} is no type of JSON Schema"),
    }
}

fn has_format(format: &Value, text: &str) -> bool {
    match format.as_str().unwrap() {
        // Lower case, as all of ours are.
        "uuid" => Uuid::parse_str(text).is_ok_and(|id| id.to_string() == text),
        "date-time" => {
            DateTime::parse_from_rfc3339(text).is_ok() && text.len() == 24 && text.ends_with('Z')
        }
        "email" => text.contains('@'),
        "uri" => text.contains("://"),
        other => panic!("the checker does not know the format {other}"),
    }
}

fn chars(value: &Value) -> u64 {
    value.as_str().map_or(0, |text| text.chars().count() as u64)
}
