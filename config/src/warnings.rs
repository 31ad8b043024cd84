//! Pairs of settings that are allowed and probably not meant.

use std::time::Duration;

use crate::Settings;
use crate::server::Environment;

/// The smallest body limit that loses no webhook.
const WEBHOOK_BYTES_MIN: usize = 3_000_000;

pub(crate) fn of(settings: &Settings) -> Vec<String> {
    let Settings {
        server,
        redis,
        auth,
        worker,
        api,
        ..
    } = settings;
    let production = server.environment == Environment::Production;
    let local = server.public_url.contains("//localhost") || server.public_url.contains("//127.");
    let any_origin = server.cors_origins.iter().any(|origin| origin == "*");
    let plain_http = server.public_url.starts_with("http://");
    // Browsers of the first web client give up after 10 s.
    let patience = Duration::from_secs(9);
    let cases = [
        (
            worker.http_timeout >= worker.reconcile_window,
            "HUB_HTTP_TIMEOUT_MS is not shorter than HUB_RECONCILE_WINDOW_SECONDS: a send can be \
             called unclear while its answer is still on the way.",
        ),
        (
            worker.http_connect_timeout > worker.http_timeout,
            "HUB_HTTP_CONNECT_TIMEOUT_MS is longer than HUB_HTTP_TIMEOUT_MS and has no effect.",
        ),
        (
            worker.send_retry.first > worker.send_retry.cap,
            "HUB_SEND_RETRY_FIRST_MS is longer than HUB_SEND_RETRY_CAP_SECONDS: every delay is the \
             cap.",
        ),
        (
            auth.reuse_window > auth.refresh_ttl,
            "REFRESH_REUSE_WINDOW_SECONDS is longer than a refresh token lives and is cut to that.",
        ),
        (
            auth.access_ttl >= auth.refresh_ttl,
            "Access tokens live at least as long as refresh tokens, so refreshing has no use.",
        ),
        (
            any_origin,
            "CORS_ORIGINS contains *: every web page may call the API with a token it got hold of.",
        ),
        (
            api.webhook_body_bytes < WEBHOOK_BYTES_MIN,
            "HUB_WEBHOOK_BODY_BYTES is below 3 MB: platforms send bodies of that size and the hub \
             would lose them.",
        ),
        (
            [api.send_wait, api.oauth_callback_wait, api.poll_wait]
                .into_iter()
                .any(|wait| wait > patience),
            "HUB_SEND_WAIT_MS, HUB_OAUTH_CALLBACK_WAIT_MS or HUB_POLL_WAIT_MS is above 9 s: web \
             clients give up after 10 s.",
        ),
        (
            production && local,
            "WEBHOOK_BASE_URL points at this machine: no platform can deliver webhooks or send \
             people back.",
        ),
        (
            production && plain_http && !local,
            "WEBHOOK_BASE_URL is http: platforms require https, and tokens travel in the clear.",
        ),
        (
            production && redis.url.is_none(),
            "REDIS_URL is not set: rate limits and live updates work inside one process only.",
        ),
    ];
    cases
        .into_iter()
        .filter(|(applies, _)| *applies)
        .map(|(_, sentence)| sentence.to_owned())
        .collect()
}
