//! What the client does with a service that does not behave. That it speaks with real ones is shown by
//! `.ci/certify s3`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hub_config::{BucketSettings, Settings};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECRET: &str = "a secret access key of a test";

/// A server that gives every connection the same answer and keeps what it was asked.
async fn answering(answer: String) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let notes = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            notes.lock().unwrap().push(text);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

fn bucket(endpoint: &str) -> Arc<dyn ObjectStore> {
    let settings = Settings::load(|name| {
        Some(match name {
            "HUB_MEDIA_BUCKET" => "media".to_owned(),
            "HUB_MEDIA_S3_ENDPOINT" => endpoint.to_owned(),
            "HUB_MEDIA_S3_ACCESS_KEY_ID" => "AKIATEST".to_owned(),
            "HUB_MEDIA_S3_SECRET_ACCESS_KEY" => SECRET.to_owned(),
            _ => return None,
        })
    });
    let settings: Option<BucketSettings> = settings.expect("settings").media.bucket;
    hub_bucket::open(&settings.expect("a bucket")).expect("it opens")
}

#[tokio::test]
async fn requests_are_signed_and_redirects_are_not_followed() {
    let (elsewhere, heard) = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let (address, asked) = answering(format!(
        "HTTP/1.1 307 x\r\nlocation: http://{elsewhere}/media/a\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    let store = bucket(&format!("http://{address}"));
    let put = store.put(&Path::from("a"), "bytes".into()).await;
    let error = put.expect_err("a redirect is no success");
    assert!(heard.lock().unwrap().is_empty(), "it was followed");
    let first = asked.lock().unwrap()[0].clone();
    assert!(first.starts_with("PUT /media/a HTTP/1.1\r\n"), "{first}");
    let authorization = "authorization: AWS4-HMAC-SHA256 Credential=AKIATEST/";
    assert!(first.contains(authorization), "{first}");
    assert!(
        first.to_lowercase().contains("content-length: 5\r\n"),
        "{first}"
    );
    assert!(!format!("{error:?} {error}").contains(SECRET));
    assert!(!format!("{store:?}").contains(SECRET));
}
