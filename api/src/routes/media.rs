//! Media of messages, for whoever has an address that the hub gave out ([`crate::media`]).
//!
//! What is served came from strangers and is shown under the hub's own name: its type is what its
//! content says, nobody may guess another, and what could carry a script is handed over as a file.
//!
//! A browser that plays a video asks for parts of it ([`crate::range`]); only those are read and
//! opened, a megabyte at a time, and no faster than they are taken.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrono::Utc;
use futures::TryStreamExt as _;
use hub_domain::id::{ObjectId, UserId};
use hub_domain::media::{extension, is_shown};
use hub_store::objects::{About, Sought};
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::error::{Failing, Problem};
use crate::input::{Id, Params};
use crate::media::Unserved;
use crate::openapi::ask;
use crate::range::{Asked, asked};

const LOADING: Failing = Failing::retryable("FETCH_FAILED", "Failed to load the medium");

/// How long a medium that is being fetched is waited for. Clients give up after ten seconds.
const COMES_WITHIN: Duration = Duration::from_secs(8);

/// Pauses between two looks for it: they grow, because objects may be far away.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The route.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(medium))
}

#[utoipa::path(
    get,
    path = "/api/media/{id}",
    tag = "Messages",
    summary = "A picture, video or file of a message",
    description = "The address is the `mediaUrl` of a message: it needs no token and expires. What \
        a browser should not show by itself comes as an attachment. One that has not come from the \
        platform yet is waited for, up to eight seconds. One range of bytes may be asked for.",
    params(
        ("id" = Uuid, Path, description = "The medium"),
        ask::MediaAddress,
        ("range" = Option<String>, Header, description = "`bytes=0-1023`: only these bytes"),
    ),
    responses(
        (status = 200, description = "The medium", body = Vec<u8>, content_type = "*/*"),
        (status = 206, description = "A part of it", body = Vec<u8>, content_type = "*/*"),
        (status = 304, description = "The client has it: see `If-None-Match`"),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 403, description = "`FORBIDDEN`: the hub did not give this address out"),
        (status = 404, description = "`MEDIA_NOT_FOUND`: there is no such medium any more"),
        (status = 410, description = "`MEDIA_GONE`: the address has expired, or the medium was erased"),
        (status = 416, description = "`RANGE_NOT_SATISFIABLE`: the medium has none of these bytes"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn medium(
    State(api): State<Api>,
    Id(id): Id,
    params: Params,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let object = ObjectId(id);
    let now = Utc::now();
    let owner = params.get("owner").and_then(|it| it.parse().ok());
    let owner = UserId(owner.ok_or_else(forbidden)?);
    let expires = params.get("expires").and_then(|it| it.parse().ok());
    let expires: i64 = expires.ok_or_else(forbidden)?;
    let signature = params.get("signature").unwrap_or_default();
    let checked = api.links().check(owner, object, expires, signature, now);
    checked.map_err(|unserved| match unserved {
        Unserved::Foreign => forbidden(),
        Unserved::Expired => gone("This address has expired; load the message again"),
    })?;
    let found = awaited(&api, owner, object).await;
    let object = match found.map_err(|error| LOADING.because(error))? {
        Sought::Object(object) => object,
        Sought::Erased => return Err(gone("This medium was erased")),
        Sought::Nothing => {
            return Err(Problem::not_found("MEDIA_NOT_FOUND", "Medium not found"));
        }
    };
    let size = object.about().size;
    let left = expires.saturating_sub(now.timestamp());
    let etag = text(&object.about().etag())?;
    let mut answer = shown(object.about())?;
    answer.insert(ETAG, etag.clone());
    answer.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let caching = format!("private, max-age={left}, immutable");
    answer.insert(CACHE_CONTROL, text(&caching)?);
    // Ranges are for GET alone; what HEAD tells is about the whole.
    let asked = match (asked(&headers, size, &etag), &method) {
        (Asked::Part(_) | Asked::Unsatisfiable, &Method::HEAD) => Asked::Whole,
        (asked, _) => asked,
    };
    let (status, part) = match asked {
        Asked::Unchanged => {
            for name in [CONTENT_TYPE, CONTENT_DISPOSITION] {
                answer.remove(name);
            }
            return Ok((StatusCode::NOT_MODIFIED, answer).into_response());
        }
        Asked::Unsatisfiable => {
            let there_is = text(&format!("bytes */{size}"))?;
            return Ok(([(CONTENT_RANGE, there_is)], outside()).into_response());
        }
        Asked::Whole => (StatusCode::OK, 0..size),
        Asked::Part(part) => {
            let of = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            answer.insert(CONTENT_RANGE, text(&of)?);
            (StatusCode::PARTIAL_CONTENT, part)
        }
    };
    answer.insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    let body = match method {
        Method::HEAD => Body::empty(),
        _ => Body::from_stream(object.bytes(part).inspect_err(|error| {
            // The answer has begun: all that is left is to break it off.
            tracing::error!(%error, "a medium could not be read to its end");
        })),
    };
    Ok((status, answer, body).into_response())
}

/// How a browser is to take these bytes.
fn shown(about: &About) -> Result<HeaderMap, Problem> {
    let kind = &about.content_type;
    let disposition = match is_shown(kind) {
        true => "inline".to_owned(),
        false => format!("attachment; filename=\"media.{}\"", extension(kind)),
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, text(kind)?);
    headers.insert(CONTENT_DISPOSITION, text(&disposition)?);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    Ok(headers)
}

fn text(value: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(value).map_err(|_| Problem::internal())
}

/// An object. Addresses are given out before the bytes are here: who loads one waits for them.
async fn awaited(api: &Api, owner: UserId, object: ObjectId) -> hub_store::Result<Sought> {
    let (store, until) = (api.store(), Instant::now() + COMES_WITHIN);
    let mut pause = FIRST_PAUSE;
    loop {
        let found = api.objects().seek(store.vault(), owner, object).await?;
        let is_late = Instant::now() >= until;
        if is_late || !matches!(found, Sought::Nothing) || !store.vault().is_there(owner).await? {
            return Ok(found);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn forbidden() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "FORBIDDEN",
        "The hub did not give this address out",
    )
}

fn outside() -> Problem {
    Problem::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "RANGE_NOT_SATISFIABLE",
        "The medium has none of these bytes",
    )
}

fn gone(message: &'static str) -> Problem {
    Problem::new(StatusCode::GONE, "MEDIA_GONE", message)
}
