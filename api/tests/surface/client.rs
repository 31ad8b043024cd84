//! The built web client of `STATIC_DIR`, and that it takes nothing from the API.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use hub_api::{Api, router};
use hub_store::objects::Objects;
use uuid::Uuid;

use crate::hub::{Answer, Hub, ORIGIN, call, request};

const PAGE: &str = "<!doctype html><script type=module src=/assets/index-BxY1abcd.js></script>";

/// The folder of a built client, and a neighbour that is nobody's business.
struct Folder {
    outside: PathBuf,
    dir: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let outside = std::env::temp_dir().join(format!("hub-client-{}", Uuid::new_v4()));
        let dir = outside.join("dist");
        fs::create_dir_all(dir.join("assets")).unwrap();
        fs::create_dir_all(dir.join(".git")).unwrap();
        for (name, content) in [
            ("../secret.txt", "secret"),
            (".env", "secret"),
            (".git/config", "secret"),
            ("index.html", PAGE),
            ("favicon.ico", "icon"),
            ("a b.txt", "spaced"),
            ("logo.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
            ("assets/index-BxY1abcd.js", "console.log(1)"),
            ("assets/index-D-x_Ab12.css", "body{}"),
            ("assets/logo.png", "png"),
        ] {
            fs::write(dir.join(name), content).unwrap();
        }
        Self { outside, dir }
    }

    /// An API of this hub with the client of this folder.
    fn serve(&self, hub: &Hub) -> Result<Router, String> {
        let mut settings = hub.api.settings().clone();
        settings.server.static_dir = Some(self.dir.clone());
        let objects = Objects::in_folder(&settings.media.dir);
        let api = Api::open(hub.store().clone(), Arc::new(settings), None, objects);
        api.map(router).map_err(|error| error.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.outside);
    }
}

async fn ask(router: &Router, method: &str, path: &str) -> Answer {
    let mut call_of = request(method, path, None, None);
    call_of
        .headers_mut()
        .insert("origin", ORIGIN.parse().unwrap());
    let answer = call(router, call_of).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        ORIGIN,
        "{path}"
    );
    answer
}

#[tokio::test]
async fn files_have_their_types_and_are_kept_as_long_as_they_are_good() {
    let (hub, folder) = (Hub::start().await, Folder::new());
    let router = folder.serve(&hub).unwrap();
    let immutable = "public, max-age=31536000, immutable";
    for (path, content_type, caching, text) in [
        ("/", "text/html; charset=utf-8", "no-cache", PAGE),
        ("/index.html", "text/html; charset=utf-8", "no-cache", PAGE),
        ("/favicon.ico", "image/x-icon", "no-cache", "icon"),
        (
            "/a%20b.txt",
            "text/plain; charset=utf-8",
            "no-cache",
            "spaced",
        ),
        ("/assets/logo.png", "image/png", "no-cache", "png"),
        (
            "/assets/index-BxY1abcd.js",
            "text/javascript; charset=utf-8",
            immutable,
            "console.log(1)",
        ),
        (
            "/assets/index-D-x_Ab12.css?v=1",
            "text/css; charset=utf-8",
            immutable,
            "body{}",
        ),
    ] {
        let answer = ask(&router, "GET", path).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, text), "{path}");
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert_eq!(answer.header("cache-control"), caching, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");

        let head = ask(&router, "HEAD", path).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        assert_eq!(
            head.header("content-length"),
            text.len().to_string(),
            "{path}"
        );
        assert_eq!(head.header("content-type"), content_type, "{path}");

        let etag = answer.header("etag");
        assert!(etag.len() > 10, "{path}");
        let mut again = request("GET", path, None, None);
        again
            .headers_mut()
            .insert("if-none-match", etag.parse().unwrap());
        let known = call(&router, again).await;
        assert_eq!((known.status, known.text.as_str()), (304, ""), "{path}");
        assert_eq!(known.header("etag"), etag);
        assert_eq!(known.header("cache-control"), caching, "{path}");
    }
}

#[tokio::test]
async fn every_address_that_is_nobody_elses_is_the_clients() {
    let (hub, folder) = (Hub::start().await, Folder::new());
    let router = folder.serve(&hub).unwrap();
    for path in [
        "/login",
        "/register",
        "/dashboard/",
        "/accounts",
        "/connect?success=true&platform=facebook",
        "/auth/telegram?state=1&bot=2",
        "/auth/telegram-phone",
        "/settings",
        "/healthy",
        "/apiary/x",
        "/page/app.js",
        "/assets/gone-AAAA1111.js",
    ] {
        let answer = ask(&router, "GET", path).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, PAGE), "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
        assert_eq!(ask(&router, "HEAD", path).await.status, 200, "{path}");
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let answer = ask(&router, method, path).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.code(), "METHOD_NOT_ALLOWED");
            assert_eq!(answer.header("allow"), "GET,HEAD");
        }
    }
    for path in [
        "/api",
        "/api/",
        "/api/nothing",
        "/api/platforms/twitter/cookies",
        "/ws/nothing",
        "/ws",
        "/socket.io/nothing",
        "/health/nothing",
    ] {
        for method in ["GET", "POST"] {
            let answer = ask(&router, method, path).await;
            assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"), "{path}");
        }
    }
    assert_eq!(ask(&router, "GET", "/health").await.body["status"], "ok");
    assert_eq!(ask(&router, "GET", "/api/auth/me").await.status, 401);
    assert_eq!(ask(&router, "GET", "/api/docs").await.status, 200);
    assert_eq!(ask(&router, "GET", "/metrics").await.code(), "NOT_FOUND");
}

#[tokio::test]
async fn the_policy_lets_the_client_work_and_nobody_frame_it() {
    let (hub, folder) = (Hub::start().await, Folder::new());
    let router = folder.serve(&hub).unwrap();
    let answer = ask(&router, "GET", "/dashboard").await;
    let policy = answer.header("content-security-policy");
    for part in [
        // Media are at the public address, wherever the page was opened and without TLS too.
        "img-src 'self' https://hub.example https: data: blob:",
        "media-src 'self' https://hub.example https: data: blob:",
        "connect-src 'self' https://hub.example ws: wss:",
        "script-src 'self' 'unsafe-eval' https://telegram.org",
        "frame-src https://telegram.org https://oauth.telegram.org",
        "frame-ancestors 'none'",
        "object-src 'none'",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    assert!(!policy.contains("upgrade-insecure-requests"));
    let script = ask(&router, "GET", "/assets/index-BxY1abcd.js").await;
    assert_eq!(script.header("content-security-policy"), "");
}

#[tokio::test]
async fn nothing_outside_of_the_folder_is_reached() {
    let (hub, folder) = (Hub::start().await, Folder::new());
    let router = folder.serve(&hub).unwrap();
    for path in [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "//secret.txt",
        "/.env",
        "/.git/config",
        "/%00",
        "/%ff",
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&router, method, path).await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(!answer.text.contains("secret"), "{path}");
        }
    }
    // What comes into the folder later is not served: nobody asks the disk.
    let late = folder.dir.join("late.txt");
    std::os::unix::fs::symlink(folder.outside.join("secret.txt"), &late).unwrap();
    assert_eq!(ask(&router, "GET", "/late.txt").await.text, PAGE);
    let refused = folder.serve(&hub).unwrap_err();
    assert!(
        refused.contains("late.txt") && refused.contains("out of the folder"),
        "{refused}"
    );
    fs::remove_file(&late).unwrap();

    // A link inside of it is a file like any other; one to a folder above goes round.
    std::os::unix::fs::symlink("index.html", folder.dir.join("200.html")).unwrap();
    let router = folder.serve(&hub).unwrap();
    assert_eq!(ask(&router, "GET", "/200.html").await.text, PAGE);
    let round = folder.dir.join("assets/round");
    for above in ["..", ".", "../assets"] {
        std::os::unix::fs::symlink(above, &round).unwrap();
        assert!(folder.serve(&hub).unwrap_err().contains("round"), "{above}");
        fs::remove_file(&round).unwrap();
    }
}

#[tokio::test]
async fn what_is_no_client_is_refused_at_the_start() {
    let (hub, folder) = (Hub::start().await, Folder::new());
    fs::remove_file(folder.dir.join("index.html")).unwrap();
    assert!(folder.serve(&hub).unwrap_err().contains("no index.html"));
    fs::remove_dir_all(&folder.dir).unwrap();
    assert!(folder.serve(&hub).unwrap_err().contains("cannot be read"));
}
