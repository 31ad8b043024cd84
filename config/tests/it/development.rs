//! `cargo run` with nothing set.

use std::os::unix::fs::PermissionsExt as _;

use hub_config::{Environment, Settings};
use hub_domain::platform::Platform;

use crate::{Folder, env};

#[test]
fn development_needs_nothing_and_keeps_its_secrets() {
    let folder = Folder::new();
    let dir = format!("{}/deep/er", folder.path());
    let dev = Settings::for_dev(env(&[("HUB_DATA_DIR", &dir)])).unwrap();
    assert_eq!(dev.server.environment, Environment::Development);
    assert_eq!(dev.server.host.to_string(), "127.0.0.1");
    assert_eq!(dev.auth.jwt_secret.expose().len(), 64);
    assert_ne!(dev.auth.jwt_secret, dev.auth.jwt_refresh_secret);
    let facebook = dev.app(Platform::Facebook);
    assert_eq!(facebook.api_base, "http://127.0.0.1:8100");
    assert_eq!(facebook.dialog_base, "http://127.0.0.1:8100");
    assert_eq!(facebook.client_id, "845120034567890");
    assert_eq!(facebook.verify_token.expose(), "hub-dev-verify");
    let telegram = dev.app(Platform::Telegram);
    assert_eq!(telegram.bot_username, "northwind_desk_bot");
    assert_eq!(telegram.api_base, "http://127.0.0.1:8100");

    for platform in [Platform::Instagram, Platform::Whatsapp] {
        assert_eq!(dev.app(platform).api_base, "http://127.0.0.1:8100");
        assert!(!dev.app(platform).client_secret.is_empty());
    }
    let own = [
        ("HUB_DATA_DIR", dir.as_str()),
        ("INSTAGRAM_LOGIN", "instagram"),
    ];
    let own = Settings::for_dev(env(&own)).unwrap();
    let played = own.app(Platform::Instagram).token_base;
    assert_eq!(played, "http://127.0.0.1:8100");

    let file = std::path::Path::new(&dir).join("secrets.toml");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = Settings::for_dev(env(&[("HUB_DATA_DIR", &dir)])).unwrap();
    assert_eq!(again.auth.encryption_key, dev.auth.encryption_key);
    let own = [("HUB_DATA_DIR", dir.as_str()), ("JWT_SECRET", "mine")];
    let own = Settings::for_dev(env(&own)).unwrap();
    assert_eq!(own.auth.jwt_secret.expose(), "mine");
    assert_eq!(own.auth.encryption_key, dev.auth.encryption_key);
}

#[test]
fn a_real_registration_turns_the_sandbox_off_for_its_platform_only() {
    let folder = Folder::new();
    let dev = Settings::for_dev(env(&[
        ("HUB_DATA_DIR", folder.path()),
        ("FACEBOOK_APP_ID", "4242"),
        ("SANDBOX_PORT", "8111"),
    ]))
    .unwrap();
    let facebook = dev.app(Platform::Facebook);
    assert_eq!(facebook.api_base, "https://graph.facebook.com");
    assert!(
        facebook.client_secret.is_empty(),
        "a fictional secret beside a real id"
    );
    assert_eq!(
        dev.app(Platform::Telegram).api_base,
        "http://127.0.0.1:8111"
    );
}

#[test]
fn development_refuses_to_play_production_and_names_a_damaged_secrets_file() {
    let folder = Folder::new();
    let said = |pairs: &[(&str, &str)]| Settings::for_dev(env(pairs)).err().unwrap().to_string();
    let production = [("HUB_DATA_DIR", folder.path()), ("NODE_ENV", "production")];
    assert!(said(&production).contains("unset NODE_ENV"));
    std::fs::write(folder.0.join("secrets.toml"), "jwt_secret = \"hunter2\"\n").unwrap();
    let damaged = said(&[("HUB_DATA_DIR", folder.path())]);
    assert!(
        damaged.contains("jwt_refresh_secret is missing"),
        "{damaged}"
    );
    assert!(!damaged.contains("hunter2"));
}

#[test]
fn racing_first_starts_agree_on_one_set_of_secrets() {
    let folder = Folder::new();
    let keys: Vec<String> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let dev = Settings::for_dev(env(&[("HUB_DATA_DIR", folder.path())])).unwrap();
                    dev.auth.encryption_key.expose().to_owned()
                })
            })
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
}
