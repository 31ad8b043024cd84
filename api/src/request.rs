//! What surrounds every handler: the request's id, the access log, and what is refused unread.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hub_domain::envelope::Meta;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::error::Problem;

/// The header a request's id comes and goes with.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id we take over from a caller; it is written beside every event.
const REQUEST_ID_BYTES_MAX: usize = 128;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The name of one HTTP request, in logs and beside the events it causes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestId(pub String);

impl RequestId {
    /// The id of the request these extensions belong to.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// What is written beside an event that nobody's token stands behind.
    pub fn meta(&self) -> Meta {
        Meta {
            request: Some(self.0.clone()),
            ..Meta::default()
        }
    }

    fn new(request: &Request) -> Self {
        let given = request
            .headers()
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|id| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
                (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain)
            });
        Self(given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned))
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.extensions))
    }
}

/// Where a connection comes from; an extension of every request that came through one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Where a request comes from, as far as that can be believed: the peer of the connection, or, with
/// so many trusted proxies before the hub, what the outermost of them was called from. What stands
/// further left in `X-Forwarded-For` anybody may have written. `None` when nothing is known.
///
/// Addresses of IPv6 are cut to their /64: one person has all of it.
pub fn address(parts: &Parts, trusted_proxies: usize) -> Option<IpAddr> {
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
    let forwarded = || {
        let headers = parts.headers.get_all(X_FORWARDED_FOR).iter();
        let text: Vec<&str> = headers.filter_map(|value| value.to_str().ok()).collect();
        let text = text.join(",");
        let entry = text
            .rsplit(',')
            .nth(trusted_proxies.checked_sub(1)?)?
            .trim();
        let socket = || entry.parse::<SocketAddr>().map(|it| it.ip());
        entry.parse().or_else(|_| socket()).ok()
    };
    let address: IpAddr = forwarded().or(peer)?;
    Some(match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    })
}

/// Gives the request its id and writes its line in the access log. Never the query or a body:
/// tokens and codes travel there.
pub async fn logged(mut request: Request, next: Next) -> Response {
    let id = RequestId::new(&request);
    let method = request.method().clone();
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str)
        .to_owned();
    request.extensions_mut().insert(id.clone());
    let began = Instant::now();
    let span = tracing::info_span!("request", request_id = id.0, %method, path);
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let took = began.elapsed();
    let status = response.status().as_u16();
    tracing::info!(
        target: "hub_api::access",
        %method,
        path,
        status,
        ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        request_id = id.0,
        "answered"
    );
    let labels = [
        ("method", known_method(&method).to_owned()),
        ("path", path),
        ("status", status.to_string()),
    ];
    metrics::counter!("hub_http_requests_total", &labels).increment(1);
    metrics::histogram!("hub_http_request_seconds", &labels[..2]).record(took.as_secs_f64());
    response
}

/// A label whose values callers cannot invent.
fn known_method(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "HEAD") => known,
        _ => "other",
    }
}

/// Refuses compressed bodies: nothing the hub is sent is worth the risk of unpacking it.
pub async fn uncompressed(request: Request, next: Next) -> Response {
    let mut encodings = request.headers().get_all(CONTENT_ENCODING).iter();
    if encodings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "VALIDATION_ERROR",
            "Compressed request bodies are not accepted",
        )
        .into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_where_a_request_comes_from() {
        let of = |peer: &str, forwarded: &[&str], trusted| {
            let mut request = Request::new(());
            for value in forwarded {
                let value = HeaderValue::from_str(value).unwrap();
                request.headers_mut().append(X_FORWARDED_FOR, value);
            }
            let mut parts = request.into_parts().0;
            if let Ok(peer) = peer.parse() {
                parts.extensions.insert(Peer(peer));
            }
            address(&parts, trusted).map(|it| it.to_string())
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(of("10.0.0.1", &["6.6.6.6"], 0), is("10.0.0.1"));
        assert_eq!(of("10.0.0.1", &["6.6.6.6, 7.7.7.7"], 1), is("7.7.7.7"));
        assert_eq!(
            of("10.0.0.1", &["5.5.5.5, 6.6.6.6", "7.7.7.7"], 2),
            is("6.6.6.6")
        );
        assert_eq!(of("10.0.0.1", &["7.7.7.7:4711"], 1), is("7.7.7.7"));
        // Too few, or not an address: it did not come through the proxies.
        for odd in [&[][..], &["7.7.7.7"], &["unknown, 7.7.7.7"]] {
            assert_eq!(of("10.0.0.1", odd, 2), is("10.0.0.1"));
        }
        assert_eq!(of("", &["7.7.7.7"], 0), None);
        assert_eq!(of("::ffff:10.0.0.1", &[], 0), is("10.0.0.1"));
        assert_eq!(of("2001:db8:1:2:3:4:5:6", &[], 0), is("2001:db8:1:2::"));
    }
}
