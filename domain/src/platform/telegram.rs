//! Telegram bots.
//!
//! The installation has one bot; whoever connects Telegram connects to that bot, and the people
//! who write to it are the other side. The platform offers neither a token nor a history, so an
//! unclear send stays unclear. Message ids count inside a chat only. The bot's token is part of
//! every URL: nothing here prints one.

mod connect;
mod content;
mod media;
mod message;
mod send;
mod thread;
mod update;

use std::time::Duration;

use serde_json::{Value, json};

use super::fact::{Fact, Media};
use super::http::{HttpRequest, HttpResponse, TransportError};
use super::media::MediaFlow;
use super::{
    Adapter, App, Capabilities, ConnectError, ConnectFlow, Credentials, Grant, Headers, Outbound,
    Platform, Receipts, Reconcile, Refused, SendOutcome, Tells, TextUnit, Unreadable,
    telegram_user, wire,
};
use crate::secret::Secret;
use crate::signature;

/// What the hub wants to be told. Reactions and members are only sent to bots that ask for them.
const ALLOWED_UPDATES: [&str; 15] = [
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "callback_query",
    "message_reaction",
    "message_reaction_count",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "poll_answer",
];

/// The adapter. It has no state. It is not polled: Telegram refuses `getUpdates` to a bot that has a
/// webhook, and keeps what it could not deliver for a day by itself.
pub struct Bot;

impl Adapter for Bot {
    fn platform(&self) -> Platform {
        Platform::Telegram
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            text_max: 4096,
            text_unit: TextUnit::Utf16,
            media: &send::MEDIA,
            reconcile: Reconcile::Never,
            budget: (30, Duration::from_secs(1)),
            tells: Tells {
                webhook: true,
                receipts: Receipts::None,
                edits: true,
                deletions: true,
                reactions: true,
                typing: false,
            },
            reply_window: None,
        }
    }

    /// Telegram verifies nothing: whoever holds the bot's token sets the webhook.
    fn verify(&self, app: &App, headers: &Headers, raw: &[u8]) -> Result<(), Refused> {
        let header = wire::single_header(headers, "x-telegram-bot-api-secret-token");
        let (current, previous) = (&app.webhook_secret, &app.webhook_secret_previous);
        if !signature::shared_secret(header, current, previous) {
            return Err(Refused::Signature);
        }
        let body = wire::parse(raw).map_err(|_| Refused::Structure)?;
        // A kind that does not exist yet is accepted and kept: refusing it would make Telegram
        // retry for a day and then lose it.
        // What sessions write down is never delivered.
        if body.get("mtproto").is_some() {
            return Err(Refused::Structure);
        }
        let is_update = body["update_id"].is_i64()
            && body
                .as_object()
                .is_some_and(|fields| fields.values().any(Value::is_object));
        if is_update || update::kind_of(&body).is_some() {
            Ok(())
        } else {
            Err(Refused::Structure)
        }
    }

    fn translate(
        &self,
        app: &App,
        account: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Fact>, Unreadable> {
        let body = wire::parse(raw)?;
        // What the session of a user account wrote down names its account itself.
        if let Some(facts) = telegram_user::facts(&body) {
            return facts;
        }
        let bot = account
            .map(str::to_owned)
            .or_else(|| bot_id(&app.bot_token));
        Ok(wire::distinct(update::read(bot.as_deref(), &body)))
    }

    fn authorize(
        &self,
        app: &App,
        state: &str,
        _: Option<&Secret>,
    ) -> Result<String, ConnectError> {
        connect::authorize(app, state)
    }

    fn connect(&self, app: &App, grant: Grant) -> Box<dyn ConnectFlow> {
        Box::new(connect::Flow::new(app, grant))
    }

    /// Nothing: the bot belongs to the installation and serves its other users.
    fn revoke(&self, _app: &App, _credentials: &Credentials) -> Vec<HttpRequest> {
        Vec::new()
    }

    fn send(&self, app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
        send::request(app, credentials, message)
    }

    /// A group is asked to wait by itself; a long wait is the bot's.
    fn is_about_thread(&self, wait: Duration) -> bool {
        wait <= send::OF_CHAT_MAX
    }

    fn interpret(&self, answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
        send::interpret(answer)
    }

    fn media(&self, app: &App, credentials: &Credentials, medium: &Media) -> Box<dyn MediaFlow> {
        Box::new(media::File::new(app, credentials, medium))
    }

    /// Always with the secret: a call without it would remove it.
    fn install(&self, app: &App) -> Vec<HttpRequest> {
        if app.bot_token.is_empty() || app.webhook_secret.is_empty() || app.webhook_url.is_empty() {
            return Vec::new();
        }
        let body = json!({
            "url": app.webhook_url,
            "secret_token": app.webhook_secret.expose(),
            "allowed_updates": ALLOWED_UPDATES,
        });
        vec![HttpRequest::post_json(
            method_url(app, &app.bot_token, "setWebhook"),
            &body,
        )]
    }
}

/// The bot's user id, which is the number in front of its token.
fn bot_id(token: &Secret) -> Option<String> {
    let (id, _) = token.expose().split_once(':')?;
    let number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| id.to_owned())
}

fn method_url(app: &App, token: &Secret, method: &str) -> String {
    format!("{}/bot{}/{method}", app.api_base, token.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App {
            bot_token: "7100000001:AAHub".into(),
            webhook_secret: "hub_Secret-Token_01".into(),
            webhook_secret_previous: "older".into(),
            webhook_url: "https://hub.example/api/webhooks/telegram".into(),
            api_base: "https://telegram.example".into(),
            ..App::default()
        }
    }

    fn verify(app: &App, secret: &str, raw: &str) -> Result<(), Refused> {
        let header = (
            "x-telegram-bot-api-secret-token".to_owned(),
            secret.to_owned(),
        );
        Bot.verify(app, &[header], raw.as_bytes())
    }

    #[test]
    fn a_webhook_needs_the_secret_and_a_known_kind() {
        let body = r#"{"update_id":1,"edited_message":{}}"#;
        assert_eq!(verify(&app(), "hub_Secret-Token_01", body), Ok(()));
        assert_eq!(verify(&app(), "older", body), Ok(()));
        for wrong in [
            "",
            "hub_Secret-Token_0",
            "hub_Secret-Token_011",
            "HUB_SECRET-TOKEN_01",
        ] {
            assert_eq!(verify(&app(), wrong, body), Err(Refused::Signature));
        }
        assert_eq!(verify(&App::default(), "", body), Err(Refused::Signature));
        assert_eq!(
            Bot.verify(&app(), &[], body.as_bytes()),
            Err(Refused::Signature)
        );
        for odd in [
            "",
            "no",
            "{}",
            "[]",
            "7",
            r#"{"update_id":1}"#,
            r#"{"message":null}"#,
        ] {
            assert_eq!(
                verify(&app(), "older", odd),
                Err(Refused::Structure),
                "{odd}"
            );
            assert_eq!(
                verify(&app(), "wrong", odd),
                Err(Refused::Signature),
                "{odd}"
            );
        }
    }

    #[test]
    fn the_webhook_is_only_set_with_a_secret() {
        let calls = Bot.install(&app());
        assert_eq!(
            calls[0].url,
            "https://telegram.example/bot7100000001:AAHub/setWebhook"
        );
        let body: serde_json::Value = serde_json::from_slice(&calls[0].body).unwrap();
        assert_eq!(body["url"], "https://hub.example/api/webhooks/telegram");
        assert_eq!(body["secret_token"], "hub_Secret-Token_01");
        assert_eq!(body["allowed_updates"], json!(ALLOWED_UPDATES));
        assert!(!format!("{calls:?}").contains("AAHub"));
        assert!(
            Bot.install(&App {
                webhook_secret: "".into(),
                ..app()
            })
            .is_empty()
        );
        assert!(
            Bot.install(&App {
                bot_token: "".into(),
                ..app()
            })
            .is_empty()
        );
    }

    #[test]
    fn the_account_is_the_number_of_the_token() {
        assert_eq!(
            bot_id(&"7100000001:AAHub".into()).as_deref(),
            Some("7100000001")
        );
        for odd in ["", ":", "x:y", "7100000001"] {
            assert_eq!(bot_id(&odd.into()), None);
        }
    }
}
