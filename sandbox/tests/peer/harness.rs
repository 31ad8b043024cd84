//! A sandbox on a free port, a hub that records, and waits that end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use hub_sandbox::{LinkedinApp, Options, TwitterApp};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const APP_ID: &str = "845120034567890";
pub const APP_SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
pub const IG_APP_ID: &str = "990011223344556";
pub const IG_APP_SECRET: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90";
pub const WA_APP_ID: &str = "845120034567895";
pub const WA_APP_SECRET: &str = "7c4a8d09ca3762af61e59520943dc264";
pub const BOT_TOKEN: &str = "7100000001:AAHub-fictional_TokenForTests0123456789";
pub const BOT_NAME: &str = "northwind_desk_bot";
pub const HOOK_SECRET: &str = "hub_Secret-Token_01";
pub const X_CLIENT: (&str, &str) = ("x-client", "x-client-secret");
pub const X_CONSUMER_SECRET: &str = "hubTestConsumerSecret0123456789abcdefghijklmnopqrstuv";
pub const X_BEARER: &str = "AAAA-app-only";
pub const LI_CLIENT: (&str, &str) = ("li-client", "hubTestLinkedInSecret42");
pub const TEAMS_ID: &str = "0d9e7a52-1111-4222-8333-444455556666";
pub const TEAMS_SECRET: &str = "8Q~hub-fictional_ClientSecretForTests01";
pub const PAGE: &str = "104857600112233";
pub const PSID: &str = "7214365098123401";
pub const REDIRECT: &str = "http://127.0.0.1:9/api/auth/callback/facebook";

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(15);

/// A webhook as it arrived.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub path: String,
    pub headers: HeaderMap,
    pub raw: Bytes,
}

impl Delivered {
    pub fn body(&self) -> Value {
        serde_json::from_slice(&self.raw).expect("webhooks are JSON")
    }

    /// The one item of a Messenger webhook.
    pub fn item(&self) -> Value {
        self.body()["entry"][0]["messaging"][0].clone()
    }

    /// The text, whichever platform it came from.
    pub fn text(&self) -> String {
        let body = self.body();
        let places = [
            "/message/text",
            "/data/payload/direct_message_events/0/message_create/message_data/text",
            "/notifications/0/decoratedGeneratedActivity/comment/text",
        ];
        let found = places
            .iter()
            .find_map(|place| body.pointer(place)?.as_str());
        found.map(str::to_owned).unwrap_or_else(|| {
            let item = self.item();
            item["message"]["text"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// The hub's side: takes webhooks with the statuses it is told, 200 afterwards.
#[derive(Clone, Default)]
pub struct Hub {
    got: Arc<Mutex<Vec<Delivered>>>,
    statuses: Arc<Mutex<VecDeque<u16>>>,
}

impl Hub {
    pub async fn start() -> (Self, String) {
        let hub = Self::default();
        let router = Router::new().fallback(take).with_state(hub.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (hub, base)
    }

    pub fn answers(&self, statuses: &[u16]) {
        self.statuses.lock().unwrap().extend(statuses);
    }

    pub fn got(&self) -> Vec<Delivered> {
        self.got.lock().unwrap().clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.got().iter().map(Delivered::text).collect()
    }

    pub async fn wait_for(&self, count: usize) -> Vec<Delivered> {
        eventually(&format!("{count} webhooks"), || async {
            self.got().len() >= count
        })
        .await;
        self.got()
    }
}

async fn take(
    State(hub): State<Hub>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    raw: Bytes,
) -> Response {
    let query = uri.query().unwrap_or_default().as_bytes();
    let mut query = url::form_urlencoded::parse(query);
    if let Some((_, token)) = query.find(|(name, _)| name == "validationToken") {
        return token.into_owned().into_response();
    }
    let path = uri.path().to_owned();
    hub.got
        .lock()
        .unwrap()
        .push(Delivered { path, headers, raw });
    let status = hub.statuses.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(status).unwrap().into_response()
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

/// A running sandbox.
pub struct Peer {
    pub base: String,
    pub hub: Hub,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<std::io::Result<()>>>,
    client: reqwest::Client,
}

impl Peer {
    pub async fn start() -> Self {
        Self::start_with(false).await
    }

    pub async fn start_with(customers: bool) -> Self {
        let (hub, hub_webhook_base) = Hub::start().await;
        let options = Options {
            hub_webhook_base,
            facebook_app_id: APP_ID.into(),
            facebook_app_secret: APP_SECRET.into(),
            instagram_app_id: IG_APP_ID.into(),
            instagram_app_secret: IG_APP_SECRET.into(),
            whatsapp_app_id: WA_APP_ID.into(),
            whatsapp_app_secret: WA_APP_SECRET.into(),
            telegram_bot_token: BOT_TOKEN.into(),
            telegram_bot_username: BOT_NAME.into(),
            telegram_webhook_secret: HOOK_SECRET.into(),
            twitter: TwitterApp {
                client_id: X_CLIENT.0.into(),
                client_secret: X_CLIENT.1.into(),
                consumer_secret: X_CONSUMER_SECRET.into(),
                bearer_token: X_BEARER.into(),
                app_id: "31000042".into(),
            },
            linkedin: LinkedinApp {
                client_id: LI_CLIENT.0.into(),
                client_secret: LI_CLIENT.1.into(),
                application_id: "31000043".into(),
            },
            teams_client_id: TEAMS_ID.into(),
            teams_client_secret: TEAMS_SECRET.into(),
            customers,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(hub_sandbox::serve(listener, options, async move {
            let _ = stopped.await;
        }));
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self {
            base,
            hub,
            stop: Some(stop),
            running: Some(running),
            client,
        }
    }

    /// Asks the sandbox to stop and waits until it has.
    pub async fn stop(&mut self) {
        let _ = self.stop.take().expect("stopped once").send(());
        let running = self.running.take().expect("stopped once");
        let ended = tokio::time::timeout(DEADLINE, running).await;
        ended
            .expect("a stop in time")
            .expect("no panic")
            .expect("no error");
    }

    /// One request; `None` when no answer came within `patience`.
    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
        patience: Duration,
    ) -> Option<Answer> {
        let url = format!("{}{path}", self.base);
        let mut request = self
            .client
            .request(method.parse().unwrap(), url)
            .timeout(patience);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(serde_json::to_vec(body).unwrap());
        }
        let answer = request.send().await.ok()?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(Answer {
            status,
            headers,
            body,
        })
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.try_call(method, path, None, Some(&body), DEADLINE)
            .await
            .expect("an answer")
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.try_call("GET", path, None, None, DEADLINE)
            .await
            .expect("an answer")
    }

    pub async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.try_call("GET", path, Some(token), None, DEADLINE)
            .await
            .expect("an answer")
    }

    pub async fn delete_as(&self, token: &str, path: &str) -> Answer {
        self.try_call("DELETE", path, Some(token), None, DEADLINE)
            .await
            .expect("an answer")
    }

    /// Calls where a page token is needed.
    pub async fn post_as(&self, token: &str, path: &str, body: Value) -> Answer {
        self.try_call("POST", path, Some(token), Some(&body), DEADLINE)
            .await
            .expect("an answer")
    }

    /// A POST of a form, with an `Authorization` header when there is one.
    pub async fn form(&self, path: &str, auth: Option<&str>, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let mut request = self
            .client
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        if let Some(auth) = auth {
            request = request.header("authorization", auth);
        }
        read(request.send().await.expect("an answer")).await
    }

    /// A call with more headers than the token's.
    pub async fn with_headers(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = self
            .client
            .request(method.parse().unwrap(), format!("{}{path}", self.base))
            .bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(serde_json::to_vec(&body).unwrap());
        }
        read(request.send().await.expect("an answer")).await
    }

    pub async fn bot(&self, method: &str, body: Value) -> Answer {
        self.call("POST", &format!("/bot{BOT_TOKEN}/{method}"), body)
            .await
    }

    pub async fn fault(&self, fault: Value) {
        let answer = self.call("PUT", "/control/faults", fault).await;
        assert_eq!(
            (answer.status, &answer.body["ok"]),
            (200, &json!(true)),
            "{answer:?}"
        );
    }

    pub async fn customer_writes(&self, platform: &str, text: &str) -> Answer {
        let (account, id) = match platform {
            "facebook" => (PAGE, json!(PSID)),
            _ => ("7100000001", json!(5_501_000_001_i64)),
        };
        let from = json!({"id": id, "name": "Mira Quill"});
        let body = json!({"platform": platform, "account": account, "from": from, "text": text});
        let answer = self.call("POST", "/control/incoming", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    pub async fn sent(&self, filter: &str) -> Vec<Value> {
        let answer = self.get(&format!("/control/sent{filter}")).await;
        answer.body["messages"]
            .as_array()
            .expect("messages")
            .clone()
    }

    /// The person's side of connecting: the query the dialog sends them back with.
    pub async fn dialog(&self, extra: &str) -> Vec<(String, String)> {
        let path = format!(
            "/v26.0/dialog/oauth?client_id={APP_ID}&redirect_uri={}&state=s1&response_type=code\
             &scope=pages_messaging{extra}",
            encoded(REDIRECT)
        );
        query_of(&self.get(&path).await)
    }

    /// The code that another of Meta's dialogs sends the person back with.
    pub async fn code(&self, path: &str, app_id: &str, scope: &str, redirect: &str) -> String {
        let path = format!(
            "{path}?client_id={app_id}&redirect_uri={}&state=s1&response_type=code&scope={scope}",
            encoded(redirect)
        );
        value_of(&query_of(&self.get(&path).await), "code")
    }

    /// A customer writes to an account, possibly with a picture.
    pub async fn writes(&self, platform: &str, account: &str, from: &str, picture: bool) {
        let body = json!({"platform": platform, "account": account, "text": "like this?",
            "from": {"id": from, "name": "Mira Quill"}, "picture": picture});
        let answer = self.call("POST", "/control/incoming", body).await;
        assert_eq!(answer.body["status"], 200, "{answer:?}");
    }

    /// The bytes at an address of the sandbox's.
    pub async fn bytes(&self, url: &str, token: Option<&str>) -> (u16, Vec<u8>) {
        let mut request = self.client.get(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.bytes().await.expect("a body").to_vec())
    }

    /// The whole way to a page token, as the hub goes it: (page id, page name, page token).
    pub async fn connect(&self, extra: &str) -> (String, String, String) {
        let code = value_of(&self.dialog(extra).await, "code");
        let short = self.exchange_code(&code, REDIRECT).await.body["access_token"].clone();
        let long = self
            .get(&format!(
                "/v26.0/oauth/access_token?grant_type=fb_exchange_token&client_id={APP_ID}\
                 &client_secret={APP_SECRET}&fb_exchange_token={}",
                short.as_str().expect("a short token")
            ))
            .await;
        let long = long.body["access_token"]
            .as_str()
            .expect("a long token")
            .to_owned();
        let pages = self
            .get_as(&long, "/v26.0/me/accounts?fields=id,name,access_token")
            .await;
        let page = &pages.body["data"][0];
        let field = |name: &str| page[name].as_str().expect(name).to_owned();
        (field("id"), field("name"), field("access_token"))
    }

    pub async fn exchange_code(&self, code: &str, redirect_uri: &str) -> Answer {
        self.get(&format!(
            "/v26.0/oauth/access_token?client_id={APP_ID}&client_secret={APP_SECRET}&code={code}\
             &redirect_uri={}",
            encoded(redirect_uri)
        ))
        .await
    }
}

async fn read(answer: reqwest::Response) -> Answer {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.expect("a body");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer {
        status,
        headers,
        body,
    }
}

/// A hub that answers the challenges of X and LinkedIn and takes everything else.
#[derive(Clone)]
pub struct Prover {
    secret: &'static str,
}

impl Prover {
    pub async fn start(secret: &'static str) -> (Self, String) {
        let prover = Self { secret };
        let router = Router::new().fallback(prove).with_state(prover.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (prover, base)
    }
}

async fn prove(State(prover): State<Prover>, OriginalUri(uri): OriginalUri) -> String {
    let query = uri.query().unwrap_or_default().as_bytes();
    let query: Vec<(String, String)> = url::form_urlencoded::parse(query).into_owned().collect();
    let digest = |word: &str| hmac_hex(prover.secret.as_bytes(), word.as_bytes());
    let answer = match query.first() {
        Some((name, token)) if name == "crc_token" => {
            use base64::Engine as _;
            let bytes = hex::decode(digest(token)).unwrap();
            let digest = base64::engine::general_purpose::STANDARD.encode(bytes);
            json!({"response_token": format!("sha256={digest}")})
        }
        Some((_, code)) => json!({"challengeCode": code, "challengeResponse": digest(code)}),
        None => json!({}),
    };
    answer.to_string()
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// Waits until the condition holds; fails after the deadline.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < DEADLINE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn hmac_hex(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

pub fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The query a redirect carries.
pub fn query_of(redirect: &Answer) -> Vec<(String, String)> {
    assert_eq!(redirect.status, 302, "{redirect:?}");
    let location = redirect.headers["location"].to_str().unwrap();
    url::Url::parse(location)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect()
}

pub fn value_of(query: &[(String, String)], name: &str) -> String {
    let found = query.iter().find(|(key, _)| key == name);
    found
        .unwrap_or_else(|| panic!("{name} in {query:?}"))
        .1
        .clone()
}
