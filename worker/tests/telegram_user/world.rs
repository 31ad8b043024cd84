//! A database, an account of a person on Telegram, and workers that can be killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hub_cluster::TestDatabase;
use hub_config::Settings;
use hub_domain::command::{Command, NewCommand};
use hub_domain::envelope::{Append, Meta};
use hub_domain::event::AccountConnected;
use hub_domain::id::{Epoch, Place, UserId, account_id};
use hub_domain::platform::telegram_user::Told;
use hub_domain::platform::{Connected, Platform};
use hub_store::account::Owner;
use hub_store::objects::Objects;
use hub_store::{Options, PgPool, Store, schema};
use hub_worker::Context;
use tokio::runtime::Runtime;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

/// Telegram's id of the account.
pub const ROUTE: &str = "42";

pub struct World {
    pub store: Store,
    pub objects: Objects,
    telegram: Option<String>,
    folder: Folder,
    pub database: TestDatabase,
}

/// Where workers keep files.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _never_made = std::fs::remove_dir_all(&self.0);
    }
}

/// A worker in a runtime of its own: dropped, it stops wherever it is, as a killed process does.
pub struct Worker(Option<Runtime>);

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

pub async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !ask().await {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn open(settings: &Settings, url: &str) -> Store {
    let options = Options {
        database_url: url.into(),
        connections_max: 8,
        readers_max: 4,
        redis_url: None,
        encryption_key: settings.auth.encryption_key.clone(),
    };
    Store::open(options).await.expect("a store")
}

fn settings(url: &str, telegram: Option<&str>, folder: &Path) -> Settings {
    let env = |name: &str| match name {
        "DATABASE_URL" => Some(url.to_owned()),
        "HUB_MEDIA_DIR" => Some(folder.to_string_lossy().into_owned()),
        "HUB_SEND_RETRY_FIRST_MS" => Some("200".to_owned()),
        "ENCRYPTION_KEY" => Some("a key for tests".to_owned()),
        "TELEGRAM_API_ID" => telegram.map(|_| "71000001".to_owned()),
        "TELEGRAM_API_HASH" => telegram.map(|_| "00112233445566778899aabbccddeeff".to_owned()),
        "TELEGRAM_USER_API_BASE" => telegram.map(str::to_owned),
        _ => None,
    };
    Settings::load(env).expect("settings")
}

impl World {
    pub async fn new(telegram: Option<&str>) -> Self {
        let cluster = hub_cluster::shared_for_tests().await.expect("a cluster");
        let database = cluster.empty_database().await.expect("a database");
        let pool = hub_store::connect(&database.url().into(), 2).await.unwrap();
        schema::prepare(&pool, 4).await.expect("a schema");
        let folder = format!("hub-telegram-{}", Uuid::new_v4());
        let folder = Folder(std::env::temp_dir().join(folder));
        let settings = settings(database.url(), telegram, &folder.0);
        Self {
            objects: Objects::in_folder(&folder.0),
            folder,
            store: open(&settings, database.url()).await,
            telegram: telegram.map(str::to_owned),
            database,
        }
    }

    pub fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    /// Another worker process, as far as the database can tell.
    pub fn worker(&self) -> Worker {
        let runtime = Runtime::new().unwrap();
        let url = self.database.url().to_owned();
        let settings = settings(&url, self.telegram.as_deref(), &self.folder.0);
        runtime.spawn(async move {
            let store = open(&settings, &url).await;
            let context = Context::new(store, &settings).expect("a context");
            hub_worker::run(context, std::future::pending()).await
        });
        Worker(Some(runtime))
    }

    /// What dead workers held is free.
    pub async fn leases_end(&self) {
        for statement in [
            "UPDATE jobs SET due_at = now()",
            "UPDATE telegram_sessions SET held_until = now() - interval '1 second'",
        ] {
            sqlx::query(statement).execute(self.pool()).await.unwrap();
        }
    }

    /// A connected account of somebody new.
    pub async fn connect(&self) -> Owner {
        let (store, platform, user) = (&self.store, Platform::Telegram, UserId(Uuid::now_v7()));
        let account = account_id(user, platform, ROUTE);
        let owner = Owner { user, account };
        let connected = Connected {
            platform_user_id: ROUTE.to_owned(),
            username: "ann".to_owned(),
            route: ROUTE.to_owned(),
            access_token: r#"{"mtproto":1,"key":"k","seen":0}"#.into(),
            refresh_token: None,
            expires_in_s: None,
            granted: None,
        };
        let kept = store.put_account_tokens(owner, &connected, None).await;
        kept.unwrap();
        store.put_owner(platform, ROUTE, owner).await.unwrap();
        let event = AccountConnected {
            user,
            account,
            platform,
            platform_user_id: ROUTE.to_owned(),
            username: store.vault().user(user).await.unwrap().seal("ann"),
            route: ROUTE.to_owned(),
        };
        let append = Append::one(store.sharding().of_user(user), account, event);
        store.append(append).await.unwrap();
        owner
    }

    pub async fn request(&self, owner: Owner) -> Place {
        let requested = self.store.request_reset(owner, Meta::default()).await;
        requested.unwrap()
    }

    /// Asks for a reset and waits until everything is forgotten; the epoch it began.
    pub async fn reset(&self, owner: Owner) -> Epoch {
        let requested = self.request(owner).await;
        let told = self.store.wait_for_reset(requested, SOON).await.unwrap();
        told.expect("it is forgotten");
        let row = self.store.account(owner.user, owner.account).await.unwrap();
        Epoch(row.unwrap().epoch)
    }

    /// What a session writes down.
    pub async fn tell(&self, told: &Told) {
        let (store, platform, sealed_at) = (&self.store, Platform::Telegram, Utc::now());
        let routes = vec![ROUTE.to_owned()];
        let text = STANDARD.encode(serde_json::to_vec(told).unwrap());
        let body = store.vault().seal_raw(platform, &routes, sealed_at, &text);
        let command = Command::Webhook {
            platform,
            body: body.await.unwrap(),
            sealed_at,
            routes,
        };
        let command = NewCommand {
            shard: store.sharding().of_route(platform, ROUTE),
            command,
            request: None,
        };
        store.accept(command).await.unwrap();
    }

    /// Waits until everything that came in is translated and folded.
    pub async fn translated(&self) {
        let behind = "SELECT count(*) FROM shards s JOIN checkpoints c ON c.shard = s.shard \
             AND c.log = s.log WHERE c.reactor IN ('translate', 'inbox', 'accounts') \
             AND c.position < s.head";
        eventually("the translation", async || self.count(behind).await == 0).await;
    }

    pub async fn count(&self, query: &'static str) -> i64 {
        let counted = sqlx::query_scalar(query).fetch_one(self.pool()).await;
        counted.unwrap()
    }

    /// Telegram's ids of what is shown, in order, and how much of it is unread; both also by
    /// counting.
    pub async fn seen(&self, owner: Owner) -> (Vec<String>, i64) {
        let rows = self.store.recent_messages(owner.user, None, 100).await;
        let rows = rows.unwrap().into_iter();
        let mut ids: Vec<String> = rows
            .map(|(row, _)| row.platform_message_id.unwrap())
            .collect();
        ids.sort();
        let unread = self.store.unread(owner.user).await.unwrap().total;
        (ids, unread)
    }

    /// Waits until all is folded, and says what is shown then.
    pub async fn shows(&self, owner: Owner, ids: &[&str], unread: i64) {
        self.translated().await;
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(self.seen(owner).await, (ids, unread));
        let counted = "SELECT count(*) FROM read.messages m JOIN read.conversations c \
             ON c.shard = m.shard AND c.generation = m.generation AND c.id = m.conversation_id \
             WHERE m.state = 'received' AND NOT m.is_read AND m.position > c.read_through";
        assert_eq!(self.count(counted).await, unread, "unread is a recount");
    }

    /// The hub's names of what is shown.
    pub async fn ids(&self, owner: Owner) -> Vec<Uuid> {
        let rows = self.store.recent_messages(owner.user, None, 100).await;
        rows.unwrap().into_iter().map(|(row, _)| row.id).collect()
    }
}
