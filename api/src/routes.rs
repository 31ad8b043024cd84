//! Every route of the API, and what surrounds them.
//!
//! From the outside in: trailing slashes go, the request gets its id and its line in the log,
//! errors get their route's shape, CORS headers go on everything (a browser hides an error without
//! them), preflights are answered, what was counted is told in headers, what succeeded is counted as
//! used, panics become an answer, compressed bodies are refused. Only then does a handler ask who is
//! calling.

pub mod accounts;
pub mod auth;
pub mod callback;
pub mod conversations;
pub mod departures;
pub mod docs;
pub mod health;
pub mod media;
pub mod messages;
pub mod oauth;
pub mod page;
pub mod polls;
pub mod send;
pub mod telegram;
pub mod uploads;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use hub_config::Settings;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::error::{Problem, panicked, shaped, wrong_method};
use crate::limit::{HEADERS, told};
use crate::openapi::Base;
use crate::request::{REQUEST_ID, logged, uncompressed};
use crate::usage::counted;
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
        .layer(from_fn_with_state(api.clone(), counted))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(uncompressed));
    // The built client has a page at every address that is nobody else's.
    let pages = match api.client() {
        Some(_) => docs::pages(),
        None => pages(),
    };
    let routes = Router::from(documented())
        .merge(pages)
        .fallback(unknown)
        .method_not_allowed_fallback(async || wrong_method())
        .layer(layers)
        .with_state(api);
    // Routing happens inside of a router's own layers, so paths are trimmed around it.
    let trimmed = ServiceBuilder::new()
        .map_request(without_trailing_slash)
        .service(routes);
    Router::new().fallback_service(trimmed)
}

/// Every route that programs call, with its description.
pub(crate) fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Base::openapi())
        .merge(auth::routes())
        .merge(oauth::routes())
        .merge(callback::routes())
        .merge(accounts::routes())
        .merge(conversations::routes())
        .merge(messages::routes())
        .merge(polls::routes())
        .merge(telegram::routes())
        .merge(media::routes())
        .merge(uploads::routes())
        .merge(live::routes())
        .merge(webhooks::routes())
        .merge(departures::routes())
        .merge(health::routes())
        .merge(docs::routes())
}

/// Every route that a person's browser opens.
fn pages() -> Router<Api> {
    page::routes().merge(docs::pages())
}

async fn unknown(State(api): State<Api>, request: Request) -> Response {
    match api.client() {
        Some(client) => client.answer(&request),
        None => Problem::nowhere().into_response(),
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::openapi::document;

    /// `GET /health` and so on, as axum has them. It tells nobody but whoever debugs it.
    fn in_router(router: &Router<Api>) -> BTreeSet<String> {
        let text = format!("{router:?}");
        let (routes, rest) = text.split_once("node: Node").expect("axum prints a node");
        let (paths, _) = rest.split_once("fallback_router").expect("and a fallback");
        let mut found = BTreeSet::new();
        for entry in paths.split("RouteId(").skip(1) {
            let (id, rest) = entry.split_once("): ").expect("an id has a path");
            let path = rest.split('"').nth(1).expect("a path is quoted");
            let own = format!("RouteId({id}): ");
            let route = routes.split_once(&own).expect("an id has a route").1;
            let route = route.split("RouteId(").next().unwrap_or_default();
            if !route.contains(" fallback: Default(") {
                found.insert(format!("ANY {path}"));
            }
            for method in ["get", "post", "put", "patch", "delete"] {
                let (_, endpoint) = route
                    .split_once(&format!(" {method}: "))
                    .expect("all methods");
                if !endpoint.starts_with("None") {
                    found.insert(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
        found
    }

    fn described() -> BTreeSet<String> {
        let document: Value = serde_json::from_str(document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        operations.collect()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let mut registered = in_router(&Router::from(documented()).merge(pages()));
        assert!(registered.contains("DELETE /api/auth/me"), "{registered:?}");
        for page in in_router(&pages()) {
            assert!(registered.remove(&page), "{page}");
        }
        assert_eq!(registered, described());
    }

    #[test]
    fn a_route_without_a_description_is_noticed() {
        let router = Router::from(documented())
            .route("/api/all", axum::routing::any(unknown))
            .route("/api/new", axum::routing::put(unknown));
        let registered = in_router(&router);
        let missing: Vec<_> = registered.difference(&described()).cloned().collect();
        assert_eq!(missing, ["ANY /api/all", "PUT /api/new"]);
    }

    #[test]
    fn pages_take_nothing_from_the_api() {
        let pages = in_router(&pages());
        assert!(pages.contains("GET /login"), "{pages:?}");
        for page in pages {
            let path = page.strip_prefix("GET ").expect("a page is read");
            assert!(
                !path.starts_with("/api/") || path.starts_with("/api/docs"),
                "{path}"
            );
        }
    }
}
