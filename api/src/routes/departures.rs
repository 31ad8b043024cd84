//! People who tell Meta that they leave: that they take back what they allowed, or want what is known
//! of them deleted.
//!
//! Meta posts a `signed_request`, which the app's secret signs; it is checked in constant time before
//! anything is read, and a success means that it is on disk. A worker attends to it. Whoever wants
//! their data deleted gets a code and the address of a page that says how far that is. The code
//! follows from the request, so that the same request gets the same code, and says by itself that it
//! is one of ours: the page knows no other, and no code says whose it is.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use hub_domain::command::{Command, Departure, NewCommand};
use hub_domain::id::Key;
use hub_domain::platform::Platform;
use hub_domain::signature::SignedRequest;
use hub_store::agreements::Departed;
use metrics::counter;
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::webhooks::{failure, refused, registered};
use crate::Api;
use crate::error::{Failing, Problem, chain};
use crate::input::{Name, Params, read_body};
use crate::openapi::{answer, ask, schema};
use crate::request::RequestId;

const LOOKING: Failing = Failing::retryable("FETCH_FAILED", "Failed to look the request up");

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(deauthorize))
        .routes(routes!(delete))
        .routes(routes!(status))
}

#[utoipa::path(
    post,
    path = "/api/webhooks/{platform}/deauthorize",
    tag = "Webhooks",
    summary = "Take note that somebody took their permission back",
    description = "Meta's deauthorize callback. Every account that the person had connected then \
        needs to be connected again. The same request again changes nothing.",
    params(("platform" = inline(schema::PlatformName), Path, description = "Facebook, Instagram or WhatsApp")),
    request_body(
        content = ask::SignedRequest,
        description = "The request, signed with the app's secret",
        content_type = "application/x-www-form-urlencoded",
    ),
    responses(
        (status = 200, description = "Taken", body = answer::WebhookTaken),
        (status = 400, description = "There is no `signed_request`", body = schema::WebhookRefusal),
        (status = 401, description = "It is forged or has expired", body = schema::WebhookRefusal),
        (status = 404, description = "`NOT_FOUND`: the platform has no such callback"),
        (
            status = 503,
            description = "It could not be stored; send it again",
            body = schema::WebhookRefusal,
            headers(("Retry-After" = i32, description = "Seconds to wait")),
        ),
    ),
)]
async fn deauthorize(
    State(api): State<Api>,
    id: RequestId,
    Name(name): Name,
    request: Request,
) -> Result<Response, Problem> {
    Ok(
        match take(&api, id, &name, Departure::Deauthorized, request).await? {
            Ok(_) => Json(json!({ "ok": true })).into_response(),
            Err(refusal) => refusal,
        },
    )
}

#[utoipa::path(
    post,
    path = "/api/webhooks/{platform}/delete",
    tag = "Webhooks",
    summary = "Take note that somebody wants their data deleted",
    description = "Meta's data deletion callback. Whoever had connected an account is erased, as with \
        `DELETE /api/auth/me`; who has connected other accounts too, after an operator has looked. The \
        same request again gets the same answer and changes nothing.",
    params(("platform" = inline(schema::PlatformName), Path, description = "Facebook, Instagram or WhatsApp")),
    request_body(
        content = ask::SignedRequest,
        description = "The request, signed with the app's secret",
        content_type = "application/x-www-form-urlencoded",
    ),
    responses(
        (status = 200, description = "Taken", body = answer::DeletionTaken),
        (status = 400, description = "There is no `signed_request`", body = schema::WebhookRefusal),
        (status = 401, description = "It is forged or has expired", body = schema::WebhookRefusal),
        (status = 404, description = "`NOT_FOUND`: the platform has no such callback"),
        (
            status = 503,
            description = "It could not be stored; send it again",
            body = schema::WebhookRefusal,
            headers(("Retry-After" = i32, description = "Seconds to wait")),
        ),
    ),
)]
async fn delete(
    State(api): State<Api>,
    id: RequestId,
    Name(name): Name,
    request: Request,
) -> Result<Response, Problem> {
    Ok(
        match take(&api, id, &name, Departure::Deletion, request).await? {
            Ok(request) => {
                let code = api.store().confirmation_code(request);
                let base = &api.settings().server.public_url;
                let body = json!({
                    "url": format!("{base}/api/deletion/{code}"),
                    "confirmation_code": code,
                });
                Json(body).into_response()
            }
            Err(refusal) => refusal,
        },
    )
}

/// What stands for the request once it is stored, or the answer to one that is not taken.
async fn take(
    api: &Api,
    id: RequestId,
    name: &str,
    wish: Departure,
    request: Request,
) -> Result<Result<Key, Response>, Problem> {
    let (adapter, app) = registered(api, name)?;
    let platform = adapter.platform();
    // Asked before the body is read: the other platforms have no such address.
    if adapter.signed_request(&app, "").is_none() {
        return Err(Problem::nowhere());
    }
    let raw = read_body(request, api.settings().api.body_bytes).await?;
    let form = Params::of_form(&raw);
    let Some(signed) = form.get("signed_request") else {
        refused(platform, "structure");
        let answer = failure(StatusCode::BAD_REQUEST, "Invalid payload structure");
        return Ok(Err(answer));
    };
    let read = adapter.signed_request(&app, signed).and_then(Result::ok);
    let unauthorized = |words| Ok(Err(failure(StatusCode::UNAUTHORIZED, words)));
    let Some(read) = read else {
        refused(platform, "signature");
        return unauthorized("Invalid signed request");
    };
    if read.is_expired(Utc::now().timestamp()) {
        refused(platform, "expired");
        return unauthorized("The signed request has expired");
    }
    let (command, request) = command(api, platform, wish, signed, &read);
    let new = NewCommand {
        shard: api.store().shard_of_digest(request),
        command,
        request: Some(id.0),
    };
    if let Err(error) = api.store().accept(new).await {
        tracing::error!(error = chain(&error), %platform, "a signed request could not be stored");
        refused(platform, "not_stored");
        let answer = failure(StatusCode::SERVICE_UNAVAILABLE, "Internal server error");
        return Ok(Err(([(RETRY_AFTER, "1")], answer).into_response()));
    }
    let platform = platform.name();
    counter!("hub_departures_total", "platform" => platform, "wish" => wish.name()).increment(1);
    Ok(Ok(request))
}

/// The command, and what stands for the request: the part of it that is signed.
fn command(
    api: &Api,
    platform: Platform,
    wish: Departure,
    signed: &str,
    read: &SignedRequest,
) -> (Command, Key) {
    let store = api.store();
    let payload = signed
        .split_once('.')
        .map_or(signed, |(_, payload)| payload);
    let parts: [&[u8]; 4] = [
        b"departure",
        platform.name().as_bytes(),
        wish.name().as_bytes(),
        payload.as_bytes(),
    ];
    let request = store.vault().digest(&parts);
    let command = Command::Departure {
        platform,
        person: store.person(platform, &read.user_id),
        wish,
        request,
    };
    (command, request)
}

#[utoipa::path(
    get,
    path = "/api/deletion/{code}",
    tag = "Webhooks",
    summary = "How far the deletion of somebody's data is",
    description = "A page for the person who asked Meta for it.",
    params(("code" = String, Path, description = "The confirmation code")),
    responses(
        (
            status = 200,
            description = "The page",
            content((String = "text/html")),
        ),
        (status = 404, description = "`NOT_FOUND`: no such request was taken"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn status(State(api): State<Api>, Name(code): Name) -> Result<Response, Problem> {
    let request = api.store().request_of(&code).ok_or_else(Problem::nowhere)?;
    let departed = api.store().departed(request).await;
    let departed = departed.map_err(|error| LOOKING.because(error))?;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let page = page(&code, departed.as_ref());
    Ok((headers, page).into_response())
}

/// The code is one of ours, so there is nothing in it that HTML would mind.
fn page(code: &str, departed: Option<&Departed>) -> String {
    let state = match departed {
        Some(Departed {
            done_at: Some(at),
            found,
            ..
        }) => {
            let day = at.format("%Y-%m-%d %H:%M UTC");
            match found {
                0 => format!("Finished on {day}: nothing is kept here about you."),
                _ => format!("Finished on {day}: what was kept here about you is deleted."),
            }
        }
        Some(_) => "Your data are being deleted.".to_owned(),
        None => "Your request was received and waits to be attended to.".to_owned(),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Deletion of your data</title></head>\n\
         <body><h1>Deletion of your data</h1>\n<p>{state}</p>\n\
         <p>Confirmation code: {code}</p></body></html>\n"
    )
}
