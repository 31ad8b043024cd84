//! Every route of the API, and what surrounds them.
//!
//! From the outside in: trailing slashes go, the request gets its id and its line in the log,
//! errors get their route's shape, CORS headers go on everything (a browser hides an error without
//! them), preflights are answered, what was counted is told in headers, panics become an answer,
//! compressed bodies are refused. Only then does a handler ask who is calling.

pub mod accounts;
pub mod auth;
pub mod callback;
pub mod conversations;
pub mod health;
pub mod messages;
pub mod oauth;
pub mod page;
pub mod send;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn;
use hub_config::Settings;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::error::{Problem, panicked, shaped};
use crate::limit::{HEADERS, told};
use crate::request::{REQUEST_ID, logged, uncompressed};
use crate::{Api, live};

/// How long a browser may remember the answer to a preflight (contract 1.2).
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(86_400);

/// The whole API.
pub fn router(api: Api) -> Router {
    let cors = cors(Arc::clone(&api.inner.settings));
    let layers = ServiceBuilder::new()
        .layer(from_fn(logged))
        .layer(from_fn(shaped))
        .layer(cors)
        .layer(from_fn(told))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(uncompressed));
    let routes = Router::new()
        .merge(auth::routes())
        .merge(oauth::routes())
        .merge(callback::routes())
        .merge(accounts::routes())
        .merge(messages::routes())
        .merge(conversations::routes())
        .merge(webhooks::routes())
        .merge(health::routes())
        .merge(live::routes())
        .merge(page::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(layers)
        .with_state(api);
    // Routing happens inside of a router's own layers, so paths are trimmed around it.
    let trimmed = ServiceBuilder::new()
        .map_request(without_trailing_slash)
        .service(routes);
    Router::new().fallback_service(trimmed)
}

async fn unknown() -> Problem {
    Problem::not_found("NOT_FOUND", "There is nothing at this address")
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        "This address does not take that method",
    )
}

/// `/api/conversations/` is `/api/conversations`, for every method and without a redirect.
fn without_trailing_slash(mut request: Request) -> Request {
    let uri = request.uri();
    let path = uri.path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() == path.len() || trimmed.is_empty() {
        return request;
    }
    let path_and_query = match uri.query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    if let Ok(path_and_query) = path_and_query.parse() {
        parts.path_and_query = Some(path_and_query);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

fn cors(settings: Arc<Settings>) -> CorsLayer {
    let is_allowed = move |origin: &HeaderValue| {
        let origin = origin.to_str();
        origin.is_ok_and(|origin| settings.server.allows_origin(origin))
    };
    let exposed = HEADERS.into_iter().chain([RETRY_AFTER, REQUEST_ID]);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| is_allowed(origin)))
        .allow_credentials(true)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::OPTIONS,
        ])
        .allow_headers([
            CONTENT_TYPE,
            AUTHORIZATION,
            HeaderName::from_static("x-csrf-token"),
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("prefer"),
            REQUEST_ID,
        ])
        .expose_headers(exposed.collect::<Vec<_>>())
        .max_age(PREFLIGHT_MAX_AGE)
}
