//! Connecting: the dialog, the code, the tokens, the Pages, and taking it all back.

use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};
use url::Url;

use super::{Code, DEFAULT_PAGE, Messenger, NAME};
use crate::call::Call;
use crate::faults::Op;
use crate::platform::graph::{self, Answer, GraphError, Kind, Token};

/// The person who connects, by the id this app knows them by.
const PERSON: (&str, &str) = ("10158000000000001", "Sam Potter");
/// How long a code can be exchanged.
const CODE_LIVES: Duration = Duration::from_secs(600);
/// Seconds a person's first token lives.
const SHORT_S: u64 = 5_400;
/// Seconds a person's exchanged token lives: sixty days.
const LONG_S: u64 = 5_184_000;
/// What the person agrees to.
const SCOPES: [&str; 5] = [
    "pages_show_list",
    "pages_messaging",
    "pages_manage_metadata",
    "pages_read_engagement",
    "public_profile",
];

impl Messenger {
    /// The page a person sees. This person agrees at once, or refuses with `deny=1`.
    pub(super) fn dialog(&self, call: &Call) -> Response {
        let wrong = |what: &str| (StatusCode::BAD_REQUEST, Html(what.to_owned())).into_response();
        if call.param("client_id").is_none_or(|id| id != self.app_id) {
            return wrong("Invalid App ID: The provided app ID does not look like a valid app ID.");
        }
        let redirect_uri = call.param("redirect_uri").unwrap_or_default();
        let Some(mut target) = Url::parse(&redirect_uri)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
        else {
            return wrong("URL blocked: redirect_uri must be an absolute http or https URL.");
        };
        if call
            .param("response_type")
            .is_some_and(|kind| kind != "code")
        {
            return wrong("Only response_type=code is played here.");
        }
        let refuses = call.param("deny").is_some_and(|deny| deny == "1")
            || self.world.faults.hit(NAME, Op::Dialog).is_some();
        if refuses {
            target.query_pairs_mut().extend_pairs([
                ("error", "access_denied"),
                ("error_code", "200"),
                ("error_reason", "user_denied"),
                ("error_description", "Permissions error"),
            ]);
        } else {
            let code = self.agree(redirect_uri, call);
            target.query_pairs_mut().append_pair("code", &code);
        }
        if let Some(state) = call.param("state") {
            target.query_pairs_mut().append_pair("state", &state);
        }
        // Facebook really appends this fragment.
        target.set_fragment(Some("_=_"));
        (StatusCode::FOUND, [(header::LOCATION, target.to_string())]).into_response()
    }

    /// Which Page: `page` or `login_hint` in the URL, else the next one a test has announced, else
    /// the default.
    fn agree(&self, redirect_uri: String, call: &Call) -> String {
        let asked = call.param("page").or_else(|| call.param("login_hint"));
        let mut state = self.state();
        let page = asked
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
            .or_else(|| state.choices.pop_front())
            .unwrap_or_else(|| DEFAULT_PAGE.0.to_owned());
        state
            .codes
            .retain(|_, code| code.issued.elapsed() < CODE_LIVES);
        let code = format!("AQ{}{}", self.world.unique(), uuid::Uuid::new_v4().simple());
        let grant = uuid::Uuid::new_v4().simple().to_string();
        let agreed = Code {
            redirect_uri,
            page,
            grant,
            issued: Instant::now(),
        };
        state.codes.insert(code.clone(), agreed);
        code
    }

    /// Code for a short token, or a short token for a long one.
    pub(super) fn access_token(&self, call: &Call) -> Answer {
        let (token, seconds) = self.exchange(call)?;
        let body = json!({
            "access_token": token.mint(&self.app_secret),
            "token_type": "bearer",
            "expires_in": seconds,
        });
        Ok(graph::ok(&self.app_id, &body))
    }

    fn exchange(&self, call: &Call) -> Result<(Token, u64), GraphError> {
        let need = |name: &str| {
            let missing = || GraphError::new(101, format!("Missing {name} parameter."));
            call.param(name).ok_or_else(missing)
        };
        if need("client_id")? != self.app_id {
            let words = "Error validating application. Cannot get application info.";
            return Err(GraphError::new(101, words));
        }
        if need("client_secret")? != self.app_secret {
            return Err(GraphError::new(1, "Error validating client secret."));
        }
        if call
            .param("grant_type")
            .is_some_and(|grant| grant == "fb_exchange_token")
        {
            let given = need("fb_exchange_token")?;
            if let Some(exchanged) = self.exchange_page(&given)? {
                return Ok(exchanged);
            }
            let token = Token::read(&self.app_secret, &given)
                .filter(|token| token.kind != Kind::Page)
                .filter(|token| !self.state().revoked.contains(&token.grant))
                .ok_or_else(|| GraphError::new(190, "Invalid OAuth access token."))?;
            return Ok((
                Token {
                    kind: Kind::LongUser,
                    ..token
                },
                LONG_S,
            ));
        }
        let (code, redirect_uri) = (need("code")?, need("redirect_uri")?);
        // Taken out whatever happens next: a code is good for one try.
        let agreed = self.state().codes.remove(&code);
        let agreed = agreed
            .filter(|code| code.issued.elapsed() < CODE_LIVES)
            .ok_or_else(|| {
                let words = "This authorization code has expired or been used.";
                GraphError::new(100, words).sub(36_009)
            })?;
        if agreed.redirect_uri != redirect_uri {
            let words = "Error validating verification code. Please make sure your redirect_uri \
                         is identical to the one you used in the OAuth dialog request";
            return Err(GraphError::new(100, words).sub(36_008));
        }
        Ok((
            Token {
                kind: Kind::ShortUser,
                page: agreed.page,
                grant: agreed.grant,
            },
            SHORT_S,
        ))
    }

    /// A Page's token for the next one, while these expire: the one before is over at once. `None`
    /// when it is no Page's token, or these do not expire.
    fn exchange_page(&self, given: &str) -> Result<Option<(Token, u64)>, GraphError> {
        let token = Token::read(&self.app_secret, given).filter(|token| token.kind == Kind::Page);
        let mut state = self.state();
        let (Some(token), Some(seconds)) = (token, state.page_tokens_live_s) else {
            return Ok(None);
        };
        if !state.revoked.insert(token.grant.clone()) {
            return Err(GraphError::new(190, "Invalid OAuth access token."));
        }
        let grant = uuid::Uuid::new_v4().simple().to_string();
        let end = Instant::now() + Duration::from_secs(seconds);
        state.ends.insert(grant.clone(), end);
        Ok(Some((Token { grant, ..token }, seconds)))
    }

    /// The Pages the person granted: the one chosen in the dialog.
    pub(super) fn accounts(&self, call: &Call) -> Answer {
        let token = self.bearer(call)?;
        if token.kind == Kind::Page {
            let words = "(#100) Tried accessing nonexisting field (accounts) on node type (Page)";
            return Err(GraphError::new(100, words));
        }
        let cursors = json!({"before": "0", "after": "1"});
        let body = json!({"data": [self.page_object(&token)], "paging": {"cursors": cursors}});
        Ok(graph::ok(&self.app_id, &body))
    }

    /// A Page with the token this person may use it with.
    pub(super) fn page_object(&self, token: &Token) -> Value {
        let page = Token {
            kind: Kind::Page,
            ..token.clone()
        };
        json!({
            "access_token": page.mint(&self.app_secret),
            "category": "Kitchen/cooking",
            "id": token.page,
            "name": self.page_name(&token.page),
            "tasks": ["MESSAGING", "MODERATE", "MANAGE"],
        })
    }

    /// What a token is. Invalid ones are a success that says so.
    pub(super) fn debug_token(&self, call: &Call) -> Answer {
        let app_token = format!("{}|{}", self.app_id, self.app_secret);
        let by = call
            .bearer()
            .map(str::to_owned)
            .or_else(|| call.param("access_token"));
        if by.is_none_or(|by| by != app_token && Token::read(&self.app_secret, &by).is_none()) {
            return Err(GraphError::new(
                190,
                "Invalid OAuth access token signature.",
            ));
        }
        let input = call.param("input_token").unwrap_or_default();
        let token = Token::read(&self.app_secret, &input)
            .filter(|token| !self.state().revoked.contains(&token.grant));
        let Some(token) = token else {
            let error = json!({"code": 190, "message": "Invalid OAuth access token."});
            let data = json!({"is_valid": false, "error": error, "scopes": []});
            return Ok(graph::ok(&self.app_id, &json!({"data": data})));
        };
        let now = chrono::Utc::now().timestamp();
        let granular: Vec<Value> = SCOPES
            .iter()
            .map(|scope| json!({"scope": scope, "target_ids": [token.page]}))
            .collect();
        let mut data = json!({
            "app_id": self.app_id,
            "application": "Hub",
            "data_access_expires_at": now + 90 * 86_400,
            "expires_at": if token.kind == Kind::Page { 0 } else { now + 86_400 },
            "granular_scopes": granular,
            "is_valid": true,
            "scopes": SCOPES,
            "type": if token.kind == Kind::Page { "PAGE" } else { "USER" },
            "user_id": PERSON.0,
        });
        if token.kind == Kind::Page {
            data["profile_id"] = token.page.into();
        }
        Ok(graph::ok(&self.app_id, &json!({"data": data})))
    }

    /// Who the bearer is.
    pub(super) fn me(&self, token: &Token) -> Value {
        match token.kind {
            Kind::Page => json!({"id": token.page, "name": self.page_name(&token.page)}),
            Kind::ShortUser | Kind::LongUser => json!({"id": PERSON.0, "name": PERSON.1}),
        }
    }

    /// Takes the person's agreement back. Only this one: another person's agreement for the same
    /// Page goes on.
    pub(super) fn revoke(&self, call: &Call) -> Answer {
        let token = self.bearer(call)?;
        self.state().revoked.insert(token.grant);
        Ok(graph::ok(&self.app_id, &json!({"success": true})))
    }
}
