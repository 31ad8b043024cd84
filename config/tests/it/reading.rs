//! What the layers and the values come to, and what is said about mistakes.

use std::time::Duration;

use hub_config::{Environment, LogFormat, Settings};
use hub_domain::platform::Platform;

use crate::{Folder, load, sentence};

#[test]
fn defaults_alone_are_complete_and_strict() {
    let settings = load(&[]);
    assert_eq!(settings.server.port, 8000);
    assert_eq!(settings.server.public_url, "http://localhost:8000");
    assert_eq!(settings.server.environment, Environment::Production);
    assert_eq!(settings.server.cors_origins, ["http://localhost:5173"]);
    assert!(settings.database.url.is_none() && settings.redis.url.is_none());
    assert_eq!(settings.database.shards, 32);
    assert_eq!(settings.auth.access_ttl, Duration::from_secs(900));
    assert_eq!(settings.auth.refresh_ttl, Duration::from_secs(604_800));
    assert_eq!(settings.auth.reuse_window, Duration::ZERO);
    assert_eq!(settings.log.format, LogFormat::Text);
    assert!(settings.api.webhook_body_bytes >= 3_000_000);
    assert!(settings.worker.http_timeout < settings.worker.reconcile_window);
}

#[test]
fn the_file_beats_the_default_and_the_environment_beats_the_file() {
    let folder = Folder::new();
    let file = folder.file("[server]\nport = 9000\n[api]\nsend_wait_ms = 7\n");
    let settings = load(&[("HUB_CONFIG", &file)]);
    assert_eq!(settings.server.port, 9000);
    assert_eq!(settings.server.public_url, "http://localhost:9000");
    assert_eq!(settings.api.send_wait, Duration::from_millis(7));
    let settings = load(&[("HUB_CONFIG", &file), ("PORT", "9001")]);
    assert_eq!(settings.server.port, 9001);
    assert_eq!(settings.api.send_wait, Duration::from_millis(7));
    // Compose files pass `PORT=` for a variable nobody set.
    let settings = load(&[("HUB_CONFIG", &file), ("PORT", "  ")]);
    assert_eq!(settings.server.port, 9000);
    let both = [("NODE_ENV", "production"), ("HUB_ENV", "development")];
    assert_eq!(load(&both).server.environment, Environment::Development);
}

#[test]
fn mistakes_in_the_file_name_the_key_and_show_no_secret() {
    let folder = Folder::new();
    let path = folder.0.join("hub.toml");
    let path = path.display();
    for (text, expected) in [
        (
            "[server]\nprot = 1\n",
            format!(
                "server.prot in {path} is not a setting: remove it or correct its name \
                 (config/default.toml lists all)."
            ),
        ),
        (
            "[server]\nport = 70000\n",
            format!(
                "server.port in {path} is \"70000\": expected a port number between 1 and 65535."
            ),
        ),
        (
            "[server]\nport = [1]\n",
            format!(
                "HUB_CONFIG names {path}, which cannot be used: server.port must be one text, \
                 number or switch."
            ),
        ),
        (
            "[server]\ncors_origins = \"x\"\n",
            format!(
                "HUB_CONFIG names {path}, which cannot be used: server.cors_origins must be a \
                 list of texts."
            ),
        ),
    ] {
        let file = folder.file(text);
        assert_eq!(sentence(&[("HUB_CONFIG", &file)]), expected);
    }
    let broken = folder.file("[auth]\njwt_secret = \"hunter2-hunter2\n");
    let said = sentence(&[("HUB_CONFIG", &broken)]);
    assert!(
        said.contains("line 2") && !said.contains("hunter2"),
        "{said}"
    );
    let said = sentence(&[("HUB_CONFIG", "/no/such/hub.toml")]);
    assert!(
        said.starts_with("HUB_CONFIG names /no/such/hub.toml"),
        "{said}"
    );
}

#[test]
fn every_wrong_value_gets_its_sentence() {
    let number = "a whole number in a sensible range, as config/default.toml explains";
    let millis = "a number of milliseconds between 1 and 86400000 (a day)";
    let address = "an address such as https://hub.example.com";
    let origins = "origins such as https://app.example.com, without a path, or *";
    for (name, value, expected) in [
        ("PORT", "abc", "a port number between 1 and 65535"),
        ("SANDBOX_PORT", "0", "a port number between 1 and 65535"),
        (
            "HUB_HOST",
            "localhost",
            "an IP address such as 0.0.0.0 or ::1",
        ),
        ("NODE_ENV", "staging", "production or development"),
        ("FRONTEND_URL", "app.example.com", address),
        ("WEBHOOK_BASE_URL", "ftp://x", address),
        ("FACEBOOK_API_BASE", "https://u:p@x", address),
        ("CORS_ORIGINS", "https://a.example/path", origins),
        ("CORS_ORIGINS", "a.example", origins),
        ("HUB_DB_POOL_SIZE", "0", number),
        ("HUB_SHARDS", "-1", number),
        ("HUB_SEND_RETRY_ATTEMPTS", "0", number),
        ("HUB_HTTP_TIMEOUT_MS", "0", millis),
        ("HUB_SEND_WAIT_MS", "2s", millis),
        (
            "REFRESH_REUSE_WINDOW_SECONDS",
            "week",
            "a number of seconds, at most 31536000 (a year)",
        ),
        ("SANDBOX_CUSTOMERS", "some", "true or false"),
        ("HUB_LOG_FORMAT", "xml", "text or json"),
        (
            "RUST_LOG",
            "a=b=c",
            "a filter such as \"info,hub_worker=debug\"",
        ),
    ] {
        let said = sentence(&[(name, value)]);
        assert_eq!(said, format!("{name} is \"{value}\": expected {expected}."));
    }
}

#[test]
fn a_wrong_secret_is_explained_without_showing_it() {
    for (name, value) in [
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("REDIS_URL", "hunter2"),
        ("TELEGRAM_BOT_TOKEN", "hunter2"),
        ("TELEGRAM_WEBHOOK_SECRET", "hunter2 with spaces"),
    ] {
        let said = sentence(&[(name, value)]);
        assert!(
            said.starts_with(name) && !said.contains("hunter2"),
            "{said}"
        );
    }
    let same = [("JWT_SECRET", "hunter2"), ("JWT_REFRESH_SECRET", "hunter2")];
    let said = sentence(&same);
    assert!(
        said.contains("are the same") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn a_database_may_be_given_in_parts() {
    let url = |pairs: &[(&str, &str)]| {
        let settings = load(pairs);
        settings.database.url.unwrap().expose().to_owned()
    };
    let parts = [
        ("DB_HOST", "db"),
        ("DB_USER", "ann"),
        ("DB_PASSWORD", "p@ss/w:rd"),
    ];
    assert_eq!(
        url(&parts),
        "postgres://ann:p%40ss%2Fw%3Ard@db:5432/messaging_hub"
    );
    let socket = [
        ("DB_HOST", "/run/pg"),
        ("DB_USER", "ann"),
        ("DB_NAME", "hub"),
    ];
    assert_eq!(
        url(&socket),
        "postgres://ann@localhost:5432/hub?host=%2Frun%2Fpg"
    );
    let both = [("DB_HOST", "db"), ("DATABASE_URL", "postgres://x/y")];
    assert_eq!(url(&both), "postgres://x/y");
    let redis = load(&[("REDIS_HOST", "cache"), ("REDIS_PASSWORD", "s")]);
    assert_eq!(redis.redis.url.unwrap().expose(), "redis://:s@cache:6379");
}

#[test]
fn the_web_clients_origin_is_always_allowed() {
    let settings = load(&[
        ("FRONTEND_URL", "https://app.example.com/desk/"),
        (
            "CORS_ORIGINS",
            "http://localhost:5173, http://127.0.0.1:5173/",
        ),
    ]);
    assert_eq!(
        settings.server.frontend_url.as_deref(),
        Some("https://app.example.com/desk")
    );
    for origin in [
        "http://localhost:5173",
        "http://127.0.0.1:5173",
        "https://app.example.com",
    ] {
        assert!(settings.server.allows_origin(origin), "{origin}");
    }
    assert!(!settings.server.allows_origin("https://evil.example"));
    assert!(
        !settings
            .server
            .allows_origin("https://app.example.com.evil.example")
    );
}

#[test]
fn platforms_get_their_addresses_and_credentials() {
    let settings = load(&[
        ("WEBHOOK_BASE_URL", "https://hub.example.com/"),
        ("FACEBOOK_APP_ID", "1"),
        ("FACEBOOK_APP_SECRET", "fb"),
        ("INSTAGRAM_APP_SECRET", "ig"),
        ("TWITTER_CLIENT_SECRET", "tw"),
        ("TELEGRAM_BOT_USERNAME", "@desk_bot"),
        ("MICROSOFT_TENANT_ID", "common"),
    ]);
    for platform in Platform::ALL {
        let app = settings.app(platform);
        let family = match platform {
            Platform::Twitter | Platform::Linkedin | Platform::Teams => "oauth",
            _ => "auth",
        };
        let expected = format!("https://hub.example.com/api/{family}/callback/{platform}");
        assert_eq!(app.redirect_uri, expected);
        let webhook = format!("https://hub.example.com/api/webhooks/{platform}");
        assert_eq!(app.webhook_url, webhook);
        assert!(app.api_base.starts_with("https://"), "{platform}");
        assert!(!app.dialog_base.is_empty(), "{platform}");
    }
    assert_eq!(settings.app(Platform::Facebook).api_version, "v26.0");
    assert_eq!(settings.app(Platform::Whatsapp).client_id, "1");
    assert_eq!(
        settings.app(Platform::Whatsapp).client_secret.expose(),
        "fb"
    );
    let instagram = settings.app(Platform::Instagram);
    assert_eq!(instagram.client_secret.expose(), "ig");
    assert_eq!(instagram.client_secret_previous.expose(), "fb");
    assert_eq!(
        settings.app(Platform::Twitter).webhook_secret.expose(),
        "tw"
    );
    let telegram = settings.app(Platform::Telegram);
    assert_eq!(telegram.bot_username, "desk_bot");
    assert_eq!(telegram.dialog_base, "https://hub.example.com");
    let teams = settings.app(Platform::Teams);
    assert_eq!(
        teams.dialog_base,
        "https://login.microsoftonline.com/common"
    );
    let fronted = load(&[("FRONTEND_URL", "https://app.example.com")]);
    assert_eq!(
        fronted.app(Platform::Telegram).dialog_base,
        "https://app.example.com"
    );
}

#[test]
fn a_budget_is_calls_and_seconds() {
    let budget = |text: &'static str| {
        let settings = load(&[("HUB_BUDGET_TEAMS", text)]);
        settings.app(Platform::Teams).budget
    };
    assert_eq!(budget(""), None);
    assert_eq!(budget("200/3600"), Some((200, Duration::from_secs(3600))));
    for bad in ["200", "0/1", "1/0", "-1/5", "1/x"] {
        let env = |name: &str| (name == "HUB_BUDGET_TEAMS").then(|| bad.to_owned());
        let said = Settings::load(env).unwrap_err().to_string();
        assert!(said.contains("HUB_BUDGET_TEAMS"), "{said}");
    }
}

#[test]
fn each_login_of_instagram_has_its_hosts() {
    let app = |pairs: &[(&str, &str)]| load(pairs).app(Platform::Instagram);
    let linked = app(&[]);
    assert_eq!(linked.api_base, "https://graph.facebook.com");
    assert_eq!(linked.dialog_base, "https://www.facebook.com");
    assert_eq!(linked.token_base, "");
    let own = app(&[("INSTAGRAM_LOGIN", "instagram")]);
    assert_eq!(own.api_base, "https://graph.instagram.com");
    assert_eq!(own.dialog_base, "https://www.instagram.com");
    assert_eq!(own.token_base, "https://api.instagram.com");
    let elsewhere = [
        ("INSTAGRAM_LOGIN", "instagram"),
        ("INSTAGRAM_API_BASE", "http://127.0.0.1:1"),
    ];
    assert_eq!(app(&elsewhere).api_base, "http://127.0.0.1:1");
    assert!(sentence(&[("INSTAGRAM_LOGIN", "myspace")]).contains("facebook or instagram"));
}
