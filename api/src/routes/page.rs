//! The built-in inbox: a small page over the same API any other client uses.
//!
//! The web client is a project of its own; this page is what a person sees until it is there, and
//! where they end after connecting an account. It is compiled in, loads nothing from anywhere else
//! and has no powers of its own: without a token it knows nothing. Only the addresses a person may
//! have in the address bar answer with it. Every other one stays what it was, so a mistyped API
//! path is still an envelope and not a page.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hub_config::Environment;

use crate::Api;

const INDEX: &str = include_str!("../../page/index.html");

/// What the page loads: address, content type, content.
const FILES: [(&str, &str, &str); 4] = [
    (
        "/page/app.js",
        JAVASCRIPT,
        include_str!("../../page/app.js"),
    ),
    (
        "/page/draw.js",
        JAVASCRIPT,
        include_str!("../../page/draw.js"),
    ),
    (
        "/page/hub.js",
        JAVASCRIPT,
        include_str!("../../page/hub.js"),
    ),
    (
        "/page/style.css",
        "text/css; charset=utf-8",
        include_str!("../../page/style.css"),
    ),
];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Where the page is. The script shows what belongs to each.
const ADDRESSES: [&str; 7] = [
    "/",
    "/login",
    "/register",
    "/dashboard",
    "/accounts",
    "/connect",
    "/auth/telegram",
];

/// The line of the page that says where the hub runs.
const PLACE: &str = "<!-- environment -->";

/// What that line says on one person's machine: also the login that `cargo run` makes. It is here
/// and not in the script, so that no other hub ever shows it.
const DEVELOPMENT: &str = r#"<meta name="hub-environment" content="development">
<meta name="hub-demo-login" content="demo@hub.local / demo-demo">"#;

const PRODUCTION: &str = r#"<meta name="hub-environment" content="production">"#;

/// Only our own files run, whatever gets into the page. `img-src` is wider for pictures that
/// platforms host; `ws:` and `wss:` are spelled out because some browsers do not count them to
/// `'self'`.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
    img-src 'self' https: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// The routes.
pub fn routes() -> Router<Api> {
    let router = Router::new();
    let router = ADDRESSES
        .into_iter()
        .fold(router, |router, address| router.route(address, get(index)));
    FILES
        .into_iter()
        .fold(router, |router, (address, content_type, content)| {
            router.route(address, get(async move || file(content_type, content)))
        })
}

async fn index(State(api): State<Api>) -> Response {
    file(
        "text/html; charset=utf-8",
        page(api.settings().server.environment),
    )
}

fn page(environment: Environment) -> String {
    let place = match environment {
        Environment::Development => DEVELOPMENT,
        Environment::Production => PRODUCTION,
    };
    INDEX.replacen(PLACE, place, 1)
}

/// `no-cache`: the files belong together, and the next start may bring others.
fn file(content_type: &'static str, content: impl IntoResponse) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_development_hub_shows_the_demo_login() {
        let development = page(Environment::Development);
        assert!(development.contains(r#"name="hub-environment" content="development""#));
        assert!(development.contains("demo-demo"));
        let production = page(Environment::Production);
        assert!(production.contains(r#"name="hub-environment" content="production""#));
        let files = FILES.map(|(_, _, content)| content);
        for file in [production.as_str()].into_iter().chain(files) {
            assert!(!file.contains("demo-demo") && !file.contains("demo@"));
        }
    }

    /// The policy would block these, silently for whoever does not look at the console.
    #[test]
    fn nothing_is_inline_and_nothing_is_parsed_as_html() {
        for inline in ["<style", " style=", " onclick=", "javascript:"] {
            assert!(!INDEX.contains(inline), "{inline}");
        }
        assert_eq!(INDEX.matches("<script").count(), 1);
        assert!(INDEX.contains(r#"<script type="module" src="/page/app.js"></script>"#));
        for parsed in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            for (address, _, content) in FILES {
                assert!(!content.contains(parsed), "{parsed} in {address}");
            }
        }
    }
}
