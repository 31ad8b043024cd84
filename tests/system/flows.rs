//! The conversations that adapters describe, held with the played platforms: connecting, polling,
//! renewing tokens. The loop here is a driver without a hub around it.

use hub_domain::platform::call::{CallFailure, PollStep};
use hub_domain::platform::fact::{Fact, FactKind};
use hub_domain::platform::http::{HttpRequest, HttpResponse, Method, TransportError};
use hub_domain::platform::{
    Adapter, App, ConnectStep, Connected, Credentials, Grant, Outbound, Platform, SendOutcome,
    adapter,
};
use hub_domain::secret::Secret;
use hub_sandbox::{LinkedinApp, Options, Sandbox, TwitterApp};
use serde_json::{Value, json};

use crate::client::Client;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// The platforms, and whoever calls them.
struct Stage {
    base: String,
    http: Client,
    adapter: &'static dyn Adapter,
    app: App,
}

impl Stage {
    async fn set(platform: Platform) -> Self {
        let options = Options {
            hub_webhook_base: "http://127.0.0.1:9".to_owned(),
            facebook_app_id: String::new(),
            facebook_app_secret: String::new(),
            telegram_bot_token: "7100000001:unused".to_owned(),
            telegram_bot_username: "unused_bot".to_owned(),
            telegram_webhook_secret: "unused".to_owned(),
            twitter: TwitterApp {
                client_id: "client".to_owned(),
                client_secret: "secret".to_owned(),
                consumer_secret: "consumer".to_owned(),
                ..TwitterApp::default()
            },
            linkedin: LinkedinApp {
                client_id: "client".to_owned(),
                client_secret: "secret".to_owned(),
                application_id: "1".to_owned(),
            },
            customers: false,
            ..Options::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let sandbox = Sandbox::new(&options).expect("a sandbox");
        tokio::spawn(sandbox.serve(listener, std::future::pending()));
        let app = App {
            client_id: "client".into(),
            client_secret: "secret".into(),
            webhook_secret: "consumer".into(),
            api_base: base.clone(),
            dialog_base: base.clone(),
            api_version: match platform {
                Platform::Twitter => "2".into(),
                _ => "202610".into(),
            },
            scopes: "openid profile w_organization_social r_dma_portability_self_serve".into(),
            redirect_uri: "http://127.0.0.1:9/back".into(),
            ..App::default()
        };
        Self {
            base,
            http: Client::new(),
            adapter: adapter(platform).expect("an adapter"),
            app,
        }
    }

    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut call = reqwest::Client::new()
            .request(method, &request.url)
            .body(request.body);
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        let answer = call.send().await.map_err(|_| TransportError::Unclear)?;
        let headers = answer.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        Ok(HttpResponse {
            status: answer.status().as_u16(),
            headers,
            body: answer.bytes().await.unwrap().to_vec(),
        })
    }

    async fn connect(&self) -> Connected {
        let verifier = self.adapter.pkce().then(|| Secret::new(VERIFIER));
        let page = self.adapter.authorize(&self.app, "s1", verifier.as_ref());
        let back = self.http.get(&page.expect("a page")).await;
        let back = back.header("location").expect("a redirect").to_owned();
        let query = back.split_once('?').expect("a query").1;
        let code = query.split('&').find_map(|pair| pair.strip_prefix("code="));
        let grant = Grant::Code {
            code: code.expect("a code").into(),
            verifier,
        };
        let mut flow = self.adapter.connect(&self.app, grant);
        let mut answer = None;
        for _ in 0..30 {
            match flow.next(answer.take()) {
                ConnectStep::Call(request) => answer = Some(self.call(request).await),
                ConnectStep::Done(connected) => return connected,
                ConnectStep::Failed(error) => panic!("{error}"),
            }
        }
        panic!("it does not end")
    }

    /// One poll: what it kept, read, and the cursor for the next one.
    async fn poll(
        &self,
        credentials: &Credentials,
        cursor: Option<&Value>,
    ) -> Result<(Vec<Fact>, Value), CallFailure> {
        let now = chrono::Utc::now();
        let flow = self.adapter.poll(&self.app, credentials, cursor, now);
        let mut flow = flow.expect("it can be polled");
        let (mut answer, mut facts) = (None, Vec::new());
        for _ in 0..100 {
            match flow.next(answer.take()) {
                PollStep::Call(request) => answer = Some(self.call(request).await),
                PollStep::Keep(body) => {
                    let read = self
                        .adapter
                        .translate(&self.app, Some(&credentials.route), &body);
                    facts.extend(read.expect("a readable page"));
                }
                PollStep::Done { cursor } => return Ok((facts, cursor)),
                PollStep::Failed(failure) => return Err(failure),
            }
        }
        panic!("it does not end")
    }

    async fn control(&self, method: &str, path: &str, body: &Value) {
        let url = format!("{}/control/{path}", self.base);
        let answer = match method {
            "PUT" => self.http.put(&url, body).await,
            _ => self.http.post(&url, body).await,
        };
        answer.expect(200);
    }

    async fn writes(&self, platform: &str, account: &str, text: &str) {
        let body = json!({ "platform": platform, "account": account,
            "from": { "id": "1700000000000000202", "name": "Mira Quist" }, "text": text });
        self.control("POST", "incoming", &body).await;
    }
}

fn credentials(connected: Connected) -> Credentials {
    Credentials {
        route: connected.route,
        access_token: connected.access_token,
        refresh_token: connected.refresh_token,
        granted: connected.granted,
    }
}

fn texts(facts: &[Fact]) -> Vec<&str> {
    facts
        .iter()
        .filter_map(|fact| fact.text.as_deref())
        .collect()
}

#[tokio::test]
async fn messages_of_x_are_fetched_once_and_page_by_page() {
    let stage = Stage::set(Platform::Twitter).await;
    stage
        .control("PUT", "twitter/delivery", &json!({ "envelope": "none" }))
        .await;
    let account = credentials(stage.connect().await);
    for number in 0..120 {
        stage
            .writes("twitter", &account.route, &format!("<{number}>"))
            .await;
    }
    let (facts, cursor) = stage.poll(&account, None).await.unwrap();
    assert_eq!(facts.len(), 120, "two pages");
    assert!(
        facts
            .iter()
            .all(|fact| fact.kind == FactKind::MessageReceived)
    );
    assert_eq!(texts(&facts)[0], "<119>", "newest first, unescaped");
    assert_eq!(facts[0].sender_name.as_deref(), Some("Mira Quist"));

    let message = Outbound {
        thread: "1700000000000000202".into(),
        text: "an answer".into(),
        client_ref: "hub:1".into(),
        medium: None,
    };
    let call = stage.adapter.send(&stage.app, &account, &message);
    let outcome = stage.adapter.interpret(&stage.call(call).await);
    let SendOutcome::Sent {
        platform_message_id,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    let (facts, next) = stage.poll(&account, Some(&cursor)).await.unwrap();
    assert_eq!(facts[0].kind, FactKind::MessageEchoed);
    assert_eq!(facts[0].message_id, Some(platform_message_id));
    assert_eq!(facts[0].thread.as_deref(), Some("1700000000000000202"));
    assert_ne!(cursor, next);
}

#[tokio::test]
async fn the_limit_of_x_is_waited_for() {
    let stage = Stage::set(Platform::Twitter).await;
    let account = credentials(stage.connect().await);
    for _ in 0..15 {
        stage.poll(&account, None).await.unwrap();
    }
    let failure = stage.poll(&account, None).await.unwrap_err();
    let CallFailure::RetryAfter { wait, .. } = failure else {
        panic!("{failure:?}");
    };
    assert!((800..=901).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn tokens_of_x_are_renewed_and_a_reused_one_ends_the_account() {
    let stage = Stage::set(Platform::Twitter).await;
    let mut account = credentials(stage.connect().await);
    let old = account.clone();
    stage.control("POST", "twitter/expire", &json!({})).await;
    let expired = stage.poll(&account, None).await.unwrap_err();
    assert!(
        matches!(expired, CallFailure::Reconnect { .. }),
        "{expired:?}"
    );
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let call = stage.adapter.refresh(&stage.app, &account).unwrap();
    let tokens = stage.adapter.refreshed(&stage.call(call).await).unwrap();
    account.access_token = tokens.access_token;
    account.refresh_token = tokens.refresh_token;
    stage.poll(&account, None).await.unwrap();
    let call = stage.adapter.refresh(&stage.app, &old).unwrap();
    let reused = stage.adapter.refreshed(&stage.call(call).await);
    assert!(
        matches!(reused, Err(CallFailure::Reconnect { .. })),
        "{reused:?}"
    );
    let ended = stage.poll(&account, None).await;
    assert!(
        matches!(ended, Err(CallFailure::Reconnect { .. })),
        "{ended:?}"
    );
}

#[tokio::test]
async fn the_change_log_of_a_member_is_read_to_its_end() {
    let stage = Stage::set(Platform::Linkedin).await;
    let account = credentials(stage.connect().await);
    assert_eq!(account.route, "urn:li:person:HubOwn3r_A");
    let (facts, cursor) = stage.poll(&account, None).await.unwrap();
    assert_eq!(facts, []);
    for number in 0..60 {
        stage
            .writes("linkedin", &account.route, &format!("{number}"))
            .await;
    }
    let (facts, cursor) = stage.poll(&account, Some(&cursor)).await.unwrap();
    // The last of the first page comes again at the top of the second.
    assert_eq!(facts.len(), 61);
    let mut distinct: Vec<&str> = texts(&facts);
    distinct.dedup();
    assert_eq!(distinct.len(), 60);
    assert!(
        facts
            .iter()
            .all(|fact| fact.account.as_deref() == Some(account.route.as_str()))
    );
    // Told again, it is the same: what makes it happen once does not change.
    let (again, same) = stage.poll(&account, Some(&cursor)).await.unwrap();
    assert_eq!((again.len(), same), (1, cursor));
    assert_eq!(again[0].dedup, facts[60].dedup);
}

#[tokio::test]
async fn the_quota_of_linkedin_and_a_lost_permission() {
    let stage = Stage::set(Platform::Linkedin).await;
    let account = credentials(stage.connect().await);
    for _ in 0..100 {
        stage.poll(&account, None).await.unwrap();
    }
    let failure = stage.poll(&account, None).await.unwrap_err();
    let CallFailure::RetryAfter { wait, .. } = failure else {
        panic!("{failure:?}");
    };
    let now = chrono::Utc::now();
    let midnight = now.date_naive().and_hms_opt(0, 0, 0).unwrap() + chrono::Days::new(1);
    let left = (midnight - now.naive_utc()).num_seconds();
    let off = i64::try_from(wait.as_secs()).unwrap() - left;
    assert!(off.abs() <= 5, "{wait:?}, midnight is in {left} s");
    for call in stage.adapter.revoke(&stage.app, &account) {
        assert!(stage.call(call).await.unwrap().is_success());
    }
    let gone = stage.poll(&account, None).await.unwrap_err();
    assert!(matches!(gone, CallFailure::Reconnect { .. }), "{gone:?}");
}
