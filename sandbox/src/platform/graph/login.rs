//! Connecting at Facebook: the dialog, the code, the tokens, and taking it all back.
//!
//! Each of Meta's products has an app of its own here, and with it one of these.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};
use url::Url;

use super::{Answer, GraphError, Kind, Product, Token, ok, suffer};
use crate::call::Call;
use crate::faults::Op;
use crate::ledger::hold;
use crate::sign::{hmac_hex, signed_request};
use crate::world::World;

/// The person who connects, by the id this app knows them by.
const PERSON: (&str, &str) = ("10158000000000001", "Sam Potter");
/// How long a code can be exchanged.
const CODE_LIVES: Duration = Duration::from_secs(600);
/// Seconds a person's first token lives.
const SHORT_S: u64 = 5_400;
/// Seconds a person's exchanged token lives: sixty days.
const LONG_S: u64 = 5_184_000;

/// A person's agreement, waiting to be exchanged for a token.
struct Code {
    redirect_uri: String,
    account: String,
    grant: String,
    issued: Instant,
}

/// What is remembered of people who connected.
#[derive(Default)]
struct Agreements {
    /// Account id to name.
    names: BTreeMap<String, String>,
    /// Accounts the next people who connect will choose, in order.
    choices: VecDeque<String>,
    codes: HashMap<String, Code>,
    revoked: BTreeSet<String>,
    /// Account id to the id of the person who agreed to it, where it is not everybody's.
    people: BTreeMap<String, String>,
    /// Accounts that a business portfolio owns.
    owned: BTreeSet<String>,
    /// Accounts whose tokens were made to expire, with the agreements since then.
    expired: BTreeMap<String, BTreeSet<String>>,
    /// Seconds that exchanged Page tokens live, when somebody made them expire.
    page_tokens_live_s: Option<u64>,
    /// When the tokens of an agreement end.
    ends: HashMap<String, Instant>,
}

/// One app, and who has agreed to it.
pub(crate) struct Login {
    world: Arc<World>,
    product: Product,
    pub(in crate::platform) app_id: String,
    pub(in crate::platform) app_secret: String,
    /// The account everybody grants who does not choose another.
    home: &'static str,
    agreements: Mutex<Agreements>,
}

impl Login {
    /// An app, with the accounts that exist from the start; the first one is everybody's default.
    pub(in crate::platform) fn new(
        world: &Arc<World>,
        product: Product,
        (app_id, app_secret): (&str, &str),
        accounts: &[(&'static str, &str)],
    ) -> Self {
        let name = |(id, name): &(&str, &str)| ((*id).to_owned(), (*name).to_owned());
        Self {
            world: Arc::clone(world),
            product,
            app_id: app_id.to_owned(),
            app_secret: app_secret.to_owned(),
            home: accounts.first().map_or("", |(id, _)| id),
            agreements: Mutex::new(Agreements {
                names: accounts.iter().map(name).collect(),
                ..Agreements::default()
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, Agreements> {
        hold(&self.agreements)
    }

    /// An account's name. Accounts made before a restart are still there, only their names are
    /// forgotten.
    pub(in crate::platform) fn name(&self, account: &str) -> String {
        let known = self.state().names.get(account).cloned();
        known.unwrap_or_else(|| format!("Page {account}"))
    }

    /// Every account with its name.
    pub(in crate::platform) fn names(&self) -> BTreeMap<String, String> {
        self.state().names.clone()
    }

    /// Makes an account, which the next person who connects grants instead of the default one.
    pub(in crate::platform) fn offer(&self, id: &str, name: &str) {
        let mut state = self.state();
        state.names.insert(id.to_owned(), name.to_owned());
        state.choices.push_back(id.to_owned());
    }

    /// Forgets who was to choose what.
    pub(in crate::platform) fn reset(&self) {
        let mut state = self.state();
        state.choices.clear();
        state.expired.clear();
        state.owned.clear();
        state.page_tokens_live_s = None;
    }

    /// Makes Page tokens a thing that lives this long and is exchanged for the next, or, with
    /// `None`, that does neither.
    pub(in crate::platform) fn let_page_tokens_live(&self, seconds: Option<u64>) {
        self.state().page_tokens_live_s = seconds;
    }

    /// Every token of this account has expired; those of later agreements are good.
    pub(in crate::platform) fn expire(&self, account: &str) {
        self.state()
            .expired
            .insert(account.to_owned(), BTreeSet::new());
    }

    /// Whose token a call carries, or the platform's refusal.
    pub(in crate::platform) fn bearer(&self, call: &Call) -> Result<Token, GraphError> {
        let param = call.param("access_token");
        let Some(given) = call.bearer().map(str::to_owned).or(param) else {
            let words = "An active access token must be used to query information about the \
                         current user.";
            return Err(GraphError::new(2500, words));
        };
        let token = self.token(&given)?;
        let proof = hmac_hex(self.app_secret.as_bytes(), given.as_bytes());
        match call.param("appsecret_proof") {
            Some(claimed) if claimed != proof => {
                let words = "Invalid appsecret_proof provided in the API argument";
                Err(GraphError::new(100, words))
            }
            _ => Ok(token),
        }
    }

    /// What a token means now.
    pub(in crate::platform) fn token(&self, given: &str) -> Result<Token, GraphError> {
        let token = Token::read(&self.app_secret, given).ok_or_else(|| {
            let words = "Invalid OAuth access token - Cannot parse access token";
            GraphError::new(190, words)
        })?;
        let state = self.state();
        if state.revoked.contains(&token.grant) {
            let words = "Error validating access token: The user has not authorized application.";
            return Err(GraphError::new(190, words).sub(458));
        }
        let since = state.expired.get(&token.page);
        let end = state.ends.get(&token.grant);
        if since.is_some_and(|since| !since.contains(&token.grant))
            || end.is_some_and(|end| *end <= Instant::now())
        {
            let words = "Error validating access token: Session has expired.";
            return Err(GraphError::new(190, words).sub(463));
        }
        Ok(token)
    }

    /// The next agreement of the same person: its tokens are other ones.
    pub(in crate::platform) fn renew(&self, token: &Token) -> Token {
        let grant = uuid::Uuid::new_v4().simple().to_string();
        if let Some(since) = self.state().expired.get_mut(&token.page) {
            since.insert(grant.clone());
        }
        Token {
            grant,
            ..token.clone()
        }
    }

    /// A token of this kind from the same agreement, as it is handed out.
    pub(in crate::platform) fn mint(&self, kind: Kind, from: &Token) -> String {
        let token = Token {
            kind,
            product: self.product,
            ..from.clone()
        };
        token.mint(&self.app_secret)
    }

    /// The page a person sees. This person agrees at once, or refuses with `deny=1`.
    pub(in crate::platform) fn dialog(&self, call: &Call, fragment: &str) -> Response {
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
            || self
                .world
                .faults
                .hit(self.product.name(), Op::Dialog)
                .is_some();
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
        // Both hosts really append one of these.
        target.set_fragment(Some(fragment));
        (StatusCode::FOUND, [(header::LOCATION, target.to_string())]).into_response()
    }

    /// Which account: `page` or `login_hint` in the URL, else the next one a test has announced, else
    /// the default.
    fn agree(&self, redirect_uri: String, call: &Call) -> String {
        let asked = call.param("page").or_else(|| call.param("login_hint"));
        let mut state = self.state();
        let account = asked
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
            .or_else(|| state.choices.pop_front())
            .unwrap_or_else(|| self.home.to_owned());
        state
            .codes
            .retain(|_, code| code.issued.elapsed() < CODE_LIVES);
        let random = || uuid::Uuid::new_v4().simple().to_string();
        let code = format!("{}{}{}", self.product.code(), self.world.unique(), random());
        let grant = random();
        if let Some(since) = state.expired.get_mut(&account) {
            since.insert(grant.clone());
        }
        let agreed = Code {
            redirect_uri,
            account,
            grant,
            issued: Instant::now(),
        };
        state.codes.insert(code.clone(), agreed);
        code
    }

    /// The calls that every product has: the dialog, its tokens, what they are, taking them back.
    /// `scopes` are what the person agreed to, about `target`. `None` when it is another call.
    pub(in crate::platform) fn answer(
        &self,
        call: &Call,
        method: &Method,
        path: &[&str],
        scopes: &[&str],
        target: impl Fn(&Token) -> String,
    ) -> Option<Answer> {
        Some(match (method, path) {
            (&Method::GET, ["dialog", "oauth"]) => Ok(self.dialog(call, "_=_")),
            (_, ["oauth", "access_token"]) => self.access_token(call),
            (&Method::GET, ["debug_token"]) => self.debug_token(call, scopes, target),
            (&Method::DELETE, [_, "permissions"]) => self.revoke(call),
            _ => return None,
        })
    }

    /// What becomes of a call that a fault strikes before anything has happened.
    pub(in crate::platform) async fn struck(
        &self,
        op: Option<Op>,
        call: &Call,
    ) -> Option<Response> {
        let fault = self.world.faults.hit(self.product.name(), op?)?;
        Some(suffer(fault, self.product, &self.app_id, call).await)
    }

    /// A list of the one Page that the person granted, as far as it is listed: one that belongs to a
    /// business portfolio is not, and can be had by its id only.
    pub(in crate::platform) fn granted(&self, token: &Token, page: Value) -> Response {
        let is_listed = !self.state().owned.contains(&token.page);
        let pages: Vec<Value> = is_listed.then_some(page).into_iter().collect();
        let cursors = json!({"before": "0", "after": "1"});
        let body = json!({"data": pages, "paging": {"cursors": cursors}});
        ok(&self.app_id, &body)
    }

    /// Whoever agreed to this account is this person, and not the one who agrees to the others.
    pub(crate) fn agrees(&self, account: &str, person: &str) {
        let people = &mut self.state().people;
        people.insert(account.to_owned(), person.to_owned());
    }

    fn person_of(&self, account: &str) -> String {
        let known = self.state().people.get(account).cloned();
        known.unwrap_or_else(|| PERSON.0.to_owned())
    }

    /// A business portfolio owns this account from now on.
    pub(crate) fn own(&self, account: &str) {
        self.state().owned.insert(account.to_owned());
    }

    /// What the platform posts when a person leaves: somebody else's secret signs a forged one.
    pub(crate) fn signed_request(
        &self,
        person: Option<String>,
        expires_in_s: Option<i64>,
        is_forged: bool,
    ) -> String {
        let now = chrono::Utc::now().timestamp();
        let mut payload = json!({
            "user_id": person.unwrap_or_else(|| PERSON.0.to_owned()),
            "algorithm": "HMAC-SHA256",
            "issued_at": now,
        });
        if let Some(seconds) = expires_in_s {
            payload["expires"] = (now + seconds).into();
        }
        let secret = match is_forged {
            true => "somebody else's",
            false => &self.app_secret,
        };
        signed_request(secret, &payload)
    }

    /// Code for a short token, or a short token for a long one.
    fn access_token(&self, call: &Call) -> Answer {
        let (token, seconds) = self.exchange(call)?;
        let body = json!({
            "access_token": self.mint(token.kind, &token),
            "token_type": "bearer",
            "expires_in": seconds,
        });
        Ok(ok(&self.app_id, &body))
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
            let token = self.token(&given)?;
            if token.kind == Kind::Page {
                return Err(GraphError::new(190, "Invalid OAuth access token."));
            }
            return Ok((
                Token {
                    kind: Kind::LongUser,
                    ..token
                },
                LONG_S,
            ));
        }
        Ok((
            self.redeem(&need("code")?, &need("redirect_uri")?)?,
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

    /// What a person agreed to, for the code they brought back.
    pub(in crate::platform) fn redeem(
        &self,
        code: &str,
        redirect_uri: &str,
    ) -> Result<Token, GraphError> {
        // Taken out whatever happens next: a code is good for one try.
        let agreed = self.state().codes.remove(code);
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
        Ok(Token {
            kind: Kind::ShortUser,
            product: self.product,
            page: agreed.account,
            grant: agreed.grant,
        })
    }

    /// What a token is. Invalid ones are a success that says so.
    fn debug_token(
        &self,
        call: &Call,
        scopes: &[&str],
        target: impl Fn(&Token) -> String,
    ) -> Answer {
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
        let Ok(token) = self.token(&input) else {
            let error = json!({"code": 190, "message": "Invalid OAuth access token."});
            let data = json!({"is_valid": false, "error": error, "scopes": []});
            return Ok(ok(&self.app_id, &json!({"data": data})));
        };
        let now = chrono::Utc::now().timestamp();
        let target = target(&token);
        let granular: Vec<Value> = scopes
            .iter()
            .map(|scope| json!({"scope": scope, "target_ids": [target]}))
            .collect();
        let mut data = json!({
            "app_id": self.app_id,
            "application": "Hub",
            "data_access_expires_at": now + 90 * 86_400,
            "expires_at": if token.kind == Kind::Page { 0 } else { now + 86_400 },
            "granular_scopes": granular,
            "is_valid": true,
            "scopes": scopes,
            "type": if token.kind == Kind::Page { "PAGE" } else { "USER" },
            "user_id": self.person_of(&token.page),
        });
        if token.kind == Kind::Page {
            data["profile_id"] = token.page.into();
        }
        Ok(ok(&self.app_id, &json!({"data": data})))
    }

    /// The person who connected.
    pub(in crate::platform) fn person(&self) -> Value {
        json!({"id": PERSON.0, "name": PERSON.1})
    }

    /// Whether a node is the person who connected: by their id, or as whoever the token is of.
    pub(in crate::platform) fn is_person(&self, node: &str) -> bool {
        node == "me" || node == PERSON.0
    }

    /// Takes the person's agreement back. Only this one: another person's agreement for the same
    /// Page goes on.
    fn revoke(&self, call: &Call) -> Answer {
        let token = self.bearer(call)?;
        self.state().revoked.insert(token.grant);
        Ok(ok(&self.app_id, &json!({"success": true})))
    }
}
