//! Media of messages: fetched, kept sealed, shown to a browser, and gone with the person.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::live::Door;
use crate::world::{User, World, eventually};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n a picture of a teapot";
const PAGE: &[u8] = b"<!doctype html><script>alert(1)</script>";

/// An answer with its bytes.
struct Loaded {
    status: u16,
    headers: reqwest::header::HeaderMap,
    bytes: Vec<u8>,
}

impl Loaded {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|it| it.to_str().ok());
        value.unwrap_or_default()
    }

    /// The code of an envelope.
    fn code(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.bytes).expect("an envelope");
        body["error"]["code"].clone()
    }
}

/// Loads an address as a browser does: without a token.
async fn load(url: &str) -> Loaded {
    let answer = reqwest::get(url).await.expect("the hub answers");
    Loaded {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        bytes: answer.bytes().await.expect("a body").to_vec(),
    }
}

/// The same, again and again: the machine may have been busy for longer than an address waits.
async fn loaded(url: &str) -> Loaded {
    eventually("the medium", Duration::from_secs(30), async || {
        let loaded = load(url).await;
        match loaded.status {
            404 => Err(loaded.code()),
            _ => Ok(loaded),
        }
    })
    .await
}

/// Lays a file down that customers can attach.
pub async fn shelve(world: &World, name: &str, bytes: &[u8]) {
    let url = format!("{}/control/media/{name}", world.sandbox());
    let put = reqwest::Client::new().put(url).body(bytes.to_vec());
    assert!(
        put.send()
            .await
            .expect("the sandbox answers")
            .status()
            .is_success()
    );
}

/// A customer writes with something attached.
async fn attach(world: &World, platform: &str, account: &str, media: Value) {
    let body = json!({
        "platform": platform, "account": account, "from": { "id": "501", "name": "Mira Q" },
        "media": media,
    });
    let url = format!("{}/control/incoming", world.sandbox());
    world.http().post(&url, &body).await.expect(200);
}

async fn messages(user: &User, conversation: &Value) -> Value {
    let id = conversation["id"].as_str().expect("an id");
    user.get(&format!("/api/messages/{id}")).await.body["messages"].clone()
}

/// The newest message, which has an address before the hub has the medium.
async fn with_media(user: &User, conversation: &Value) -> Value {
    eventually("the medium", Duration::from_secs(20), async || {
        let message = messages(user, conversation).await[0].clone();
        match message["mediaUrl"].is_string() {
            true => Ok(message),
            false => Err(message),
        }
    })
    .await
}

async fn count(world: &World, query: &'static str) -> i64 {
    let pool = sqlx::PgPool::connect(&world.database()).await;
    let pool = pool.expect("the hub's database");
    sqlx::query_scalar(query)
        .fetch_one(&pool)
        .await
        .expect("a count")
}

/// Why media are not there, in the log.
pub async fn losses(world: &World) -> Vec<String> {
    let pool = sqlx::PgPool::connect(&world.database()).await;
    let pool = pool.expect("the hub's database");
    let query = "SELECT payload ->> 'loss' FROM events WHERE kind = 'MediaUnavailable'";
    let found = sqlx::query_scalar(query).fetch_all(&pool).await;
    found.expect("losses")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|it| it.expect("an entry").path());
    let nested = paths.flat_map(|it| match it.is_dir() {
        true => files(&it),
        false => vec![it],
    });
    nested.collect()
}

fn verify(world: &World) {
    let verified = Command::new(env!("CARGO_BIN_EXE_hub"))
        .args(["verify", "all"])
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("DATABASE_URL", world.database())
        .output()
        .expect("the binary runs");
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test]
async fn a_picture_is_fetched_shown_and_gone_with_its_person() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    shelve(&world, "teapot.png", PNG).await;
    let media = json!({ "kind": "image", "name": "teapot.png" });
    attach(&world, "facebook", &page, media).await;
    let conversation = user.conversation(1).await;
    let message = with_media(&user, &conversation).await;
    assert_eq!(message["messageType"], "image");
    let url = message["mediaUrl"].as_str().expect("an address");
    assert!(url.contains("/api/media/"), "{url}");

    let loaded = loaded(url).await;
    assert_eq!((loaded.status, &*loaded.bytes), (200, PNG));
    // The platform said it is a JPEG.
    assert_eq!(loaded.header("content-type"), "image/png");
    assert_eq!(loaded.header("x-content-type-options"), "nosniff");
    assert_eq!(loaded.header("content-disposition"), "inline");
    assert!(
        loaded
            .header("cache-control")
            .starts_with("private, max-age=")
    );

    // Altered addresses are nobody's.
    for altered in [
        url.replace("expires=", "expires=1"),
        url.replace("signature=", "signature=00"),
        url.split('&').next().expect("a part").to_owned(),
    ] {
        let refused = load(&altered).await;
        assert_eq!(
            (refused.status, refused.code()),
            (403, json!("FORBIDDEN")),
            "{altered}"
        );
    }

    // At rest nothing of it is in the clear.
    let folder = world.dir().join("data/media");
    let kept = files(&folder);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let content = std::fs::read(&kept[0]).expect("the object");
    assert!(!content.windows(6).any(|it| it == b"teapot"));
    verify(&world);

    // A copy that outlives the person opens no more than the rest.
    let copy = world.dir().join("copy");
    std::fs::copy(&kept[0], &copy).expect("a copy");
    let body = json!({ "password": "correct horse" });
    let url_of_me = format!("{}/api/auth/me", world.base());
    let erased = reqwest::Client::new()
        .delete(url_of_me)
        .bearer_auth(user.token())
        .header("content-type", "application/json")
        .body(body.to_string());
    let erased = erased.send().await.expect("an answer");
    assert!(erased.status().is_success(), "{}", erased.status());
    eventually("no objects", Duration::from_secs(10), async || {
        let left = files(&folder);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    let missing = load(url).await;
    assert_eq!(
        (missing.status, missing.code()),
        (404, json!("MEDIA_NOT_FOUND"))
    );
    std::fs::create_dir_all(kept[0].parent().expect("a folder")).expect("a folder");
    std::fs::copy(&copy, &kept[0]).expect("restored");
    let gone = load(url).await;
    assert_eq!((gone.status, gone.code()), (410, json!("MEDIA_GONE")));
    verify(&world);
}

#[tokio::test]
async fn faults_of_the_platform_delay_a_medium_and_lies_lose_it() {
    let world = World::with(&[("HUB_MEDIA_BYTES", "4096")]).await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    shelve(&world, "teapot.png", PNG).await;
    shelve(&world, "page", PAGE).await;
    shelve(&world, "big", &[b'x'; 4097]).await;

    // Twice nothing, once half of it: the third attempt is the good one.
    let media = |fault: Value| {
        let mut setting = json!({ "platform": "facebook", "op": "media", "times": 1 });
        setting
            .as_object_mut()
            .unwrap()
            .extend(fault.as_object().unwrap().clone());
        setting
    };
    world.fault(media(json!({ "mode": "cut_off" }))).await;
    let picture = json!({ "kind": "image", "name": "teapot.png" });
    attach(&world, "facebook", &page, picture.clone()).await;
    let conversation = user.conversation(1).await;
    let message = with_media(&user, &conversation).await;
    let url = message["mediaUrl"].as_str().expect("an address").to_owned();
    assert_eq!(loaded(&url).await.bytes, PNG);
    world
        .fault(media(json!({ "mode": "status", "status": 503 })))
        .await;
    attach(&world, "facebook", &page, picture).await;
    user.conversation(2).await;
    let message = with_media(&user, &conversation).await;
    let url = message["mediaUrl"].as_str().expect("an address");
    assert_eq!(loaded(url).await.bytes, PNG);

    // What is no picture, too big, gone or inside of our own network has no address.
    let database = "http://127.0.0.1:5432/";
    for (lost, expected) in [
        (json!({ "kind": "image", "name": "page" }), "wrong_type"),
        (json!({ "kind": "file", "name": "big" }), "too_big"),
        (json!({ "kind": "image", "name": "nowhere" }), "gone"),
        (
            json!({ "kind": "image", "name": "x", "url": database }),
            "refused",
        ),
    ] {
        attach(&world, "facebook", &page, lost).await;
        eventually(expected, Duration::from_secs(10), async || {
            let seen = losses(&world).await;
            match seen.iter().any(|it| it == expected) {
                true => Ok(()),
                false => Err(seen),
            }
        })
        .await;
    }
    user.conversation(6).await;
    let shown = eventually("four without", Duration::from_secs(10), async || {
        let shown = messages(&user, &conversation).await;
        let all = shown.as_array().expect("messages").iter();
        match all.filter(|it| it["mediaUrl"].is_null()).count() {
            4 => Ok(shown),
            _ => Err(shown),
        }
    })
    .await;
    assert!(!shown.to_string().contains(database));
    assert_eq!(
        count(&world, "SELECT count(*) FROM jobs WHERE queue = 'media'").await,
        0
    );
    verify(&world);
}

#[tokio::test]
async fn a_page_that_was_sent_as_a_file_is_no_page_of_ours() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    shelve(&world, "page.html", PAGE).await;
    let media = json!({ "kind": "file", "name": "page.html" });
    attach(&world, "facebook", &page, media).await;
    let conversation = user.conversation(1).await;
    let message = with_media(&user, &conversation).await;
    let loaded = loaded(message["mediaUrl"].as_str().expect("an address")).await;
    assert_eq!((loaded.status, &*loaded.bytes), (200, PAGE));
    assert_eq!(
        loaded.header("content-disposition"),
        "attachment; filename=\"media.html\""
    );
    assert_eq!(
        loaded.header("content-security-policy"),
        "default-src 'none'; sandbox"
    );
    assert_eq!(loaded.header("x-content-type-options"), "nosniff");
}

/// Clients are told of a message once and show what it says then: a picture that came with it is
/// loaded from there, although the platform is slow with it.
#[tokio::test]
async fn a_live_message_has_the_address_of_its_picture() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    shelve(&world, "teapot.png", PNG).await;
    let fault = json!({ "platform": "facebook", "op": "media", "mode": "status", "status": 503,
        "times": 1 });
    world.fault(fault).await;
    let mut door = Door::plain(&world, &user).await;
    let media = json!({ "kind": "image", "name": "teapot.png" });
    attach(&world, "facebook", &page, media).await;
    let told = loop {
        let (name, told) = door.next().await;
        if name == "new_message" {
            break told;
        }
    };
    let url = told["message"]["mediaUrl"].as_str().expect("an address");
    assert_eq!(told["message"]["messageType"], "image");
    let loaded = loaded(url).await;
    assert_eq!((loaded.status, &*loaded.bytes), (200, PNG));
    // The thread has the same medium.
    let conversation = user.conversation(1).await;
    let shown = messages(&user, &conversation).await[0]["mediaUrl"].clone();
    let path = |url: &str| url.split('?').next().map(str::to_owned);
    assert_eq!(path(shown.as_str().expect("an address")), path(url));
}

/// A customer writes with something attached, and the newest message's address is loaded.
async fn loads(
    world: &World,
    user: &User,
    from: (&str, &str, &str),
    media: Value,
    unread: i64,
) -> Loaded {
    let (platform, account, person) = from;
    let body = json!({
        "platform": platform, "account": account, "from": { "id": person, "name": "Mira Q" },
        "text": "look", "media": media,
    });
    let url = format!("{}/control/incoming", world.sandbox());
    world.http().post(&url, &body).await.expect(200);
    let conversation = user.conversation(unread).await;
    let message = with_media(user, &conversation).await;
    assert_eq!(message["content"], "look");
    let url = message["mediaUrl"].as_str().expect("an address");
    assert!(
        url.contains("/api/media/") && !url.contains(platform),
        "{url}"
    );
    loaded(url).await
}

/// A file name no other test uses: the platforms remember.
fn named(extension: &str) -> String {
    format!("{}.{extension}", uuid::Uuid::new_v4().simple())
}

#[tokio::test]
async fn whatsapp_wants_the_token_twice_and_addresses_die() {
    let world = World::start().await;
    let user = world.register().await;
    let number = "205612348765432";
    world.connect(&user, "whatsapp").await;
    let name = named("jpg");
    shelve(&world, &name, PNG).await;
    let from = ("whatsapp", number, "491701239991");
    let media = json!({ "kind": "image", "name": name });
    // The address is not good once: it is asked for again, in the same run.
    let fault = json!({ "platform": "whatsapp", "op": "media", "mode": "status", "status": 404,
        "times": 1 });
    world.fault(fault).await;
    let loaded = loads(&world, &user, from, media, 1).await;
    assert_eq!((loaded.status, &*loaded.bytes), (200, PNG));
    let asked = world.requests().await;
    let count = |path: &str| {
        asked
            .iter()
            .filter(|(_, it, _)| it.starts_with(path))
            .count()
    };
    assert_eq!(count("/whatsapp_business/attachments"), 2, "{asked:?}");
    // Neither a person with an address nor an address from yesterday gets anything.
    let place = format!("{}/whatsapp_business/attachments/", world.sandbox());
    let without = load(&format!("{place}?mid=1&ext=1&hash=1")).await;
    assert_eq!(without.status, 401);
}

#[tokio::test]
async fn teams_hosts_pictures_and_keeps_files_in_drives() {
    let world = World::start().await;
    let user = world.register().await;
    let person = uuid::Uuid::new_v4().to_string();
    let url = format!("{}/control/teams/people", world.sandbox());
    let nora = json!({ "id": person, "name": "Nora Wind" });
    world.http().post(&url, &nora).await.expect(200);
    world.connect(&user, "teams").await;
    // Until the hub is subscribed, only polls bring messages.
    let subscriptions = format!("{}/control/teams/subscriptions/{person}", world.sandbox());
    eventually("a subscription", Duration::from_secs(20), async || {
        let listed = world.http().get(&subscriptions).await.body;
        match listed["subscriptions"][0].is_string() {
            true => Ok(()),
            false => Err(listed),
        }
    })
    .await;
    let (picture, file) = (named("png"), named("pdf"));
    shelve(&world, &picture, PNG).await;
    shelve(&world, &file, b"%PDF-1.7 an order").await;
    let from = ("teams", &*person, "b2b2b2b2-0000-4000-8000-000000000002");
    // Tokens from before this moment are worth nothing: they are renewed for the picture.
    let url = format!("{}/control/teams/tokens/{person}", world.sandbox());
    world.http().post(&url, &json!({})).await.expect(200);
    let media = json!({ "kind": "image", "name": picture });
    let loaded = loads(&world, &user, from, media, 1).await;
    assert_eq!((loaded.status, &*loaded.bytes), (200, PNG));
    let media = json!({ "kind": "file", "name": file });
    let loaded = loads(&world, &user, from, media, 2).await;
    assert_eq!(loaded.bytes, b"%PDF-1.7 an order");
    assert_eq!(
        loaded.header("content-disposition"),
        "attachment; filename=\"media.pdf\""
    );
    // The sandbox refuses a signed address to whoever brings a token, so the hub brought none.
    assert_eq!(losses(&world).await, Vec::<String>::new());

    // Mira takes the picture back: whoever still has its address gets nothing more.
    let conversation = user.conversation(2).await;
    let thread = messages(&user, &conversation).await;
    let (file, picture) = (&thread[0], &thread[1]);
    let url = picture["mediaUrl"].as_str().expect("an address");
    let message = picture["platformMessageId"].clone();
    let (mira, nora) = (from.2, from.1);
    let (one, other) = if nora <= mira {
        (nora, mira)
    } else {
        (mira, nora)
    };
    let chat = format!("19:{one}_{other}@unq.gbl.spaces");
    let deleted = json!({ "chat": chat, "message": message, "action": "delete" });
    let control = format!("{}/control/teams/messages", world.sandbox());
    world.http().post(&control, &deleted).await.expect(200);
    eventually(
        "no picture",
        Duration::from_secs(20),
        async || match load(url).await.status {
            404 => Ok(()),
            other => Err(other),
        },
    )
    .await;
    let kept = file["mediaUrl"].as_str().expect("an address");
    assert_eq!(load(kept).await.status, 200);
    assert_eq!(files(&world.dir().join("data/media")).len(), 1);
}

/// Loads a part of an address.
async fn load_part(url: &str, headers: &[(&str, &str)]) -> Loaded {
    let mut asked = reqwest::Client::new().get(url);
    for (name, value) in headers {
        asked = asked.header(*name, *value);
    }
    let answer = asked.send().await.expect("the hub answers");
    Loaded {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        bytes: answer.bytes().await.expect("a body").to_vec(),
    }
}

#[tokio::test]
async fn a_browser_seeks_in_a_film() {
    let world = World::start().await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    // More than a piece that is read at once; no two places of it look the same.
    let mut film = b"\0\0\0\x20ftypisom".to_vec();
    film.extend((0..400_000_u32).flat_map(u32::to_be_bytes));
    shelve(&world, "film.mp4", &film).await;
    let media = json!({ "kind": "video", "name": "film.mp4" });
    attach(&world, "facebook", &page, media).await;
    let conversation = user.conversation(1).await;
    let message = with_media(&user, &conversation).await;
    let url = message["mediaUrl"].as_str().expect("an address");

    let whole = load(url).await;
    assert_eq!((whole.status, &whole.bytes), (200, &film));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-length"), film.len().to_string());
    let (tag, size) = (whole.header("etag").to_owned(), film.len());
    assert!(
        tag.len() > 10 && tag.starts_with('"') && tag.ends_with('"'),
        "{tag}"
    );

    for (range, part) in [
        ("bytes=0-1", 0..2),
        ("bytes=65535-65536", 65_535..65_537),
        ("bytes=1000000-1300000", 1_000_000..1_300_001),
        ("bytes=1599000-", 1_599_000..size),
        ("bytes=-7", size - 7..size),
    ] {
        let got = load_part(url, &[("range", range)]).await;
        assert_eq!(got.status, 206, "{range}");
        assert!(got.bytes == film[part.clone()], "{range}");
        let place = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!(got.header("content-range"), place);
        assert_eq!(got.header("content-length"), part.len().to_string());
        assert_eq!(got.header("content-type"), "video/mp4");
        assert_eq!(got.header("etag"), tag);
        assert_eq!(got.header("x-content-type-options"), "nosniff");
    }
    let beyond = load_part(url, &[("range", &format!("bytes={size}-"))]).await;
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), format!("bytes */{size}"));
    assert_eq!(beyond.code(), "RANGE_NOT_SATISFIABLE");

    // Conditions: what the client has, and parts of what it has begun with.
    let had = load_part(url, &[("if-none-match", &tag)]).await;
    assert_eq!((had.status, had.bytes.len()), (304, 0));
    assert_eq!(had.header("etag"), tag);
    let range = ("range", "bytes=0-9");
    let same = load_part(url, &[range, ("if-range", &tag)]).await;
    assert_eq!((same.status, same.bytes.len()), (206, 10));
    let other = load_part(url, &[range, ("if-range", "\"other\"")]).await;
    assert_eq!((other.status, other.bytes.len()), (200, size));

    // HEAD tells of the whole, whatever part it names.
    let head = reqwest::Client::new()
        .head(url)
        .header("range", "bytes=0-1");
    let head = head.send().await.expect("the hub answers");
    assert_eq!(head.status(), 200);
    let header = |name: &str| head.headers()[name].to_str().unwrap_or_default().to_owned();
    assert_eq!(header("content-length"), size.to_string());
    assert_eq!(header("etag"), tag);
    // Only who was given the address gets even that.
    let altered = url.replace("signature=", "signature=00");
    let refused = load_part(&altered, &[range]).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn x_hands_photos_to_participants_and_clips_to_anybody() {
    let world = World::start().await;
    let user = world.register().await;
    let account = format!("17{}", &uuid::Uuid::new_v4().as_u128().to_string()[..16]);
    let url = format!("{}/control/twitter/users", world.sandbox());
    let named_user = json!({ "id": account, "username": "northwind", "name": "Northwind" });
    world.http().post(&url, &named_user).await.expect(200);
    world.connect(&user, "twitter").await;
    let (photo, clip) = (named("jpg"), named("mp4"));
    let mp4 = b"\0\0\0\x20ftypisom a clip of a teapot";
    shelve(&world, &photo, PNG).await;
    shelve(&world, &clip, mp4).await;
    let from = ("twitter", &*account, "1700000000000000202");
    let media = json!({ "kind": "image", "name": photo });
    let loaded = loads(&world, &user, from, media, 1).await;
    assert_eq!((loaded.status, &*loaded.bytes), (200, PNG));
    let media = json!({ "kind": "video", "name": clip });
    let loaded = loads(&world, &user, from, media, 2).await;
    assert_eq!((loaded.status, &*loaded.bytes), (200, &mp4[..]));
    assert_eq!(loaded.header("content-type"), "video/mp4");
    // A clip's address refuses tokens, a photo's whoever has none.
    let asked = world.requests().await;
    let photos = "/2/dm_conversations/media/";
    let (_, path, _) = asked
        .iter()
        .find(|(_, it, _)| it.starts_with(photos))
        .expect("a photo was asked for");
    let without = load(&format!("{}{path}", world.sandbox())).await;
    assert_eq!(without.status, 401);
}

#[tokio::test]
async fn telegram_is_asked_where_a_file_is() {
    let world = World::start().await;
    let user = world.register().await;
    let start = user.get("/api/oauth/connect/telegram").await;
    let url = start.text("/authorizationUrl");
    let end = world.http().follow(&url, "/connect?").await;
    assert!(end.contains("success=true"), "{end}");
    shelve(&world, "teapot.png", PNG).await;
    let media = json!({ "kind": "image", "name": "teapot.png" });
    attach(&world, "telegram", "7100000001", media).await;
    let conversation = user.conversation(1).await;
    let message = with_media(&user, &conversation).await;
    let url = message["mediaUrl"].as_str().expect("an address");
    assert!(!url.contains("7100000001"), "{url}");
    assert_eq!(loaded(url).await.bytes, PNG);
}
