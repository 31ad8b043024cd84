//! What `cargo run` fills in so that it needs nothing.
//!
//! Platforms nobody configured point at the sandbox with fictional credentials; the hub's own
//! secrets are generated once and kept, because data sealed with them must stay readable.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use toml::Table;

use crate::error::SettingsError;
use crate::layers::Layers;
use crate::server::Environment;

/// Credentials the sandbox knows, and therefore everybody. Production refuses them.
pub(crate) const FICTIONAL: &[(&str, &str)] = &[
    ("platforms.facebook.client_id", "845120034567890"),
    (
        "platforms.facebook.client_secret",
        "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    ),
    ("platforms.facebook.verify_token", "hub-dev-verify"),
    ("platforms.instagram.client_id", "990011223344556"),
    (
        "platforms.instagram.client_secret",
        "a1b2c3d4e5f60718293a4b5c6d7e8f90",
    ),
    ("platforms.instagram.verify_token", "hub-dev-verify"),
    ("platforms.whatsapp.client_id", "845120034567895"),
    (
        "platforms.whatsapp.client_secret",
        "7c4a8d09ca3762af61e59520943dc264",
    ),
    ("platforms.whatsapp.verify_token", "hub-dev-verify"),
    (
        "platforms.telegram.bot_token",
        "7100000001:AAHub-fictional_TokenForTests0123456789",
    ),
    ("platforms.telegram.bot_username", "northwind_desk_bot"),
    ("platforms.telegram.webhook_secret", "hub_Secret-Token_01"),
    ("platforms.twitter.client_id", "hubFictionalClientId"),
    (
        "platforms.twitter.client_secret",
        "hubFictionalClientSecret0123456789",
    ),
    (
        "platforms.twitter.webhook_secret",
        "hubTestConsumerSecret0123456789abcdefghijklmnopqrstuv",
    ),
    (
        "platforms.twitter.bot_token",
        "AAAAhubFictionalAppOnlyBearer",
    ),
    ("platforms.twitter.app_id", "31000042"),
    ("platforms.linkedin.client_id", "86hubfictional"),
    (
        "platforms.linkedin.client_secret",
        "hubTestLinkedInSecret42",
    ),
    ("platforms.linkedin.app_id", "31000043"),
    (
        "platforms.teams.client_id",
        "0d9e7a52-1111-4222-8333-444455556666",
    ),
    (
        "platforms.teams.client_secret",
        "8Q~hub-fictional_ClientSecretForTests01",
    ),
    ("platforms.teams.webhook_secret", "teams_webhook_secret"),
    ("platforms.telegram.client_id", "71000001"),
    (
        "platforms.telegram.client_secret",
        "00112233445566778899aabbccddeeff",
    ),
];

/// What the sandbox grants beyond the defaults. No credentials: anybody may have the same.
const GRANTED: &[(&str, &str)] = &[(
    "platforms.linkedin.scopes",
    "profile openid w_member_social r_organization_social w_organization_social \
     rw_organization_admin r_dma_portability_self_serve",
)];

/// The key that tells whether a person has a registration of their own with the platform.
const OWN_REGISTRATION: &[(&str, &str)] = &[
    ("platforms.facebook", "platforms.facebook.client_id"),
    ("platforms.instagram", "platforms.instagram.client_id"),
    ("platforms.telegram", "platforms.telegram.bot_token"),
    ("platforms.whatsapp", "platforms.whatsapp.client_id"),
    ("platforms.twitter", "platforms.twitter.client_id"),
    ("platforms.linkedin", "platforms.linkedin.client_id"),
    ("platforms.teams", "platforms.teams.client_id"),
];

const GENERATED: &[(&str, &str)] = &[
    ("auth.jwt_secret", "jwt_secret"),
    ("auth.jwt_refresh_secret", "jwt_refresh_secret"),
    ("auth.encryption_key", "encryption_key"),
];

pub(crate) fn fill(layers: &mut Layers) -> Result<(), SettingsError> {
    if !layers.is_chosen("server.environment") {
        layers.fill("server.environment", "development");
    }
    let choices = [("production", Environment::Production)];
    if layers
        .choice("server.environment", &choices, "production")
        .is_ok()
    {
        return Err(SettingsError::Conflict(
            "The environment says production, but `hub dev` is for one person's machine: unset \
             NODE_ENV and HUB_ENV, or run `hub api` and `hub worker`."
                .to_owned(),
        ));
    }
    if !layers.is_chosen("server.host") {
        layers.fill("server.host", "127.0.0.1");
    }
    point_at_sandbox(layers)?;
    fill_secrets(layers)
}

pub(crate) fn point_at_sandbox(layers: &mut Layers) -> Result<(), SettingsError> {
    let sandbox = format!("http://127.0.0.1:{}", layers.port("sandbox.port")?);
    let base = "platforms.telegram.user_api_base";
    let has_own_bot = layers.is_chosen("platforms.telegram.bot_token");
    if !has_own_bot && !layers.is_chosen("platforms.telegram.client_id") && !layers.is_chosen(base)
    {
        layers.fill(base, &sandbox);
    }
    if !layers.is_chosen("media.trusted_origins") {
        layers.fill("media.trusted_origins", &sandbox);
    }
    for (platform, own) in OWN_REGISTRATION {
        if layers.is_chosen(own) {
            continue;
        }
        for field in ["api_base", "dialog_base", "exchange_base"] {
            let path = format!("{platform}.{field}");
            if layers.has(&path) && !layers.is_chosen(&path) {
                layers.fill(&path, &sandbox);
            }
        }
        for (path, value) in FICTIONAL.iter().chain(GRANTED) {
            if path.starts_with(platform) && !layers.is_chosen(path) {
                layers.fill(path, value);
            }
        }
    }
    Ok(())
}

fn fill_secrets(layers: &mut Layers) -> Result<(), SettingsError> {
    if GENERATED.iter().all(|(path, _)| layers.is_chosen(path)) {
        return Ok(());
    }
    let file = Path::new(layers.text("data.dir")).join("secrets.toml");
    let unusable = |reason: String| SettingsError::DevSecrets {
        file: file.clone(),
        reason,
    };
    let text = read_or_create(&file).map_err(|error| unusable(error.to_string()))?;
    let kept: Table = text
        .parse()
        .map_err(|_| unusable("it is not a list of name = \"value\" lines".to_owned()))?;
    for (path, name) in GENERATED {
        if layers.is_chosen(path) {
            continue;
        }
        match kept.get(*name).and_then(toml::Value::as_str) {
            Some(secret) if !secret.is_empty() => layers.fill(path, secret),
            _ => return Err(unusable(format!("{name} is missing from it"))),
        }
    }
    Ok(())
}

/// The file appears whole or not at all, and the first of two racing processes wins: its text is
/// written aside and linked into place, which fails when the name is taken.
fn read_or_create(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    let aside = file.with_extension(format!("{}.new", &random_hex()?[..16]));
    let mut text = String::from(
        "# Made by `cargo run` for this machine. Deleting it makes stored tokens and texts\n\
         # unreadable and signs everybody out.\n",
    );
    for (_, name) in GENERATED {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{name} = \"{}\"", random_hex()?);
    }
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    let linked = fs::hard_link(&aside, file);
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::read_to_string(file),
    }
}

fn random_hex() -> io::Result<String> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    }))
}
