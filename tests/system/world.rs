//! A hub of one's own: the binary, its private PostgreSQL, its sandbox, on free ports.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Answer, Client};

/// A running hub and everything around it. Stopped and removed when dropped.
pub struct World {
    child: Option<Child>,
    dir: PathBuf,
    port: u16,
    sandbox_port: u16,
    settings: Vec<(&'static str, String)>,
    http: Client,
}

/// Waits until a condition holds, or fails with what was last seen. Never a bare sleep.
pub async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => {
                panic!("{what}: not within {within:?}; last seen: {seen:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

impl World {
    /// Starts a hub with nothing but its defaults.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a hub with these settings in its environment.
    pub async fn with(settings: &[(&'static str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(format!("hub-system-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).expect("a folder of one's own");
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let (port, sandbox_port) = (free_port(), free_port());
        let child = spawn(&dir, port, sandbox_port, &settings);
        let mut world = Self {
            child: Some(child),
            dir,
            port,
            sandbox_port,
            settings,
            http: Client::new(),
        };
        world.ready().await;
        world
    }

    /// A hub that somebody else runs.
    pub fn elsewhere(port: u16, sandbox_port: u16) -> Self {
        Self {
            child: None,
            dir: PathBuf::new(),
            port,
            sandbox_port,
            settings: Vec::new(),
            http: Client::new(),
        }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("a hub of our own")
    }

    /// The hub's address.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The hub's address for sockets.
    pub fn sockets(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// The sandbox's address.
    pub fn sandbox(&self) -> String {
        format!("http://127.0.0.1:{}", self.sandbox_port)
    }

    /// An HTTP client without a login.
    pub fn http(&self) -> &Client {
        &self.http
    }

    async fn ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child().try_wait().expect("the child's state") {
                panic!("the hub ended with {status}");
            }
            let health = self.http.try_get(&format!("{}/health", self.base())).await;
            let sandbox = self
                .http
                .try_get(&format!("{}/control/hub", self.sandbox()))
                .await;
            if health.is_some_and(|it| it.status == 200) && sandbox.is_some() {
                return;
            }
            assert!(Instant::now() < deadline, "the hub was not ready in 60 s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// kill -9, as a machine that loses power would, but for the database.
    pub fn kill(&mut self) {
        self.child().kill().expect("the hub can be killed");
        self.child().wait().expect("the hub is gone");
    }

    /// Asks the hub to stop and returns how it ended.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        let pid = self.child().id().to_string();
        let asked = Command::new("kill").args(["-INT", &pid]).status();
        assert!(asked.is_ok_and(|status| status.success()));
        self.child().wait().expect("the hub ends")
    }

    /// Starts the hub again on the same folder and ports, and waits until it is ready.
    pub async fn start_again(&mut self) {
        let child = spawn(&self.dir, self.port, self.sandbox_port, &self.settings);
        self.child = Some(child);
        self.ready().await;
    }

    /// The URL of the hub's private database.
    pub fn database(&self) -> String {
        let run = self.dir.join("data/pg/run");
        format!("postgres://hub@localhost:5432/hub?host={}", run.display())
    }

    /// The folder with all of the hub's state.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// A new user with tokens.
    pub async fn register(&self) -> User {
        let email = format!("{}@example.test", uuid::Uuid::new_v4());
        let body = json!({ "email": email, "password": "correct horse" });
        let answer = self
            .http
            .post(&format!("{}/api/auth/register", self.base()), &body)
            .await;
        answer.expect(201);
        User {
            base: self.base(),
            email,
            refresh: answer.text("/tokens/refreshToken"),
            http: self.http.bearer(&answer.text("/tokens/accessToken")),
        }
    }

    /// Tells the sandbox something; what it answers.
    pub async fn control(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/control/{path}", self.sandbox());
        let answer = self.http.post(&url, body).await;
        answer.expect(200);
        answer.body
    }

    /// Connects an account by following the pages a browser would be sent through. Returns its id.
    pub async fn connect(&self, user: &User, platform: &str) -> String {
        let start = user.get(&format!("/api/oauth/connect/{platform}")).await;
        start.expect(200);
        let url = start.text("/authorizationUrl");
        let end = self.http.follow(&url, "/connect?").await;
        assert!(end.contains("success=true"), "{end}");
        assert!(end.contains(&format!("platform={platform}")), "{end}");
        let account = end
            .split("accountId=")
            .nth(1)
            .map(|rest| rest.split('&').next().unwrap_or(rest).to_owned());
        account.expect("an account id")
    }

    /// Connects a Facebook page of the user's own. Returns the account's id and the page's.
    pub async fn connect_facebook(&self, user: &User) -> (String, String) {
        let page = format!("9{}", &uuid::Uuid::new_v4().as_u128().to_string()[..14]);
        let named = json!({ "id": page, "name": "Teapots & more" });
        self.control("pages", &named).await;
        (self.connect(user, "facebook").await, page)
    }

    /// A customer writes.
    pub async fn incoming(&self, account: &str, from: &str, text: &str) -> Answer {
        let body = json!({
            "platform": "facebook", "account": account,
            "from": { "id": from, "name": "Mira Q" }, "text": text,
        });
        let url = format!("{}/control/incoming", self.sandbox());
        self.http.post(&url, &body).await
    }

    /// Everything the platform accepted from the hub for an account, in order.
    pub async fn sent(&self, account: &str) -> Vec<Value> {
        let url = format!(
            "{}/control/sent?platform=facebook&account={account}",
            self.sandbox()
        );
        let answer = self.http.get(&url).await;
        answer.expect(200);
        answer.body["messages"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// How many messages the platforms accepted.
    pub async fn sent_in_all(&self) -> usize {
        let url = format!("{}/control/sent", self.sandbox());
        let answer = self.http.get(&url).await;
        answer.body["messages"].as_array().map_or(0, Vec::len)
    }

    /// What the platforms were asked, in order: method, path, and when in milliseconds.
    pub async fn requests(&self) -> Vec<(String, String, i64)> {
        let url = format!("{}/control/requests", self.sandbox());
        let answer = self.http.get(&url).await;
        let all = answer.body["requests"].as_array().cloned();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let read = |it: Value| {
            let at = chrono::DateTime::parse_from_rfc3339(&text(&it["at"]));
            let at = at.expect("a time").timestamp_millis();
            (text(&it["method"]), text(&it["path"]), at)
        };
        all.unwrap_or_default().into_iter().map(read).collect()
    }

    /// Turns a fault on.
    pub async fn fault(&self, fault: Value) {
        let url = format!("{}/control/faults", self.sandbox());
        self.http.put(&url, &fault).await.expect(200);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        if child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let pid = child.id().to_string();
            let _ = Command::new("kill").args(["-INT", &pid]).status();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.dir.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn spawn(
    dir: &std::path::Path,
    port: u16,
    sandbox_port: u16,
    settings: &[(&'static str, String)],
) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("hub.log"))
        .expect("a log file");
    Command::new(env!("CARGO_BIN_EXE_hub"))
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("HUB_DATA_DIR", dir.join("data"))
        .env("PORT", port.to_string())
        .env("SANDBOX_PORT", sandbox_port.to_string())
        .env("SANDBOX_CUSTOMERS", "false")
        // A test looks more often than a person.
        .env("USER_RATE_LIMIT_REQUESTS", "1000000")
        .envs(settings.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log)
        .spawn()
        .expect("the hub starts")
}

/// A registered user.
pub struct User {
    base: String,
    pub email: String,
    pub refresh: String,
    pub http: Client,
}

impl User {
    /// The same user, talking to another node.
    pub fn at(&self, world: &World) -> Self {
        Self {
            base: world.base(),
            email: self.email.clone(),
            refresh: self.refresh.clone(),
            http: self.http.clone(),
        }
    }

    /// The access token.
    pub fn token(&self) -> &str {
        self.http.token()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.http.get(&format!("{}{path}", self.base)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.http.post(&format!("{}{path}", self.base), body).await
    }

    pub async fn patch(&self, path: &str) -> Answer {
        self.http.patch(&format!("{}{path}", self.base)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.http.delete(&format!("{}{path}", self.base)).await
    }

    /// The only conversation, once it is there with this many unread messages.
    pub async fn conversation(&self, unread: i64) -> Value {
        eventually("the conversation", Duration::from_secs(10), async || {
            let answer = self.get("/api/conversations").await;
            let found = answer.body["conversations"][0].clone();
            if found["unreadCount"] == json!(unread) {
                Ok(found)
            } else {
                Err(answer.body)
            }
        })
        .await
    }

    /// Sends without waiting for what becomes of it.
    pub async fn queue(&self, conversation: &str, text: &str) {
        let url = format!("{}/api/messages/{conversation}/send", self.base);
        let body = json!({ "content": text }).to_string().into_bytes();
        let headers = [
            ("prefer", "respond-async"),
            ("content-type", "application/json"),
        ];
        self.http.post_raw(&url, &headers, body).await.expect(202);
    }

    pub async fn send(&self, conversation: &str, text: &str) -> Answer {
        self.post(
            &format!("/api/messages/{conversation}/send"),
            &json!({ "content": text }),
        )
        .await
    }
}
