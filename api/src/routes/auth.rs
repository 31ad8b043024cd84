//! Registering, logging in, refreshing, logging out, and who am I (contract 2.1).

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::Utc;
use hub_domain::envelope::Meta;
use hub_domain::id::{SessionId, UserId, login_stream};
use hub_domain::limits::EMAIL_CHARS_MAX;
use hub_store::Error;
use hub_store::login::Login;
use hub_store::session::{Exchanged, Pair};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::auth::{Caller, Claims, TokenError, issue, token_hash, verify_refresh};
use crate::error::{Failing, Problem, chain};
use crate::input::Object;
use crate::limit::{Address, Guess};
use crate::openapi::{answer, ask};
use crate::password::{Checked, Stored, weakness};
use crate::request::RequestId;
use crate::{Api, view};

/// How long a fresh pair is held back, and how long its twin request gets the same one. A browser
/// that meets an expired token twice at once refreshes twice at once, and the loser of a strict
/// rotation would log the person out (contract 1.5). The pair leaves only when the window is over,
/// so whoever comes after the answer comes too late, and sequential reuse is refused for certain.
const TWIN_WINDOW: Duration = Duration::from_millis(250);

const REGISTERING: Failing = Failing::for_good("REGISTRATION_FAILED", "Registration failed");
const LOGGING_IN: Failing = Failing::for_good("INTERNAL_ERROR", "Internal server error");
const REFRESHING: Failing = Failing::for_good("INTERNAL_ERROR", "Internal server error");
const LOGGING_OUT: Failing = Failing::retryable("LOGOUT_FAILED", "Logout failed");
const LOOKING_UP: Failing =
    Failing::retryable("USER_INFO_FAILED", "Failed to get user information");

const ERASING: Failing = Failing::retryable("ERASURE_FAILED", "Failed to erase the account");

/// How long a person who wants to be forgotten waits for the platforms: clients give up after ten
/// seconds.
const FAREWELL_WITHIN: Duration = Duration::from_secs(4);

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(me, erase))
}

#[utoipa::path(
    post,
    path = "/api/auth/register",
    tag = "Sessions",
    summary = "Register and log in",
    request_body = ask::Registration,
    responses(
        (status = 201, description = "Registered", body = answer::SessionBegun),
        (status = 400, description = "`VALIDATION_ERROR`: no e-mail address, or a weak password"),
        (status = 409, description = "`USER_EXISTS`"),
        (status = 500, description = "`REGISTRATION_FAILED`"),
    ),
)]
async fn register(
    State(api): State<Api>,
    request: RequestId,
    body: Object,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let email = email(&body)?;
    let password = body.required("password", "Password")?;
    if let Some(weakness) = weakness(password) {
        return Err(Problem::field("password", weakness));
    }
    let stream = login_stream(&email);
    let taken = || {
        let message = "A user with this e-mail address already exists";
        Problem::new(StatusCode::CONFLICT, "USER_EXISTS", message)
    };
    // The stream decides below; looking first only saves the hashing.
    let existing = api.store().login(stream).await;
    if existing
        .map_err(|error| REGISTERING.because(error))?
        .is_some()
    {
        return Err(taken());
    }
    let hash = api.hasher().hash(password.to_owned()).await;
    let hash = hash.ok_or_else(|| REGISTERING.problem())?;
    let user = UserId(Uuid::now_v7());
    let meta = Meta {
        actor: Some(user.0),
        ..request.meta()
    };
    let login = api
        .store()
        .register(stream, user, &email, &hash, meta.clone())
        .await
        .map_err(|error| match error {
            Error::Conflict { .. } => taken(),
            error => REGISTERING.because(error),
        })?;
    let claims = Claims { user, email };
    let pair = begin_session(&api, &claims, meta, REGISTERING).await?;
    let user = view::user(user, &claims.email, login.created_at, login.updated_at);
    let body = json!({ "user": user, "tokens": tokens(&pair) });
    Ok((StatusCode::CREATED, Json(body)))
}

#[utoipa::path(
    post,
    path = "/api/auth/login",
    tag = "Sessions",
    summary = "Log in",
    request_body = ask::Credentials,
    responses(
        (status = 200, description = "Logged in", body = answer::SessionBegun),
        (status = 401, description = "`AUTHENTICATION_FAILED`: wrong address or wrong password"),
        (status = 429, description = "`RATE_LIMIT_EXCEEDED`: too many wrong passwords for now"),
        (status = 500, description = "`INTERNAL_ERROR`"),
    ),
)]
async fn login(
    State(api): State<Api>,
    request: RequestId,
    address: Address,
    body: Object,
) -> Result<Json<Value>, Problem> {
    let email = email(&body)?;
    let password = body.required("password", "Password")?;
    let login = api.store().login(login_stream(&email)).await;
    let login = login.map_err(|error| LOGGING_IN.because(error))?;
    let guess = Guess::at(&api, address, &email).await?;
    let stored = login.as_ref().map(stored);
    let checked = api.hasher().check(api.store(), password.to_owned(), stored);
    // One answer for both, so that nobody learns who has an account.
    let (Some(login), Checked::Right { rehashed }) = (login, checked.await) else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "AUTHENTICATION_FAILED",
            "Invalid e-mail or password",
        ));
    };
    guess.was_right(&api).await;
    if let Some((hash, imported)) = rehashed {
        let (stream, old) = (login_stream(&email), &login.password_hash);
        let kept = api.store().rehash(stream, old, &hash, imported).await;
        // They are in; the next login tries again.
        if let Err(error) = kept {
            tracing::warn!(error = chain(&error), "a password was not hashed again");
        }
    }
    let claims = Claims {
        user: login.user,
        email,
    };
    let meta = Meta {
        actor: Some(login.user.0),
        ..request.meta()
    };
    let pair = begin_session(&api, &claims, meta, LOGGING_IN).await?;
    let user = view::user(
        login.user,
        &claims.email,
        login.created_at,
        login.updated_at,
    );
    Ok(Json(json!({ "user": user, "tokens": tokens(&pair) })))
}

#[utoipa::path(
    post,
    path = "/api/auth/refresh",
    tag = "Sessions",
    summary = "Exchange a refresh token for a new pair",
    description = "A token is exchanged once. Two requests at the same time get the same pair.",
    request_body = ask::Refreshing,
    responses(
        (status = 200, description = "The new pair", body = answer::Refreshed),
        (status = 401, description = "`TOKEN_REFRESH_FAILED`: expired, used, logged out or unknown"),
        (status = 500, description = "`INTERNAL_ERROR`"),
    ),
)]
async fn refresh(State(api): State<Api>, body: Object) -> Result<Json<Value>, Problem> {
    let presented = body.required("refreshToken", "Refresh token")?;
    let settings = &api.settings().auth;
    let claims = verify_refresh(settings, presented).map_err(|error| match error {
        TokenError::Expired => refused("Refresh token has expired"),
        TokenError::Invalid => refused("Invalid refresh token"),
    })?;
    let login = api.store().login(login_stream(&claims.email)).await;
    let login = login.map_err(|error| REFRESHING.because(error))?;
    if login.is_none_or(|login| login.user != claims.user) {
        return Err(refused("Invalid refresh token"));
    }
    let fresh = issue(settings, &claims, Utc::now()).ok_or_else(|| REFRESHING.problem())?;
    let exchanged = api
        .store()
        .exchange_refresh_token(
            claims.user,
            token_hash(presented),
            TWIN_WINDOW,
            settings.reuse_window,
            |_| fresh,
        )
        .await
        .map_err(|error| REFRESHING.because(error))?;
    let pair = match exchanged {
        Exchanged::New(pair) => {
            tokio::time::sleep(TWIN_WINDOW).await;
            pair
        }
        Exchanged::Same(pair) => pair,
        Exchanged::Refused => return Err(refused("Invalid refresh token")),
        Exchanged::Reused => {
            metrics::counter!("hub_sessions_revoked_total").increment(1);
            tracing::warn!(user = %claims.user, "a refresh token was used twice: its session ended");
            return Err(refused("Invalid refresh token"));
        }
    };
    // Both forms: one generation of clients reads the top level, another `tokens`.
    Ok(Json(json!({
        "accessToken": pair.access,
        "refreshToken": pair.refresh,
        "tokens": tokens(&pair),
    })))
}

#[utoipa::path(
    post,
    path = "/api/auth/logout",
    tag = "Sessions",
    summary = "Log out",
    description = "The refresh token buys nothing any more. Unknown tokens are no error.",
    request_body = ask::Refreshing,
    responses(
        (status = 200, description = "Logged out", body = answer::Said),
        (status = 500, description = "`LOGOUT_FAILED`"),
    ),
)]
async fn logout(
    State(api): State<Api>,
    request: RequestId,
    body: Object,
) -> Result<Json<Value>, Problem> {
    let presented = body.required("refreshToken", "Refresh token")?;
    // A token that does not verify has nothing left to revoke.
    if let Ok(claims) = verify_refresh(&api.settings().auth, presented) {
        let revoked = api
            .store()
            .revoke_refresh_token(claims.user, token_hash(presented))
            .await;
        revoked.map_err(|error| LOGGING_OUT.because(error))?;
        tracing::debug!(user = %claims.user, request_id = request.0, "logged out");
    }
    Ok(Json(json!({ "message": "Logged out successfully" })))
}

#[utoipa::path(
    get,
    path = "/api/auth/me",
    tag = "Sessions",
    summary = "Who am I",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The caller", body = answer::Me),
        (status = 500, description = "`USER_INFO_FAILED`"),
    ),
)]
async fn me(State(api): State<Api>, caller: Caller) -> Result<Json<Value>, Problem> {
    let email = caller.email.to_lowercase();
    let login = api.store().login(login_stream(&email)).await;
    let login = login.map_err(|error| LOOKING_UP.because(error))?;
    let Some(login) = login.filter(|login| login.user == caller.user) else {
        return Err(TokenError::Invalid.into());
    };
    // Flat and wrapped: one client keeps the whole body as the user, others unwrap it.
    let user = view::user(login.user, &email, login.created_at, login.updated_at);
    let mut body = user.clone();
    body["user"] = user;
    Ok(Json(body))
}

/// Forgets the caller, who shows once more that it is them. The answer comes when nobody can read
/// what they had here any more; what platforms were asked to do may still be under way.
#[utoipa::path(
    delete,
    path = "/api/auth/me",
    tag = "Sessions",
    summary = "Erase the caller and everything they have here",
    description = "There is no way back. When the answer comes, nobody can read it any more.",
    security(("bearer" = [])),
    request_body = ask::Confirmation,
    responses(
        (status = 200, description = "Erased", body = answer::Said),
        (status = 401, description = "`AUTHENTICATION_FAILED`: the password is not right; or what \
            is wrong with the token"),
        (status = 500, description = "`ERASURE_FAILED`"),
    ),
)]
async fn erase(
    State(api): State<Api>,
    caller: Caller,
    address: Address,
    body: Object,
) -> Result<Json<Value>, Problem> {
    let password = body.required("password", "Password")?;
    let store = api.store();
    let login = store.login(login_stream(&caller.email.to_lowercase()));
    let login = login.await.map_err(|error| ERASING.because(error))?;
    let Some(login) = login.filter(|login| login.user == caller.user) else {
        return Err(TokenError::Invalid.into());
    };
    let guess = Guess::at(&api, address, &caller.email.to_lowercase()).await?;
    let checked = api
        .hasher()
        .check(store, password.to_owned(), Some(stored(&login)));
    if checked.await == Checked::Wrong {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "AUTHENTICATION_FAILED",
            "The password is not right",
        ));
    }
    guess.was_right(&api).await;
    let failed = |error| ERASING.because(error);
    let begun = store.begin_erasure(caller.user, caller.meta()).await;
    let begun = begun.map_err(failed)?;
    // The worker needs the tokens to take leave of the platforms; nobody waits long for that.
    store
        .wait_for_farewell(caller.user, begun, FAREWELL_WITHIN)
        .await
        .map_err(failed)?;
    store
        .finish_erasure(caller.user, begun)
        .await
        .map_err(failed)?;
    Ok(Json(json!({ "message": "Your account was erased" })))
}

fn refused(message: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "TOKEN_REFRESH_FAILED", message)
}

fn stored(login: &Login) -> Stored {
    Stored {
        hash: login.password_hash.clone(),
        imported: login.imported,
    }
}

fn tokens(pair: &Pair) -> Value {
    json!({ "accessToken": pair.access, "refreshToken": pair.refresh })
}

async fn begin_session(
    api: &Api,
    claims: &Claims,
    meta: Meta,
    failing: Failing,
) -> Result<Pair, Problem> {
    let issued = issue(&api.settings().auth, claims, Utc::now());
    let (pair, token) = issued.ok_or_else(|| failing.problem())?;
    let session = SessionId(Uuid::now_v7());
    api.store()
        .start_session(claims.user, session, &token, meta)
        .await
        .map_err(|error| failing.because(error))?;
    Ok(pair)
}

/// The normalised address in a body. Any `local@domain.tld` will do: only mail can tell more.
fn email(body: &Object) -> Result<String, Problem> {
    let email = body.required("email", "E-mail")?.trim().to_lowercase();
    let is_plausible = email.chars().count() <= EMAIL_CHARS_MAX
        && !email
            .chars()
            .any(|it| it.is_whitespace() || it.is_control())
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !domain.contains('@')
                && domain.contains('.')
                && domain.split('.').all(|label| !label.is_empty())
        });
    if !is_plausible {
        return Err(Problem::field(
            "email",
            "Please enter a valid e-mail address",
        ));
    }
    Ok(email)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_domain_will_do() {
        let read = |text: &str| {
            let body = json!({ "email": text }).to_string();
            email(&Object::parse(body.as_bytes()).unwrap()).ok()
        };
        assert_eq!(
            read(" Ann@Example.COM "),
            Some("ann@example.com".to_owned())
        );
        assert!(read("a@b.test").is_some());
        assert!(read("a+b@münchen.local").is_some());
        for odd in [
            "", "a", "a@b", "@b.c", "a@.c", "a@b.", "a b@c.d", "a@b@c.d", "a@b..c",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
        assert!(read(&format!("{}@b.cd", "a".repeat(251))).is_none());
    }
}
