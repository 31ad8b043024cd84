//! WhatsApp Business Cloud API.
//!
//! A connected account is a business phone number (its `phone_number_id`). The other side has up to
//! three ids: a business-scoped user id, a parent of it, and a phone number that people with a user
//! name no longer show. The first of them that is known names the conversation; what a webhook says
//! about the others is used to read the rest of that webhook.
//!
//! Messages of ours are not echoed, but our reference comes back in every status of them, so an
//! unclear send settles itself. A success of the call only means that WhatsApp took the message:
//! that it could not be delivered is told by a status later. There is no history to ask for.

mod connect;
mod media;
mod message;
mod person;
mod send;
mod status;
mod webhook;

use std::time::Duration;

use super::fact::{Fact, Media};
use super::http::{HttpRequest, HttpResponse, TransportError};
use super::media::MediaFlow;
use super::media::upload::{Medium, UploadFlow};
use super::{
    Adapter, App, Capabilities, ConnectError, ConnectFlow, Credentials, Grant, Handshake, Headers,
    Outbound, Platform, Receipts, Reconcile, Refused, SendOutcome, Tells, TextUnit, Unreadable,
    meta, wire,
};
use crate::secret::Secret;
use crate::signature::{SignedRequest, SignedRequestRefused};

/// Longest text body of a message.
const TEXT_MAX: usize = 4096;

/// The adapter. It has no state.
pub struct Cloud;

impl Adapter for Cloud {
    fn platform(&self) -> Platform {
        Platform::Whatsapp
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            text_max: TEXT_MAX,
            text_unit: TextUnit::CodePoints,
            media: &send::MEDIA,
            reconcile: Reconcile::Echo,
            budget: (80, Duration::from_secs(1)),
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

    /// The signature only, as at Messenger: what is refused comes again for a week.
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
        _: &App,
        account: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Fact>, Unreadable> {
        wire::read(account, raw, webhook::read)
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

    /// Nothing: the subscription is the business account's, which may have other numbers here, and
    /// the token may be the installation's own.
    fn revoke(&self, _: &App, _: &Credentials) -> Vec<HttpRequest> {
        Vec::new()
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

    fn is_about_thread(&self, wait: Duration) -> bool {
        wait < send::OF_ACCOUNT_MIN
    }

    fn interpret(&self, answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
        send::interpret(answer)
    }

    fn media(&self, app: &App, credentials: &Credentials, medium: &Media) -> Box<dyn MediaFlow> {
        Box::new(media::Lookup::new(app, credentials, medium))
    }

    /// Meta is told in the app's dashboard; business accounts are subscribed as they are connected.
    fn install(&self, _app: &App) -> Vec<HttpRequest> {
        Vec::new()
    }
}
