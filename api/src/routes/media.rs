//! Media of messages, for whoever has an address that the hub gave out ([`crate::media`]).
//!
//! What is served came from strangers and is shown under the hub's own name: its type is what its
//! content says, nobody may guess another, and what could carry a script is handed over as a file.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrono::Utc;
use hub_domain::id::{ObjectId, UserId};
use hub_domain::media::{extension, is_shown};
use hub_store::objects::Found;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::error::{Failing, Problem};
use crate::input::{Id, Params};
use crate::media::Unserved;
use crate::openapi::ask;

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
        platform yet is waited for, up to eight seconds.",
    params(("id" = Uuid, Path, description = "The medium"), ask::MediaAddress),
    responses(
        (status = 200, description = "The medium", body = Vec<u8>, content_type = "*/*"),
        (status = 400, description = "`VALIDATION_ERROR`: the id is not a UUID"),
        (status = 403, description = "`FORBIDDEN`: the hub did not give this address out"),
        (status = 404, description = "`MEDIA_NOT_FOUND`: there is no such medium any more"),
        (status = 410, description = "`MEDIA_GONE`: the address has expired, or the medium was erased"),
        (status = 500, description = "`FETCH_FAILED`"),
    ),
)]
async fn medium(State(api): State<Api>, Id(id): Id, params: Params) -> Result<Response, Problem> {
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
    let (about, bytes) = match found.map_err(|error| LOADING.because(error))? {
        Found::File(about, bytes) => (about, bytes),
        Found::Erased => return Err(gone("This medium was erased")),
        Found::Nothing => {
            return Err(Problem::not_found("MEDIA_NOT_FOUND", "Medium not found"));
        }
    };
    let kind = &about.content_type;
    let disposition = match is_shown(kind) {
        true => "inline".to_owned(),
        false => format!("attachment; filename=\"media.{}\"", extension(kind)),
    };
    let left = expires.saturating_sub(now.timestamp());
    let headers: [(HeaderName, String); 5] = [
        (CONTENT_TYPE, kind.clone()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CONTENT_DISPOSITION, disposition),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox".to_owned(),
        ),
        (CACHE_CONTROL, format!("private, max-age={left}, immutable")),
    ];
    Ok((headers, bytes).into_response())
}

/// An object. Addresses are given out before the bytes are here: who loads one waits for them.
async fn awaited(api: &Api, owner: UserId, object: ObjectId) -> hub_store::Result<Found> {
    let (store, until) = (api.store(), Instant::now() + COMES_WITHIN);
    let mut pause = FIRST_PAUSE;
    loop {
        let found = api.objects().get(store.vault(), owner, object).await?;
        let is_late = Instant::now() >= until;
        if is_late || !matches!(found, Found::Nothing) || !store.vault().is_there(owner).await? {
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

fn gone(message: &'static str) -> Problem {
    Problem::new(StatusCode::GONE, "MEDIA_GONE", message)
}
