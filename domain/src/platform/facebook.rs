//! Facebook Messenger for Pages.
//!
//! A connected account is a Page; the other side of a conversation is a page-scoped user id. Our
//! own sends come back as echoes carrying the reference we attached, often before the HTTP answer,
//! so an unclear send settles itself. The dialect is Graph's; what Instagram and WhatsApp share of
//! it is in [`super::meta`].

mod connect;
mod send;
mod webhook;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::call::PollFlow;
use super::call::{CallFailure, Tokens};
use super::fact::Fact;
use super::http::{HttpRequest, HttpResponse, TransportError};
use super::media::upload::{Medium, UploadFlow};
use super::meta::sweep::{Dialect, Sweep};
use super::polling::Polling;
use super::{
    Adapter, App, Capabilities, ConnectError, ConnectFlow, Credentials, Grant, Handshake, Headers,
    Outbound, Platform, Receipts, Reconcile, Refused, SendOutcome, Tells, TextUnit, Unreadable,
    meta, wire,
};
use crate::secret::Secret;
use crate::signature::{SignedRequest, SignedRequestRefused};

/// The document says "less than 2000 characters".
const TEXT_MAX: usize = 1999;

/// What webhooks missed comes within this time. A sweep of a quiet Page is one call, and one that
/// has all its hands full takes 25 of the 200 an hour.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Threads as the Conversations API tells them.
const HISTORY: Dialect = Dialect {
    owner: None,
    platform: "messenger",
    thread_fields: "id,updated_time,message_count",
    message_fields: "id,created_time,from,to,message,sticker,attachments{id,mime_type,name,size,\
        file_url,image_data,video_data},shares{link,name},reply_to",
};

/// The adapter. It has no state.
pub struct Messenger;

impl Adapter for Messenger {
    fn platform(&self) -> Platform {
        Platform::Facebook
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            text_max: TEXT_MAX,
            text_unit: TextUnit::CodePoints,
            media: &send::MEDIA,
            reconcile: Reconcile::Echo,
            budget: (200, Duration::from_secs(3600)),
            tells: Tells {
                webhook: true,
                receipts: Receipts::DeliveredAndRead,
                edits: true,
                deletions: true,
                reactions: true,
                typing: false,
            },
            reply_window: Some(meta::REPLY_WINDOW),
        }
    }

    fn handshake(&self, app: &App, query: &[(String, String)]) -> Option<Handshake> {
        Some(meta::handshake(app, query))
    }

    /// The signature only: Meta repeats what is refused and then unsubscribes the app, so a signed
    /// body must be accepted even when nobody can read it.
    fn verify(&self, app: &App, headers: &Headers, raw: &[u8]) -> Result<(), Refused> {
        meta::verify(app, headers, raw)
    }

    fn signed_request(
        &self,
        app: &App,
        value: &str,
    ) -> Option<Result<SignedRequest, SignedRequestRefused>> {
        Some(meta::signed_request(app, value))
    }

    fn translate(
        &self,
        app: &App,
        account: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Fact>, Unreadable> {
        wire::read(account, raw, |body| {
            webhook::read(&app.client_id, account, body)
        })
    }

    fn authorize(
        &self,
        app: &App,
        state: &str,
        _: Option<&Secret>,
    ) -> Result<String, ConnectError> {
        meta::pages::authorize(&connect::PAGES, app, state)
    }

    fn connect(&self, app: &App, grant: Grant) -> Box<dyn ConnectFlow> {
        Box::new(meta::pages::Flow::new(&connect::PAGES, app, grant))
    }

    fn revoke(&self, app: &App, credentials: &Credentials) -> Vec<HttpRequest> {
        let token = &credentials.access_token;
        let page = format!("{}/subscribed_apps", credentials.route);
        vec![
            HttpRequest::delete(meta::url_as(app, token, &page, &[])),
            HttpRequest::delete(meta::url_as(app, token, "me/permissions", &[])),
        ]
    }

    fn upload(
        &self,
        app: &App,
        credentials: &Credentials,
        _thread: &str,
        medium: &Medium,
    ) -> Option<Box<dyn UploadFlow>> {
        Some(Box::new(send::upload(app, credentials, medium)))
    }

    fn send(&self, app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
        send::request(app, credentials, message)
    }

    fn interpret(&self, answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
        send::interpret(answer)
    }

    /// The profile of a page-scoped id. A plugin guest has none.
    fn contact(
        &self,
        app: &App,
        credentials: &Credentials,
        participant: &str,
    ) -> Option<HttpRequest> {
        meta::profile(app, credentials, participant, "name,first_name,last_name")
    }

    fn contact_name(&self, answer: &HttpResponse) -> Option<String> {
        let body = answer.json();
        let part = |name: &str| body[name].as_str().map(str::trim).unwrap_or_default();
        let parts = format!("{} {}", part("first_name"), part("last_name"));
        let name = Some(part("name")).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| parts.trim());
        (answer.is_success() && !name.is_empty()).then(|| name.to_owned())
    }

    fn polling(&self) -> Option<Polling> {
        Some(Polling::sweep(SWEEP_EVERY))
    }

    fn poll(
        &self,
        app: &App,
        credentials: &Credentials,
        cursor: Option<&Value>,
        now: DateTime<Utc>,
    ) -> Option<Box<dyn PollFlow>> {
        let sweep = Sweep::new(app, credentials, HISTORY, cursor, now);
        Some(Box::new(sweep))
    }

    fn renewal_margin(&self) -> Duration {
        meta::RENEWAL_MARGIN
    }

    /// Page tokens of today do not expire, so that nobody asks; those of earlier installations may.
    fn refresh(&self, app: &App, credentials: &Credentials) -> Option<HttpRequest> {
        Some(meta::exchange(app, &credentials.access_token))
    }

    fn refreshed(
        &self,
        answer: &Result<HttpResponse, TransportError>,
    ) -> Result<Tokens, CallFailure> {
        meta::exchanged(answer)
    }

    /// Meta is told in the app's dashboard; pages are subscribed as they are connected.
    fn install(&self, _app: &App) -> Vec<HttpRequest> {
        Vec::new()
    }
}
