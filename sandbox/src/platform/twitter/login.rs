//! Connecting: the dialog, codes with PKCE, tokens that expire, refresh tokens that work once.

use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;
use url::Url;

use super::answers::{self, Problem};
use super::{Code, HOME, NAME, X};
use crate::call::Call;
use crate::faults::Op;
use crate::platform::sealed;
use crate::sign::pkce_challenge;
use crate::world::now_ms;

/// How long a code can be exchanged.
const CODE_LIVES: Duration = Duration::from_secs(30);
/// What a hub for messages must ask for.
const SCOPES: [&str; 4] = ["tweet.read", "users.read", "dm.read", "dm.write"];
/// How access tokens begin.
const ACCESS: &str = "XA";
/// How refresh tokens begin.
const REFRESH: &str = "XR";

impl X {
    /// The page a person sees. This person agrees at once, or refuses with `deny=1`.
    pub(super) fn dialog(&self, call: &Call) -> Response {
        let wrong = |what: &str| (StatusCode::BAD_REQUEST, Html(what.to_owned())).into_response();
        let param = |name: &str| call.param(name).unwrap_or_default();
        if param("client_id") != self.app.client_id {
            return wrong("Something went wrong: unknown client_id.");
        }
        let redirect_uri = param("redirect_uri");
        let Some(mut target) = Url::parse(&redirect_uri)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
        else {
            return wrong("Something went wrong: redirect_uri is not registered.");
        };
        if param("response_type") != "code" {
            return wrong("Only response_type=code is played here.");
        }
        let challenge = param("code_challenge");
        if param("code_challenge_method") != "S256" || challenge.len() != 43 {
            return wrong("Something went wrong: a code_challenge with S256 is required.");
        }
        let scope = param("scope");
        let asked: Vec<&str> = scope.split(' ').collect();
        if !SCOPES.iter().all(|needed| asked.contains(needed)) {
            return wrong("Something went wrong: scopes are missing.");
        }
        let state = param("state");
        if state.is_empty() || state.len() > 500 {
            return wrong("Something went wrong: state is required.");
        }
        let refuses = param("deny") == "1" || self.world.faults.hit(NAME, Op::Dialog).is_some();
        target.query_pairs_mut().append_pair("state", &state);
        if refuses {
            target
                .query_pairs_mut()
                .append_pair("error", "access_denied");
        } else {
            let code = self.agree(redirect_uri, challenge, call);
            target.query_pairs_mut().append_pair("code", &code);
        }
        (StatusCode::FOUND, [(header::LOCATION, target.to_string())]).into_response()
    }

    /// Which user: `account` in the URL, else the next one a test has announced, else the default.
    fn agree(&self, redirect_uri: String, challenge: String, call: &Call) -> String {
        let mut memory = self.memory();
        let user = call
            .param("account")
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
            .or_else(|| memory.choices.pop_front())
            .unwrap_or_else(|| HOME.0.to_owned());
        memory.withdrawn.remove(&user);
        memory
            .codes
            .retain(|_, code| code.issued.elapsed() < CODE_LIVES);
        let code = format!("{}{}", self.world.unique(), uuid::Uuid::new_v4().simple());
        let agreed = Code {
            redirect_uri,
            challenge,
            user,
            issued: Instant::now(),
        };
        memory.codes.insert(code.clone(), agreed);
        code
    }

    /// Whether the caller is the app: by HTTP Basic, or by its bare id when it has no secret.
    fn is_app(&self, call: &Call) -> bool {
        match call.basic() {
            Some((id, secret)) => id == self.app.client_id && secret == self.app.client_secret,
            None => {
                let id = call.param("client_id").unwrap_or_default();
                self.app.client_secret.is_empty() && id == self.app.client_id
            }
        }
    }

    /// A code or a refresh token for a new pair.
    pub(super) fn token(&self, call: &Call) -> Response {
        if !self.is_app(call) {
            let words = "Missing valid authorization header";
            return answers::oauth(401, "unauthorized_client", words);
        }
        let granted = match call.param("grant_type").as_deref() {
            Some("authorization_code") => self.by_code(call),
            Some("refresh_token") => self.by_refresh(call),
            _ => Err("Missing required parameter [grant_type]."),
        };
        let (user, family) = match granted {
            Ok(granted) => granted,
            Err(words) => return answers::oauth(400, "invalid_request", words),
        };
        let lifetime_s = self.memory().lifetime_s;
        let issued = now_ms().to_string();
        let lives = lifetime_s.to_string();
        let access = [&user, &family, &issued, &lives].map(String::as_str);
        let serial = self.world.unique();
        let refresh = [&user, &family, &serial].map(String::as_str);
        let secret = &self.app.consumer_secret;
        answers::ok(&json!({
            "token_type": "bearer",
            "expires_in": lifetime_s,
            "access_token": sealed::seal(ACCESS, secret, &access),
            "refresh_token": sealed::seal(REFRESH, secret, &refresh),
            "scope": "users.read dm.read tweet.read offline.access dm.write",
        }))
    }

    fn by_code(&self, call: &Call) -> Result<(String, String), &'static str> {
        let param = |name: &str| call.param(name).unwrap_or_default();
        // Taken out whatever happens next: a code is good for one try.
        let agreed = self.memory().codes.remove(&param("code"));
        let agreed = agreed
            .filter(|code| code.issued.elapsed() < CODE_LIVES)
            .filter(|code| code.redirect_uri == param("redirect_uri"))
            .ok_or("Value passed for the authorization code was invalid.")?;
        if pkce_challenge(&param("code_verifier")) != agreed.challenge {
            return Err("Value passed for the code verifier did not match the code challenge.");
        }
        let family = uuid::Uuid::new_v4().simple().to_string();
        Ok((agreed.user, family))
    }

    /// A refresh token works once. Who uses one again has stolen it, or lost its successor: either
    /// way the whole family ends.
    fn by_refresh(&self, call: &Call) -> Result<(String, String), &'static str> {
        const INVALID: &str = "Value passed for the token was invalid.";
        let token = call.param("refresh_token").unwrap_or_default();
        let fields = sealed::open(REFRESH, &self.app.consumer_secret, &token).ok_or(INVALID)?;
        let [user, family, _] = fields.as_slice() else {
            return Err(INVALID);
        };
        let mut memory = self.memory();
        if memory.revoked.contains(family) || memory.withdrawn.contains(user) {
            return Err(INVALID);
        }
        if !memory.spent.insert(token) {
            memory.revoked.insert(family.clone());
            return Err(INVALID);
        }
        Ok((user.clone(), family.clone()))
    }

    /// Ends the family of a token. Unknown ones are fine too (RFC 7009).
    pub(super) fn revoke(&self, call: &Call) -> Response {
        if !self.is_app(call) {
            let words = "Missing valid authorization header";
            return answers::oauth(401, "unauthorized_client", words);
        }
        let token = call.param("token").unwrap_or_default();
        let secret = &self.app.consumer_secret;
        let fields =
            sealed::open(ACCESS, secret, &token).or_else(|| sealed::open(REFRESH, secret, &token));
        if let Some(family) = fields.and_then(|fields| fields.get(1).cloned()) {
            self.memory().revoked.insert(family);
        }
        answers::ok(&json!({"revoked": true}))
    }

    /// Whose token a call carries.
    pub(super) fn caller(&self, call: &Call) -> Result<String, Problem> {
        let token = call.bearer().unwrap_or_default();
        let fields = sealed::open(ACCESS, &self.app.consumer_secret, token);
        let fields = fields.ok_or_else(Problem::unauthorized)?;
        let [user, family, issued, lives] = fields.as_slice() else {
            return Err(Problem::unauthorized());
        };
        let issued: i64 = issued.parse().unwrap_or_default();
        let lives: i64 = lives.parse().unwrap_or_default();
        let memory = self.memory();
        let expired = memory.expired_ms.get(user).is_some_and(|at| issued <= *at)
            || issued + lives * 1000 <= now_ms();
        if expired || memory.revoked.contains(family) || memory.withdrawn.contains(user) {
            return Err(Problem::unauthorized());
        }
        Ok(user.clone())
    }
}
