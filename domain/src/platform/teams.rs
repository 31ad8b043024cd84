//! Microsoft Teams through Microsoft Graph: the chats of a person with a work or school account.
//!
//! A connected account is that person; a conversation is a chat (or a thread of a channel). Change
//! notifications only name what changed, so a notice becomes a job that fetches the message; a
//! message is always read as it is now, and everything it has ever told (its text, an edit, its
//! reactions) is told again with keys that make repeating harmless. A send carries no reference of
//! ours: an unclear one is recognised by its text when Graph tells of it.
//!
//! Documented at <https://learn.microsoft.com/graph/api/resources/chatmessage> and
//! <https://learn.microsoft.com/graph/change-notifications-overview>.

mod bot;
mod card;
mod connect;
mod graph;
mod html;
mod media;
mod message;
mod notice;
mod poll;
mod rich;
mod send;
mod subscribe;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::call::{CallFailure, Fetch, PollFlow, SubscribeFlow, Tokens};
use super::fact::{Fact, Media};
use super::http::{HttpRequest, HttpResponse, TransportError};
use super::media::MediaFlow;
use super::oauth::{self, Login as _};
use super::polling::Polling;
use super::{
    Adapter, App, Capabilities, ConnectError, ConnectFlow, Credentials, Grant, Handshake, Headers,
    Outbound, Platform, Receipts, Reconcile, Refused, SendOutcome, Tells, TextUnit, Unreadable,
    wire,
};
use crate::secret::Secret;

/// A message may have about 28 KB, counted in UTF-16 and with everything around the text; this
/// leaves 4 KB for what is around it.
const TEXT_MAX: usize = 12_000;

/// The adapter. It has no state.
pub struct Graph;

impl Adapter for Graph {
    fn platform(&self) -> Platform {
        Platform::Teams
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            text_max: TEXT_MAX,
            text_unit: TextUnit::Utf16,
            media: &send::MEDIA,
            reconcile: Reconcile::Likeness,
            budget: (10_000, Duration::from_secs(600)),
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

    /// Graph asks by POST.
    fn handshake_by_post(
        &self,
        _: &App,
        query: &[(String, String)],
        raw: &[u8],
    ) -> Option<Handshake> {
        notice::handshake(query, raw)
    }

    /// Graph takes any 2xx; 202 says that the work is still to come.
    fn taken(&self) -> u16 {
        202
    }

    fn verify(&self, app: &App, headers: &Headers, raw: &[u8]) -> Result<(), Refused> {
        notice::verify(app, headers, raw)
    }

    fn translate(
        &self,
        app: &App,
        account: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Fact>, Unreadable> {
        let facts = read(app, account, &wire::parse(raw)?);
        Ok(wire::of_account(wire::distinct(facts), account))
    }

    fn authorize(
        &self,
        app: &App,
        state: &str,
        verifier: Option<&Secret>,
    ) -> Result<String, ConnectError> {
        connect::Microsoft.client(app).authorize(state, verifier)
    }

    fn connect(&self, app: &App, grant: Grant) -> Box<dyn ConnectFlow> {
        Box::new(oauth::Flow::new(&connect::Microsoft, app, grant))
    }

    fn pkce(&self) -> bool {
        true
    }

    fn refresh(&self, app: &App, credentials: &Credentials) -> Option<HttpRequest> {
        connect::Microsoft.client(app).refresh(credentials)
    }

    fn refreshed(
        &self,
        answer: &Result<HttpResponse, TransportError>,
    ) -> Result<Tokens, CallFailure> {
        connect::refreshed(answer)
    }

    /// There is no call that takes back one app's permission; what there is would end all of the
    /// person's sessions.
    fn revoke(&self, _: &App, _: &Credentials) -> Vec<HttpRequest> {
        Vec::new()
    }

    fn send(&self, app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
        send::request(app, credentials, message)
    }

    fn interpret(&self, answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
        send::interpret(answer)
    }

    fn media(&self, app: &App, credentials: &Credentials, medium: &Media) -> Box<dyn MediaFlow> {
        media::flow(app, credentials, medium)
    }

    fn polling(&self) -> Option<Polling> {
        Some(Polling::source(Duration::from_secs(60)))
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

    fn fetch(
        &self,
        app: &App,
        credentials: &Credentials,
        notice: &Value,
        now: DateTime<Utc>,
    ) -> Option<Fetch> {
        notice::fetch(app, credentials, notice, now)
    }

    fn fetched(
        &self,
        answer: &Result<HttpResponse, TransportError>,
    ) -> Result<Option<Vec<u8>>, CallFailure> {
        notice::fetched(answer)
    }

    fn subscribes(&self) -> bool {
        true
    }

    fn subscribe(
        &self,
        app: &App,
        credentials: &Credentials,
        current: Option<&str>,
        now: DateTime<Utc>,
    ) -> Option<Box<dyn SubscribeFlow>> {
        let flow = subscribe::Flow::new(app, credentials, current, now)?;
        Some(Box::new(flow))
    }

    fn unsubscribe(&self, app: &App, credentials: &Credentials, id: &str) -> Option<HttpRequest> {
        Some(subscribe::end(app, credentials, id))
    }

    /// Nothing to tell at a start: subscriptions belong to accounts.
    fn install(&self, _: &App) -> Vec<HttpRequest> {
        Vec::new()
    }
}

/// Reads notifications, a page of messages, one message, or what a bot is sent.
fn read(app: &App, account: Option<&str>, body: &Value) -> Vec<Fact> {
    if let Value::Array(activities) = body {
        return activities.iter().flat_map(bot::read).collect();
    }
    let Value::Array(items) = &body["value"] else {
        return read_one(app, account, body);
    };
    items
        .iter()
        .flat_map(|item| {
            if item["subscriptionId"].is_string() || item["lifecycleEvent"].is_string() {
                vec![notice::read(app, item, &body["validationTokens"])]
            } else {
                read_one(app, account, item)
            }
        })
        .collect()
}

fn read_one(app: &App, account: Option<&str>, item: &Value) -> Vec<Fact> {
    if item["messageType"].is_string() {
        message::read(app, account, item)
    } else if item["type"].is_string() && item["conversation"].is_object() {
        bot::read(item)
    } else if item["chatType"].is_string() {
        vec![wire::ignored(None, "chat", item)]
    } else {
        vec![wire::unknown(None, item)]
    }
}
