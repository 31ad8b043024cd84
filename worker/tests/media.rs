//! Media that have to be asked for, with a real worker on a real database and a played WhatsApp: the
//! token stays with whom it is for, and bytes that are not the ones are not kept.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use hub_cluster::TestDatabase;
use hub_config::Settings;
use hub_domain::envelope::Append;
use hub_domain::event::{AccountConnected, MediaAnnounced};
use hub_domain::id::{ConversationId, MessageId, UserId, account_id, object_id};
use hub_domain::platform::fact::{ContentKind, Media};
use hub_domain::platform::{Connected, Platform};
use hub_store::account::Owner;
use hub_store::objects::{Found, Objects};
use hub_store::vault::Sealer;
use hub_store::{Options, Store, schema};
use hub_worker::Context;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n a picture of a teapot";
const OTHER: &[u8] = b"\x89PNG\r\n\x1a\n another picture";
const TOKEN: &str = "the-token-of-the-number";
const NUMBER: &str = "205612348765432";
const SOON: Duration = Duration::from_secs(30);

/// What a server was asked: the first line and the headers.
type Asked = Arc<Mutex<Vec<String>>>;

/// A server that answers by path, by how often the path was asked before, and by where it is.
async fn server(
    answer: impl Fn(&str, usize, SocketAddr) -> Vec<u8> + Send + 'static,
) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let notes = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8192];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let path = path.split('?').next().unwrap_or_default().to_owned();
            let before = {
                let mut notes = notes.lock().unwrap();
                let before = notes.iter().filter(|it| it.contains(&path)).count();
                notes.push(text);
                before
            };
            let _ = stream.write_all(&answer(&path, before, address)).await;
        }
    });
    (address, asked)
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Where a worker keeps what it fetched.
struct Shelf(std::path::PathBuf);

impl Drop for Shelf {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store, and settings that name these servers.
async fn begin(
    graph: SocketAddr,
    trusted: &[SocketAddr],
    shelf: &Shelf,
) -> (Settings, Store, TestDatabase) {
    let cluster = hub_cluster::shared_for_tests().await.expect("a cluster");
    let database = cluster.empty_database().await.expect("a database");
    let pool = hub_store::connect(&database.url().into(), 2).await;
    schema::prepare(&pool.expect("a pool"), 2)
        .await
        .expect("a schema");
    let origins: Vec<String> = trusted.iter().map(|it| format!("http://{it}")).collect();
    let settings = Settings::load(|name| match name {
        "DATABASE_URL" => Some(database.url().to_owned()),
        "ENCRYPTION_KEY" => Some("a key for tests".to_owned()),
        "WHATSAPP_APP_ID" => Some("1".to_owned()),
        "WHATSAPP_APP_SECRET" => Some("secret".to_owned()),
        "WHATSAPP_API_BASE" => Some(format!("http://{graph}")),
        "HUB_MEDIA_TRUSTED_ORIGINS" => Some(origins.join(",")),
        "HUB_MEDIA_DIR" => Some(shelf.0.to_string_lossy().into_owned()),
        _ => None,
    });
    let settings = settings.expect("settings");
    let store = Store::open(Options {
        database_url: database.url().into(),
        connections_max: 8,
        readers_max: 4,
        redis_url: None,
        encryption_key: settings.auth.encryption_key.clone(),
    });
    (settings, store.await.expect("a store"), database)
}

/// A number somebody has connected.
async fn connect(store: &Store, user: UserId) -> Owner {
    let account = account_id(user, Platform::Whatsapp, NUMBER);
    let owner = Owner { user, account };
    let connected = Connected {
        platform_user_id: NUMBER.to_owned(),
        username: "Teapots".to_owned(),
        route: NUMBER.to_owned(),
        access_token: TOKEN.into(),
        refresh_token: None,
        expires_in_s: None,
        granted: None,
    };
    let kept = store.put_account_tokens(owner, &connected, None);
    kept.await.expect("tokens");
    let event = AccountConnected {
        user,
        account,
        platform: Platform::Whatsapp,
        platform_user_id: NUMBER.to_owned(),
        username: store.vault().user(user).await.unwrap().seal("Teapots"),
        route: NUMBER.to_owned(),
    };
    let shard = store.sharding().of_user(user);
    let append = Append::one(shard, account, event);
    store.append(append).await.expect("an event");
    owner
}

/// A message with a picture of this id came in. Returns the message.
async fn announce(store: &Store, owner: Owner, media_id: &str) -> MessageId {
    let medium = Media {
        kind: Some(ContentKind::Image),
        file_id: Some(media_id.to_owned()),
        ..Media::default()
    };
    let content = store.vault().content(owner.user, Utc::now(), None).await;
    let Sealer::Under(key) = content.unwrap() else {
        panic!("today is kept");
    };
    let (conversation, message) = (ConversationId(Uuid::new_v4()), MessageId(Uuid::new_v4()));
    let event = MediaAnnounced {
        user: owner.user,
        account: owner.account,
        platform: Platform::Whatsapp,
        conversation,
        message,
        media: key.seal(&json!([medium]).to_string()),
    };
    let shard = store.sharding().of_user(owner.user);
    let append = Append::one(shard, conversation, event);
    store.append(append).await.expect("an event");
    message
}

#[tokio::test]
async fn the_token_stays_with_whom_it_is_for_and_other_bytes_are_not_kept() {
    // Whom the platform redirects to: other bytes first, the right ones then.
    let (kept_at, heard) = server(|path, before, _| match (path, before) {
        ("/kept", 0) => reply("200 OK", "", OTHER),
        _ => reply("200 OK", "", PICTURE),
    })
    .await;
    let (graph, asked) = server(move |path, _, here| match path {
        "/bytes" => {
            let there = format!("location: http://{kept_at}/kept\r\n");
            reply("302 Found", &there, b"")
        }
        path => {
            let digest = hex::encode(Sha256::digest(PICTURE));
            // One medium is here, the other where somebody else wants the token to go.
            let url = match path.ends_with("/1479") {
                true => format!("http://{here}/bytes"),
                false => format!("http://{kept_at}/bait"),
            };
            let body = json!({ "url": url, "sha256": digest });
            reply("200 OK", "", body.to_string().as_bytes())
        }
    })
    .await;
    let shelf = Shelf(std::env::temp_dir().join(format!("hub-media-{}", Uuid::new_v4())));
    let (settings, store, _database) = begin(graph, &[graph, kept_at], &shelf).await;
    let context = Context::new(store.clone(), &settings).expect("a context");
    let worker = tokio::spawn(hub_worker::run(context, std::future::pending()));
    let owner = connect(&store, UserId(Uuid::now_v7())).await;
    let objects = Objects::in_folder(&settings.media.dir);
    for media_id in ["1479", "1480"] {
        let message = announce(&store, owner, media_id).await;
        let object = object_id(message, 0);
        let deadline = Instant::now() + SOON;
        let found = loop {
            match objects
                .get(store.vault(), owner.user, object)
                .await
                .unwrap()
            {
                Found::Nothing => assert!(Instant::now() < deadline, "{media_id}"),
                found => break found,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let Found::File(about, bytes) = found else {
            panic!("{media_id}: {found:?}");
        };
        assert_eq!(
            (about.content_type.as_str(), &*bytes),
            ("image/png", PICTURE)
        );
    }
    worker.abort();
    let (asked, heard) = (asked.lock().unwrap().clone(), heard.lock().unwrap().clone());
    // The lookup and the bytes, each with the token; the first medium took two runs.
    let bearer = format!("authorization: Bearer {TOKEN}");
    let with_token = |it: &&String| it.contains(&bearer);
    let of = |path: &str| {
        asked
            .iter()
            .filter(|it| it.contains(path))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of("/1479").len(), of("/bytes").len(), of("/1480").len()),
        (2, 2, 1)
    );
    assert_eq!(asked.iter().filter(with_token).count(), 5, "{asked:#?}");
    // Neither a redirect nor an answer brought the token to somebody else.
    assert_eq!(heard.len(), 3, "{heard:#?}");
    assert!(heard.iter().all(|it| !it.contains(TOKEN)), "{heard:#?}");
}
