//! Connecting: the dialog, codes, tokens of sixty days, and what is checked of each call.

use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;
use url::Url;

use super::answers::{self, Refusal};
use super::{Code, HOME, NAME, Site, bare};
use crate::call::Call;
use crate::faults::Op;
use crate::platform::sealed;
use crate::world::now_ms;

/// How long a code can be exchanged.
const CODE_LIVES: Duration = Duration::from_secs(30 * 60);
/// Seconds an access token lives: sixty days.
const TOKEN_LIVES_S: i64 = 5_184_000;
/// Seconds a refresh token lives, from the first day: a year.
const REFRESH_LIVES_S: i64 = 31_536_000;
/// How access tokens begin.
const ACCESS: &str = "AQX";
/// How refresh tokens begin.
const REFRESH: &str = "AQR";

/// Who calls, and what they may.
pub(super) struct Caller {
    pub(super) member: String,
    pub(super) scope: String,
}

impl Site {
    /// The page a person sees. This person agrees at once, or refuses with `deny=1`.
    pub(super) fn dialog(&self, call: &Call) -> Response {
        let wrong = |what: &str| (StatusCode::BAD_REQUEST, Html(what.to_owned())).into_response();
        let param = |name: &str| call.param(name).unwrap_or_default();
        if param("client_id") != self.app.client_id {
            return wrong("Bummer, something went wrong: unknown client_id.");
        }
        let redirect_uri = param("redirect_uri");
        let Some(mut target) = Url::parse(&redirect_uri)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
        else {
            return wrong("Bummer, something went wrong: redirect_uri does not match.");
        };
        if param("response_type") != "code" {
            return wrong("Only response_type=code is played here.");
        }
        // The web flow knows no PKCE, and the real one fails on it.
        if call.param("code_challenge").is_some() {
            return wrong("Bummer, something went wrong: unexpected code_challenge.");
        }
        // LinkedIn's own client separates them by commas, its documentation by spaces.
        let scope = param("scope").replace(',', " ");
        if !scope.split(' ').any(|asked| asked == "openid") {
            return wrong("Bummer, something went wrong: the openid scope is needed.");
        }
        if let Some(state) = call.param("state") {
            target.query_pairs_mut().append_pair("state", &state);
        }
        let refuses = param("deny") == "1" || self.world.faults.hit(NAME, Op::Dialog).is_some();
        if refuses {
            target.query_pairs_mut().extend_pairs([
                ("error", "user_cancelled_authorize"),
                ("error_description", "The user cancelled the authorization"),
            ]);
        } else {
            let code = self.agree(redirect_uri, scope, call);
            target.query_pairs_mut().append_pair("code", &code);
        }
        (StatusCode::FOUND, [(header::LOCATION, target.to_string())]).into_response()
    }

    /// Which member: `account` in the URL, else the next one a test has announced, else the default.
    fn agree(&self, redirect_uri: String, scope: String, call: &Call) -> String {
        let asked = call.param("account").map(|id| bare(&id).to_owned());
        let mut memory = self.memory();
        let member = asked
            .filter(|id| !id.contains(['\n', '/']))
            .or_else(|| memory.choices.pop_front())
            .unwrap_or_else(|| HOME.0.to_owned());
        memory
            .codes
            .retain(|_, code| code.issued.elapsed() < CODE_LIVES);
        let code = format!(
            "AQT{}{}",
            self.world.unique(),
            uuid::Uuid::new_v4().simple()
        );
        let agreed = Code {
            redirect_uri,
            scope,
            member,
            issued: Instant::now(),
        };
        memory.codes.insert(code.clone(), agreed);
        code
    }

    fn is_app(&self, call: &Call) -> bool {
        let is = |name: &str, value: &str| call.param(name).as_deref() == Some(value);
        is("client_id", &self.app.client_id) && is("client_secret", &self.app.client_secret)
    }

    /// A code for a token, or a refresh token for the next one.
    pub(super) fn token(&self, call: &Call) -> Response {
        if !self.is_app(call) {
            return answers::oauth(401, "invalid_client", "Client authentication failed");
        }
        let (member, grant, scope, since_ms) = match call.param("grant_type").as_deref() {
            Some("authorization_code") => {
                // Taken out whatever happens next: a code is good for one try.
                let code = call.param("code").unwrap_or_default();
                let agreed = self.memory().codes.remove(&code);
                let redirect_uri = call.param("redirect_uri").unwrap_or_default();
                let agreed = agreed
                    .filter(|code| code.issued.elapsed() < CODE_LIVES)
                    .filter(|code| code.redirect_uri == redirect_uri);
                let Some(agreed) = agreed else {
                    let words = "Unable to retrieve access token: appid/redirect uri/code verifier \
                                 does not match authorization code. Or authorization code expired.";
                    return answers::oauth(400, "invalid_request", words);
                };
                let grant = uuid::Uuid::new_v4().simple().to_string();
                (agreed.member, grant, agreed.scope, now_ms())
            }
            Some("refresh_token") => match self.by_refresh(call) {
                Some(granted) => granted,
                None => {
                    let words = "The provided refresh token is invalid, expired or revoked";
                    return answers::oauth(400, "invalid_grant", words);
                }
            },
            _ => return answers::oauth(400, "invalid_request", "grant_type is not supported"),
        };
        let secret = &self.app.client_secret;
        let issued = now_ms().to_string();
        let access = [&member, &grant, &issued, &scope].map(String::as_str);
        let mut body = json!({
            "access_token": sealed::seal(ACCESS, secret, &access),
            "expires_in": TOKEN_LIVES_S,
            "scope": scope.replace(' ', ","),
            "token_type": "Bearer",
        });
        if self.memory().renewable {
            let since = since_ms.to_string();
            // The same one every time: LinkedIn does not rotate them.
            let refresh = [&member, &grant, &since, &scope].map(String::as_str);
            body["refresh_token"] = sealed::seal(REFRESH, secret, &refresh).into();
            body["refresh_token_expires_in"] =
                (REFRESH_LIVES_S - (now_ms() - since_ms) / 1000).into();
        }
        answers::ok(&body)
    }

    fn by_refresh(&self, call: &Call) -> Option<(String, String, String, i64)> {
        let token = call.param("refresh_token")?;
        let fields = sealed::open(REFRESH, &self.app.client_secret, &token)?;
        let [member, grant, since, scope] = fields.as_slice() else {
            return None;
        };
        let since_ms: i64 = since.parse().ok()?;
        let over = since_ms + REFRESH_LIVES_S * 1000 <= now_ms();
        if over || self.memory().revoked.contains(grant) {
            return None;
        }
        Some((member.clone(), grant.clone(), scope.clone(), since_ms))
    }

    /// Takes a member's permission back.
    pub(super) fn revoke(&self, call: &Call) -> Response {
        if !self.is_app(call) {
            return answers::oauth(401, "invalid_client", "Client authentication failed");
        }
        let token = call.param("token").unwrap_or_default();
        let fields = sealed::open(ACCESS, &self.app.client_secret, &token);
        if let Some(grant) = fields.and_then(|fields| fields.get(1).cloned()) {
            self.memory().revoked.insert(grant);
        }
        answers::ok(&json!({}))
    }

    /// Whose token a call carries.
    pub(super) fn caller(&self, call: &Call) -> Result<Caller, Refusal> {
        let token = call.bearer().unwrap_or_default();
        let fields = sealed::open(ACCESS, &self.app.client_secret, token);
        let fields = fields.ok_or_else(Refusal::unknown_token)?;
        let [member, grant, issued, scope] = fields.as_slice() else {
            return Err(Refusal::unknown_token());
        };
        let memory = self.memory();
        if memory.revoked.contains(grant) {
            return Err(Refusal::revoked());
        }
        let issued: i64 = issued.parse().unwrap_or_default();
        let expired = memory
            .expired_ms
            .get(member)
            .is_some_and(|at| issued <= *at);
        if expired || issued + TOKEN_LIVES_S * 1000 <= now_ms() {
            return Err(Refusal::expired());
        }
        Ok(Caller {
            member: member.clone(),
            scope: scope.clone(),
        })
    }

    /// The same where the headers of a versioned call are needed.
    pub(super) fn versioned(&self, call: &Call) -> Result<Caller, Refusal> {
        let version = call.header("linkedin-version").unwrap_or_default();
        if version.len() != 6 || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::version());
        }
        self.caller(call)
    }
}
