//! The settings' keys, their environment names, and which of them are secret.
//!
//! A test holds this list and `default.toml` equal, in both directions.

/// How a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// As it is.
    Plain,
    /// Only its length.
    Masked,
    /// A URL whose password is masked.
    MaskedUrl,
}

/// One setting.
pub(crate) struct Key {
    /// `table.name` in `default.toml`.
    pub(crate) path: &'static str,
    /// Environment names, strongest first.
    pub(crate) names: &'static [&'static str],
    pub(crate) shown: Shown,
}

const fn plain(path: &'static str, names: &'static [&'static str]) -> Key {
    Key {
        path,
        names,
        shown: Shown::Plain,
    }
}

const fn masked(path: &'static str, names: &'static [&'static str]) -> Key {
    Key {
        path,
        names,
        shown: Shown::Masked,
    }
}

const fn masked_url(path: &'static str, names: &'static [&'static str]) -> Key {
    Key {
        path,
        names,
        shown: Shown::MaskedUrl,
    }
}

/// Finds a key. Asking for one that is not in the list is a mistake in this crate; every key is
/// read when settings are loaded, so any test would show it.
pub(crate) fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    plain("server.host", &["HUB_HOST"]),
    plain("server.port", &["PORT"]),
    plain("server.frontend_url", &["FRONTEND_URL"]),
    plain("server.public_url", &["WEBHOOK_BASE_URL"]),
    plain("server.cors_origins", &["CORS_ORIGINS"]),
    plain("server.trusted_proxies", &["HUB_TRUSTED_PROXIES"]),
    plain("server.static_dir", &["STATIC_DIR"]),
    plain("server.environment", &["HUB_ENV", "NODE_ENV"]),
    plain("data.dir", &["HUB_DATA_DIR"]),
    masked_url("database.url", &["DATABASE_URL"]),
    plain("database.host", &["DB_HOST"]),
    plain("database.port", &["DB_PORT"]),
    plain("database.name", &["DB_NAME"]),
    plain("database.user", &["DB_USER"]),
    masked("database.password", &["DB_PASSWORD"]),
    plain("database.pool_size", &["HUB_DB_POOL_SIZE"]),
    plain("database.readers", &["HUB_DB_READERS"]),
    plain("database.shards", &["HUB_SHARDS"]),
    masked_url("redis.url", &["REDIS_URL"]),
    plain("redis.host", &["REDIS_HOST"]),
    plain("redis.port", &["REDIS_PORT"]),
    masked("redis.password", &["REDIS_PASSWORD"]),
    masked("auth.jwt_secret", &["JWT_SECRET"]),
    masked("auth.jwt_refresh_secret", &["JWT_REFRESH_SECRET"]),
    masked("auth.encryption_key", &["ENCRYPTION_KEY"]),
    plain("auth.access_ttl_s", &["HUB_ACCESS_TTL_SECONDS"]),
    plain("auth.refresh_ttl_s", &["HUB_REFRESH_TTL_SECONDS"]),
    plain("auth.reuse_window_s", &["REFRESH_REUSE_WINDOW_SECONDS"]),
    plain("log.format", &["HUB_LOG_FORMAT"]),
    plain("log.filter", &["RUST_LOG"]),
    plain("worker.concurrency", &["HUB_WORKER_CONCURRENCY"]),
    plain("worker.sends", &["HUB_WORKER_SENDS"]),
    plain("worker.http_connect_timeout_ms", &["HUB_HTTP_CONNECT_TIMEOUT_MS"]),
    plain("worker.http_timeout_ms", &["HUB_HTTP_TIMEOUT_MS"]),
    plain("worker.reconcile_window_s", &["HUB_RECONCILE_WINDOW_SECONDS"]),
    plain("worker.raw_input_days", &["HUB_RAW_INPUT_DAYS"]),
    plain("worker.message_retention_days", &["MESSAGE_RETENTION_DAYS"]),
    plain("worker.usage_days", &["HUB_USAGE_DAYS"]),
    plain("worker.listen", &["HUB_WORKER_LISTEN"]),
    plain("worker.send_retry_attempts", &["HUB_SEND_RETRY_ATTEMPTS"]),
    plain("worker.send_retry_first_ms", &["HUB_SEND_RETRY_FIRST_MS"]),
    plain("worker.send_retry_cap_s", &["HUB_SEND_RETRY_CAP_SECONDS"]),
    plain("api.body_bytes", &["HUB_BODY_BYTES"]),
    plain("api.webhook_body_bytes", &["HUB_WEBHOOK_BODY_BYTES"]),
    plain("api.read_wait_ms", &["HUB_READ_WAIT_MS"]),
    plain("api.send_wait_ms", &["HUB_SEND_WAIT_MS"]),
    plain("api.oauth_callback_wait_ms", &["HUB_OAUTH_CALLBACK_WAIT_MS"]),
    plain("api.poll_wait_ms", &["HUB_POLL_WAIT_MS"]),
    plain("api.rate_limit_requests", &["USER_RATE_LIMIT_REQUESTS"]),
    plain("api.strict_rate_limit_requests", &["HUB_STRICT_RATE_LIMIT_REQUESTS"]),
    plain("api.rate_limit_window_ms", &["USER_RATE_LIMIT_WINDOW_MS"]),
    plain("budgets.telegram", &["HUB_BUDGET_TELEGRAM"]),
    plain("budgets.twitter", &["HUB_BUDGET_TWITTER"]),
    plain("budgets.linkedin", &["HUB_BUDGET_LINKEDIN"]),
    plain("budgets.instagram", &["HUB_BUDGET_INSTAGRAM"]),
    plain("budgets.whatsapp", &["HUB_BUDGET_WHATSAPP"]),
    plain("budgets.facebook", &["HUB_BUDGET_FACEBOOK"]),
    plain("budgets.teams", &["HUB_BUDGET_TEAMS"]),
    plain("media.dir", &["HUB_MEDIA_DIR"]),
    plain("media.bucket", &["HUB_MEDIA_BUCKET"]),
    plain("media.s3_endpoint", &["HUB_MEDIA_S3_ENDPOINT"]),
    plain("media.s3_region", &["HUB_MEDIA_S3_REGION"]),
    plain("media.s3_access_key_id", &["HUB_MEDIA_S3_ACCESS_KEY_ID"]),
    masked("media.s3_secret_access_key", &["HUB_MEDIA_S3_SECRET_ACCESS_KEY"]),
    plain("media.bytes", &["HUB_MEDIA_BYTES"]),
    plain("media.upload_bytes", &["HUB_MEDIA_UPLOAD_BYTES"]),
    plain("media.timeout_ms", &["HUB_MEDIA_TIMEOUT_MS"]),
    plain("media.url_ttl_s", &["HUB_MEDIA_URL_TTL_SECONDS"]),
    plain("media.trusted_origins", &["HUB_MEDIA_TRUSTED_ORIGINS"]),
    plain("sandbox.port", &["SANDBOX_PORT"]),
    plain("sandbox.customers", &["SANDBOX_CUSTOMERS"]),
    masked("platforms.telegram.bot_token", &["TELEGRAM_BOT_TOKEN"]),
    plain("platforms.telegram.bot_username", &["TELEGRAM_BOT_USERNAME"]),
    masked("platforms.telegram.webhook_secret", &["TELEGRAM_WEBHOOK_SECRET"]),
    masked("platforms.telegram.webhook_secret_previous", &["TELEGRAM_WEBHOOK_SECRET_PREVIOUS"]),
    plain("platforms.telegram.api_base", &["TELEGRAM_API_BASE"]),
    plain("platforms.telegram.dialog_base", &["TELEGRAM_DIALOG_BASE"]),
    plain("platforms.telegram.client_id", &["TELEGRAM_API_ID"]),
    masked("platforms.telegram.client_secret", &["TELEGRAM_API_HASH"]),
    plain("platforms.telegram.user_api_base", &["TELEGRAM_USER_API_BASE"]),
    plain("platforms.twitter.client_id", &["TWITTER_CLIENT_ID"]),
    masked("platforms.twitter.client_secret", &["TWITTER_CLIENT_SECRET"]),
    masked("platforms.twitter.webhook_secret", &["TWITTER_CONSUMER_SECRET"]),
    masked("platforms.twitter.webhook_secret_previous", &["TWITTER_CONSUMER_SECRET_PREVIOUS"]),
    masked("platforms.twitter.bot_token", &["TWITTER_BEARER_TOKEN"]),
    plain("platforms.twitter.api_base", &["TWITTER_API_BASE"]),
    plain("platforms.twitter.dialog_base", &["TWITTER_DIALOG_BASE"]),
    plain("platforms.twitter.api_version", &["TWITTER_API_VERSION"]),
    plain("platforms.twitter.app_id", &["TWITTER_APP_ID"]),
    plain("platforms.linkedin.client_id", &["LINKEDIN_CLIENT_ID"]),
    masked("platforms.linkedin.client_secret", &["LINKEDIN_CLIENT_SECRET"]),
    masked("platforms.linkedin.client_secret_previous", &["LINKEDIN_CLIENT_SECRET_PREVIOUS"]),
    plain("platforms.linkedin.app_id", &["LINKEDIN_APPLICATION_ID"]),
    plain("platforms.linkedin.scopes", &["LINKEDIN_SCOPES"]),
    plain("platforms.linkedin.api_base", &["LINKEDIN_API_BASE"]),
    plain("platforms.linkedin.dialog_base", &["LINKEDIN_DIALOG_BASE"]),
    plain("platforms.linkedin.api_version", &["LINKEDIN_API_VERSION"]),
    plain("platforms.instagram.client_id", &["INSTAGRAM_APP_ID"]),
    masked("platforms.instagram.client_secret", &["INSTAGRAM_APP_SECRET"]),
    masked("platforms.instagram.verify_token", &["INSTAGRAM_VERIFY_TOKEN"]),
    plain("platforms.instagram.api_base", &["INSTAGRAM_API_BASE"]),
    plain("platforms.instagram.dialog_base", &["INSTAGRAM_DIALOG_BASE"]),
    plain("platforms.instagram.api_version", &["INSTAGRAM_GRAPH_VERSION"]),
    plain("platforms.instagram.login", &["INSTAGRAM_LOGIN"]),
    plain("platforms.instagram.exchange_base", &["INSTAGRAM_EXCHANGE_BASE"]),
    plain("platforms.whatsapp.client_id", &["WHATSAPP_APP_ID"]),
    masked("platforms.whatsapp.client_secret", &["WHATSAPP_APP_SECRET"]),
    masked("platforms.whatsapp.verify_token", &["WHATSAPP_VERIFY_TOKEN"]),
    masked("platforms.whatsapp.bot_token", &["WHATSAPP_ACCESS_TOKEN"]),
    plain("platforms.whatsapp.api_base", &["WHATSAPP_API_BASE"]),
    plain("platforms.whatsapp.dialog_base", &["WHATSAPP_DIALOG_BASE"]),
    plain("platforms.whatsapp.api_version", &["WHATSAPP_GRAPH_VERSION"]),
    plain("platforms.whatsapp.login_config_id", &["WHATSAPP_CONFIG_ID"]),
    plain("platforms.whatsapp.phone_number_id", &["WHATSAPP_PHONE_NUMBER_ID"]),
    plain("platforms.whatsapp.business_account_id", &["WHATSAPP_BUSINESS_ACCOUNT_ID"]),
    plain("platforms.facebook.client_id", &["FACEBOOK_APP_ID"]),
    masked("platforms.facebook.client_secret", &["FACEBOOK_APP_SECRET"]),
    masked("platforms.facebook.client_secret_previous", &["FACEBOOK_APP_SECRET_PREVIOUS"]),
    masked("platforms.facebook.verify_token", &["FACEBOOK_VERIFY_TOKEN"]),
    plain("platforms.facebook.api_base", &["FACEBOOK_API_BASE"]),
    plain("platforms.facebook.dialog_base", &["FACEBOOK_DIALOG_BASE"]),
    plain("platforms.facebook.api_version", &["FACEBOOK_GRAPH_VERSION"]),
    plain("platforms.teams.client_id", &["MICROSOFT_CLIENT_ID"]),
    masked("platforms.teams.client_secret", &["MICROSOFT_CLIENT_SECRET"]),
    plain("platforms.teams.tenant", &["MICROSOFT_TENANT_ID"]),
    masked("platforms.teams.webhook_secret", &["TEAMS_CLIENT_STATE"]),
    plain("platforms.teams.webhook_audience", &["TEAMS_APP_ID"]),
    plain("platforms.teams.webhook_keys", &["TEAMS_WEBHOOK_KEYS"]),
    masked("platforms.teams.encryption_key", &["TEAMS_ENCRYPTION_KEY"]),
    plain("platforms.teams.encryption_certificate", &["TEAMS_ENCRYPTION_CERTIFICATE"]),
    plain("platforms.teams.api_base", &["TEAMS_API_BASE"]),
    plain("platforms.teams.dialog_base", &["TEAMS_DIALOG_BASE"]),
    plain("platforms.teams.api_version", &["TEAMS_GRAPH_VERSION"]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{KEYS, Shown};
    use crate::Settings;
    use crate::layers::{DEFAULT, Layers, Origin};

    /// Every key of `default.toml` with the comment above it.
    fn documented() -> BTreeMap<String, String> {
        let mut table = String::new();
        let mut comment = String::new();
        let mut keys = BTreeMap::new();
        for line in DEFAULT.lines() {
            if let Some(text) = line.strip_prefix('#') {
                comment.push_str(text);
            } else if let Some(name) = line.strip_prefix('[') {
                table = name.trim_end_matches(']').to_owned();
                comment.clear();
            } else if let Some((name, _)) = line.split_once(" = ") {
                let path = format!("{table}.{name}");
                keys.insert(path, std::mem::take(&mut comment));
            } else {
                comment.clear();
            }
        }
        keys
    }

    #[test]
    fn every_key_has_a_comment_that_names_its_environment_variables() {
        let documented = documented();
        assert_eq!(documented.len(), KEYS.len(), "default.toml and KEYS differ");
        for key in KEYS {
            let comment = documented
                .get(key.path)
                .unwrap_or_else(|| panic!("{} is not in default.toml", key.path));
            let names = format!("[{}]", key.names.join(", "));
            assert!(comment.ends_with(&names), "{}: {comment}", key.path);
            assert!(
                comment.len() > names.len() + 10,
                "{} has no words",
                key.path
            );
        }
    }

    #[test]
    fn every_key_can_be_overridden_by_each_of_its_names() {
        for key in KEYS {
            for wanted in key.names {
                let env = |name: &str| (name == *wanted).then(|| "overridden".to_owned());
                let layers = Layers::merge(env).expect("merging does not look at values");
                assert_eq!(layers.entry(key.path).1, Origin::Environment(wanted));
            }
        }
    }

    #[test]
    fn a_key_that_sounds_secret_is_masked() {
        for key in KEYS {
            let sounds_secret = ["secret", "password", "token", "encryption_key"]
                .iter()
                .any(|word| key.path.contains(word));
            assert_eq!(sounds_secret, key.shown == Shown::Masked, "{}", key.path);
        }
    }

    #[test]
    fn every_default_is_a_valid_value() {
        assert!(Settings::load(|_| None).is_ok());
    }
}
