//! Instagram messaging, with either of its logins.
//!
//! The product exists twice: through Facebook (an account linked to a Page, called at Graph with the
//! Page's token) and with Instagram's own login (called at graph.instagram.com with a token of sixty
//! days). An installation uses one of them: the own login is meant when [`App::token_base`] says
//! where codes are exchanged. A connected account is the professional account's id, which webhooks
//! carry in both; the other side is an Instagram-scoped id. Webhooks are Messenger's but for details
//! ([`super::meta::messaging`]).
//!
//! Messages of ours come back as echoes. Instagram does not promise that our reference comes back in
//! them; then the echo is known by its id, and a send whose answer was lost too stays uncertain.
//!
//! What webhooks missed is read from the Conversations API, under the same message ids. There a side
//! is ours when it has the account's id; without one, or with another number of the same business,
//! nobody can tell. Edits, reactions and deletions are not made up for.

mod connect;
mod send;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::call::{CallFailure, PollFlow, Tokens};
use super::fact::Fact;
use super::http::{HttpRequest, HttpResponse, TransportError};
use super::meta::sweep::{Dialect, Sweep};
use super::polling::Polling;
use super::{
    Adapter, App, Capabilities, ConnectError, ConnectFlow, Credentials, Grant, Handshake, Headers,
    Outbound, Platform, Receipts, Reconcile, Refused, SendOutcome, Tells, TextUnit, Unreadable,
    meta, wire,
};
use crate::secret::Secret;
use crate::signature::{SignedRequest, SignedRequestRefused};

/// The document says "1000 bytes", of UTF-8.
const TEXT_MAX: usize = 1000;

/// What webhooks missed comes within this time, as at Messenger.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Threads as the Conversations API tells them. `me` is the Page the token belongs to, or with
/// Instagram's own login the account itself. Threads have no count of messages.
const HISTORY: Dialect = Dialect {
    owner: Some("me"),
    platform: "instagram",
    thread_fields: "id,updated_time,messages.limit(1){id}",
    message_fields: "id,created_time,from,to,message,attachments,shares,story,is_unsupported",
};

/// The adapter. It has no state.
pub struct Direct;

impl Adapter for Direct {
    fn platform(&self) -> Platform {
        Platform::Instagram
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            text_max: TEXT_MAX,
            text_unit: TextUnit::Bytes,
            media: &send::MEDIA,
            reconcile: Reconcile::Echo,
            budget: (200, Duration::from_secs(3600)),
            tells: Tells {
                webhook: true,
                receipts: Receipts::Read,
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

    /// The signature only, as at Messenger. Deliveries of accounts with Instagram's own login are
    /// signed with the Instagram app's secret, others with the Meta app's: the second one is
    /// configured as the secret before.
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
            meta::messaging::read("instagram", &app.client_id, body)
                .or_else(|| meta::history::read(account, body, is_person))
                .unwrap_or_else(|| meta::messaging::read_item(&app.client_id, body))
        })
    }

    fn authorize(
        &self,
        app: &App,
        state: &str,
        _: Option<&Secret>,
    ) -> Result<String, ConnectError> {
        if by_instagram(app) {
            connect::authorize(app, state)
        } else {
            meta::pages::authorize(&connect::LINKED, app, state)
        }
    }

    fn connect(&self, app: &App, grant: Grant) -> Box<dyn ConnectFlow> {
        if by_instagram(app) {
            Box::new(connect::Flow::new(app, grant))
        } else {
            Box::new(meta::pages::Flow::new(&connect::LINKED, app, grant))
        }
    }

    /// Through Facebook the person's permission goes; the Page's subscription stays, because
    /// Messenger may use it too. Instagram's own login knows only the end of the subscription.
    fn revoke(&self, app: &App, credentials: &Credentials) -> Vec<HttpRequest> {
        let path = match by_instagram(app) {
            true => "me/subscribed_apps",
            false => "me/permissions",
        };
        let url = meta::url_as(app, &credentials.access_token, path, &[]);
        vec![HttpRequest::delete(url)]
    }

    fn loads_media(&self) -> bool {
        true
    }

    fn send(&self, app: &App, credentials: &Credentials, message: &Outbound) -> HttpRequest {
        send::request(app, credentials, message)
    }

    fn interpret(&self, answer: &Result<HttpResponse, TransportError>) -> SendOutcome {
        send::interpret(answer)
    }

    /// The profile of an Instagram-scoped id. There is one once the person has written.
    fn contact(
        &self,
        app: &App,
        credentials: &Credentials,
        participant: &str,
    ) -> Option<HttpRequest> {
        meta::profile(app, credentials, participant, "name,username")
    }

    /// The name, or the user name of somebody who gives none.
    fn contact_name(&self, answer: &HttpResponse) -> Option<String> {
        let body = answer.json();
        let given = |field: &str| {
            let name = body[field].as_str().map(str::trim).unwrap_or_default();
            Some(name.to_owned()).filter(|name| answer.is_success() && !name.is_empty())
        };
        given("name").or_else(|| given("username"))
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

    /// Tokens of Instagram's own login live sixty days and can be exchanged from the second day on.
    /// A Page's token does not expire.
    fn refresh(&self, app: &App, credentials: &Credentials) -> Option<HttpRequest> {
        by_instagram(app).then(|| connect::refresh(app, &credentials.access_token))
    }

    fn refreshed(
        &self,
        answer: &Result<HttpResponse, TransportError>,
    ) -> Result<Tokens, CallFailure> {
        connect::refreshed(answer)
    }

    /// Meta is told in the app's dashboard; accounts are subscribed as they are connected.
    fn install(&self, _app: &App) -> Vec<HttpRequest> {
        Vec::new()
    }
}

/// How ids of professional accounts begin; those of people are scoped to a business and do not.
const PROFESSIONAL: &str = "17841";

/// Where nobody says whose history it is: who is not a professional account.
fn is_person(party: &Value) -> bool {
    wire::id(&party["id"]).is_some_and(|id| !id.starts_with(PROFESSIONAL))
}

/// Whether the installation uses Instagram's own login.
fn by_instagram(app: &App) -> bool {
    !app.token_base.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::platform::call::PollStep;
    use crate::platform::fact::{ContentKind, Direction, FactKind};

    fn app(token_base: &str) -> App {
        App {
            client_id: "1".into(),
            client_secret: "s".into(),
            api_base: "https://graph.example".into(),
            api_version: "v26.0".into(),
            token_base: token_base.into(),
            ..App::default()
        }
    }

    fn credentials() -> Credentials {
        Credentials {
            route: "17841478800123456".into(),
            access_token: "t".into(),
            ..Credentials::default()
        }
    }

    #[test]
    fn only_tokens_of_the_own_login_are_renewed_and_only_permissions_are_revoked() {
        let (linked, own) = (app(""), app("https://api.example"));
        assert_eq!(Direct.refresh(&linked, &credentials()), None);
        assert!(Direct.refresh(&own, &credentials()).is_some());
        let revoked = |app: &App| Direct.revoke(app, &credentials())[0].url.clone();
        assert!(revoked(&linked).starts_with("https://graph.example/v26.0/me/permissions?"));
        assert!(revoked(&own).starts_with("https://graph.example/v26.0/me/subscribed_apps?"));
    }

    fn page(from: &str, to: &str, more: &Value) -> Vec<u8> {
        let mut message = json!({"id": "aWdf1", "created_time": "2026-10-05T12:00:00+0000",
            "from": {"id": from, "username": "somebody"},
            "to": {"data": [{"id": to, "username": "other"}]}, "message": ""});
        for (key, value) in more.as_object().unwrap() {
            message[key] = value.clone();
        }
        json!({"data": [message]}).to_string().into_bytes()
    }

    fn only(account: Option<&str>, raw: &[u8]) -> Fact {
        let mut facts = Direct.translate(&app(""), account, raw).unwrap();
        assert_eq!(facts.len(), 1);
        facts.remove(0)
    }

    const US: &str = "17841478800123456";

    #[test]
    fn a_page_of_history_says_what_the_webhook_would_have_said() {
        let webhook = json!({"object": "instagram", "entry": [{"id": US, "time": 1_791_201_600_000_i64,
            "messaging": [{"sender": {"id": "1284"}, "recipient": {"id": US},
                "timestamp": 1_791_201_600_000_i64,
                "message": {"mid": "aWdf1", "text": "Hi"}}]}]});
        let told = only(None, webhook.to_string().as_bytes());
        let text = json!({"message": "Hi"});
        assert_eq!(only(Some(US), &page("1284", US, &text)), told);
        let ours = only(Some(US), &page(US, "1284", &text));
        assert_eq!(ours.kind, FactKind::MessageEchoed);
        assert_eq!(ours.direction, Some(Direction::Outbound));
        assert_eq!(ours.conversation, told.conversation);
        assert_eq!((&ours.sender_name, &ours.thread_name), (&None, &None));
    }

    #[test]
    fn sides_nobody_can_tell_apart_stay_unknown() {
        let text = json!({"message": "Hi"});
        let between = |account, from: &str, to: &str| only(account, &page(from, to, &text)).kind;
        assert_eq!(between(Some(US), "1284", "26263"), FactKind::Unknown);
        assert_eq!(between(Some(US), US, US), FactKind::Unknown);
        assert_eq!(between(None, US, "17841478800999888"), FactKind::Unknown);
        assert_eq!(between(None, "1284", "1285"), FactKind::Unknown);
        assert_eq!(between(None, "1284", US), FactKind::MessageReceived);
        assert_eq!(between(None, US, "1284"), FactKind::MessageEchoed);
    }

    #[test]
    fn what_history_holds_besides_texts() {
        let of = |more: Value| only(Some(US), &page("1284", US, &more));
        let picture = of(json!({"attachments": {"data": [{"id": "9",
            "image_data": {"url": "https://a.example"}}]}}));
        assert_eq!(picture.content, Some(ContentKind::Image));
        assert_eq!(picture.media[0].url.as_deref(), Some("https://a.example"));
        let unsupported = of(json!({"is_unsupported": true}));
        assert_eq!(unsupported.content, Some(ContentKind::Unsupported));
        let link = json!({"link": "https://s.example", "id": "1801"});
        let reply = of(json!({"message": "love this", "story": {"reply_to": link}}));
        assert_eq!(reply.content, Some(ContentKind::Text));
        let story = json!({"id": "1801", "url": "https://s.example"});
        assert_eq!(reply.detail["reply_to_story"], story);
        let mention = of(json!({"story": {"mention": link}}));
        assert_eq!(mention.content, Some(ContentKind::Share));
        assert_eq!(mention.media[0].url.as_deref(), Some("https://s.example"));
        let shared = of(json!({"shares": {"data": [{"link": "https://p.example"}]}}));
        assert_eq!(shared.content, Some(ContentKind::Share));
    }

    #[test]
    fn a_sweep_asks_for_the_threads_of_the_tokens_owner() {
        let now = DateTime::from_timestamp(1_791_201_600, 0).unwrap();
        for base in ["", "https://api.example"] {
            let poll = Direct.poll(&app(base), &credentials(), None, now);
            let PollStep::Call(call) = poll.unwrap().next(None) else {
                panic!("a list");
            };
            let expected = "https://graph.example/v26.0/me/conversations?platform=instagram&";
            assert!(call.url.starts_with(expected), "{}", call.url);
        }
    }

    #[test]
    fn a_contact_has_a_name_or_a_user_name() {
        let name = |status: u16, body: &str| {
            Direct.contact_name(&HttpResponse {
                status,
                headers: Vec::new(),
                body: body.into(),
            })
        };
        let both = r#"{"name":" Mira Q ","username":"mira.q"}"#;
        assert_eq!(name(200, both).as_deref(), Some("Mira Q"));
        let nameless = r#"{"name":"","username":"mira.q"}"#;
        assert_eq!(name(200, nameless).as_deref(), Some("mira.q"));
        assert_eq!(name(200, "{}"), None);
        assert_eq!(name(400, both), None);
        assert!(Direct.contact(&app(""), &credentials(), "12847").is_some());
        assert!(Direct.contact(&app(""), &credentials(), "../me").is_none());
    }
}
