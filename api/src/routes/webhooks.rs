//! What platforms push (contract 2.5).
//!
//! The signature is checked over the raw bytes before anything looks at them, and a success means
//! that the bytes are on disk. What does not verify leaves a counter and no other trace; what cannot be
//! stored is refused in a way that makes the platform send it again.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hub_domain::command::{Command, NewCommand};
use hub_domain::platform::{Adapter, App, Handshake, Platform, Refused, adapter};
use metrics::counter;
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::error::{Problem, chain, wrong_method};
use crate::input::{Name, Params, read_body};
use crate::openapi::{answer, schema};
use crate::request::RequestId;

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(handshake, receive))
}

/// Proves to a platform that the address is ours.
#[utoipa::path(
    get,
    path = "/api/webhooks/{platform}",
    tag = "Webhooks",
    summary = "Prove to a platform that the address is ours",
    params(
        ("platform" = inline(schema::PlatformName), Path, description = "The platform"),
        ("hub.mode" = inline(Option<String>), Query, description = "`subscribe`"),
        ("hub.verify_token" = inline(Option<String>), Query, description = "Our own word"),
        ("hub.challenge" = inline(Option<String>), Query, description = "What is to be answered"),
        ("crc_token" = inline(Option<String>), Query, description = "What X wants signed"),
        (
            "challengeCode" = inline(Option<String>),
            Query,
            description = "What LinkedIn wants signed",
        ),
        ("applicationId" = inline(Option<String>), Query, description = "LinkedIn's number of the app"),
    ),
    responses(
        (
            status = 200,
            description = "The challenge, or what proves the address",
            content((String = "text/plain"), (serde_json::Value = "application/json")),
        ),
        (status = 400, description = "There is nothing to prove", body = schema::WebhookRefusal),
        (status = 403, description = "It is not our word", body = schema::WebhookRefusal),
        (
            status = 404,
            description = "`NOT_FOUND`: the hub has no such platform, or the question is for \
                another app",
        ),
        (status = 503, description = "The secret is not configured", body = schema::WebhookRefusal),
        (status = 405, description = "`METHOD_NOT_ALLOWED`: the platform has no such handshake"),
    ),
)]
async fn handshake(
    State(api): State<Api>,
    Name(name): Name,
    params: Params,
) -> Result<Response, Problem> {
    let (adapter, app) = registered(&api, &name)?;
    match adapter.handshake(&app, &params.0) {
        Some(handshake) => Ok(shake(adapter.platform(), handshake)),
        None => Err(wrong_method().allowing("POST")),
    }
}

fn shake(platform: Platform, handshake: Handshake) -> Response {
    match handshake {
        Handshake::Answer(challenge) => {
            let headers = [
                (CONTENT_TYPE, "text/plain; charset=utf-8"),
                // The challenge is whatever was asked: it must never be taken for a page.
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, challenge).into_response()
        }
        Handshake::Json(proof) => ([(CONTENT_TYPE, "application/json")], proof).into_response(),
        Handshake::Failed(status, error) => {
            refused(platform, "handshake");
            match StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST) {
                StatusCode::NOT_FOUND => Problem::nowhere().into_response(),
                status => failure(status, error),
            }
        }
        Handshake::Refused => {
            refused(platform, "verify_token");
            failure(StatusCode::FORBIDDEN, "Invalid verify token")
        }
    }
}

#[utoipa::path(
    post,
    path = "/api/webhooks/{platform}",
    tag = "Webhooks",
    summary = "Take what a platform pushes",
    description = "The signature is checked over the raw body. An answer of 200 (Teams: 202) means \
        that the body is on disk. Microsoft asks for proof of the address by POST: a \
        `validationToken` is answered as it is.",
    params(
        ("platform" = inline(schema::PlatformName), Path, description = "The platform"),
        (
            "X-Hub-Signature-256" = inline(Option<String>),
            Header,
            description = "Signature of Meta's platforms",
        ),
        (
            "X-Telegram-Bot-Api-Secret-Token" = inline(Option<String>),
            Header,
            description = "Telegram's secret",
        ),
        (
            "X-Twitter-Webhooks-Signature" = inline(Option<String>),
            Header,
            description = "Signature of X",
        ),
        ("X-LI-Signature" = inline(Option<String>), Header, description = "Signature of LinkedIn"),
        (
            "validationToken" = inline(Option<String>),
            Query,
            description = "Microsoft: what is to be answered",
        ),
    ),
    request_body(
        content = serde_json::Value,
        description = "What the platform has to say, in its own form",
        content_type = "application/json",
    ),
    responses(
        (
            status = 200,
            description = "Taken; or the validation token",
            content((answer::WebhookTaken = "application/json"), (String = "text/plain")),
        ),
        (status = 202, description = "Taken", body = answer::WebhookTaken),
        (status = 400, description = "It is not what the platform sends", body = schema::WebhookRefusal),
        (status = 401, description = "The signature is not right", body = schema::WebhookRefusal),
        (status = 403, description = "The token is too long", body = schema::WebhookRefusal),
        (status = 404, description = "`NOT_FOUND`: the hub has no such platform"),
        (
            status = 503,
            description = "It could not be stored; send it again",
            body = schema::WebhookRefusal,
            headers(("Retry-After" = i32, description = "Seconds to wait")),
        ),
    ),
)]
async fn receive(
    State(api): State<Api>,
    id: RequestId,
    Name(name): Name,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    let (adapter, app) = registered(&api, &name)?;
    let platform = adapter.platform();
    let headers = lower_case(request.headers());
    let raw = read_body(request, api.settings().api.webhook_body_bytes).await?;
    if let Some(handshake) = adapter.handshake_by_post(&app, &params.0, &raw) {
        return Ok(shake(platform, handshake));
    }
    if let Err(reason) = adapter.verify(&app, &headers, &raw) {
        let (status, label) = match reason {
            Refused::Signature => (StatusCode::UNAUTHORIZED, "signature"),
            Refused::Structure => (StatusCode::BAD_REQUEST, "structure"),
        };
        refused(platform, label);
        return Ok(failure(status, &reason.to_string()));
    }
    // Which account it is about decides the shard; every account of the batch is handled there.
    let routes = adapter.route(&app, &raw);
    if let Err(error) = store(&api, platform, routes, &raw, &id).await {
        tracing::error!(error = chain(&error), %platform, "a webhook could not be stored");
        refused(platform, "not_stored");
        let answer = failure(StatusCode::SERVICE_UNAVAILABLE, "Internal server error");
        return Ok(([(RETRY_AFTER, "1")], answer).into_response());
    }
    counter!("hub_webhooks_accepted_total", "platform" => platform.name()).increment(1);
    let taken = StatusCode::from_u16(adapter.taken()).unwrap_or_default();
    Ok((taken, Json(json!({ "ok": true }))).into_response())
}

async fn store(
    api: &Api,
    platform: Platform,
    routes: Vec<String>,
    raw: &Bytes,
    id: &RequestId,
) -> hub_store::Result<()> {
    let store = api.store();
    let sealed_at = Utc::now();
    let text = STANDARD.encode(raw);
    let body = store.vault().seal_raw(platform, &routes, sealed_at, &text);
    let body = body.await?;
    let first = routes.first().map(String::as_str).unwrap_or_default();
    let command = NewCommand {
        shard: store.sharding().of_route(platform, first),
        command: Command::Webhook {
            platform,
            body,
            sealed_at,
            routes,
        },
        request: Some(id.0.clone()),
    };
    store.accept(command).await.map(drop)
}

pub(super) fn registered(api: &Api, name: &str) -> Result<(&'static dyn Adapter, App), Problem> {
    let unknown = || Problem::not_found("NOT_FOUND", "There is nothing at this address");
    let platform: Platform = name.parse().map_err(|_| unknown())?;
    let adapter = adapter(platform).ok_or_else(unknown)?;
    Ok((adapter, api.settings().app(platform)))
}

fn lower_case(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

pub(super) fn refused(platform: Platform, reason: &'static str) {
    counter!(
        "hub_webhooks_refused_total",
        "platform" => platform.name(),
        "reason" => reason
    )
    .increment(1);
}

/// Platforms read a status and nothing else; the body is the one both generations sent.
pub(super) fn failure(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
