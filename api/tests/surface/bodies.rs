//! Bodies that are malformed in stranger ways than `walk.rs` tries, too deep, or not there; and what
//! goes on at the connection.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hub_api::serve;
use hub_domain::platform::Platform;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::hub::{Hub, Person};

const MIB: usize = 1024 * 1024;

fn raw(method: &str, path: &str, who: &Person, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", who.access))
        .body(body.into())
        .unwrap()
}

async fn paths(hub: &Hub, ann: &Person) -> Vec<String> {
    let account = hub.account(ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    hub.receive(ann, &thread, "m_1", "hello").await;
    vec![
        "/api/auth/register".to_owned(),
        "/api/auth/login".to_owned(),
        "/api/auth/refresh".to_owned(),
        "/api/auth/logout".to_owned(),
        "/api/auth/callback/telegram".to_owned(),
        format!("/api/messages/{}/send", thread.conversation),
    ]
}

#[tokio::test]
async fn what_is_not_a_json_object_is_refused_in_the_envelope() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let deep = |depth: usize| {
        let (open, close) = (r#"{"a":"#.repeat(depth), "}".repeat(depth));
        format!("{open}1{close}").into_bytes()
    };
    let odd = [
        b"{".to_vec(),
        b"{\"email\":}".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"\"x\"".to_vec(),
        b"\xff\xfe".to_vec(),
        b"{\"email\":\"\xff\"}".to_vec(),
        b"{\"a\":\"\\ud800\"}".to_vec(),
        b"{\"a\":1e999}".to_vec(),
        b"email=a@b.test&password=12345678".to_vec(),
        deep(65),
        deep(100_000),
        vec![b'['; MIB],
    ];
    for path in paths(&hub, &ann).await {
        for body in &odd {
            let answer = hub.call(raw("POST", &path, &ann, body.clone())).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
            assert_eq!(answer.status, 400, "{path} {shown}");
            assert_eq!(answer.code(), "VALIDATION_ERROR", "{path} {shown}");
        }
    }
}

#[tokio::test]
async fn nothing_where_nothing_is_needed_is_fine() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let path = format!("/api/oauth/refresh/{account}");
    for body in ["", "{", "[]"] {
        assert_eq!(hub.call(raw("POST", &path, &ann, body)).await.status, 200);
    }
    let answer = hub.call(raw("POST", "/api/auth/logout", &ann, "")).await;
    assert_eq!((answer.status, answer.code()), (400, "VALIDATION_ERROR"));
}

/// What arrives until the other side closes, or for two seconds.
async fn converse(hub: &Hub, request: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, hub.api.clone(), async {
        let _ = stopped.await;
    }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse before everything is written.
    let _refused_early = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _open_still = timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_client_that_sends_too_much_reads_why() {
    let hub = Hub::start().await;
    let mut request = format!(
        "POST /api/auth/login HTTP/1.1\r\nhost: hub\r\ncontent-length: {}\r\n\r\n",
        20 * MIB
    )
    .into_bytes();
    request.resize(request.len() + 20 * MIB, b' ');
    let answer = converse(&hub, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("VALIDATION_ERROR"), "{answer}");
}

#[tokio::test]
async fn smuggled_and_swollen_requests_get_nowhere() {
    let hub = Hub::start().await;
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(64 * 1024));
    let cases = [
        (
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
        ),
        ("content-length: 1\r\ncontent-length: 2\r\n", "ab"),
        ("content-length: x\r\n", ""),
        (many.as_str(), ""),
        (large.as_str(), ""),
    ];
    for (headers, body) in cases {
        let request = format!("POST /api/auth/login HTTP/1.1\r\nhost: hub\r\n{headers}\r\n{body}");
        let answer = converse(&hub, request.as_bytes()).await;
        let statuses: Vec<&str> = answer.matches("HTTP/1.1 ").collect();
        let shown = &headers[..headers.len().min(60)];
        assert!(statuses.len() <= 1, "{shown}: {answer}");
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{shown}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_client_that_dawdles_over_its_headers_is_cut_off() {
    let hub = Hub::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(listener, hub.api.clone(), std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: hub\r\nx: ")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    timeout(Duration::from_secs(13), read)
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
    serving.abort();
}

#[tokio::test]
async fn a_request_that_has_begun_is_finished_before_the_shutdown() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, hub.api.clone(), async {
        let _ = stopped.await;
    }));
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = json!({ "refreshToken": ann.refresh }).to_string();
    let request = format!(
        "POST /api/auth/refresh HTTP/1.1\r\nhost: hub\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // The exchange is held for a quarter of a second, so it is under way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(serde_json::from_str::<Value>(body).unwrap()["accessToken"].is_string());
    timeout(Duration::from_secs(3), serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap_or(0), 0);
}
