//! The description of the API: the document, and a page to read it on.
//!
//! The page is Swagger UI, compiled in: it loads nothing from anywhere else, and its policy lets
//! nothing else in. It knows no token but the one a person types into it, and forgets that with the
//! page.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use crate::Api;
use crate::error::Problem;
use crate::input::Name;
use crate::openapi::document;

const INDEX: &str = include_str!("../../page/docs.html");

const START: &str = include_str!("../../page/docs.js");

/// What the page takes from Swagger UI; it brings more.
const FILES: [&str; 3] = [
    "swagger-ui-bundle.js",
    "swagger-ui.css",
    "favicon-32x32.png",
];

/// Our own files and the API, and nothing else. Swagger UI's style sheet has its icons inside.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; \
    form-action 'none'";

/// The route of the document.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(describe))
}

/// The page and its files.
pub fn pages() -> Router<Api> {
    let html = "text/html; charset=utf-8";
    let javascript = "text/javascript; charset=utf-8";
    Router::new()
        .route("/api/docs", get(async move || page(html, INDEX)))
        .route(
            "/api/docs/start.js",
            get(async move || page(javascript, START)),
        )
        .route("/api/docs/{file}", get(file))
}

#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "Operation",
    summary = "This document",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
)]
async fn describe() -> Response {
    ([(CONTENT_TYPE, "application/json")], document()).into_response()
}

fn page(content_type: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (headers, content).into_response()
}

async fn file(Name(name): Name) -> Result<Response, Problem> {
    let unknown = Problem::nowhere;
    if !FILES.contains(&name.as_str()) {
        return Err(unknown());
    }
    let found = utoipa_swagger_ui::serve(&name, Arc::new(Config::default()));
    let file = found.ok().flatten().ok_or_else(unknown)?;
    let content_type = HeaderValue::try_from(file.content_type).map_err(|_| unknown())?;
    let mut response = page("", "").into_response();
    *response.body_mut() = file.bytes.into_owned().into();
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    if file.gzpipped {
        // Every browser reads it; it is kept no other way.
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
    Ok(response)
}
