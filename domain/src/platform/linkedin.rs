//! LinkedIn: comments on a company's posts, and a member's own messages.
//!
//! LinkedIn has no open messaging API. What there is, all by approval: comments, likes and mentions
//! of an organization's posts are pushed (Community Management) and can be answered with comments; a
//! member's messages can be fetched from the change log of the data portability programme, and
//! answered by the few apps that were granted that. What an account may do follows from what its
//! member allowed ([`grant`]). A connected account is a member; what happens to the organizations it administers
//! comes through it, each post being a conversation.
//!
//! Sources: learn.microsoft.com/linkedin, "Authorization Code Flow", "Webhooks", "Organization Social
//! Action Notifications", "Comments API", "Images API", "Messages API", "Member Changelog API", "Error
//! handling".

mod action;
mod changelog;
mod connect;
mod content;
mod grant;
mod media;
mod organizations;
mod poll;
mod problem;
mod send;
mod subscribe;
mod sweep;
mod upload;
mod urn;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::call::{CallFailure, Occasion, PollFlow, SubscribeFlow, Tokens};
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

/// The longest text of a comment, in characters.
const TEXT_MAX: usize = 1250;

/// The words that are signed before the body, so that a signature is never an answer to a challenge.
const SIGNED_PREFIX: &[u8] = b"hmacsha256=";

/// Challenges longer than this are none.
const CHALLENGE_BYTES_MAX: usize = 128;

/// The adapter. It has no state.
pub struct Member;

impl Adapter for Member {
    fn platform(&self) -> Platform {
        Platform::Linkedin
    }

    /// Of comments. An unclear one cannot be settled: LinkedIn gives no reference of ours back, and
    /// the change log shows a message an hour later.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            text_max: TEXT_MAX,
            text_unit: TextUnit::CodePoints,
            media: &grant::OF_COMMENTS,
            reconcile: Reconcile::Never,
            budget: (100, Duration::from_secs(24 * 3600)),
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

    /// The challenge that LinkedIn repeats every two hours: the HMAC of its code under the client
    /// secret, which signs webhooks too. A code that could be the signed text of a webhook is
    /// refused: answering it would sign webhooks for whoever asks.
    fn handshake(&self, app: &App, query: &[(String, String)]) -> Option<Handshake> {
        let value = |name: &str| {
            let found = query.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let Some(code) = value("challengeCode").filter(|code| !code.is_empty()) else {
            return Some(Handshake::Failed(400, "Missing challengeCode"));
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if code.len() > CHALLENGE_BYTES_MAX || !code.bytes().all(allowed) {
            return Some(Handshake::Failed(400, "Invalid challengeCode"));
        }
        let asked = value("applicationId").filter(|id| !id.is_empty());
        if !app.app_id.is_empty() && asked.is_some_and(|id| id != app.app_id) {
            return Some(Handshake::Failed(404, "Unknown application"));
        }
        if app.client_secret.is_empty() {
            return Some(Handshake::Failed(503, "Not configured"));
        }
        let key = app.client_secret.expose().as_bytes();
        let response = hex::encode(signature::hmac_sha256(key, code.as_bytes()));
        let answer = json!({ "challengeCode": code, "challengeResponse": response });
        Some(Handshake::Json(answer.to_string()))
    }

    /// The signature over a fixed prefix and the body. Without the prefix only bodies of the form
    /// that earlier hubs were sent are taken.
    fn verify(&self, app: &App, headers: &Headers, raw: &[u8]) -> Result<(), Refused> {
        let header = wire::single_header(headers, "x-li-signature").ok_or(Refused::Signature)?;
        let digest = header.strip_prefix("hmacsha256=").unwrap_or(header);
        let made_over = |message: &[u8]| {
            let with = |secret: &Secret| signature::hex_matches(secret, message, digest);
            with(&app.client_secret) | with(&app.client_secret_previous)
        };
        let prefixed = made_over(&[SIGNED_PREFIX, raw].concat());
        let plain = made_over(raw);
        if !(prefixed | plain) {
            return Err(Refused::Signature);
        }
        let body = wire::parse(raw).map_err(|_| Refused::Structure);
        let has = |name: &str| body.as_ref().is_ok_and(|body| !body[name].is_null());
        let is_old = has("eventType") && has("data");
        if !prefixed && !is_old {
            return Err(Refused::Signature);
        }
        if is_old || has("type") {
            return Ok(());
        }
        Err(Refused::Structure)
    }

    fn route(&self, app: &App, raw: &[u8]) -> Vec<String> {
        wire::accounts(self.translate(app, None, raw).unwrap_or_default())
    }

    fn translate(
        &self,
        _app: &App,
        account: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Fact>, Unreadable> {
        let facts = read(account, &wire::parse(raw)?);
        Ok(wire::of_account(wire::distinct(facts), account))
    }

    fn authorize(
        &self,
        app: &App,
        state: &str,
        _: Option<&Secret>,
    ) -> Result<String, ConnectError> {
        connect::Website.client(app).authorize(state, None)
    }

    fn connect(&self, app: &App, grant: Grant) -> Box<dyn ConnectFlow> {
        Box::new(oauth::Flow::new(&connect::Website, app, grant))
    }

    /// Subscriptions to organizations end with the member's permission.
    fn revoke(&self, app: &App, credentials: &Credentials) -> Vec<HttpRequest> {
        let token = credentials.access_token.expose();
        let revocation = format!("{}/oauth/v2/revoke", app.dialog_base);
        let client = connect::Website.client(app);
        vec![client.call(&revocation, &[("token", token)])]
    }

    fn send(&self, app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
        send::request(app, credentials, message)
    }

    fn asks_what_was_granted(&self) -> bool {
        true
    }

    fn sendable(&self, thread: &str, granted: Option<&str>) -> Result<Capabilities, &'static str> {
        grant::sendable(thread, granted, self.capabilities())
    }

    fn upload(
        &self,
        app: &App,
        credentials: &Credentials,
        thread: &str,
        medium: &Medium,
    ) -> Option<Box<dyn UploadFlow>> {
        let flow = upload::Flow::new(app, credentials, thread, medium);
        Some(Box::new(flow))
    }

    fn media(&self, app: &App, credentials: &Credentials, medium: &Media) -> Box<dyn MediaFlow> {
        Box::new(media::flow(app, credentials, medium))
    }

    fn interpret(&self, answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
        send::interpret(answer)
    }

    /// In the first seconds a new token may be called revoked.
    fn settling(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Tokens live for 60 days; only some apps are given a token to renew them with.
    fn refresh(&self, app: &App, credentials: &Credentials) -> Option<HttpRequest> {
        connect::Website.client(app).refresh(credentials)
    }

    fn refreshed(
        &self,
        answer: &Result<HttpResponse, TransportError>,
    ) -> Result<Tokens, CallFailure> {
        problem::checked(answer, problem::Asked::Token)
            .and_then(|body| outcome::renewed("LinkedIn", &body))
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
        if !grant::reads_messages(credentials.granted.as_deref()) {
            return None;
        }
        Some(Box::new(poll::Flow::new(app, credentials, cursor, now)))
    }

    fn sweep(
        &self,
        app: &App,
        credentials: &Credentials,
        cursor: Option<&Value>,
        on: Occasion,
    ) -> Option<Box<dyn PollFlow>> {
        if !grant::reads_organizations(credentials.granted.as_deref()) {
            return None;
        }
        Some(Box::new(sweep::Flow::new(app, credentials, cursor, on)))
    }

    fn subscribes(&self) -> bool {
        true
    }

    /// All organizations of the member at once; what arrives names the member.
    fn subscribe(
        &self,
        app: &App,
        credentials: &Credentials,
        _current: Option<&str>,
        now: DateTime<Utc>,
    ) -> Option<Box<dyn SubscribeFlow>> {
        let flow = subscribe::Flow::new(app, credentials, now)?;
        Some(Box::new(flow))
    }

    /// Nothing: organizations are subscribed by the members who administer them.
    fn install(&self, _app: &App) -> Vec<HttpRequest> {
        Vec::new()
    }
}

/// Reads a webhook, a page of the change log or of notifications, or one element of such a page.
fn read(account: Option<&str>, body: &Value) -> Vec<Fact> {
    if body["elements"].is_array() {
        return wire::items(&body["elements"])
            .iter()
            .map(|element| one(account, element))
            .collect();
    }
    let kind = body["type"].as_str();
    match (kind, &body["notifications"]) {
        (Some(action::TYPE), Value::Array(notifications)) => {
            notifications.iter().map(action::read).collect()
        }
        (Some("LEAD_ACTION"), _) => {
            let organization = wire::id(&body["owner"]["organization"]);
            vec![wire::ignored(organization, "LEAD_ACTION", body)]
        }
        _ if body["eventType"].is_string() => vec![action::read_old(body)],
        _ => vec![one(account, body)],
    }
}

fn one(account: Option<&str>, element: &Value) -> Fact {
    if element["resourceName"].is_string() {
        changelog::read(account, element)
    } else if element["organizationalEntity"].is_string() {
        let mut fact = action::read(element);
        // Fetched for a member, it comes through them, whoever else was told.
        fact.through = account.map(str::to_owned).or(fact.through);
        fact
    } else if element["message"].is_object() && element["object"].is_string() {
        action::read_comment(account, element)
    } else {
        wire::unknown(account.map(str::to_owned), element)
    }
}

/// A call with the headers that versioned calls need.
fn versioned(call: HttpRequest, version: &str, token: &Secret) -> HttpRequest {
    call.bearer(token.expose())
        .header("linkedin-version", version)
        .header("x-restli-protocol-version", "2.0.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App {
            client_id: "client".into(),
            client_secret: "li-secret".into(),
            dialog_base: "https://www.example".into(),
            app_id: "123".into(),
            ..App::default()
        }
    }

    fn handshake(app: &App, query: &[(&str, &str)]) -> Handshake {
        let query: Vec<_> = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Member.handshake(app, &query).unwrap()
    }

    #[test]
    fn challenges() {
        let code = ("challengeCode", "890e4665-4dfe-4ab1-b689-ed553bceeed0");
        for query in [&[code][..], &[code, ("applicationId", "123")]] {
            assert!(matches!(handshake(&app(), query), Handshake::Json(_)));
        }
        for (query, status) in [
            (&[][..], 400),
            (&[("challengeCode", "")], 400),
            (&[code, ("applicationId", "124")], 404),
        ] {
            let answer = handshake(&app(), query);
            assert!(
                matches!(answer, Handshake::Failed(it, _) if it == status),
                "{answer:?}"
            );
        }
        let nobody = handshake(&App::default(), &[code]);
        assert!(matches!(nobody, Handshake::Failed(503, _)));
    }

    #[test]
    fn the_challenge_signs_no_webhook() {
        let old = r#"{"eventType":"MESSAGE_EVENT","data":{}}"#;
        let new = r#"hmacsha256={"type":"X"}"#;
        for forged in [old, new, "hmacsha256=", &"a".repeat(129)] {
            let answer = handshake(&app(), &[("challengeCode", forged)]);
            assert_eq!(answer, Handshake::Failed(400, "Invalid challengeCode"));
        }
    }

    fn signed(message: &str, body: &str) -> Result<(), Refused> {
        let digest = hex::encode(signature::hmac_sha256(b"li-secret", message.as_bytes()));
        let headers = [("x-li-signature".to_owned(), digest)];
        Member.verify(&app(), &headers, body.as_bytes())
    }

    #[test]
    fn the_prefix_is_optional_for_the_old_form_only() {
        let old = r#"{"eventType":"OTHER_EVENT","data":{}}"#;
        let new = r#"{"type":"ORGANIZATION_SOCIAL_ACTION_NOTIFICATIONS","notifications":[]}"#;
        assert_eq!(signed(old, old), Ok(()));
        assert_eq!(signed(&format!("hmacsha256={old}"), old), Ok(()));
        assert_eq!(signed(&format!("hmacsha256={new}"), new), Ok(()));
        assert_eq!(signed(new, new), Err(Refused::Signature));
        for empty in ["{}", "[]", r#"{"eventType":"MESSAGE_EVENT"}"#, "no json"] {
            let refused = signed(&format!("hmacsha256={empty}"), empty);
            assert_eq!(refused, Err(Refused::Structure), "{empty}");
        }
        let header = hex::encode(signature::hmac_sha256(
            b"li-secret",
            format!("hmacsha256={new}").as_bytes(),
        ));
        let named = [("x-li-signature".to_owned(), format!("hmacsha256={header}"))];
        assert_eq!(Member.verify(&app(), &named, new.as_bytes()), Ok(()));
        let rotated = App {
            client_secret: "newer".into(),
            client_secret_previous: "li-secret".into(),
            ..app()
        };
        assert_eq!(Member.verify(&rotated, &named, new.as_bytes()), Ok(()));
        let twice = [named[0].clone(), named[0].clone()];
        let refused = Member.verify(&app(), &twice, new.as_bytes());
        assert_eq!(refused, Err(Refused::Signature));
    }

    #[test]
    fn tokens_are_renewed_where_there_is_something_to_renew_them_with() {
        let mut credentials = Credentials {
            access_token: "access".into(),
            ..Credentials::default()
        };
        assert_eq!(Member.refresh(&app(), &credentials), None);
        credentials.refresh_token = Some("refresh".into());
        let call = Member.refresh(&app(), &credentials).unwrap();
        assert_eq!(call.url, "https://www.example/oauth/v2/accessToken");
        assert_eq!(
            String::from_utf8(call.body).unwrap(),
            "grant_type=refresh_token&refresh_token=refresh&client_id=client&client_secret=li-secret"
        );
        let revoke = Member.revoke(&app(), &credentials).remove(0);
        assert_eq!(revoke.url, "https://www.example/oauth/v2/revoke");
        assert!(revoke.body.starts_with(b"token=access&"));
        let answer = |status, body: &str| {
            Ok(HttpResponse {
                status,
                headers: Vec::new(),
                body: body.into(),
            })
        };
        let body = r#"{"access_token":"AQX","expires_in":5184000,"scope":"openid,profile"}"#;
        let tokens = Member.refreshed(&answer(200, body)).unwrap();
        assert_eq!(tokens.access_token.expose(), "AQX");
        assert!(tokens.refresh_token.is_none());
        let gone = Member.refreshed(&answer(400, r#"{"error":"invalid_grant"}"#));
        assert!(matches!(gone, Err(CallFailure::Reconnect { .. })));
        let client = Member.refreshed(&answer(401, r#"{"error":"invalid_client"}"#));
        assert!(matches!(client, Err(CallFailure::Permanent { .. })));
    }
}
