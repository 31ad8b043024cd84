//! Beginning to connect an account (contract 4.1).

use aws_lc_rs::rand;
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hub_domain::platform::{Platform, adapter};
use hub_domain::secret::Secret;
use hub_store::oauth::Begun;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::auth::Caller;
use crate::error::{Failing, Problem};
use crate::input::Name;
use crate::openapi::{answer, schema};

const CONNECTING: Failing = Failing::retryable("CONNECTION_FAILED", "Failed to start connecting");

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(connect))
}

#[utoipa::path(
    get,
    path = "/api/oauth/connect/{platform}",
    tag = "Accounts",
    summary = "Begin to connect an account",
    description = "Send the person's browser to `authorizationUrl`; the platform sends it back.",
    security(("bearer" = [])),
    params(("platform" = inline(schema::PlatformName), Path, description = "The platform")),
    responses(
        (status = 200, description = "Where to go", body = answer::ConnectBegun),
        (status = 400, description = "`INVALID_PLATFORM`"),
        (status = 500, description = "`CONNECTION_FAILED`, also when this hub is not registered \
            with the platform"),
    ),
)]
async fn connect(
    State(api): State<Api>,
    caller: Caller,
    Name(name): Name,
) -> Result<Json<Value>, Problem> {
    let platform = platform(&name)?;
    let adapter = adapter(platform)
        .ok_or_else(|| unavailable(format!("Connecting {platform} is not available yet")))?;
    let mut state = [0_u8; 32];
    rand::fill(&mut state).map_err(|_| CONNECTING.problem())?;
    let state = hex::encode(state);
    let verifier = match adapter.pkce() {
        true => Some(verifier().ok_or_else(|| CONNECTING.problem())?),
        false => None,
    };
    let authorization_url = adapter
        .authorize(&api.settings().app(platform), &state, verifier.as_ref())
        .map_err(|error| unavailable(error.0))?;
    let begun = Begun {
        user: caller.user,
        platform,
        verifier: verifier.map(|verifier| verifier.expose().to_owned()),
    };
    let stored = api.store().put_oauth_state(&state, &begun).await;
    stored.map_err(|error| CONNECTING.because(error))?;
    Ok(Json(json!({
        "authorizationUrl": authorization_url,
        "state": state,
    })))
}

/// A PKCE verifier: 32 random bytes in base64url, 43 characters (RFC 7636, section 4.1).
fn verifier() -> Option<Secret> {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes).ok()?;
    Some(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// The platform of that name.
pub fn platform(name: &str) -> Result<Platform, Problem> {
    let unknown = |_| {
        let names: Vec<&str> = Platform::ALL.into_iter().map(Platform::name).collect();
        let message = format!("Unknown platform. Known are: {}", names.join(", "));
        Problem::new(
            axum::http::StatusCode::BAD_REQUEST,
            "INVALID_PLATFORM",
            message,
        )
    };
    name.parse().map_err(unknown)
}

fn unavailable(message: String) -> Problem {
    Problem::new(
        axum::http::StatusCode::INTERNAL_SERVER_ERROR,
        "CONNECTION_FAILED",
        message,
    )
    .retryable()
}
