//! Whether the hub is well, its metrics, and the token nobody needs (contract 2.8, 1.7).

use aws_lc_rs::rand;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::response::{IntoResponse, Response};
use hub_config::Environment;
use serde_json::{Map, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::{Failing, Problem};
use crate::openapi::answer;
use crate::{Api, observe};

const MAKING_TOKEN: Failing = Failing::retryable(
    "CSRF_TOKEN_GENERATION_FAILED",
    "Failed to generate a CSRF token",
);

const CSRF_COOKIE: &str = "csrf-token";

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(metrics))
        .routes(routes!(csrf_token))
}

#[utoipa::path(
    get,
    path = "/health",
    tag = "Operation",
    summary = "Whether the hub is well",
    responses(
        (status = 200, description = "It is", body = answer::Well),
        (status = 503, description = "The database does not answer", body = answer::Unwell),
    ),
)]
async fn health(State(api): State<Api>) -> Response {
    let sockets = json!({
        "status": "active",
        "connections": api.sockets().connections(),
        "authenticatedUsers": api.sockets().users(),
    });
    let sockets = Map::from_iter([("websocket".to_owned(), sockets)]);
    observe::health(api.store(), sockets).await
}

#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operation",
    summary = "Metrics for Prometheus",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
        (status = 404, description = "`NOT_FOUND`: this process keeps none"),
    ),
)]
async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let handle = api.metrics().ok_or_else(Problem::nowhere)?;
    Ok(observe::metrics(handle))
}

/// Existing clients may ask for a token; no route asks for it back, because bearer tokens need none.
#[utoipa::path(
    get,
    path = "/api/csrf-token",
    tag = "Sessions",
    summary = "A token that no route asks back",
    description = "Bearer tokens need no such protection; some clients ask for it all the same.",
    responses(
        (
            status = 200,
            description = "The token, also as a cookie",
            body = answer::CsrfToken,
            headers(("Set-Cookie" = String, description = "When the request brought no such cookie")),
        ),
        (status = 500, description = "`CSRF_TOKEN_GENERATION_FAILED`"),
    ),
)]
async fn csrf_token(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Problem> {
    if let Some(token) = csrf_cookie(&headers) {
        return Ok(Json(json!({ "csrfToken": token })).into_response());
    }
    let mut token = [0_u8; 32];
    rand::fill(&mut token).map_err(|_| MAKING_TOKEN.problem())?;
    let token = hex::encode(token);
    let secure = match api.settings().server.environment {
        Environment::Production => "; Secure",
        Environment::Development => "",
    };
    let cookie =
        format!("{CSRF_COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=86400{secure}");
    let body = Json(json!({ "csrfToken": token }));
    Ok(([(SET_COOKIE, cookie)], body).into_response())
}

fn csrf_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == CSRF_COOKIE)
        .map(|(_, token)| token)
        .filter(|token| token.len() == 64 && token.bytes().all(|it| it.is_ascii_hexdigit()))
}
