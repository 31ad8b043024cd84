//! Beginning to connect an account (contract 4.1).

use aws_lc_rs::rand;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use hub_domain::platform::{Platform, adapter};
use hub_store::oauth::Begun;
use serde_json::{Value, json};

use crate::Api;
use crate::auth::Caller;
use crate::error::{Failing, Problem};
use crate::input::Name;

const CONNECTING: Failing = Failing::retryable("CONNECTION_FAILED", "Failed to start connecting");

/// The routes.
pub fn routes() -> Router<Api> {
    Router::new().route("/api/oauth/connect/{platform}", get(connect))
}

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
    let authorization_url = adapter
        .authorize(&api.settings().app(platform), &state)
        .map_err(|error| unavailable(error.0))?;
    let begun = Begun {
        user: caller.user,
        platform,
        verifier: None,
    };
    let stored = api.store().put_oauth_state(&state, &begun).await;
    stored.map_err(|error| CONNECTING.because(error))?;
    Ok(Json(json!({
        "authorizationUrl": authorization_url,
        "state": state,
    })))
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
