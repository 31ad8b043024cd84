//! What roles require, what production refuses, and what an operator is shown.

use hub_config::{Role, Settings};

use crate::{load, sentence};

/// A production environment with nothing wrong in it.
const PRODUCTION: &[(&str, &str)] = &[
    ("DATABASE_URL", "postgres://hub:pw@db/hub"),
    ("JWT_SECRET", "5f2b6c8e9d0a1b2c3d4e5f60718293a4"),
    ("JWT_REFRESH_SECRET", "a45f2b6c8e9d0a1b2c3d4e5f60718293"),
    ("ENCRYPTION_KEY", "93a45f2b6c8e9d0a1b2c3d4e5f607182"),
];

fn production(more: &[(&'static str, &'static str)]) -> Settings {
    load(&[PRODUCTION, more].concat())
}

#[test]
fn a_role_asks_for_what_it_needs_and_no_more() {
    let missing = |pairs: &[(&str, &str)], role| load(pairs).require(role).unwrap_err().to_string();
    let database = ("DATABASE_URL", "postgres://db/hub");
    for role in [Role::Api, Role::Worker, Role::Migrate] {
        assert!(missing(&[], role).starts_with("DATABASE_URL is not set: "));
    }
    assert!(missing(&[database], Role::Api).starts_with("JWT_SECRET is not set: "));
    assert!(missing(&[database], Role::Worker).starts_with("ENCRYPTION_KEY is not set: "));
    load(&[database]).require(Role::Migrate).unwrap();
    for role in [Role::Api, Role::Worker, Role::Migrate] {
        production(&[]).require(role).unwrap();
    }
}

#[test]
fn a_bucket_is_named_with_who_may_use_it() {
    let named = &[
        ("HUB_MEDIA_BUCKET", "media"),
        ("HUB_MEDIA_S3_ENDPOINT", "https://s3.example:9000/"),
        ("HUB_MEDIA_S3_ACCESS_KEY_ID", "AKIATEST"),
        ("HUB_MEDIA_S3_SECRET_ACCESS_KEY", " a secret "),
    ];
    assert!(load(&[]).media.bucket.is_none());
    let settings = load(named);
    let bucket = settings.media.bucket.as_ref().expect("a bucket");
    assert_eq!(bucket.endpoint.as_deref(), Some("https://s3.example:9000"));
    assert_eq!(bucket.region, "us-east-1");
    assert_eq!(bucket.secret_access_key.expose(), " a secret ");
    let shown = settings.describe().join("\n");
    assert!(!shown.contains("a secret"), "{shown}");
    for left_out in [2, 3] {
        let mut lacking = named.to_vec();
        let (name, _) = lacking.remove(left_out);
        let error = sentence(&lacking);
        assert!(
            error.contains(&name["HUB_MEDIA_".len()..].to_lowercase()),
            "{error}"
        );
    }
    for odd in [
        "s3.example",
        "https://s3.example/path",
        "ftp://s3.example",
        "https://x@s3.example",
    ] {
        let mut wrong = named.to_vec();
        wrong[1].1 = odd;
        assert!(sentence(&wrong).contains("HUB_MEDIA_S3_ENDPOINT"), "{odd}");
    }
}

#[test]
fn production_refuses_known_and_short_secrets() {
    for (name, value, reason) in [
        ("JWT_SECRET", "hunter2", "is too short"),
        (
            "JWT_SECRET",
            "your-super-secret-jwt-key",
            "is a sample value",
        ),
        (
            "ENCRYPTION_KEY",
            "your-32-character-encryption-key",
            "is a sample value",
        ),
        (
            "ENCRYPTION_KEY",
            "default-key-change-in-production!!",
            "is a sample value",
        ),
        (
            "FACEBOOK_APP_SECRET",
            "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
            "is a sample value",
        ),
        (
            "FACEBOOK_VERIFY_TOKEN",
            "hub-dev-verify",
            "is a sample value",
        ),
        (
            "TELEGRAM_WEBHOOK_SECRET",
            "hub_Secret-Token_01",
            "is a sample value",
        ),
        (
            "TEAMS_CLIENT_STATE",
            "teams_webhook_secret",
            "is a sample value",
        ),
        ("LINKEDIN_CLIENT_SECRET", "abc", "is too short"),
    ] {
        let said = production(&[(name, value)])
            .require(Role::Api)
            .unwrap_err()
            .to_string();
        assert!(said.starts_with(&format!("{name} {reason}")), "{said}");
        assert!(!said.contains(value), "{said}");
        production(&[(name, value), ("NODE_ENV", "development")])
            .require(Role::Api)
            .unwrap();
    }
}

#[test]
fn the_description_shows_everything_but_secrets() {
    let settings = production(&[
        ("REDIS_URL", "redis://:hunter2@cache:6379"),
        ("TELEGRAM_BOT_TOKEN", "123456:hunter2-hunter2-hunter2"),
        ("PORT", "9001"),
    ]);
    let shown = settings.describe().join("\n");
    let debugged = format!("{settings:?}");
    for (_, secret) in &PRODUCTION[1..] {
        assert!(!shown.contains(secret) && !debugged.contains(secret));
    }
    assert!(
        !shown.contains("hunter2") && !shown.contains(":pw@"),
        "{shown}"
    );
    assert!(shown.contains("server.port = 9001  [PORT]"), "{shown}");
    assert!(shown.contains("database.url = postgres://hub:***@db/hub  [DATABASE_URL]"));
    assert!(shown.contains("auth.jwt_secret = (secret, 32 bytes)  [JWT_SECRET]"));
    assert!(shown.contains("sandbox.port = 8100  [default]"));
    let mut settings = settings;
    settings.use_database("postgres://hub@localhost/dev");
    let shown = settings.describe().join("\n");
    assert!(shown.contains("database.url = postgres://hub@localhost/dev"));
}

#[test]
fn risky_pairs_are_named() {
    let quiet = production(&[
        ("WEBHOOK_BASE_URL", "https://hub.example.com"),
        ("REDIS_URL", "redis://cache"),
    ]);
    assert_eq!(quiet.warnings(), Vec::<String>::new());
    for (name, value, word) in [
        (
            "HUB_HTTP_TIMEOUT_MS",
            "120000",
            "HUB_RECONCILE_WINDOW_SECONDS",
        ),
        (
            "REFRESH_REUSE_WINDOW_SECONDS",
            "604801",
            "REFRESH_REUSE_WINDOW_SECONDS",
        ),
        ("CORS_ORIGINS", "*", "CORS_ORIGINS"),
        ("HUB_WEBHOOK_BODY_BYTES", "100000", "HUB_WEBHOOK_BODY_BYTES"),
        ("HUB_SEND_WAIT_MS", "9500", "HUB_SEND_WAIT_MS"),
        (
            "WEBHOOK_BASE_URL",
            "http://hub.example.com",
            "WEBHOOK_BASE_URL",
        ),
        (
            "WEBHOOK_BASE_URL",
            "http://localhost:8000",
            "WEBHOOK_BASE_URL",
        ),
    ] {
        let base = ("WEBHOOK_BASE_URL", "https://hub.example.com");
        let redis = ("REDIS_URL", "redis://cache");
        let warnings = production(&[base, redis, (name, value)]).warnings();
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
        assert!(warnings[0].contains(word), "{warnings:?}");
    }
}

#[test]
fn logging_starts_twice_without_harm() {
    let settings = load(&[("HUB_LOG_FORMAT", "json")]);
    hub_config::telemetry::init(&settings.log);
    hub_config::telemetry::init(&settings.log);
}
