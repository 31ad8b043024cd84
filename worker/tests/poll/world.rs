//! A database, a played Graph, and workers that can be killed.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SubsecRound as _, Utc};
use hub_cluster::TestDatabase;
use hub_config::Settings;
use hub_domain::command::{Command, NewCommand, PollAnswer};
use hub_domain::envelope::Append;
use hub_domain::event::AccountConnected;
use hub_domain::id::{Key, UserId, account_id};
use hub_domain::platform::{Connected, Platform};
use hub_store::account::Owner;
use hub_store::vault::Opened;
use hub_store::{Options, PgPool, Store, schema};
use hub_worker::Context;
use serde_json::Value;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::graph::{Graph, Line};

const SOON: Duration = Duration::from_secs(20);

/// A message as a user sees it: the platform's id, the text, whose, when by Graph's clock, read.
pub type Seen = (String, String, bool, DateTime<Utc>);

pub struct World {
    pub graph: Graph,
    pub store: Store,
    database: TestDatabase,
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

pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !ask().await {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn line(mid: &str, by_page: bool) -> Line {
    Line {
        mid: mid.to_owned(),
        text: format!("text of {mid}"),
        by_page,
        at: Utc::now(),
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

fn settings(url: &str, graph: &str) -> Settings {
    let env = |name: &str| match name {
        "DATABASE_URL" => Some(url.to_owned()),
        "ENCRYPTION_KEY" => Some("a key for tests".to_owned()),
        "FACEBOOK_APP_ID" => Some("1".to_owned()),
        "FACEBOOK_APP_SECRET" => Some("fb-secret".to_owned()),
        "FACEBOOK_API_BASE" => Some(graph.to_owned()),
        _ => None,
    };
    Settings::load(env).expect("settings")
}

impl World {
    pub async fn new() -> Self {
        let cluster = hub_cluster::shared_for_tests().await.expect("a cluster");
        let database = cluster.empty_database().await.expect("a database");
        let pool = hub_store::connect(&database.url().into(), 2).await.unwrap();
        schema::prepare(&pool, 4).await.expect("a schema");
        let graph = Graph::start().await;
        let settings = settings(database.url(), &graph.base);
        Self {
            store: open(&settings, database.url()).await,
            graph,
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
        let settings = settings(&url, &self.graph.base);
        runtime.spawn(async move {
            let store = open(&settings, &url).await;
            let context = Context::new(store, &settings).expect("a context");
            hub_worker::run(context, std::future::pending()).await
        });
        Worker(Some(runtime))
    }

    /// Keeps a token for an account.
    pub async fn give_token(&self, owner: Owner, page: &str, token: &str) {
        let connected = Connected {
            platform_user_id: page.to_owned(),
            username: "Teapots".to_owned(),
            route: page.to_owned(),
            access_token: token.into(),
            refresh_token: None,
            expires_in_s: None,
            granted: None,
        };
        let kept = self.store.put_account_tokens(owner, &connected, None);
        kept.await.unwrap();
    }

    /// A connected Page of a user's own.
    pub async fn connect(&self, user: UserId, page: &str) -> Owner {
        let account = account_id(user, Platform::Facebook, page);
        let owner = Owner { user, account };
        self.give_token(owner, page, "token").await;
        let store = &self.store;
        store
            .put_owner(Platform::Facebook, page, owner)
            .await
            .unwrap();
        let event = AccountConnected {
            user,
            account,
            platform: Platform::Facebook,
            platform_user_id: page.to_owned(),
            username: store.vault().user(user).await.unwrap().seal("Teapots"),
            route: page.to_owned(),
        };
        let shard = store.sharding().of_user(user);
        store
            .append(Append::one(shard, account, event))
            .await
            .unwrap();
        owner
    }

    /// A Page whose first poll is over.
    pub async fn polled(&self, page: &str) -> Owner {
        let owner = self.connect(UserId(Uuid::now_v7()), page).await;
        eventually("the first poll", async || self.polls(owner).await > 0).await;
        owner
    }

    pub async fn polls(&self, owner: Owner) -> i64 {
        let stats = self.store.poll_stats(owner.user, &["facebook"]).await;
        stats.unwrap().polls
    }

    /// Wishes for a poll; the name of the answer.
    pub async fn wish(&self, owner: Owner, since: Option<DateTime<Utc>>) -> Key {
        let answer = Key::of(&[b"test", Uuid::new_v4().as_bytes()]);
        let command = NewCommand {
            shard: self.store.sharding().of_user(owner.user),
            command: Command::PollAccount {
                user: owner.user,
                account: owner.account,
                since,
                answer,
            },
            request: Some("a test".to_owned()),
        };
        self.store.accept(command).await.unwrap();
        answer
    }

    pub async fn answer(&self, owner: Owner, key: Key) -> PollAnswer {
        let shard = self.store.sharding().of_user(owner.user);
        let answer = self.store.wait_for_answer(shard, key, SOON).await.unwrap();
        answer.expect("an answer to the wish")
    }

    /// Polls and waits for the outcome.
    pub async fn ask(&self, owner: Owner) -> PollAnswer {
        let key = self.wish(owner, None).await;
        self.answer(owner, key).await
    }

    /// How many messages a poll brings; it must work.
    pub async fn bring(&self, owner: Owner) -> u64 {
        match self.ask(owner).await {
            PollAnswer::Polled { messages } => messages,
            failed @ PollAnswer::Failed { .. } => panic!("{failed:?}"),
        }
    }

    async fn raw(&self, page: &str, owner: Option<Owner>, body: &Value) {
        let (store, platform, sealed_at) = (&self.store, Platform::Facebook, Utc::now());
        let routes = vec![page.to_owned()];
        let text = STANDARD.encode(body.to_string());
        let body = store.vault().seal_raw(platform, &routes, sealed_at, &text);
        let body = body.await.unwrap();
        let command = match owner {
            None => Command::Webhook {
                platform,
                body,
                sealed_at,
                routes,
            },
            Some(owner) => Command::Page {
                platform,
                user: owner.user,
                account: owner.account,
                route: page.to_owned(),
                body,
                sealed_at,
                repairs: true,
                answer: None,
            },
        };
        let command = NewCommand {
            shard: store.sharding().of_route(platform, page),
            command,
            request: None,
        };
        store.accept(command).await.unwrap();
    }

    pub async fn deliver(&self, page: &str, body: &Value) {
        self.raw(page, None, body).await;
    }

    pub async fn fetched(&self, page: &str, owner: Owner, body: &Value) {
        self.raw(page, Some(owner), body).await;
    }

    /// Waits until everything that came in is translated.
    pub async fn translated(&self) {
        eventually("the translation", async || {
            let behind: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM shards s JOIN checkpoints c ON c.shard = s.shard \
                 WHERE s.log = 'commands' AND c.reactor = 'translate' AND c.position < s.head",
            )
            .fetch_one(self.pool())
            .await
            .unwrap();
            behind == 0
        })
        .await;
    }

    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    pub async fn events(&self) -> i64 {
        self.count("SELECT count(*) FROM events").await
    }

    /// What the user sees of all conversations, in no order that depends on when it came; and how
    /// much of it is unread.
    pub async fn seen(&self, user: UserId) -> (Vec<Seen>, i64) {
        let rows = self.store.recent_messages(user, None, 100).await.unwrap();
        let texts = rows.iter().filter_map(|(row, _)| row.body.as_deref());
        let keys = self.store.vault().keyring(user, texts).await.unwrap();
        let seen = rows.iter().map(|(row, _)| {
            let Opened::Text(text) = keys.open(row.body.as_deref().unwrap()).unwrap() else {
                panic!("erased");
            };
            let mid = row.platform_message_id.clone().unwrap();
            // Graph's history has no fractions of a second.
            let at = row.sent_at.unwrap().trunc_subsecs(0);
            (mid, text, row.outgoing, at)
        });
        let mut seen: Vec<_> = seen.collect();
        seen.sort();
        let unread = self.store.unread(user).await.unwrap();
        (seen, unread.total)
    }

    /// Waits until no poll runs or waits. Whoever wished for one is answered before its job ends.
    pub async fn rest(&self) {
        let jobs = "SELECT count(*) FROM jobs WHERE queue = 'poll'";
        eventually("an end of the polls", async || self.count(jobs).await == 0).await;
    }

    /// Whether the schedule takes this account within that time, once its polls have ended.
    pub async fn is_due_within(&self, owner: Owner, within: Duration) -> bool {
        self.rest().await;
        let due = hub_store::polls::due(self.pool(), &["facebook"], within, 100).await;
        due.unwrap().iter().any(|it| it.owner == owner)
    }
}
