//! The hub's registration with each platform.

use std::collections::BTreeMap;
use std::time::Duration;

use hub_domain::platform::{App, Platform};
use hub_domain::secret::Secret;

use crate::error::SettingsError;
use crate::layers::Layers;
use crate::server::ServerSettings;

/// The hub's registration with each platform. One that is not configured has empty credentials.
#[derive(Clone, Debug)]
pub struct PlatformSettings {
    apps: BTreeMap<Platform, App>,
}

impl PlatformSettings {
    pub(crate) fn app(&self, platform: Platform) -> App {
        self.apps.get(&platform).cloned().unwrap_or_default()
    }

    pub(crate) fn read(layers: &Layers, server: &ServerSettings) -> Result<Self, SettingsError> {
        let mut apps = Platform::ALL
            .into_iter()
            .map(|platform| Ok((platform, read_app(layers, server, platform)?)))
            .collect::<Result<BTreeMap<_, _>, SettingsError>>()?;
        share_meta_app(&mut apps);
        Ok(Self { apps })
    }
}

fn read_app(
    layers: &Layers,
    server: &ServerSettings,
    platform: Platform,
) -> Result<App, SettingsError> {
    let path = |field: &str| format!("platforms.{platform}.{field}");
    // A platform's table has only the keys it uses; the others stay empty.
    let text = |field: &str| {
        let path = path(field);
        if layers.has(&path) {
            layers.text(&path).to_owned()
        } else {
            String::new()
        }
    };
    let base = |field: &str| Ok(layers.base_url(&path(field))?.unwrap_or_default());
    let mut app = App {
        client_id: text("client_id"),
        client_secret: Secret::new(text("client_secret")),
        client_secret_previous: Secret::new(text("client_secret_previous")),
        verify_token: Secret::new(text("verify_token")),
        webhook_secret: Secret::new(text("webhook_secret")),
        webhook_secret_previous: Secret::new(text("webhook_secret_previous")),
        bot_token: Secret::new(text("bot_token")),
        bot_username: text("bot_username").trim_start_matches('@').to_owned(),
        api_base: base("api_base")?,
        user_api_base: match platform {
            Platform::Telegram => base("user_api_base")?,
            _ => String::new(),
        },
        dialog_base: base("dialog_base")?,
        api_version: text("api_version"),
        token_base: String::new(),
        login_config_id: text("login_config_id"),
        phone_number_id: text("phone_number_id"),
        business_account_id: text("business_account_id"),
        app_id: text("app_id"),
        scopes: text("scopes"),
        redirect_uri: format!("{}/{}", server.public_url, callback_path(platform)),
        webhook_url: format!("{}/api/webhooks/{platform}", server.public_url),
        budget: read_budget(layers, platform)?,
        webhook_audience: text("webhook_audience"),
        webhook_keys: text("webhook_keys"),
        encryption_key: Secret::new(text("encryption_key")),
        encryption_certificate: text("encryption_certificate"),
    };
    match platform {
        Platform::Telegram => finish_telegram(layers, server, &mut app)?,
        Platform::Instagram => finish_instagram(layers, &mut app)?,
        Platform::Teams => {
            app.dialog_base = format!("{}/{}", app.dialog_base, text("tenant"));
            if app.webhook_audience.is_empty() {
                app.webhook_audience.clone_from(&app.client_id);
            }
        }
        Platform::Twitter if app.webhook_secret.is_empty() => {
            app.webhook_secret = app.client_secret.clone();
        }
        _ => {}
    }
    Ok(app)
}

/// Calls and seconds, when somebody has chosen them.
fn read_budget(
    layers: &Layers,
    platform: Platform,
) -> Result<Option<(u32, Duration)>, SettingsError> {
    let path = format!("budgets.{platform}");
    let text = layers.text(&path);
    if text.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (calls, seconds) = text.split_once('/')?;
        let (calls, seconds): (u32, u32) =
            (calls.trim().parse().ok()?, seconds.trim().parse().ok()?);
        (calls > 0 && seconds > 0).then(|| (calls, Duration::from_secs(seconds.into())))
    };
    match read() {
        Some(budget) => Ok(Some(budget)),
        None => Err(layers.invalid(&path, "calls/seconds, like 200/3600")),
    }
}

/// Two families for historical reasons; the addresses are registered with the platforms.
fn callback_path(platform: Platform) -> String {
    match platform {
        Platform::Facebook | Platform::Instagram | Platform::Whatsapp | Platform::Telegram => {
            format!("api/auth/callback/{platform}")
        }
        Platform::Twitter | Platform::Linkedin | Platform::Teams => {
            format!("api/oauth/callback/{platform}")
        }
    }
}

fn finish_telegram(
    layers: &Layers,
    server: &ServerSettings,
    app: &mut App,
) -> Result<(), SettingsError> {
    if app.dialog_base.is_empty() {
        let page = server.frontend_url.as_ref().unwrap_or(&server.public_url);
        app.dialog_base.clone_from(page);
    }
    for field in ["webhook_secret", "webhook_secret_previous"] {
        let path = format!("platforms.telegram.{field}");
        let text = layers.text(&path);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.len() > 256 || !text.bytes().all(fits) {
            return Err(layers.invalid(&path, "1 to 256 of A-Z a-z 0-9 _ and -"));
        }
    }
    let path = "platforms.telegram.client_id";
    let api_id = layers.text(path);
    if !api_id.is_empty() && !api_id.parse::<i32>().is_ok_and(|id| id > 0) {
        return Err(layers.invalid(path, "the number my.telegram.org gave"));
    }
    let path = "platforms.telegram.bot_token";
    let token = layers.text(path);
    let bot_id = token.split_once(':').map_or("", |(id, _)| id);
    if !token.is_empty() && (bot_id.is_empty() || !bot_id.bytes().all(|b| b.is_ascii_digit())) {
        return Err(layers.invalid(path, "the token @BotFather gave, <digits>:<text>"));
    }
    Ok(())
}

/// Each login has hosts of its own; only Instagram's has one for codes.
fn finish_instagram(layers: &Layers, app: &mut App) -> Result<(), SettingsError> {
    let logins = [
        (
            "facebook",
            ["https://graph.facebook.com", "https://www.facebook.com"],
        ),
        (
            "instagram",
            ["https://graph.instagram.com", "https://www.instagram.com"],
        ),
    ];
    let path = "platforms.instagram.login";
    let [api, dialog] = layers.choice(path, &logins, "facebook or instagram")?;
    for (base, default) in [(&mut app.api_base, api), (&mut app.dialog_base, dialog)] {
        if base.is_empty() {
            default.clone_into(base);
        }
    }
    if layers.text(path) == "instagram" {
        let base = layers.base_url("platforms.instagram.exchange_base")?;
        app.token_base = base.unwrap_or_default();
    }
    Ok(())
}

/// WhatsApp uses Facebook's app unless it has its own; webhooks of both it and Instagram may be
/// signed with Facebook's secret.
fn share_meta_app(apps: &mut BTreeMap<Platform, App>) {
    let Some(facebook) = apps.get(&Platform::Facebook).cloned() else {
        return;
    };
    for platform in [Platform::Whatsapp, Platform::Instagram] {
        let Some(app) = apps.get_mut(&platform) else {
            continue;
        };
        if app.client_id.is_empty() && platform == Platform::Whatsapp {
            app.client_id.clone_from(&facebook.client_id);
        }
        if app.client_secret.is_empty() {
            app.client_secret = facebook.client_secret.clone();
            app.client_secret_previous = facebook.client_secret_previous.clone();
        } else if app.client_secret != facebook.client_secret {
            app.client_secret_previous = facebook.client_secret.clone();
        }
    }
}
