//! Fetching from addresses that came from outside: nothing inside is reached, limits hold.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hub_config::Settings;
use hub_domain::platform::http::HttpRequest;
use hub_worker::fetch::{FetchError, Fetcher};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(5);

/// A server that gives every connection the same answer and keeps what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (answer, notes) = (answer.into(), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                notes.lock().unwrap().push(text.to_lowercase());
                let _ = stream.write_all(&answer).await;
            }
        });
        Self { address, asked }
    }

    async fn redirecting(to: &str) -> Self {
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        Self::answering(answer).await
    }

    async fn serving(bytes: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
        Self::answering([head.as_bytes(), bytes].concat()).await
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Says that every name is at one address, and counts how often it was asked.
struct Everything(SocketAddr, Arc<AtomicUsize>);

impl Resolve for Everything {
    fn resolve(&self, _: Name) -> Resolving {
        self.1.fetch_add(1, Ordering::Relaxed);
        let found = Box::new(std::iter::once(self.0)) as Addrs;
        Box::pin(async move { Ok(found) })
    }
}

fn settings(trusted: &[&Server]) -> Settings {
    let origins: Vec<String> = trusted.iter().map(|it| it.origin()).collect();
    let read = Settings::load(|name| match name {
        "HUB_MEDIA_TRUSTED_ORIGINS" => Some(origins.join(",")),
        "HUB_MEDIA_BYTES" => Some("2000".to_owned()),
        _ => None,
    });
    read.expect("the settings are good")
}

async fn fetch(trusted: &[&Server], url: &str) -> Result<Vec<u8>, FetchError> {
    let fetcher = Fetcher::new(&settings(trusted)).unwrap();
    fetcher.fetch(&HttpRequest::get(url), PATIENCE).await
}

#[tokio::test]
async fn addresses_inside_are_refused_in_every_spelling() {
    let inside = Server::serving(b"secret").await;
    let port = inside.address.port();
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        "https://127.0.0.1/".to_owned(),
        "https://2130706433/".to_owned(),
        "https://0x7f.1/".to_owned(),
        "https://0177.0.0.1/".to_owned(),
        "https://[::1]/".to_owned(),
        "https://[::ffff:127.0.0.1]/".to_owned(),
        "https://[::ffff:a9fe:a9fe]/".to_owned(),
        "https://[fe80::1]/".to_owned(),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://100.64.0.1/".to_owned(),
        "https://192.168.0.1/".to_owned(),
        "https://0.0.0.0/".to_owned(),
        // Public, and yet not fetched from.
        "http://8.8.8.8/".to_owned(),
        "https://8.8.8.8:22/".to_owned(),
        "https://user@8.8.8.8/".to_owned(),
        "ftp://8.8.8.8/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "data:text/plain,x".to_owned(),
        "no url".to_owned(),
    ] {
        assert_eq!(fetch(&[], &url).await, Err(FetchError::Refused), "{url}");
    }
    assert_eq!(
        fetch(&[], "https://localhost/").await,
        Err(FetchError::Refused)
    );
    assert!(inside.asked().is_empty());
}

#[tokio::test]
async fn a_name_that_is_inside_is_refused_at_the_moment_of_connecting() {
    for inside in [
        "127.0.0.1:0",
        "169.254.169.254:0",
        "[::1]:0",
        "[::ffff:10.0.0.1]:0",
    ] {
        let asked = Arc::<AtomicUsize>::default();
        let resolver = Everything(inside.parse().unwrap(), Arc::clone(&asked));
        let fetcher = Fetcher::with_resolver(&settings(&[]), Arc::new(resolver)).unwrap();
        let request = HttpRequest::get("https://cdn.example/picture.jpg");
        let fetched = fetcher.fetch(&request, PATIENCE).await;
        assert_eq!(fetched, Err(FetchError::Refused), "{inside}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "one resolution: {inside}");
    }
}

#[tokio::test]
async fn redirects_are_checked_like_the_first_address() {
    let inside = Server::serving(b"secret").await;
    for to in [
        inside.origin(),
        "https://169.254.169.254/".into(),
        "file:///etc/passwd".into(),
    ] {
        let door = Server::redirecting(&to).await;
        let fetched = fetch(&[&door], &door.origin()).await;
        assert_eq!(fetched, Err(FetchError::Refused), "{to}");
        assert_eq!(door.asked().len(), 1);
    }
    assert!(inside.asked().is_empty());
    // Relative ones stay where they are, and end.
    let wheel = Server::redirecting("/again").await;
    let fetched = fetch(&[&wheel], &wheel.origin()).await;
    assert_eq!(fetched, Err(FetchError::Refused));
    assert_eq!(wheel.asked().len(), 4);
}

#[tokio::test]
async fn a_token_stays_with_the_origin_it_is_for() {
    let other = Server::serving(b"bytes").await;
    let door = Server::redirecting(&other.origin()).await;
    let fetcher = Fetcher::new(&settings(&[&door, &other])).unwrap();
    let request = HttpRequest::get(door.origin()).bearer("secret");
    assert_eq!(fetcher.fetch(&request, PATIENCE).await.unwrap(), b"bytes");
    assert!(door.asked()[0].contains("bearer secret"));
    assert!(!other.asked()[0].contains("secret"), "{:?}", other.asked());
}

#[tokio::test]
async fn what_is_too_big_is_not_read_to_its_end() {
    let said = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 2001\r\n\r\n").await;
    assert_eq!(
        fetch(&[&said], &said.origin()).await,
        Err(FetchError::TooBig)
    );
    let chunk = [b"7d0\r\n".as_slice(), &[b'x'; 2000], b"\r\n"].concat();
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let unsaid = Server::answering([head, chunk.clone(), chunk].concat()).await;
    assert_eq!(
        fetch(&[&unsaid], &unsaid.origin()).await,
        Err(FetchError::TooBig)
    );
    let fits = Server::serving(&[b'x'; 2000]).await;
    assert_eq!(fetch(&[&fits], &fits.origin()).await.unwrap().len(), 2000);
}

#[tokio::test]
async fn what_may_work_later_is_told_from_what_never_will() {
    let cut = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    // The server keeps the connection: a moment is enough to see that no more comes.
    let fetcher = Fetcher::new(&settings(&[&cut])).unwrap();
    let request = HttpRequest::get(cut.origin());
    let fetched = fetcher.fetch(&request, Duration::from_millis(500)).await;
    assert!(
        matches!(fetched, Err(FetchError::Later { .. })),
        "{fetched:?}"
    );
    let slow = Server::answering("HTTP/1.1 429 x\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n");
    let slow = slow.await;
    let Err(FetchError::Later { wait, reason }) = fetch(&[&slow], &slow.origin()).await else {
        panic!("a wait was asked for");
    };
    assert_eq!((wait, &*reason), (Some(Duration::from_secs(7)), "HTTP 429"));
    for status in [403, 404, 410] {
        let gone = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        let gone = Server::answering(gone).await;
        assert_eq!(fetch(&[&gone], &gone.origin()).await, Err(FetchError::Gone));
    }
}
