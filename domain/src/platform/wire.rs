//! Tolerant reading of platforms' JSON, shared by the adapters.
//!
//! Platforms send ids as strings or numbers, times in seconds or milliseconds, and null where an
//! object was promised. Every function here has an answer for every value.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Unreadable;
use super::fact::{Fact, FactKind};
use super::http::HttpResponse;
use crate::id::Key;
use crate::text;

/// Ids longer than this are not ids: no platform comes near it, and they end up in indexes.
const ID_BYTES_MAX: usize = 500;

/// Below this a time is in seconds: as milliseconds it would lie in the spring of 1973.
const SECONDS_BELOW: i64 = 100_000_000_000;

/// The end of the year 9999; calendars and databases fail on what lies beyond.
const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// Longest reason kept for operators, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Words from this length on may be tokens, which Graph quotes in its messages.
const OPAQUE_WORD_BYTES: usize = 24;

/// Parses a body after repairing what would needlessly fail it.
pub fn parse(raw: &[u8]) -> Result<Value, Unreadable> {
    serde_json::from_slice(&text::repair_json(raw)).map_err(|error| Unreadable(error.to_string()))
}

/// The facts of a body, each once, with the account that it was fetched for.
pub fn read(
    account: Option<&str>,
    raw: &[u8],
    facts: impl FnOnce(&Value) -> Vec<Fact>,
) -> Result<Vec<Fact>, Unreadable> {
    Ok(of_account(distinct(facts(&parse(raw)?)), account))
}

/// An opaque id: a non-empty string or a whole number.
pub fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(id) if !id.is_empty() && id.len() <= ID_BYTES_MAX => {
            Some(text::repair(id).into_owned())
        }
        Value::Number(id) if !id.is_f64() => Some(id.to_string()),
        _ => None,
    }
}

/// The facts with the account they were fetched for, where they do not name one themselves.
pub fn of_account(mut facts: Vec<Fact>, account: Option<&str>) -> Vec<Fact> {
    for fact in facts.iter_mut().filter(|fact| fact.account.is_none()) {
        fact.account = account.map(str::to_owned);
    }
    facts
}

/// A text, possibly empty.
pub fn text(value: &Value) -> Option<String> {
    value.as_str().map(|text| text::repair(text).into_owned())
}

/// A text that is not empty.
pub fn filled(value: &Value) -> Option<String> {
    text(value).filter(|text| !text.is_empty())
}

/// A whole number, given as a number or in digits.
pub fn int(value: &Value) -> Option<i64> {
    match value {
        Value::String(digits) => digits.parse().ok(),
        _ => value.as_i64(),
    }
}

/// A size or duration: a whole number that is not negative.
pub fn count(value: &Value) -> Option<u64> {
    int(value).and_then(|count| u64::try_from(count).ok())
}

/// A time in milliseconds, given in milliseconds or seconds. Zero is how platforms say "none".
pub fn time_ms(value: &Value) -> Option<i64> {
    let time = int(value).filter(|time| *time > 0)?;
    let ms = if time < SECONDS_BELOW {
        time * 1000
    } else {
        time
    };
    (ms <= TIME_MS_MAX).then_some(ms)
}

/// A time in milliseconds, given in seconds.
pub fn seconds_ms(value: &Value) -> Option<i64> {
    let seconds = int(value).filter(|seconds| *seconds > 0)?;
    seconds.checked_mul(1000).filter(|ms| *ms <= TIME_MS_MAX)
}

/// True for a time between the epoch and the year 10000.
pub fn is_time_ms(ms: &i64) -> bool {
    (1..=TIME_MS_MAX).contains(ms)
}

/// The items of an array; none when it is something else.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Puts a value under a name when there is one.
pub fn keep(detail: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        detail.insert(name.to_owned(), value.into());
    }
}

/// Keeps a part of the payload under a name when it is there.
pub fn keep_raw(detail: &mut Map<String, Value>, name: &str, value: &Value) {
    keep(
        detail,
        name,
        Some(value).filter(|value| !value.is_null()).cloned(),
    );
}

/// A stable name of these parts, in hex.
pub fn digest(parts: &[&str]) -> String {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    hex::encode(Key::of(&parts).0)
}

/// A stable name of an item by its content.
pub fn content_digest(item: &Value) -> String {
    digest(&[&item.to_string()])
}

/// The fact that something arrived which nobody understands.
pub fn unknown(account: Option<String>, raw: &Value) -> Fact {
    let mut fact = Fact::new(FactKind::Unknown);
    fact.account = account;
    fact.detail.insert("raw".into(), raw.clone());
    fact.dedup = content_digest(raw);
    fact
}

/// The fact that something arrived which is of no interest; `what` names it. Its content is not
/// carried on: nobody asked for it.
pub fn ignored(account: Option<String>, what: &str, raw: &Value) -> Fact {
    let mut fact = Fact::new(FactKind::Ignored);
    fact.account = account;
    fact.detail.insert("what".into(), what.into());
    fact.dedup = content_digest(raw);
    fact
}

/// Each fact once: one body may tell the same thing twice.
pub fn distinct(mut facts: Vec<Fact>) -> Vec<Fact> {
    let mut seen = HashSet::new();
    facts.retain(|fact| {
        seen.insert((
            fact.kind,
            fact.account.clone(),
            fact.through.clone(),
            fact.conversation.clone(),
            fact.dedup.clone(),
        ))
    });
    facts
}

/// The accounts these facts are about, and those they come through, each once, in order of
/// appearance.
pub fn accounts(facts: Vec<Fact>) -> Vec<String> {
    let mut seen = HashSet::new();
    let accounts = facts
        .into_iter()
        .flat_map(|fact| [fact.through, fact.account])
        .flatten();
    accounts
        .filter(|account| seen.insert(account.clone()))
        .collect()
}

/// The value of a header that is given exactly once. Two of a kind are an attempt at confusion.
pub fn single_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = headers
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let (_, value) = found.next()?;
    found.next().is_none().then_some(value.as_str())
}

/// The wait of a `Retry-After` header in seconds. The form with a date needs a clock: ignored.
pub fn retry_after_s(answer: &HttpResponse) -> Option<u64> {
    answer.header("retry-after")?.trim().parse().ok()
}

/// What a platform said, cut to size and without anything that may be a token.
pub fn reason(said: &str) -> String {
    let may_be_token = |word: &&str| word.len() >= OPAQUE_WORD_BYTES;
    let words: Vec<&str> = said
        .split_whitespace()
        .map(|word| if may_be_token(&word) { "…" } else { word })
        .collect();
    words.join(" ").chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_never_go_through_a_float() {
        assert_eq!(
            id(&json!(122_093_456_789_012_345_u64)).unwrap(),
            "122093456789012345"
        );
        assert_eq!(
            id(&json!(-1_002_210_033_001_i64)).unwrap(),
            "-1002210033001"
        );
        for odd in [
            json!(1.5),
            json!(1e30),
            json!(""),
            json!(null),
            json!("x".repeat(501)),
        ] {
            assert_eq!(id(&odd), None);
        }
    }

    #[test]
    fn times_in_seconds_and_milliseconds() {
        assert_eq!(time_ms(&json!(1_791_201_955)), Some(1_791_201_955_000));
        assert_eq!(time_ms(&json!("1791201955000")), Some(1_791_201_955_000));
        for odd in [
            json!(0),
            json!(-5),
            json!(i64::MAX),
            json!(u64::MAX),
            json!("now"),
            json!({}),
        ] {
            assert_eq!(time_ms(&odd), None);
            assert_eq!(seconds_ms(&odd), None);
        }
    }

    #[test]
    fn a_reason_carries_no_token() {
        let said = format!("Malformed access token EAAG{}", "x".repeat(40));
        assert_eq!(reason(&said), "Malformed access token …");
        assert_eq!(reason(&"word ".repeat(100)).chars().count(), 200);
    }

    #[test]
    fn a_header_given_twice_is_no_header() {
        let header = |value: &str| ("X-A".to_owned(), value.to_owned());
        assert_eq!(single_header(&[header("1")], "x-a"), Some("1"));
        assert_eq!(single_header(&[header("1"), header("1")], "x-a"), None);
    }
}
