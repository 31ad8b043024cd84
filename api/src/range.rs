//! Parts of a representation: what `Range`, `If-None-Match` and `If-Range` ask for (RFC 9110, 13 and
//! 14).
//!
//! One range of bytes is answered with that part. What is not understood, other units and several
//! ranges at once are answered as if nothing had been asked, which the RFC allows and every client
//! takes. A condition counts before a range.

use std::ops::Range;

use axum::http::header::{IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::client::is_known;

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of it.
    Whole,
    /// These bytes of it.
    Part(Range<u64>),
    /// Bytes that there are not.
    Unsatisfiable,
    /// Nothing: the client has it.
    Unchanged,
}

/// What these headers ask for of a representation of this size and entity tag, by GET.
pub fn asked(headers: &HeaderMap, size: u64, etag: &HeaderValue) -> Asked {
    if is_known(headers, etag) {
        return Asked::Unchanged;
    }
    // A part of something else than the client has begun with would be of no use to it. A date is
    // no tag of ours.
    if headers.contains_key(IF_RANGE) && text(headers, IF_RANGE) != etag.to_str().ok() {
        return Asked::Whole;
    }
    let Some(range) = text(headers, RANGE).and_then(parse) else {
        return Asked::Whole;
    };
    let part = match range {
        Wanted::Between(first, last) => first..last.saturating_add(1).min(size),
        Wanted::From(first) => first..size,
        Wanted::Last(count) => size.saturating_sub(count)..size,
    };
    match part.is_empty() {
        true => Asked::Unsatisfiable,
        false => Asked::Part(part),
    }
}

/// A header that there is exactly one of.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(only), None) => only.to_str().ok(),
        _ => None,
    }
}

/// A range, before it is known how much there is.
enum Wanted {
    Between(u64, u64),
    From(u64),
    Last(u64),
}

fn parse(range: &str) -> Option<Wanted> {
    let (unit, set) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    // Several have a comma in them, which is no digit.
    let (first, last) = set.trim().split_once('-')?;
    match (first, last) {
        ("", last) => number(last).map(Wanted::Last),
        (first, "") => number(first).map(Wanted::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Wanted::Between(first, last))
        }
    }
}

/// Digits as a number; more of them than a number has mean the largest.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use axum::http::header::IF_NONE_MATCH;

    use super::*;

    const TAG: &str = "\"abc\"";

    fn etag() -> HeaderValue {
        HeaderValue::from_static(TAG)
    }

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn of_1000(range: &str) -> Asked {
        asked(&headers(&[(RANGE, range)]), 1000, &etag())
    }

    #[test]
    fn one_range_is_that_part() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-499", 0..500),
            ("bytes=500-999", 500..1000),
            ("bytes=500-", 500..1000),
            ("bytes=999-5000", 999..1000),
            ("bytes=-1", 999..1000),
            ("bytes=-5000", 0..1000),
            ("Bytes=0-99999999999999999999999", 0..1000),
            ("bytes= 7-8 ", 7..9),
        ] {
            assert_eq!(of_1000(range), Asked::Part(part), "{range}");
        }
    }

    #[test]
    fn what_is_not_there_cannot_be_had() {
        for range in [
            "bytes=1000-",
            "bytes=1000-1001",
            "bytes=-0",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(of_1000(range), Asked::Unsatisfiable, "{range}");
        }
        for range in ["bytes=0-", "bytes=-1"] {
            let empty = asked(&headers(&[(RANGE, range)]), 0, &etag());
            assert_eq!(empty, Asked::Unsatisfiable, "{range}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_asked_for() {
        for range in [
            "bytes=0-1,5-6",
            "bytes=5-4",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1--2",
            "bytes=+1-2",
            "lines=0-1",
            "0-1",
            "",
        ] {
            assert_eq!(of_1000(range), Asked::Whole, "{range}");
        }
        let two = headers(&[(RANGE, "bytes=0-1"), (RANGE, "bytes=2-3")]);
        assert_eq!(asked(&two, 1000, &etag()), Asked::Whole);
        assert_eq!(asked(&HeaderMap::new(), 1000, &etag()), Asked::Whole);
    }

    #[test]
    fn a_range_is_of_the_representation_the_client_has() {
        let with = |tag: &str| {
            let both = headers(&[(RANGE, "bytes=0-1"), (IF_RANGE, tag)]);
            asked(&both, 1000, &etag())
        };
        assert_eq!(with(TAG), Asked::Part(0..2));
        assert_eq!(with("\"other\""), Asked::Whole);
        assert_eq!(with("W/\"abc\""), Asked::Whole);
        assert_eq!(with("Wed, 21 Oct 2026 07:28:00 GMT"), Asked::Whole);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for tags in [TAG, "*", "W/\"abc\"", "\"x\", \"abc\""] {
            let both = headers(&[(IF_NONE_MATCH, tags), (RANGE, "bytes=5000-")]);
            assert_eq!(asked(&both, 1000, &etag()), Asked::Unchanged, "{tags}");
        }
        let other = headers(&[(IF_NONE_MATCH, "\"x\"")]);
        assert_eq!(asked(&other, 1000, &etag()), Asked::Whole);
    }
}
