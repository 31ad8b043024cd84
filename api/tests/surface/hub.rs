//! A hub for one test: a database of its own, the router, and projections that run by themselves.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use hub_api::auth::{Claims, issue};
use hub_api::{Api, router};
use hub_cluster::TestDatabase;
use hub_config::Settings;
use hub_domain::envelope::Append;
use hub_domain::event::{
    AccountConnected, Event, MessageReceived, MessageType, PlatformMessage, Thread,
};
use hub_domain::id::{
    AccountId, ConversationId, MessageId, Place, StreamId, UserId, account_id, conversation_id,
    message_id,
};
use hub_domain::platform::Platform;
use hub_domain::secret::Secret;
use hub_store::project::{Projection, step};
use hub_store::schema::FIRST_GENERATION;
use hub_store::signal::Topic;
use hub_store::vault::DataKey;
use hub_store::{Options, Store, checkpoint};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::database::database;
use crate::document;

pub const ORIGIN: &str = "http://localhost:5173";
pub const PASSWORD: &str = "correct horse";
pub const BOT_TOKEN: &str = "123456:TEST-bot-token";

/// The environment of the test's hub; a test may put its own in front.
const ENVIRONMENT: [(&str, &str); 22] = [
    ("HUB_ENV", "development"),
    ("JWT_SECRET", "signs access tokens of a test"),
    ("JWT_REFRESH_SECRET", "signs refresh tokens of a test"),
    ("CORS_ORIGINS", ORIGIN),
    ("FRONTEND_URL", "https://app.example"),
    ("WEBHOOK_BASE_URL", "https://hub.example"),
    ("FACEBOOK_APP_ID", "1"),
    ("FACEBOOK_APP_SECRET", "fb-secret"),
    ("FACEBOOK_VERIFY_TOKEN", "fb-verify"),
    ("TELEGRAM_BOT_TOKEN", BOT_TOKEN),
    ("TELEGRAM_BOT_USERNAME", "hub_bot"),
    ("TELEGRAM_WEBHOOK_SECRET", "tg-secret"),
    ("TWITTER_CONSUMER_SECRET", "tw-secret"),
    ("LINKEDIN_CLIENT_SECRET", "li-secret"),
    ("HUB_READ_WAIT_MS", "5000"),
    ("HUB_SEND_WAIT_MS", "300"),
    ("HUB_OAUTH_CALLBACK_WAIT_MS", "3000"),
    ("HUB_SHARDS", "4"),
    (
        "HUB_MEDIA_DIR",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/media"),
    ),
    ("HUB_MEDIA_UPLOAD_BYTES", "1048576"),
    // Only the tests of limits want to meet them.
    ("USER_RATE_LIMIT_REQUESTS", "1000000"),
    ("HUB_STRICT_RATE_LIMIT_REQUESTS", "1000000"),
];

pub struct Hub {
    pub api: Api,
    pub router: Router,
    answered: Mutex<BTreeSet<String>>,
    projecting: JoinHandle<()>,
    database: TestDatabase,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.projecting.abort();
    }
}

impl Hub {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(environment: &[(&str, &str)]) -> Self {
        journal();
        let database = database().await;
        let api = api(database.url(), environment).await;
        Self {
            router: router(api.clone()),
            answered: Mutex::default(),
            projecting: tokio::spawn(project(api.store().clone())),
            api,
            database,
        }
    }

    /// Another process on the same database, as far as requests can tell.
    pub async fn another(&self, environment: &[(&str, &str)]) -> Router {
        router(api(self.database_url(), environment).await)
    }

    pub fn database_url(&self) -> &str {
        self.database.url()
    }

    pub fn store(&self) -> &Store {
        self.api.store()
    }

    /// A registered user.
    pub async fn person(&self, name: &str) -> Person {
        let email = format!("{name}@example.com");
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = self.post("/api/auth/register", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let user = UserId(uuid(&answer.body["user"]["id"]));
        let text = |name: &str| answer.body["tokens"][name].as_str().unwrap().to_owned();
        Person {
            key: self.store().vault().user(user).await.unwrap(),
            access: text("accessToken"),
            refresh: text("refreshToken"),
            email,
            user,
        }
    }

    /// A connected account of a user.
    pub async fn account(&self, of: &Person, platform: Platform, name: &str) -> AccountId {
        let account = account_id(of.user, platform, name);
        let connected = AccountConnected {
            user: of.user,
            account,
            platform,
            platform_user_id: name.to_owned(),
            username: of.key.seal(&format!("The {name}")),
            route: name.to_owned(),
        };
        self.happen(of.user, account, connected).await;
        account
    }

    /// Appends an event and waits until the read models show it.
    pub async fn happen(
        &self,
        user: UserId,
        stream: impl Into<StreamId>,
        event: impl Into<Event>,
    ) -> Place {
        let shard = self.store().sharding().of_user(user);
        let append = Append::one(shard, stream, event);
        let place = self.store().append(append).await.unwrap().place();
        for projection in Projection::ALL {
            let within = Duration::from_secs(10);
            let waited = self.store().wait_for_projection(projection, place, within);
            assert!(waited.await.unwrap());
        }
        place
    }

    /// Somebody writes to an account.
    pub async fn receive(&self, to: &Person, at: &Thread, id: &str, text: &str) -> MessageId {
        let received = self.message(to, at, id, text);
        let message = received.message;
        self.happen(to.user, at.conversation, MessageReceived(received))
            .await;
        message
    }

    /// A message that somebody writes to an account.
    pub fn message(&self, to: &Person, at: &Thread, id: &str, text: &str) -> PlatformMessage {
        PlatformMessage {
            at: at.clone(),
            message: message_id(at.conversation, id),
            platform_message_id: id.to_owned(),
            sender_id: "PSID9".to_owned(),
            sender_name: Some(to.key.seal("Bob")),
            thread_name: None,
            message_type: MessageType::Text,
            text: to.key.seal(text),
            media: None,
            detail: None,
            sent_at: chrono::Utc::now(),
        }
    }

    /// What the API answers, held against the document.
    pub async fn call(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = call(&self.router, request).await;
        let document = document::served(&self.router).await;
        let operation = document::check(document, &method, &path, &answer);
        self.answered.lock().unwrap().extend(operation);
        answer
    }

    /// The operations of the document that have answered so far.
    pub fn answered(&self) -> BTreeSet<String> {
        self.answered.lock().unwrap().clone()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(request("POST", path, None, Some(body))).await
    }

    /// A call with a person's token.
    pub async fn by(&self, who: &Person, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.call(request(method, path, Some(&who.access), body))
            .await
    }

    pub async fn get(&self, who: &Person, path: &str) -> Answer {
        self.by(who, "GET", path, None).await
    }

    /// Closes the connections to the database. An appender may keep its own, so closing never ends.
    pub async fn lose_store(&self) {
        let closing = self.store().close();
        let _never_ends = timeout(Duration::from_millis(100), closing).await;
    }

    /// No projection moves any more.
    pub fn stop_projecting(&self) {
        self.projecting.abort();
    }

    pub async fn count(&self, table: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {table}");
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(query));
        count.fetch_one(self.store().pool()).await.unwrap()
    }
}

async fn api(database_url: &str, environment: &[(&str, &str)]) -> Api {
    let settings = Settings::load(|name| {
        let all = environment.iter().chain(&ENVIRONMENT);
        let mut found = all.filter(|(own, _)| *own == name);
        found.next().map(|(_, value)| (*value).to_owned())
    });
    let settings = settings.unwrap();
    let options = Options {
        database_url: Secret::new(database_url),
        connections_max: 8,
        readers_max: 4,
        redis_url: settings.redis.url.clone(),
        encryption_key: Secret::new("the encryption key of a test"),
    };
    let store = Store::open(options).await.unwrap();
    Api::new(store, Arc::new(settings), None)
}

pub async fn call(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let raw = to_bytes(body, 64 * 1024 * 1024).await.unwrap();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&raw).unwrap_or_default(),
        text: String::from_utf8_lossy(&raw).into_owned(),
    }
}

/// A registered user with their tokens.
pub struct Person {
    pub user: UserId,
    pub email: String,
    pub access: String,
    pub refresh: String,
    pub key: DataKey,
}

impl Person {
    pub fn thread(&self, account: AccountId, platform: Platform, thread: &str) -> Thread {
        Thread {
            user: self.user,
            account,
            platform,
            conversation: conversation_id(account, thread),
            thread: thread.to_owned(),
        }
    }

    pub fn claims(&self) -> Claims {
        Claims {
            user: self.user,
            email: self.email.clone(),
        }
    }

    pub fn expired_token(&self, hub: &Hub) -> String {
        let yesterday = chrono::Utc::now() - chrono::TimeDelta::days(1);
        let auth = &hub.api.settings().auth;
        issue(auth, &self.claims(), yesterday).unwrap().0.access
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// The code of an error in the structured envelope, which it checks.
    pub fn code(&self) -> &str {
        let error = &self.body["error"];
        assert!(error["message"].is_string(), "{}", self.text);
        assert!(error["retryable"].is_boolean(), "{}", self.text);
        error["code"].as_str().unwrap()
    }

    /// The code of an error in the flat envelope, which it checks.
    pub fn flat_code(&self) -> &str {
        assert!(self.body["error"].is_string(), "{}", self.text);
        assert_eq!(self.body["error"], self.body["message"]);
        assert!(self.body["retryable"].is_boolean(), "{}", self.text);
        self.body["code"].as_str().unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status.as_u16(), "{}", self.text);
        self
    }
}

pub fn request(
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Request<Body> {
    let mut builder = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path);
    if let Some(token) = token {
        builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    match body {
        Some(body) => builder
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string())),
        None => builder.body(Body::empty()),
    }
    .unwrap()
}

pub fn uuid(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

pub fn conversation_of(value: &Value) -> ConversationId {
    ConversationId(uuid(value))
}

/// What a worker's projections do.
async fn project(store: Store) {
    let mut listener = store.signals().listen(Topic::Events);
    loop {
        let mut moved = false;
        for projection in Projection::ALL {
            let reactor = projection.reactor(FIRST_GENERATION);
            let Ok(shards) = checkpoint::behind(store.pool(), reactor).await else {
                return;
            };
            for shard in shards {
                let stepped = step(store.pool(), projection, FIRST_GENERATION, shard).await;
                moved |= stepped.unwrap() > 0;
            }
        }
        if moved {
            store.signals().raise(Topic::Projected);
        } else {
            listener.wait(Duration::from_millis(20)).await;
        }
    }
}

/// Everything this process has logged so far. Kept for all tests together: a subscriber per thread
/// misses lines whose interest another thread decided.
pub fn journal() -> String {
    static KEPT: OnceLock<Journal> = OnceLock::new();
    let kept = KEPT.get_or_init(|| {
        let journal = Journal::default();
        let writer = journal.clone();
        tracing_subscriber::fmt()
            .with_env_filter("debug,sqlx=info")
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .init();
        journal
    });
    String::from_utf8_lossy(&kept.0.lock().unwrap()).into_owned()
}

#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<u8>>>);

impl Write for Journal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
