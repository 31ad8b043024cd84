//! The built-in inbox page, and that it takes no address from the API.

use crate::hub::{Hub, request};

const PAGES: [&str; 7] = [
    "/",
    "/login",
    "/register",
    "/dashboard",
    "/accounts",
    "/connect?success=true&platform=facebook&accountId=1",
    "/auth/telegram?state=1&bot=2",
];

const FILES: [(&str, &str); 4] = [
    ("/page/app.js", "text/javascript; charset=utf-8"),
    ("/page/draw.js", "text/javascript; charset=utf-8"),
    ("/page/hub.js", "text/javascript; charset=utf-8"),
    ("/page/style.css", "text/css; charset=utf-8"),
];

#[tokio::test]
async fn the_page_is_at_the_addresses_a_person_may_have() {
    let hub = Hub::start().await;
    let pages = PAGES.map(|path| (path, "text/html; charset=utf-8"));
    for (path, content_type) in pages.into_iter().chain(FILES) {
        let answer = hub.call(request("GET", path, None, None)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(
            answer.header("content-security-policy"),
            "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' https: data:; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
        );
        let mut asks_for_json = request("GET", path, None, None);
        let headers = asks_for_json.headers_mut();
        headers.insert("accept", "application/json".parse().unwrap());
        assert_eq!(hub.call(asks_for_json).await.text, answer.text);

        let head = hub.call(request("HEAD", path, None, None)).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-type"), content_type, "{path}");
    }
    for path in ["/login/", "/auth/telegram/?state=1", "/page/app.js/"] {
        let answer = hub.call(request("GET", path, None, None)).await;
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[tokio::test]
async fn only_a_development_hub_names_the_demo_login() {
    let hub = Hub::start().await;
    let answer = hub.call(request("GET", "/", None, None)).await;
    assert!(answer.text.contains("demo-demo"));
    let hub = Hub::start_with(&[("HUB_ENV", "production")]).await;
    let answer = hub.call(request("GET", "/", None, None)).await;
    assert!(answer.text.contains(r#"content="production""#));
    assert!(!answer.text.contains("demo-demo"));
}

#[tokio::test]
async fn other_addresses_and_methods_stay_in_the_envelope() {
    let hub = Hub::start().await;
    for path in [
        "/favicon.ico",
        "/index.html",
        "/page",
        "/page/index.html",
        "/page/../app.js",
        "/login/x",
        "/settings",
    ] {
        let answer = hub.call(request("GET", path, None, None)).await;
        assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"), "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    for path in PAGES.into_iter().chain(FILES.map(|(path, _)| path)) {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let answer = hub.call(request(method, path, None, None)).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.code(), "METHOD_NOT_ALLOWED");
        }
    }
}
