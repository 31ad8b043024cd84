//! The roles as processes of their own, several of each, against a given database, with and
//! without Redis between them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::live::Door;
use crate::world::{User, World, eventually, free_port};

/// Two API processes and two workers on one database, with the platforms played in the test.
pub struct Apart {
    children: Vec<Child>,
    ports: [u16; 2],
    sandbox: u16,
    settings: Vec<(&'static str, String)>,
    database: hub_cluster::TestDatabase,
}

impl Apart {
    /// Starts them, with these settings of the test's own.
    pub async fn start(redis_url: Option<&str>, more: &[(&'static str, &str)]) -> Self {
        let cluster = hub_cluster::shared_for_tests().await.expect("a cluster");
        let database = cluster.empty_database().await.expect("a database");
        let (ports, sandbox) = ([free_port(), free_port()], free_port());
        let base = format!("http://127.0.0.1:{}", ports[0]);
        let played = format!("http://127.0.0.1:{sandbox}");
        play(sandbox, &base).await;
        let mut settings = settings(database.url(), &base, &played);
        if let Some(url) = redis_url {
            settings.push(("REDIS_URL", url.to_owned()));
        }
        settings.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        let migrated = verb("migrate", &settings).wait().expect("migrate ends");
        assert!(migrated.success());
        let mut children = vec![verb("worker", &settings), verb("worker", &settings)];
        for port in ports {
            settings.push(("PORT", port.to_string()));
            children.push(verb("api", &settings));
        }
        let apart = Self {
            children,
            ports,
            sandbox,
            settings,
            database,
        };
        for port in ports {
            let http = crate::client::Client::new();
            eventually("an API process", Duration::from_secs(20), async || {
                let health = http
                    .try_get(&format!("http://127.0.0.1:{port}/health"))
                    .await;
                health.filter(|it| it.status == 200).ok_or("not yet")
            })
            .await;
        }
        apart
    }

    /// The hub, as the first or second API process shows it.
    pub fn world(&self, node: usize) -> World {
        World::elsewhere(self.ports[node], self.sandbox)
    }

    /// Kills both workers with -9 and starts two others.
    pub fn replace_workers(&mut self) {
        for worker in &mut self.children[..2] {
            worker.kill().expect("a worker can be killed");
            worker.wait().expect("it is gone");
            *worker = verb("worker", &self.settings);
        }
    }

    /// The URL of the database.
    pub fn database(&self) -> &str {
        self.database.url()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What every role is told: the database, the hub's own address, the platforms'.
pub fn settings(database: &str, base: &str, played: &str) -> Vec<(&'static str, String)> {
    [
        ("DATABASE_URL", database),
        ("HUB_ENV", "development"),
        ("HUB_HOST", "127.0.0.1"),
        ("HUB_SHARDS", "4"),
        // A test looks more often than a person.
        ("USER_RATE_LIMIT_REQUESTS", "1000000"),
        // And writes more often than a Page may.
        ("HUB_BUDGET_FACEBOOK", "1000000/1"),
        ("HUB_DB_POOL_SIZE", "10"),
        ("WEBHOOK_BASE_URL", base),
        ("JWT_SECRET", "access-secret-of-a-test"),
        ("JWT_REFRESH_SECRET", "refresh-secret-of-a-test"),
        ("ENCRYPTION_KEY", "encryption-key-of-a-test"),
        ("FACEBOOK_APP_ID", APP.0),
        ("FACEBOOK_APP_SECRET", APP.1),
        ("FACEBOOK_API_BASE", played),
        ("FACEBOOK_DIALOG_BASE", played),
        ("TELEGRAM_USER_API_BASE", played),
        ("TELEGRAM_API_ID", "1"),
        ("TELEGRAM_API_HASH", "the hash of a test"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

const APP: (&str, &str) = ("845120034567890", "0f1e2d3c4b5a69788796a5b4c3d2e1f0");

/// Plays Facebook on this port, for a hub at this address.
pub async fn play(port: u16, hub: &str) {
    let sandbox = hub_sandbox::Sandbox::new(&hub_sandbox::Options {
        hub_webhook_base: hub.to_owned(),
        facebook_app_id: APP.0.to_owned(),
        facebook_app_secret: APP.1.to_owned(),
        telegram_bot_token: "7100000001:unused".to_owned(),
        telegram_bot_username: "unused_bot".to_owned(),
        telegram_webhook_secret: "unused".to_owned(),
        ..hub_sandbox::Options::default()
    })
    .expect("a sandbox");
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
    let listener = listener.expect("the port is free");
    tokio::spawn(sandbox.serve(listener, std::future::pending()));
}

/// Starts a verb of the hub.
pub fn verb(verb: &str, settings: &[(&str, String)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hub"))
        .arg(verb)
        .env_clear()
        .envs(settings.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the verb starts")
}

/// A message comes in at one node and is told at a door of the other; an answer goes out once
/// although two workers could send it; a worker that dies is not missed.
async fn story(mut apart: Apart) {
    let (first, second) = (apart.world(0), apart.world(1));
    let user = first.register().await;
    let (_, page) = first.connect_facebook(&user).await;
    let there: User = user.at(&second);
    let mut door = Door::plain(&second, &there).await;
    first.incoming(&page, "801", "hello").await.expect(200);
    let events = door.exactly(3, Duration::from_millis(700)).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["new_message", "unread_count_update", "conversation_update"]
    );
    let conversation = there.conversation(1).await;
    let id = conversation["id"].as_str().expect("an id");

    let texts: Vec<String> = (0..10).map(|n| format!("answer {n}")).collect();
    for (n, text) in texts.iter().enumerate() {
        if n == 5 {
            apart.children[0].kill().expect("a worker can be killed");
        }
        let node = if n % 2 == 0 { &user } else { &there };
        node.send(id, text).await.expect(201);
    }
    let sent = eventually("all answers", Duration::from_secs(100), async || {
        let sent = first.sent(&page).await;
        if sent.len() >= texts.len() {
            Ok(sent)
        } else {
            Err(sent.len())
        }
    })
    .await;
    let sent: Vec<_> = sent.iter().map(|it| it["text"].clone()).collect();
    assert_eq!(
        json!(sent),
        json!(texts),
        "each once, in the order accepted"
    );
}

/// A Redis of one's own; ends with the test.
pub struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// `None`, said loudly, when there is no `redis-server`.
    pub async fn start() -> Option<Self> {
        let port = free_port();
        let arguments = ["--port", &port.to_string(), "--save", ""];
        let child = Command::new("redis-server")
            .args(arguments)
            .args(["--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("SKIPPED: redis-server is not installed, so nothing was tested with Redis");
            return None;
        };
        let redis = Self { child, port };
        eventually("Redis", Duration::from_secs(5), async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await
        })
        .await;
        Some(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn roles_apart_work_as_one_hub_without_redis() {
    story(Apart::start(None, &[]).await).await;
}

#[tokio::test]
async fn roles_apart_work_as_one_hub_with_redis() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    story(Apart::start(Some(&redis.url()), &[]).await).await;
}
