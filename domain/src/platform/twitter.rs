//! X, formerly Twitter: direct messages.
//!
//! A connected account is a user; the other side of a conversation is a user id, or a group. X has
//! two generations of webhooks, which both still deliver: Account Activity (the message in a
//! `*_events` array at the top) and X Activity (one event in `data`, with the same arrays in its
//! payload). Polling `GET /2/dm_events` is the safety net below either. Conversations that X has
//! moved to encrypted chat arrive as opaque bytes; that something was written is kept, the bytes
//! stay what they are.
//!
//! Sources: docs.x.com, "Account Activity API", "X Activity API", "Direct Messages", "OAuth 2.0
//! Authorization Code Flow with PKCE", "Response codes and errors", "Rate limits".

mod connect;
mod content;
mod media;
mod page;
mod party;
mod photo;
mod poll;
mod problem;
mod send;
mod webhook;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::call::{CallFailure, PollFlow, Tokens};
use super::fact::{Fact, Media};
use super::http::{HttpRequest, HttpResponse, TransportError};
use super::media::MediaFlow;
use super::media::upload::{Medium, UploadFlow};
use super::oauth::{self, Login as _};
use super::polling::Polling;
use super::{
    Adapter, App, Capabilities, ConnectError, ConnectFlow, Credentials, Grant, Handshake, Headers,
    Outbound, Platform, Receipts, Reconcile, Refused, SendOutcome, Tells, TextUnit, Unreadable,
    outcome, wire,
};
use crate::secret::Secret;
use crate::signature;

/// The longest text of a direct message, in characters.
const TEXT_MAX: usize = 10_000;

/// What every array of events in an Account Activity body is called by.
const EVENTS: &str = "_events";

/// The adapter. It has no state.
pub struct DirectMessages;

impl Adapter for DirectMessages {
    fn platform(&self) -> Platform {
        Platform::Twitter
    }

    /// Nothing settles an unclear send: X takes no reference of ours and gives none back.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            text_max: TEXT_MAX,
            text_unit: TextUnit::CodePoints,
            media: &media::MEDIA,
            reconcile: Reconcile::Never,
            budget: (300, Duration::from_secs(15 * 60)),
            tells: Tells {
                webhook: true,
                receipts: Receipts::Read,
                edits: false,
                deletions: false,
                reactions: false,
                typing: true,
            },
            reply_window: None,
        }
    }

    /// The challenge-response check (CRC): the HMAC of the token under the consumer secret.
    ///
    /// Webhooks are signed with the same key and in the same way, so a hub that answered any token
    /// would sign webhooks for whoever asks. A body that is taken is a JSON object; a token that
    /// could be one is therefore refused.
    fn handshake(&self, app: &App, query: &[(String, String)]) -> Option<Handshake> {
        let mut tokens = query.iter().filter(|(name, _)| name == "crc_token");
        let token = match (tokens.next(), tokens.next()) {
            (Some((_, token)), None) if token.is_empty() => {
                return Some(Handshake::Failed(400, "Missing crc_token"));
            }
            (Some((_, token)), None) if !token.contains('{') => token,
            (None, _) => return Some(Handshake::Failed(400, "Missing crc_token")),
            _ => return Some(Handshake::Failed(400, "Invalid crc_token")),
        };
        if app.webhook_secret.is_empty() {
            return Some(Handshake::Failed(503, "Not configured"));
        }
        let key = app.webhook_secret.expose().as_bytes();
        let digest = STANDARD.encode(signature::hmac_sha256(key, token.as_bytes()));
        let answer = json!({ "response_token": format!("sha256={digest}") });
        Some(Handshake::Json(answer.to_string()))
    }

    /// The signature, and that it is a body about events of some kind: X does not deliver again what
    /// is refused, so one that nobody knows yet is taken and kept.
    fn verify(&self, app: &App, headers: &Headers, raw: &[u8]) -> Result<(), Refused> {
        let header = wire::single_header(headers, "x-twitter-webhooks-signature");
        let digest = header.and_then(|value| value.strip_prefix("sha256="));
        let made_with = |secret: &Secret| {
            digest.is_some_and(|digest| signature::base64_matches(secret, raw, digest))
        };
        if !(made_with(&app.webhook_secret) | made_with(&app.webhook_secret_previous)) {
            return Err(Refused::Signature);
        }
        let body = wire::parse(raw).map_err(|_| Refused::Structure)?;
        let is_event = |name: &String| {
            name.ends_with(EVENTS)
                || matches!(name.as_str(), "data" | "user_event" | "replay_job_status")
        };
        let has_event = body
            .as_object()
            .is_some_and(|fields| fields.keys().any(is_event));
        has_event.then_some(()).ok_or(Refused::Structure)
    }

    fn route(&self, app: &App, raw: &[u8]) -> Vec<String> {
        wire::accounts(self.translate(app, None, raw).unwrap_or_default())
    }

    fn translate(
        &self,
        app: &App,
        account: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Fact>, Unreadable> {
        let facts = webhook::read(&app.app_id, account, &wire::parse(raw)?);
        Ok(wire::of_account(wire::distinct(facts), account))
    }

    fn authorize(
        &self,
        app: &App,
        state: &str,
        verifier: Option<&Secret>,
    ) -> Result<String, ConnectError> {
        connect::X.client(app).authorize(state, verifier)
    }

    fn connect(&self, app: &App, grant: Grant) -> Box<dyn ConnectFlow> {
        Box::new(oauth::Flow::new(&connect::X, app, grant))
    }

    /// Both tokens: a refresh token that lives on would make new access tokens.
    fn revoke(&self, app: &App, credentials: &Credentials) -> Vec<HttpRequest> {
        let client = connect::X.client(app);
        let revocation = url(app, "oauth2/revoke");
        let revoke = |token: &Secret, hint| {
            let fields = [("token", token.expose()), ("token_type_hint", hint)];
            client.call(&revocation, &fields)
        };
        let refresh = credentials.refresh_token.as_ref();
        let refresh = refresh.map(|token| revoke(token, "refresh_token"));
        let access = revoke(&credentials.access_token, "access_token");
        refresh.into_iter().chain([access]).collect()
    }

    fn upload(
        &self,
        app: &App,
        credentials: &Credentials,
        _thread: &str,
        medium: &Medium,
    ) -> Option<Box<dyn UploadFlow>> {
        Some(media::upload(app, credentials, medium))
    }

    fn send(&self, app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
        send::request(app, credentials, message)
    }

    fn interpret(&self, answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
        send::interpret(answer)
    }

    /// Messages that were fetched, and encrypted ones, do not name who wrote them.
    fn contact(
        &self,
        app: &App,
        credentials: &Credentials,
        participant: &str,
    ) -> Option<HttpRequest> {
        if !party::is_id(participant) {
            return None;
        }
        let url = url(
            app,
            &format!("users/{participant}?user.fields=name,username"),
        );
        Some(HttpRequest::get(url).bearer(credentials.access_token.expose()))
    }

    fn contact_name(&self, answer: &HttpResponse) -> Option<String> {
        let name = party::name(&answer.json()["data"]);
        name.filter(|_| answer.is_success())
    }

    fn pkce(&self) -> bool {
        true
    }

    /// The refresh token works once: what comes back replaces both.
    fn refresh(&self, app: &App, credentials: &Credentials) -> Option<HttpRequest> {
        connect::X.client(app).refresh(credentials)
    }

    fn refreshed(
        &self,
        answer: &Result<HttpResponse, TransportError>,
    ) -> Result<Tokens, CallFailure> {
        problem::checked(answer, problem::Asked::Token)
            .and_then(|body| outcome::renewed("X", &body))
    }

    fn polling(&self) -> Option<Polling> {
        Some(Polling::source(poll::EVERY_MIN))
    }

    fn poll(
        &self,
        app: &App,
        credentials: &Credentials,
        cursor: Option<&Value>,
        now: DateTime<Utc>,
    ) -> Option<Box<dyn PollFlow>> {
        Some(Box::new(poll::Flow::new(app, credentials, cursor, now)))
    }

    fn media(&self, app: &App, credentials: &Credentials, medium: &Media) -> Box<dyn MediaFlow> {
        Box::new(photo::flow(app, credentials, medium))
    }

    /// Nothing: the webhook is registered, and its accounts subscribed, as they are connected.
    fn install(&self, _app: &App) -> Vec<HttpRequest> {
        Vec::new()
    }
}

/// An API URL.
fn url(app: &App, path: &str) -> String {
    format!("{}/{}/{path}", app.api_base, app.api_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App {
            client_id: "client".into(),
            client_secret: "secret".into(),
            webhook_secret: "tw-secret".into(),
            api_base: "https://api.example".into(),
            api_version: "2".into(),
            ..App::default()
        }
    }

    fn handshake(app: &App, query: &[(&str, &str)]) -> Handshake {
        let query: Vec<_> = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        DirectMessages.handshake(app, &query).unwrap()
    }

    #[test]
    fn the_challenge_of_the_contract() {
        let expected =
            r#"{"response_token":"sha256=hrlTGrnzV3U3KM5BiHCLgGlPI5sd7N8iXSklO1FaKTE="}"#;
        let answer = handshake(&app(), &[("crc_token", "abc"), ("nonce", "7")]);
        assert_eq!(answer, Handshake::Json(expected.into()));
        let missing = Handshake::Failed(400, "Missing crc_token");
        assert_eq!(handshake(&app(), &[]), missing);
        let twice = [("crc_token", "abc"), ("crc_token", "abc")];
        assert!(matches!(
            handshake(&app(), &twice),
            Handshake::Failed(400, _)
        ));
        assert!(matches!(
            handshake(&App::default(), &[("crc_token", "abc")]),
            Handshake::Failed(503, _)
        ));
    }

    #[test]
    fn the_challenge_signs_no_webhook() {
        let body = r#"{"for_user_id":"1","direct_message_events":[]}"#;
        for forged in [
            body.to_owned(),
            format!(" \n{body}"),
            format!("\u{feff}{body}"),
        ] {
            let answer = handshake(&app(), &[("crc_token", &forged)]);
            assert_eq!(answer, Handshake::Failed(400, "Invalid crc_token"));
        }
    }

    fn verify(body: &str) -> Result<(), Refused> {
        let digest = STANDARD.encode(signature::hmac_sha256(b"tw-secret", body.as_bytes()));
        let header = (
            "x-twitter-webhooks-signature".to_owned(),
            format!("sha256={digest}"),
        );
        DirectMessages.verify(&app(), &[header], body.as_bytes())
    }

    #[test]
    fn a_signed_body_is_about_events() {
        for events in [
            r#"{"for_user_id":"1","direct_message_events":[]}"#,
            r#"{"for_user_id":"1","hologram_events":[]}"#,
            r#"{"user_event":{}}"#,
            r#"{"data":{"event_type":"dm.received"}}"#,
            r#"{"replay_job_status":{}}"#,
        ] {
            assert_eq!(verify(events), Ok(()), "{events}");
        }
        for other in [
            "",
            "{}",
            "[]",
            "no json",
            r#"{"for_user_id":"1","users":{}}"#,
        ] {
            assert_eq!(verify(other), Err(Refused::Structure), "{other}");
        }
        let body = br#"{"direct_message_events":[]}"#;
        let refused = DirectMessages.verify(&app(), &[], body);
        assert_eq!(refused, Err(Refused::Signature));
    }

    #[test]
    fn both_tokens_are_taken_back() {
        let credentials = Credentials {
            access_token: "access".into(),
            refresh_token: Some("refresh".into()),
            ..Credentials::default()
        };
        let calls = DirectMessages.revoke(&app(), &credentials);
        let bodies: Vec<String> = calls
            .iter()
            .map(|call| String::from_utf8(call.body.clone()).unwrap())
            .collect();
        assert_eq!(
            bodies,
            [
                "token=refresh&token_type_hint=refresh_token&client_id=client",
                "token=access&token_type_hint=access_token&client_id=client"
            ]
        );
        assert_eq!(calls[0].url, "https://api.example/2/oauth2/revoke");
        let basic = (
            "authorization".to_owned(),
            "Basic Y2xpZW50OnNlY3JldA==".to_owned(),
        );
        assert!(calls[0].headers.contains(&basic));
    }

    #[test]
    fn tokens_are_renewed_and_rotated() {
        let mut credentials = Credentials::default();
        assert_eq!(DirectMessages.refresh(&app(), &credentials), None);
        credentials.refresh_token = Some("old".into());
        let call = DirectMessages.refresh(&app(), &credentials).unwrap();
        assert_eq!(call.url, "https://api.example/2/oauth2/token");
        assert_eq!(
            call.body,
            b"grant_type=refresh_token&refresh_token=old&client_id=client"
        );
        let answer = |status, body: &str| {
            Ok(HttpResponse {
                status,
                headers: Vec::new(),
                body: body.into(),
            })
        };
        let body =
            r#"{"token_type":"bearer","expires_in":7200,"access_token":"a","refresh_token":"r"}"#;
        let tokens = DirectMessages.refreshed(&answer(200, body)).unwrap();
        assert_eq!(tokens.access_token.expose(), "a");
        assert_eq!(tokens.refresh_token.unwrap().expose(), "r");
        assert_eq!(tokens.expires_in_s, Some(7200));
        for gone in ["invalid_request", "invalid_grant"] {
            let body = format!(
                r#"{{"error":"{gone}","error_description":"Value passed for the token was invalid."}}"#
            );
            let failure = DirectMessages.refreshed(&answer(400, &body)).unwrap_err();
            assert!(matches!(failure, CallFailure::Reconnect { .. }), "{gone}");
        }
        let client = r#"{"error":"unauthorized_client","error_description":"Missing valid authorization header"}"#;
        let failure = DirectMessages.refreshed(&answer(401, client)).unwrap_err();
        assert!(matches!(failure, CallFailure::Permanent { .. }));
        let busy = DirectMessages
            .refreshed(&answer(503, "<html>"))
            .unwrap_err();
        assert!(matches!(busy, CallFailure::Backoff { .. }));
        let lost = DirectMessages.refreshed(&Err(TransportError::Unclear));
        assert!(matches!(lost, Err(CallFailure::Backoff { .. })));
    }
}
