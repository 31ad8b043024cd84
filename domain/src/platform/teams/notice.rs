//! Change notifications: who may send them, what they name, and how the named thing is had.
//!
//! A notification proves itself by our own word in `clientState` and is believed in nothing but the
//! ids it names. Its account is the subscription it came from, which the directory knows. Items of
//! one body may belong to different subscriptions; one with a wrong word is dropped alone.
//!
//! Documented at <https://learn.microsoft.com/graph/change-notifications-delivery-webhooks> and
//! <https://learn.microsoft.com/graph/change-notifications-lifecycle-events>.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::message::{self, Place};
use super::{graph, rich};
use crate::jwt;
use crate::platform::call::{CallFailure, Fetch};
use crate::platform::fact::{Fact, FactKind};
use crate::platform::http::{HttpResponse, TransportError};
use crate::platform::{App, Credentials, Handshake, Headers, Refused, wire};
use crate::secret::Secret;
use crate::signature;

/// Graph's tokens are some hundred bytes; nobody is served as an echo for more.
const TOKEN_BYTES_MAX: usize = 1024;

/// Answers the POST that Graph makes before it believes an address: the token as it reads after
/// decoding, from the query as documented, or from the body as earlier hubs had it.
pub fn handshake(query: &[(String, String)], raw: &[u8]) -> Option<Handshake> {
    let asked = query.iter().find(|(name, _)| name == "validationToken");
    let token = match asked {
        Some((_, token)) => token.clone(),
        None => in_body(raw)?,
    };
    Some(if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        Handshake::Refused
    } else {
        Handshake::Answer(token)
    })
}

fn in_body(raw: &[u8]) -> Option<String> {
    // The body of a handshake is small; a delivery is not read twice.
    if raw.len() > 4 * TOKEN_BYTES_MAX {
        return None;
    }
    if let Ok(body) = serde_json::from_slice::<Value>(raw) {
        let token = body["validationToken"].as_str().map(str::to_owned);
        return token.filter(|_| body["value"].is_null());
    }
    let mut fields = url::form_urlencoded::parse(raw);
    fields
        .find(|(name, _)| name == "validationToken")
        .map(|(_, token)| token.into_owned())
}

/// Accepts a body in which at least one item has our word; the others are dropped when it is read.
/// A bearer token need not be there, but when it is, it must be for us.
pub fn verify(app: &App, headers: &Headers, raw: &[u8]) -> Result<(), Refused> {
    if !is_bearer_ours(app, headers) {
        return Err(Refused::Signature);
    }
    let body = wire::parse(raw).map_err(|_| Refused::Signature)?;
    let known = wire::items(&body["value"])
        .iter()
        .any(|item| has_our_word(app, item));
    known.then_some(()).ok_or(Refused::Signature)
}

fn has_our_word(app: &App, item: &Value) -> bool {
    let word = item["clientState"].as_str();
    signature::shared_secret(word, &app.webhook_secret, &Secret::default())
}

/// Only for whom it was made is looked at: what lets a delivery in is our word, which is checked as
/// well.
fn is_bearer_ours(app: &App, headers: &Headers) -> bool {
    let all: Vec<&str> = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .map(|(_, value)| value.as_str())
        .collect();
    match all[..] {
        [] => true,
        [header] => match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                let claims = jwt::claims(token.trim());
                claims.is_some_and(|claims| {
                    !app.webhook_audience.is_empty() && jwt::is_for(&claims, &app.webhook_audience)
                })
            }
            _ => false,
        },
        _ => false,
    }
}

/// What one item says.
pub fn read(app: &App, item: &Value, tokens: &Value) -> Fact {
    if !has_our_word(app, item) {
        return wire::ignored(None, "clientState", item);
    }
    let Some(subscription) = wire::id(&item["subscriptionId"]) else {
        return wire::unknown(None, &without_word(item));
    };
    if let Some(event) = wire::filled(&item["lifecycleEvent"]) {
        let mut fact = Fact::new(FactKind::AccountStatusChanged);
        fact.dedup = wire::content_digest(item);
        fact.account = Some(subscription);
        fact.detail.insert("lifecycle".into(), event.into());
        return fact;
    }
    let resource = item["resource"].as_str().unwrap_or_default();
    let Some(named) = Named::read(resource) else {
        return wire::unknown(Some(subscription), &without_word(item));
    };
    let kind = match item["changeType"].as_str() {
        Some(change) if change.eq_ignore_ascii_case("deleted") => FactKind::MessageDeleted,
        _ => FactKind::ResourceChanged,
    };
    let mut fact = Fact::new(kind);
    fact.account = Some(subscription);
    fact.conversation = Some(named.place.conversation);
    fact.thread = Some(named.place.thread);
    fact.message_id = Some(named.id.clone());
    fact.target = Some(named.id.clone());
    if kind == FactKind::MessageDeleted {
        fact.dedup = named.id;
        return fact;
    }
    let etag = wire::filled(&item["resourceData"]["@odata.etag"]);
    let change = item["changeType"].as_str().unwrap_or_default();
    fact.dedup = wire::digest(&[&named.path, change, etag.as_deref().unwrap_or_default()]);
    let mut notice = json!({ "path": named.path });
    if item["encryptedContent"].is_object() {
        notice["encryptedContent"] = item["encryptedContent"].clone();
        notice["tenantId"] = item["tenantId"].clone();
        notice["validationTokens"] = tokens.clone();
    }
    fact.detail.insert("notice".into(), notice);
    fact
}

fn without_word(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.remove("clientState");
    }
    item
}

/// A message that a resource names.
struct Named {
    place: Place,
    id: String,
    /// The path to get it by, escaped.
    path: String,
}

impl Named {
    /// Reads both ways a resource is written: `chats('a')/messages('b')` and `chats/a/messages/b`.
    fn read(resource: &str) -> Option<Self> {
        let words = words(resource);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let part = graph::part;
        // Whose chats they are is the subscription's.
        let words = match &words[..] {
            ["me", rest @ ..] | ["users", _, rest @ ..] => rest,
            all => all,
        };
        match *words {
            ["chats", chat, "messages", id] => Some(Self {
                place: message::chat(chat),
                id: id.to_owned(),
                path: format!("chats/{}/messages/{}", part(chat), part(id)),
            }),
            ["teams", team, "channels", channel, "messages", root] => Some(Self {
                place: message::channel(team, channel, root),
                id: root.to_owned(),
                path: format!(
                    "teams/{}/channels/{}/messages/{}",
                    part(team),
                    part(channel),
                    part(root)
                ),
            }),
            [
                "teams",
                team,
                "channels",
                channel,
                "messages",
                root,
                "replies",
                id,
            ] => Some(Self {
                place: message::channel(team, channel, root),
                id: id.to_owned(),
                path: format!(
                    "teams/{}/channels/{}/messages/{}/replies/{}",
                    part(team),
                    part(channel),
                    part(root),
                    part(id)
                ),
            }),
            _ => None,
        }
    }
}

/// The words of a resource. One that is too long, or could leave its place in a path, is none.
fn words(resource: &str) -> Vec<String> {
    let mut words = Vec::new();
    for part in resource.trim_start_matches('/').split('/') {
        match part
            .strip_suffix("')")
            .and_then(|part| part.split_once("('"))
        {
            Some((name, id)) => words.extend([name, id]),
            None => words.push(part),
        }
    }
    let is_fit = |word: &&str| {
        !word.is_empty() && word.len() <= 300 && !word.chars().all(|letter| letter == '.')
    };
    if words.iter().all(is_fit) {
        words
            .into_iter()
            .map(|word| crate::text::repair(word).into_owned())
            .collect()
    } else {
        Vec::new()
    }
}

/// What gets the message that a notice names.
pub fn fetch(
    app: &App,
    credentials: &Credentials,
    notice: &Value,
    now: DateTime<Utc>,
) -> Option<Fetch> {
    if let Some(message) = rich::open(app, notice, now.timestamp()) {
        return Some(Fetch::Have(message));
    }
    let path = notice["path"].as_str()?;
    Some(Fetch::Call(graph::get(credentials, graph::url(app, path))))
}

/// The message in the answer.
pub fn fetched(
    answer: &Result<HttpResponse, TransportError>,
) -> Result<Option<Vec<u8>>, CallFailure> {
    match answer {
        Ok(answer) if answer.status == 404 => Ok(None),
        answer => graph::success(answer).map(|answer| Some(answer.body.clone())),
    }
}
