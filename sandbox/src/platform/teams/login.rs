//! Signing in: the page, the code, tokens that hold for an hour, and who it is.

use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Answer, DEFAULT_PERSON, Graph, GraphError, NAME, TENANT, ok, reply};
use crate::call::Call;
use crate::faults::Op;
use crate::sign::hmac_hex;
use crate::world::now_ms;

/// How long a code can be exchanged.
const CODE_LIVES: Duration = Duration::from_secs(600);
/// Seconds an access token lives; the real one's life is drawn from 60 to 90 minutes.
const ACCESS_S: i64 = 4_321;
/// Seconds a refresh token lives when it is not used: ninety days.
const REFRESH_S: i64 = 90 * 24 * 3600;
/// Hex digits of the signature inside a token.
const MAC_DIGITS: usize = 32;

/// A person's agreement, waiting to be exchanged for tokens.
pub(super) struct Code {
    redirect_uri: String,
    tenant: String,
    person: String,
    scope: String,
    challenge: Option<String>,
    issued: Instant,
}

/// What a token says.
pub(super) struct Token {
    pub(super) person: String,
    tenant: String,
    issued_ms: i64,
    ends_ms: i64,
}

/// A refusal of the sign-in service.
struct Refusal {
    status: u16,
    error: &'static str,
    number: u32,
    words: &'static str,
}

fn refusal(error: &'static str, number: u32, words: &'static str) -> Refusal {
    Refusal {
        status: if error == "invalid_client" { 401 } else { 400 },
        error,
        number,
        words,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let trace = uuid::Uuid::new_v4().to_string();
        let body = json!({
            "error": self.error,
            "error_description": format!("AADSTS{}: {} Trace ID: {trace}", self.number, self.words),
            "error_codes": [self.number],
            "timestamp": chrono::Utc::now().format("%Y-%m-%d %H:%M:%SZ").to_string(),
            "trace_id": trace,
            "correlation_id": trace,
        });
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        reply(status, &body)
    }
}

impl Graph {
    /// The page a person sees. This person agrees at once, or refuses with `deny=1`.
    pub(super) fn authorize(&self, call: &Call, tenant: &str) -> Response {
        let wrong = |what: &str| (StatusCode::BAD_REQUEST, Html(what.to_owned())).into_response();
        if call
            .param("client_id")
            .is_none_or(|id| id != self.client_id)
        {
            return wrong("AADSTS700016: Application was not found in the directory.");
        }
        let redirect_uri = call.param("redirect_uri").unwrap_or_default();
        let Some(mut target) = Url::parse(&redirect_uri)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
        else {
            return wrong("AADSTS50011: The redirect URI does not match.");
        };
        if call
            .param("response_type")
            .is_none_or(|kind| kind != "code")
        {
            return wrong("AADSTS70011: Only response_type=code is played here.");
        }
        let scope = call.param("scope").unwrap_or_default();
        if scope.is_empty() {
            return wrong("AADSTS900144: The request body must contain 'scope'.");
        }
        let refuses = call.param("deny").is_some_and(|deny| deny == "1")
            || self.world.faults.hit(NAME, Op::Dialog).is_some();
        if refuses {
            target.query_pairs_mut().extend_pairs([
                ("error", "access_denied"),
                (
                    "error_description",
                    "AADSTS65004: User declined to consent to access the app.",
                ),
            ]);
        } else {
            let code = self.agree(call, tenant, redirect_uri, scope);
            target.query_pairs_mut().append_pair("code", &code);
        }
        if let Some(state) = call.param("state") {
            target.query_pairs_mut().append_pair("state", &state);
        }
        if !refuses {
            let session = uuid::Uuid::new_v4().to_string();
            target
                .query_pairs_mut()
                .append_pair("session_state", &session);
        }
        (StatusCode::FOUND, [(header::LOCATION, target.to_string())]).into_response()
    }

    /// Who: `login_hint` in the URL, else the next one a test has announced, else the default.
    fn agree(&self, call: &Call, tenant: &str, redirect_uri: String, scope: String) -> String {
        let mut state = self.state();
        let person = call
            .param("login_hint")
            .or_else(|| state.choices.pop_front())
            .unwrap_or_else(|| DEFAULT_PERSON.0.to_owned());
        state
            .codes
            .retain(|_, code| code.issued.elapsed() < CODE_LIVES);
        let code = format!(
            "0.A{}{}",
            self.world.unique(),
            uuid::Uuid::new_v4().simple()
        );
        let agreed = Code {
            redirect_uri,
            tenant: tenant.to_owned(),
            person,
            scope,
            challenge: call.param("code_challenge"),
            issued: Instant::now(),
        };
        state.codes.insert(code.clone(), agreed);
        code
    }

    /// Tokens for a code, or for a refresh token.
    pub(super) fn token(&self, call: &Call, tenant: &str) -> Response {
        match self.exchange(call, tenant) {
            Ok(body) => reply(StatusCode::OK, &body),
            Err(refusal) => refusal.into_response(),
        }
    }

    fn exchange(&self, call: &Call, tenant: &str) -> Result<Value, Refusal> {
        let need = |name: &str| {
            let words = "The request body is missing a required parameter.";
            call.param(name)
                .ok_or_else(|| refusal("invalid_request", 900_144, words))
        };
        if need("client_id")? != self.client_id {
            let words = "Application was not found in the directory.";
            return Err(refusal("unauthorized_client", 700_016, words));
        }
        if need("client_secret")? != self.client_secret {
            let words = "Invalid client secret provided.";
            return Err(refusal("invalid_client", 7_000_215, words));
        }
        match need("grant_type")?.as_str() {
            "authorization_code" => {
                let code = self.redeem(call, tenant, &need("code")?, &need("redirect_uri")?)?;
                Ok(self.tokens(&code.person, tenant, &code.scope))
            }
            "refresh_token" => {
                let token = self
                    .read_token('R', &need("refresh_token")?)
                    .ok_or_else(|| {
                        let words = "The refresh token has expired or was revoked.";
                        refusal("invalid_grant", 50_173, words)
                    })?;
                if token.tenant != tenant {
                    let words = "The provided grant was issued for another tenant.";
                    return Err(refusal("invalid_grant", 500_021, words));
                }
                let scope = call.param("scope").unwrap_or_default();
                Ok(self.tokens(&token.person, tenant, &scope))
            }
            _ => {
                let words = "The grant type is not supported.";
                Err(refusal("unsupported_grant_type", 70_003, words))
            }
        }
    }

    fn redeem(
        &self,
        call: &Call,
        tenant: &str,
        code: &str,
        redirect_uri: &str,
    ) -> Result<Code, Refusal> {
        let expired = "The provided authorization code has expired or was used already.";
        // Taken out whatever happens next: a code is good for one try.
        let code = self.state().codes.remove(code);
        let code = code
            .filter(|code| code.issued.elapsed() < CODE_LIVES && code.tenant == tenant)
            .ok_or_else(|| refusal("invalid_grant", 70_008, expired))?;
        if code.redirect_uri != redirect_uri {
            let words = "The reply URL does not match the one of the authorization request.";
            return Err(refusal("invalid_client", 500_112, words));
        }
        if let Some(challenge) = &code.challenge {
            let verifier = call.param("code_verifier").unwrap_or_default();
            if URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) != *challenge {
                let words = "The Code_Verifier does not match the code_challenge.";
                return Err(refusal("invalid_grant", 501_481, words));
            }
        }
        Ok(code)
    }

    /// A new pair. The refresh token is new each time; older ones stay good, as the real ones do.
    fn tokens(&self, person: &str, tenant: &str, scope: &str) -> Value {
        let mut body = json!({
            "token_type": "Bearer",
            "scope": scope,
            "expires_in": ACCESS_S,
            "ext_expires_in": ACCESS_S,
            "access_token": self.mint('A', person, tenant, ACCESS_S),
        });
        if scope.split(' ').any(|scope| scope == "offline_access") {
            body["refresh_token"] = self.mint('R', person, tenant, REFRESH_S).into();
        }
        body
    }

    fn mint(&self, kind: char, person: &str, tenant: &str, lives_s: i64) -> String {
        let now = now_ms();
        let unique = self.world.unique();
        let ends = now + lives_s * 1000;
        let claim = format!("{kind} {tenant} {now} {ends} {unique} {person}");
        let claim = hex::encode(claim);
        let prefix = if kind == 'A' { "eyJ0" } else { "0.AX" };
        format!("{prefix}{claim}{}", self.seal(&claim))
    }

    fn seal(&self, claim: &str) -> String {
        let mut mac = hmac_hex(self.client_secret.as_bytes(), claim.as_bytes());
        mac.truncate(MAC_DIGITS);
        mac
    }

    /// What a token says that was made here, now or before a restart, and still holds.
    fn read_token(&self, kind: char, token: &str) -> Option<Token> {
        let sealed = token.get(4..)?;
        let (claim, mac) = sealed.split_at_checked(sealed.len().checked_sub(MAC_DIGITS)?)?;
        if self.seal(claim) != mac {
            return None;
        }
        let claim = String::from_utf8(hex::decode(claim).ok()?).ok()?;
        let parts: Vec<&str> = claim.splitn(6, ' ').collect();
        let [made, tenant, issued, ends, _, person] = parts[..] else {
            return None;
        };
        let token = Token {
            person: person.to_owned(),
            tenant: tenant.to_owned(),
            issued_ms: issued.parse().ok()?,
            ends_ms: ends.parse().ok()?,
        };
        let (access, refresh) = self
            .state()
            .void_before
            .get(person)
            .copied()
            .unwrap_or_default();
        let void_before = if kind == 'A' { access } else { refresh };
        let holds = token.issued_ms >= void_before && now_ms() < token.ends_ms;
        (holds && made.starts_with(kind)).then_some(token)
    }

    /// Whose token a call carries, or the platform's refusal.
    pub(super) fn bearer(&self, call: &Call) -> Result<Token, GraphError> {
        let token = call.bearer().and_then(|token| self.read_token('A', token));
        token.ok_or_else(|| GraphError::told(401, None))
    }

    /// Ends a person's access tokens, and when it is revoked their refresh tokens too.
    pub(super) fn void(&self, person: &str, revoked: bool) {
        // Of tokens made in this very millisecond none is left.
        let now = now_ms() + 1;
        let mut state = self.state();
        let void = state.void_before.entry(person.to_owned()).or_default();
        void.0 = now;
        if revoked {
            void.1 = now;
        }
    }

    /// The person who signed in.
    pub(super) fn me(&self, call: &Call) -> Answer {
        let token = self.bearer(call)?;
        let name = self.name_of(&token.person);
        let mail = format!(
            "{}@northwind.example",
            name.to_lowercase().replace(' ', ".")
        );
        ok(&json!({
            "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#users/$entity",
            "id": token.person,
            "displayName": name,
            "userPrincipalName": mail,
            "mail": mail,
        }))
    }
}

/// The identity of a person in a message.
pub(super) fn identity(person: &str, name: &str) -> Value {
    json!({"application": null, "device": null, "user": {
        "@odata.type": "#microsoft.graph.teamworkUserIdentity",
        "id": person,
        "displayName": name,
        "userIdentityType": "aadUser",
        "tenantId": TENANT,
    }})
}
