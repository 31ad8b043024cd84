//! A platform that rotates refresh tokens, its adapter, and workers on one database.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use hub_cluster::TestDatabase;
use hub_config::Settings;
use hub_domain::envelope::Append;
use hub_domain::event::{AccountConnected, AccountDisconnected, Event};
use hub_domain::id::{AccountId, Shard, UserId, account_id};
use hub_domain::platform::call::{CallFailure, Tokens};
use hub_domain::platform::fact::Fact;
use hub_domain::platform::http::{HttpRequest, HttpResponse, TransportError};
use hub_domain::platform::{
    Adapter, App, Capabilities, ConnectError, ConnectFlow, Connected, Credentials, Grant,
    Handshake, Headers, Outbound, Platform, Refused, SendOutcome, Unreadable, adapter,
};
use hub_domain::secret::Secret;
use hub_store::account::Owner;
use hub_store::project::{Projection, step};
use hub_store::schema::FIRST_GENERATION;
use hub_store::token::{Claim, TokenState};
use hub_store::{Options, Store, read, schema};
use hub_worker::Context;
use hub_worker::renewal::Renewal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub const PLATFORM: Platform = Platform::Facebook;
pub const SHARDS: u16 = 2;
const ROUTE: &str = "42";

/// How long the platform may call a new token dead.
pub const SETTLING: Duration = Duration::from_millis(1_500);

/// What the platform does with the next request, instead of rotating.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    /// A new access token, and nothing about the refresh token.
    SameAgain,
    /// 503.
    Trouble,
    /// `invalid_grant`.
    Refused,
    /// The same, half a second later.
    RefusedSlowly,
    /// `invalid_client`: the installation's own secret is wrong.
    NotOurs,
}

/// The platform: rotates unless it was told something else.
#[derive(Default)]
pub struct Rotating {
    asked: Mutex<Vec<String>>,
    says: Mutex<VecDeque<Says>>,
    given: Mutex<u32>,
    slow: Notify,
}

impl Rotating {
    async fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let platform = Arc::new(Self::default());
        let own = Arc::clone(&platform);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = Arc::clone(&own);
                tokio::spawn(async move { own.serve(stream).await });
            }
        });
        (platform, base)
    }

    /// Answers one request and closes.
    async fn serve(&self, mut stream: TcpStream) {
        let mut raw = Vec::new();
        let body = loop {
            let text = String::from_utf8_lossy(&raw).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
                if body.len() >= length.unwrap_or(0) {
                    break body.to_owned();
                }
            }
            if stream.read_buf(&mut raw).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let token = body.trim_start_matches("refresh_token=").replace('+', " ");
        self.asked.lock().unwrap().push(token);
        let says = self.says.lock().unwrap().pop_front();
        let (status, answer) = match says {
            None => {
                let mut given = self.given.lock().unwrap();
                *given += 1;
                let answer = format!(
                    r#"{{"access_token":"access of r{given}","refresh_token":"r{given}","expires_in":7200}}"#
                );
                (200, answer)
            }
            Some(Says::SameAgain) => (
                200,
                r#"{"access_token":"access again","expires_in":7200}"#.into(),
            ),
            Some(Says::Trouble) => (503, "{}".into()),
            Some(Says::Refused) => (400, "{}".into()),
            Some(Says::NotOurs) => (401, "{}".into()),
            Some(Says::RefusedSlowly) => {
                self.slow.notify_one();
                tokio::time::sleep(Duration::from_millis(500)).await;
                (400, "{}".into())
            }
        };
        let answer = format!(
            "HTTP/1.1 {status} Answer\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    /// The refresh tokens it was asked with.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// What it says next, in order; then it rotates.
    pub fn says(&self, words: &[Says]) {
        *self.says.lock().unwrap() = words.iter().copied().collect();
    }

    /// Waits until somebody waits for its slow refusal.
    pub async fn is_asking(&self) {
        self.slow.notified().await;
    }
}

/// The adapter: tokens by refresh token, everything else like another platform's.
struct Rotates;

fn like() -> &'static dyn Adapter {
    adapter(PLATFORM).unwrap()
}

impl Adapter for Rotates {
    fn platform(&self) -> Platform {
        PLATFORM
    }

    fn capabilities(&self) -> Capabilities {
        like().capabilities()
    }

    fn handshake(&self, app: &App, query: &[(String, String)]) -> Option<Handshake> {
        like().handshake(app, query)
    }

    fn verify(&self, app: &App, headers: &Headers, raw: &[u8]) -> Result<(), Refused> {
        like().verify(app, headers, raw)
    }

    fn route(&self, app: &App, raw: &[u8]) -> Vec<String> {
        like().route(app, raw)
    }

    fn translate(
        &self,
        app: &App,
        account: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Fact>, Unreadable> {
        like().translate(app, account, raw)
    }

    fn authorize(
        &self,
        app: &App,
        state: &str,
        verifier: Option<&Secret>,
    ) -> Result<String, ConnectError> {
        like().authorize(app, state, verifier)
    }

    fn connect(&self, app: &App, grant: Grant) -> Box<dyn ConnectFlow> {
        like().connect(app, grant)
    }

    fn revoke(&self, app: &App, credentials: &Credentials) -> Vec<HttpRequest> {
        like().revoke(app, credentials)
    }

    fn send(&self, app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
        like().send(app, credentials, message)
    }

    fn interpret(&self, answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
        like().interpret(answer)
    }

    fn settling(&self) -> Duration {
        SETTLING
    }

    fn refresh(&self, app: &App, credentials: &Credentials) -> Option<HttpRequest> {
        let token = credentials.refresh_token.as_ref()?;
        let fields = [("refresh_token", token.expose())];
        Some(HttpRequest::post_form(
            format!("{}/token", app.api_base),
            &fields,
        ))
    }

    fn refreshed(
        &self,
        answer: &Result<HttpResponse, TransportError>,
    ) -> Result<Tokens, CallFailure> {
        let reason = "the platform's words".to_owned();
        let Ok(answer) = answer else {
            return Err(CallFailure::Backoff { reason });
        };
        let body = answer.json();
        match answer.status {
            200 => Ok(Tokens {
                access_token: body["access_token"].as_str().unwrap().into(),
                refresh_token: body["refresh_token"].as_str().map(Secret::new),
                expires_in_s: body["expires_in"].as_u64(),
                granted: None,
            }),
            400 => Err(CallFailure::Reconnect { reason }),
            401 => Err(CallFailure::Permanent { reason }),
            _ => Err(CallFailure::Backoff { reason }),
        }
    }

    fn install(&self, app: &App) -> Vec<HttpRequest> {
        like().install(app)
    }
}

/// A worker process, as far as renewals can tell.
pub struct Worker {
    pub context: Context,
    pub owner: Owner,
    app: App,
}

impl Worker {
    pub fn renewal(&self) -> Renewal {
        Renewal {
            context: self.context.clone(),
            adapter: &Rotates,
            app: self.app.clone(),
            owner: self.owner,
            route: ROUTE.to_owned(),
        }
    }
}

/// A worker, the platform, and an account.
pub struct World {
    worker: Worker,
    pub platform: Arc<Rotating>,
    database: TestDatabase,
}

impl std::ops::Deref for World {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        &self.worker
    }
}

async fn worker(url: &str, owner: Owner, app: App) -> Worker {
    let env = |name: &str| match name {
        "DATABASE_URL" => Some(url.to_owned()),
        "ENCRYPTION_KEY" => Some("a key for tests".to_owned()),
        _ => None,
    };
    let settings = Settings::load(env).unwrap();
    let store = Store::open(Options {
        database_url: url.into(),
        connections_max: 6,
        readers_max: 4,
        redis_url: None,
        encryption_key: settings.auth.encryption_key.clone(),
    })
    .await
    .unwrap();
    Worker {
        context: Context::new(store, &settings).unwrap(),
        owner,
        app,
    }
}

impl World {
    pub async fn new() -> Self {
        let cluster = hub_cluster::shared_for_tests().await.unwrap();
        let database = cluster.empty_database().await.unwrap();
        let pool = hub_store::connect(&database.url().into(), 2).await.unwrap();
        schema::prepare(&pool, SHARDS).await.unwrap();
        pool.close().await;
        let (platform, api_base) = Rotating::start().await;
        let user = UserId(uuid::Uuid::new_v4());
        let account: AccountId = account_id(user, PLATFORM, ROUTE);
        let app = App {
            api_base,
            ..App::default()
        };
        Self {
            worker: worker(database.url(), Owner { user, account }, app).await,
            platform,
            database,
        }
    }

    pub async fn another_worker(&self) -> Worker {
        worker(self.database.url(), self.owner, self.app.clone()).await
    }

    /// The account is connected, now or again, with tokens that live so many seconds.
    pub async fn connected(&self, refresh: &str, seconds: i64) {
        let expires_at = Utc::now() + chrono::TimeDelta::seconds(seconds);
        self.keep(Some(refresh), Some(expires_at)).await;
    }

    /// The same, with tokens that do not expire.
    pub async fn endless(&self, refresh: &str) {
        self.keep(Some(refresh), None).await;
    }

    /// The account is connected with a token that neither expires nor can be renewed.
    pub async fn unrenewable(&self) {
        self.keep(None, None).await;
    }

    async fn keep(&self, refresh: Option<&str>, expires_at: Option<chrono::DateTime<Utc>>) {
        let connected = Connected {
            platform_user_id: ROUTE.into(),
            username: "Shop".into(),
            route: ROUTE.into(),
            access_token: format!("access of {}", refresh.unwrap_or_default()).into(),
            refresh_token: refresh.map(Secret::new),
            expires_in_s: None,
            granted: None,
        };
        let store = self.context.store();
        let kept = store.put_account_tokens(self.owner, &connected, expires_at);
        kept.await.unwrap();
    }

    /// The read model shows the account as connected or not.
    pub async fn shown(&self, is_active: bool) {
        let store = self.context.store();
        let Owner { user, account } = self.owner;
        let event: Event = if is_active {
            let username = store.vault().user(user).await.unwrap().seal("Shop");
            AccountConnected {
                user,
                account,
                platform: PLATFORM,
                platform_user_id: ROUTE.into(),
                username,
                route: ROUTE.into(),
            }
            .into()
        } else {
            AccountDisconnected { user, account }.into()
        };
        let shard: Shard = store.sharding().of_user(user);
        store
            .append(Append::one(shard, account, event))
            .await
            .unwrap();
        let head = read::head(store.pool(), shard).await.unwrap();
        let mut folded = 0;
        while folded < head as usize {
            let stepped = step(store.pool(), Projection::Accounts, FIRST_GENERATION, shard).await;
            match stepped.unwrap() {
                0 => break,
                some => folded += some,
            }
        }
    }

    pub async fn state(&self) -> TokenState {
        let state = self.context.store().token_state(self.owner).await.unwrap();
        state.unwrap()
    }

    pub async fn claim(&self, version: i64) -> Option<Claim> {
        let store = self.context.store();
        let claim = store.claim_renewal(self.owner, ROUTE, version).await;
        claim.unwrap()
    }

    /// The refresh tokens in the account's row: the newest, and the one before.
    pub async fn stored(&self) -> (String, Option<String>) {
        let store = self.context.store();
        let held = store.tokens(self.owner, ROUTE).await.unwrap().unwrap();
        let newest = held.credentials.refresh_token.unwrap();
        let before: Option<String> =
            sqlx::query_scalar("SELECT previous_refresh_token FROM account_tokens")
                .fetch_one(store.pool())
                .await
                .unwrap();
        let key = store.vault().user(self.owner.user).await.unwrap();
        let before = before.map(|text| key.open(&hub_domain::event::Sealed(text)).unwrap());
        (newest.expose().to_owned(), before)
    }

    pub async fn expire(&self) {
        self.expire_in(-1).await;
    }

    pub async fn expire_in(&self, seconds: i64) {
        sqlx::query(
            "UPDATE account_tokens SET expires_at = now() + $1 * interval '1 second', \
             renewed_at = NULL",
        )
        .bind(seconds as f64)
        .execute(self.context.store().pool())
        .await
        .unwrap();
    }

    /// As if enough time had passed for claims and pauses between renewals to end.
    pub async fn let_claims_end(&self) {
        sqlx::query("UPDATE account_tokens SET renewal_until = now()")
            .execute(self.context.store().pool())
            .await
            .unwrap();
    }
}
