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

mod connect;
mod send;

use std::time::Duration;

use super::call::{CallFailure, Tokens};
use super::fact::Fact;
use super::http::{HttpRequest, HttpResponse, TransportError};
use super::{
    Adapter, App, Capabilities, ConnectError, ConnectFlow, Credentials, Grant, Handshake, Headers,
    Outbound, Platform, Reconcile, Refused, SendOutcome, TextUnit, Unreadable, meta, wire,
};
use crate::secret::Secret;

/// The document says "1000 bytes", of UTF-8.
const TEXT_MAX: usize = 1000;

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
            media_out: false,
            reconcile: Reconcile::Echo,
            budget: (200, Duration::from_secs(3600)),
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

    fn route(&self, app: &App, raw: &[u8]) -> Vec<String> {
        wire::accounts(self.translate(app, None, raw).unwrap_or_default())
    }

    fn translate(
        &self,
        app: &App,
        account: Option<&str>,
        raw: &[u8],
    ) -> Result<Vec<Fact>, Unreadable> {
        let body = wire::parse(raw)?;
        let facts = meta::messaging::read("instagram", &app.client_id, &body)
            .unwrap_or_else(|| meta::messaging::read_item(&app.client_id, &body));
        Ok(wire::of_account(wire::distinct(facts), account))
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
        if participant.is_empty() || !participant.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let fields = [("fields", "name,username")];
        let url = meta::url_as(app, &credentials.access_token, participant, &fields);
        Some(HttpRequest::get(url))
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

/// Whether the installation uses Instagram's own login.
fn by_instagram(app: &App) -> bool {
    !app.token_base.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            refresh_token: None,
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
