//! Metrics and health of a process that serves no API: a worker that runs alone.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::Utc;
use hub_store::Store;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value, json};

use crate::error::{Problem, wrong_method};
use crate::view;

#[derive(Clone)]
struct Observed {
    store: Store,
    metrics: PrometheusHandle,
}

/// `/metrics` and `/health`, and nothing else.
pub(crate) fn router(store: Store, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/health", get(well))
        .route("/metrics", get(shown))
        .fallback(async || Problem::nowhere())
        .method_not_allowed_fallback(async || wrong_method())
        .with_state(Observed { store, metrics })
}

async fn well(State(observed): State<Observed>) -> Response {
    health(&observed.store, Map::new()).await
}

async fn shown(State(observed): State<Observed>) -> Response {
    metrics(&observed.metrics)
}

/// Whether the database answers, and what else there is to say of this process.
pub(crate) async fn health(store: &Store, more: Map<String, Value>) -> Response {
    let timestamp = view::timestamp(Utc::now());
    let (is_database_up, redis) = tokio::join!(store.is_database_up(), store.bus().is_redis_up());
    if !is_database_up {
        let body = json!({
            "status": "error",
            "timestamp": timestamp,
            "error": "Service unavailable",
        });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    let redis = match redis {
        Some(true) => "connected",
        Some(false) => "disconnected",
        // One process does in memory what Redis would do for many.
        None => "in-process",
    };
    let mut services = Map::new();
    services.insert("database".to_owned(), json!("connected"));
    services.insert("redis".to_owned(), json!(redis));
    services.extend(more);
    Json(json!({ "status": "ok", "timestamp": timestamp, "services": services })).into_response()
}

/// The metrics, for Prometheus.
pub(crate) fn metrics(handle: &PrometheusHandle) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, handle.render()).into_response()
}
