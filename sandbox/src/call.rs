//! A request as a player sees it: parameters wherever the caller put them.
//!
//! The real platforms take the same parameter from the query, a form or a JSON body, so a player
//! asks for it by name and does not care. A call can also be left unanswered, which HTTP servers do
//! not offer: see [`Call::leave_unanswered`].

use std::io;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use crate::upload::File;

/// Bodies above this are refused; no platform takes as much text in one request.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same of bodies with files.
const FILES_BYTES_MAX: usize = 110 * 1024 * 1024;

/// Closes the connection a request came on. Put into the request by the accept loop.
#[derive(Clone)]
pub(crate) struct Hangup(pub(crate) CancellationToken);

/// A request, read completely.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    query: Vec<(String, String)>,
    fields: Map<String, Value>,
    files: Vec<File>,
    /// The body as it came, where it is no form of parts.
    pub(crate) raw: Bytes,
    headers: HeaderMap,
    hangup: Option<Hangup>,
}

impl Call {
    /// Reads a request; the error is the answer to one that cannot be read.
    pub(crate) async fn read(request: Request) -> Result<Self, StatusCode> {
        let (parts, body) = request.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let most =
            match kind.starts_with("text/") || kind.contains("json") || kind.contains("urlencoded")
            {
                true => BODY_BYTES_MAX,
                false => FILES_BYTES_MAX,
            };
        let body = to_bytes(body, most)
            .await
            .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
        let query = parts.uri.query().unwrap_or_default();
        let raw = body.clone();
        let (fields, files) = match multer::parse_boundary(kind) {
            Ok(boundary) => form(body, boundary)
                .await
                .map_err(|_| StatusCode::BAD_REQUEST)?,
            Err(_) => (fields(&parts.headers, &body), Vec::new()),
        };
        Ok(Self {
            query: pairs(query.as_bytes()),
            fields,
            files,
            raw,
            method: parts.method,
            // Some clients escape the colon inside a Telegram token.
            path: parts.uri.path().replace("%3A", ":").replace("%3a", ":"),
            headers: parts.headers,
            hangup: parts.extensions.get::<Hangup>().cloned(),
        })
    }

    /// The path's parts between the slashes.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// A parameter as text, from the query or the body. Empty counts as absent.
    pub(crate) fn param(&self, name: &str) -> Option<String> {
        let from_query = self
            .query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, v)| v.clone());
        from_query
            .or_else(|| self.fields.get(name).and_then(text))
            .filter(|value| !value.is_empty())
    }

    /// A parameter with structure: a JSON value, or a string that holds JSON as forms send it.
    pub(crate) fn value(&self, name: &str) -> Option<Value> {
        if let Some(value @ (Value::Object(_) | Value::Array(_))) = self.fields.get(name) {
            return Some(value.clone());
        }
        serde_json::from_str(&self.param(name)?).ok()
    }

    /// The file in a field of a form.
    pub(crate) fn file(&self, field: &str) -> Option<&File> {
        self.files.iter().find(|file| file.field == field)
    }

    /// This call's URL with another value for one parameter, as paging links are made.
    pub(crate) fn url_with(&self, name: &str, value: &str) -> String {
        let host = self
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(self.query.iter().filter(|(key, _)| key != name))
            .append_pair(name, value)
            .finish();
        format!(
            "http://{}{}?{query}",
            host.unwrap_or("127.0.0.1"),
            self.path
        )
    }

    /// The bearer token.
    pub(crate) fn bearer(&self) -> Option<&str> {
        self.headers
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?
            .strip_prefix("Bearer ")
    }

    /// The user name and password of HTTP Basic.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        let header = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let pair = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
        let pair = String::from_utf8(pair).ok()?;
        let (name, password) = pair.split_once(':')?;
        Some((name.to_owned(), password.to_owned()))
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Gives no answer at all: keeps the caller waiting this long, then closes the connection.
    ///
    /// Behind an accept loop that is not the sandbox's own there is nothing to close, and the call
    /// stays open until the caller leaves. Either way no byte of an answer is ever sent.
    pub(crate) async fn leave_unanswered(&self, patience: Duration) -> Response {
        tokio::time::sleep(patience).await;
        if let Some(Hangup(connection)) = &self.hangup {
            connection.cancel();
        }
        std::future::pending().await
    }
}

/// A JSON string or number as text. Numbers keep every digit: ids exceed 2^53.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded).into_owned().collect()
}

/// A form's texts and files.
async fn form(
    body: Bytes,
    boundary: String,
) -> Result<(Map<String, Value>, Vec<File>), multer::Error> {
    let whole = stream::once(async { Ok::<_, io::Error>(body) });
    let mut form = multer::Multipart::new(whole, boundary);
    let (mut fields, mut files) = (Map::new(), Vec::new());
    while let Some(field) = form.next_field().await? {
        let name = field.name().unwrap_or_default().to_owned();
        let Some(file_name) = field.file_name().map(str::to_owned) else {
            fields.insert(name, field.text().await?.into());
            continue;
        };
        let mime = field.content_type().map(ToString::to_string);
        files.push(File {
            field: name,
            name: file_name,
            mime: mime.unwrap_or_default(),
            bytes: field.bytes().await?,
        });
    }
    Ok((fields, files))
}

fn fields(headers: &HeaderMap, body: &[u8]) -> Map<String, Value> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        return pairs(body)
            .into_iter()
            .map(|(key, value)| (key, value.into()))
            .collect();
    }
    serde_json::from_slice(body).unwrap_or_default()
}
