//! What handlers read: bodies within their bounds, JSON objects, ids, parameters.
//!
//! Every refusal is a [`Problem`]: nothing of axum's own plain-text rejections reaches a client.
//! Unknown fields are ignored and a missing content type is accepted (contract 1.1).

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use futures::StreamExt as _;
use hub_domain::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::form_urlencoded;
use uuid::Uuid;

use crate::Api;
use crate::error::Problem;

/// Deepest nesting of a JSON body; ours are flat.
const JSON_DEPTH_MAX: usize = 64;

/// Longest a body may take to arrive: a client gives up after ten seconds itself.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// How long the rest of a refused body is read and thrown away, so that a client that is still
/// writing gets to see the refusal instead of a reset connection.
const DRAIN_WITHIN: Duration = Duration::from_millis(500);

/// Most room made for a body before any of it has arrived: what is announced costs a caller nothing.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// A JSON object; `{}` when there is no body at all.
#[derive(Debug, Default)]
pub struct Object(pub Map<String, Value>);

impl FromRequest<Api> for Object {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let limit = api.settings().api.body_bytes;
        Self::parse(&read_body(request, limit).await?)
    }
}

impl Object {
    /// Reads a body.
    pub fn parse(raw: &[u8]) -> Result<Self, Problem> {
        if raw.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        if is_too_deep(raw) {
            return Err(Problem::validation("Request body is nested too deeply"));
        }
        match serde_json::from_slice(raw) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Problem::validation("Request body must be a JSON object")),
            Err(_) => Err(Problem::validation("Request body is not valid JSON")),
        }
    }

    /// A field's text; absent, null and empty are the same to every route we have.
    pub fn text(&self, field: &'static str, what: &str) -> Result<Option<&str>, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(Problem::field(field, format!("{what} must be a text"))),
        }
    }

    /// A field that is a time, if it is there.
    pub fn time(&self, field: &'static str) -> Result<Option<DateTime<Utc>>, Problem> {
        let time = self.text(field, field)?.map(|text| {
            let message = format!("{field} must be an ISO 8601 time");
            date_time(text).ok_or_else(|| Problem::field(field, message))
        });
        time.transpose()
    }

    /// A field's text that has to be there.
    pub fn required(&self, field: &'static str, what: &str) -> Result<&str, Problem> {
        self.text(field, what)?
            .ok_or_else(|| Problem::field(field, format!("{what} is required")))
    }
}

/// Reads a whole body of at most `limit` bytes.
pub async fn read_body(request: Request, limit: usize) -> Result<Bytes, Problem> {
    read_body_within(request, limit, BODY_WITHIN).await
}

/// The same, when it may take so long to arrive.
pub async fn read_body_within(
    request: Request,
    limit: usize,
    within: Duration,
) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    let announced = parts
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(refuse_body(body, &parts.headers, limit).await);
    }
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::with_capacity(
        announced
            .map_or(0, |length| length as usize)
            .min(READ_AHEAD_BYTES),
    );
    let reading = async {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| Problem::validation("Request body broke off"))?;
            if bytes.len() + chunk.len() > limit {
                return Ok(false);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(true)
    };
    match timeout(within, reading).await {
        Ok(Ok(true)) => Ok(bytes.into()),
        Ok(Ok(false)) => Err(refuse_body(Body::from_stream(stream), &parts.headers, limit).await),
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "VALIDATION_ERROR",
            "Request body took too long to arrive",
        )),
    }
}

/// Reads on for a moment, so that whoever is still writing gets to see a refusal.
pub async fn drain(body: Body, headers: &HeaderMap) {
    // Who asks before sending has sent nothing that would have to be read.
    if !headers.contains_key(EXPECT) {
        let mut stream = body.into_data_stream();
        let drain = async { while let Some(Ok(_)) = stream.next().await {} };
        let _took_too_long = timeout(DRAIN_WITHIN, drain).await;
    }
}

async fn refuse_body(body: Body, headers: &HeaderMap, limit: usize) -> Problem {
    drain(body, headers).await;
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "VALIDATION_ERROR",
        format!("Request body is larger than {limit} bytes"),
    )
}

/// Looks for nesting before the parser recurses into it.
fn is_too_deep(raw: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in raw {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The id in a route's path.
#[derive(Clone, Copy, Debug)]
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let malformed = || Problem::field("id", "The id in the path must be a UUID");
        let text = segment(parts, state).await.ok_or_else(malformed)?;
        // Only the form the hub writes: `Uuid` itself reads four more.
        if text.len() != 36 {
            return Err(malformed());
        }
        Uuid::parse_str(&text).map(Self).map_err(|_| malformed())
    }
}

/// The name in a route's path, as text.
#[derive(Clone, Debug)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(segment(parts, state).await.unwrap_or_default()))
    }
}

async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Option<String> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.ok().map(|Path(text)| text)
}

/// The parameters of a query or a form, decoded, in order. The first of a name counts.
#[derive(Clone, Debug, Default)]
pub struct Params(pub Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of_query(&parts.uri))
    }
}

impl Params {
    /// The parameters of an address.
    pub fn of_query(uri: &Uri) -> Self {
        Self::of_form(uri.query().unwrap_or_default().as_bytes())
    }

    /// The parameters of a form.
    pub fn of_form(raw: &[u8]) -> Self {
        Self(form_urlencoded::parse(raw).into_owned().collect())
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// How many rows are asked for: at least 1, more than a page is clamped to a page.
    pub fn limit(&self, otherwise: i64) -> Result<i64, Problem> {
        let limit = self.count("limit")?.unwrap_or(otherwise);
        if limit == 0 {
            return Err(Problem::field("limit", "limit must be between 1 and 100"));
        }
        Ok(limit.min(PAGE_ROWS_MAX))
    }

    /// Which page is asked for, as limit and offset.
    pub fn page(&self) -> Result<(i64, i64), Problem> {
        Ok((
            self.limit(PAGE_ROWS_DEFAULT)?,
            self.count("offset")?.unwrap_or(0),
        ))
    }

    /// A parameter that is a time, if it is there.
    pub fn time(&self, name: &'static str) -> Result<Option<DateTime<Utc>>, Problem> {
        let time = self.get(name).map(|text| {
            let message = format!("{name} must be an ISO 8601 time");
            date_time(text).ok_or_else(|| Problem::field(name, message))
        });
        time.transpose()
    }

    fn count(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("{name} must be a whole number that is not negative");
            return Err(Problem::field(name, message));
        }
        // Digits that do not fit are simply very many.
        Ok(Some(text.parse().unwrap_or(i64::MAX)))
    }
}

/// An ISO 8601 time; without an offset it is UTC, without a time it is midnight.
fn date_time(text: &str) -> Option<DateTime<Utc>> {
    // The database has an end of time as well.
    any_date_time(text).filter(|at| (0..=9999).contains(&at.year()))
}

fn any_date_time(text: &str) -> Option<DateTime<Utc>> {
    // A plus sign that nobody encoded arrives as a space.
    let text = text.replace(' ', "+");
    if let Ok(at) = DateTime::parse_from_rfc3339(&text) {
        return Some(at.to_utc());
    }
    let naive = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f");
    let midnight = || {
        let date = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?;
        Some(date.and_time(NaiveTime::MIN))
    };
    Some(naive.ok().or_else(midnight)?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view;

    #[test]
    fn times_are_read_as_clients_write_them() {
        let read = |text: &str| date_time(text).map(view::timestamp);
        let at = Some("2026-01-31T09:30:00.123Z".to_owned());
        assert_eq!(read("2026-01-31T09:30:00.123Z"), at);
        assert_eq!(read("2026-01-31T10:30:00.123+01:00"), at);
        assert_eq!(read("2026-01-31T10:30:00.123 01:00"), at);
        assert_eq!(read("2026-01-31T09:30:00.123"), at);
        assert_eq!(
            read("2026-01-31"),
            Some("2026-01-31T00:00:00.000Z".to_owned())
        );
        for odd in [
            "",
            "yesterday",
            "1767225600",
            "2026-13-01",
            "2026-01-31T25:00:00Z",
            "-20000-01-01",
            "+20000-01-01",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn pages_are_clamped_and_garbage_is_refused() {
        let page = |query: &str| Params::of_form(query.as_bytes()).page().ok();
        assert_eq!(page(""), Some((50, 0)));
        assert_eq!(page("limit=7&offset=3"), Some((7, 3)));
        assert_eq!(page("limit=101"), Some((100, 0)));
        assert_eq!(page("limit=99999999999999999999"), Some((100, 0)));
        for odd in [
            "limit=0",
            "limit=-1",
            "limit=x",
            "limit=",
            "offset=-1",
            "offset=1.5",
        ] {
            assert_eq!(page(odd), None, "{odd}");
        }
    }

    #[test]
    fn depth_is_counted_outside_of_texts_only() {
        assert!(!is_too_deep("[".repeat(64).as_bytes()));
        assert!(is_too_deep("[".repeat(65).as_bytes()));
        let text = format!(r#"{{"a":"\"{}"}}"#, "[".repeat(100));
        assert!(!is_too_deep(text.as_bytes()));
        assert!(Object::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn bodies_are_objects_or_nothing() {
        assert!(Object::parse(b"").unwrap().0.is_empty());
        assert!(Object::parse(b" \n").unwrap().0.is_empty());
        for odd in ["[]", "1", "null", "{", "{\"a\":1}x", "\u{feff}{}"] {
            assert!(Object::parse(odd.as_bytes()).is_err(), "{odd}");
        }
    }
}
