//! Connecting a user: from the code a person brings back to tokens, and on to webhooks.
//!
//! code → tokens → who it is → the app's webhook → a subscription for each kind of event. A code
//! lives for 30 seconds. What comes after the identity is only done where an app-only token is
//! configured, and never fails the connection: without webhooks the account is polled.

use serde_json::{Value, json};

use super::{party, url};
use crate::platform::call::Tokens;
use crate::platform::http::HttpRequest;
use crate::platform::oauth::{self, Aftermath, Answer, Client, Identity, Login, Proof};
use crate::platform::outcome::connecting;
use crate::platform::{App, ConnectError, Connected, wire};
use crate::secret::Secret;

const NAME: &str = "X";

/// What the hub asks a person for.
const SCOPES: &str = "tweet.read users.read dm.read dm.write offline.access media.write";

/// What an account tells the hub about (X Activity). Encrypted chat only says that somebody wrote.
const EVENT_TYPES: [&str; 5] = [
    "dm.received",
    "dm.sent",
    "dm.read",
    "chat.received",
    "chat.sent",
];

/// How people log in.
pub struct X;

impl Login for X {
    fn client<'a>(&self, app: &'a App) -> Client<'a> {
        Client {
            name: NAME,
            app,
            needs: &[("TWITTER_CLIENT_ID", oauth::has_id)],
            dialog: format!("{}/i/oauth2/authorize", app.dialog_base),
            tokens: url(app, "oauth2/token"),
            proof: Proof::Basic,
            scopes: SCOPES.to_owned(),
            pkce: true,
            to_dialog: &[],
            to_tokens: &[],
        }
    }

    fn exchanged(&self, answer: &Answer) -> Result<Tokens, ConnectError> {
        oauth::given_out(NAME, answer)
    }

    fn who(&self, app: &App, token: &Secret) -> HttpRequest {
        let url = url(app, "users/me?user.fields=username,name");
        HttpRequest::get(url).bearer(token.expose())
    }

    fn identity(&self, answer: &Answer) -> Result<Identity, ConnectError> {
        oauth::identified(NAME, answer, |body| {
            let user = &body["data"];
            let id = wire::id(&user["id"])?;
            Some(Identity {
                username: wire::filled(&user["username"])
                    .or_else(|| party::name(user))
                    .unwrap_or_else(|| "X user".into()),
                route: id.clone(),
                id,
            })
        })
    }

    fn after(&self, app: &App, account: &Connected) -> Option<Box<dyn Aftermath>> {
        if app.bot_token.is_empty() || app.webhook_url.is_empty() {
            return None;
        }
        Some(Box::new(Webhooks {
            app: app.clone(),
            token: account.access_token.clone(),
            user: account.route.clone(),
            step: Step::Start,
        }))
    }
}

/// Having an account's events delivered.
struct Webhooks {
    app: App,
    token: Secret,
    user: String,
    step: Step,
}

enum Step {
    Start,
    Listed,
    Registered,
    Subscribed { webhook: String, done: usize },
}

impl Webhooks {
    fn as_app(&self, call: HttpRequest) -> HttpRequest {
        call.bearer(self.app.bot_token.expose())
    }

    /// The app's webhook is registered once, and X then asks the hub to prove its address.
    fn register(&mut self, list: &Value) -> Option<HttpRequest> {
        let ours = wire::items(&list["data"])
            .iter()
            .find(|hook| hook["url"] == self.app.webhook_url.as_str());
        if let Some(webhook) = ours.and_then(|hook| wire::id(&hook["id"])) {
            return self.subscribe(webhook, 0);
        }
        let body = json!({ "url": self.app.webhook_url });
        self.step = Step::Registered;
        Some(self.as_app(HttpRequest::post_json(url(&self.app, "webhooks"), &body)))
    }

    /// Messages are private: they are subscribed with the account's own token.
    fn subscribe(&mut self, webhook: String, done: usize) -> Option<HttpRequest> {
        let event_type = EVENT_TYPES.get(done)?;
        let body = json!({
            "event_type": event_type,
            "filter": { "user_id": self.user },
            "tag": "hub",
            "webhook_id": webhook,
        });
        let call = HttpRequest::post_json(url(&self.app, "activity/subscriptions"), &body);
        self.step = Step::Subscribed {
            webhook,
            done: done + 1,
        };
        Some(call.bearer(self.token.expose()))
    }
}

impl Aftermath for Webhooks {
    fn next(&mut self, answer: Option<Answer>) -> Option<HttpRequest> {
        match (std::mem::replace(&mut self.step, Step::Start), answer) {
            (Step::Start, _) => {
                self.step = Step::Listed;
                Some(self.as_app(HttpRequest::get(url(&self.app, "webhooks"))))
            }
            (Step::Listed, Some(answer)) => self.register(&connecting(NAME, &answer).ok()?),
            (Step::Registered, Some(answer)) => {
                let body = connecting(NAME, &answer).ok()?;
                self.subscribe(wire::id(&body["data"]["id"])?, 0)
            }
            // An event that cannot be subscribed, or is already, leaves the others.
            (Step::Subscribed { webhook, done }, Some(Ok(_))) => self.subscribe(webhook, done),
            (Step::Listed | Step::Registered | Step::Subscribed { .. }, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::TransportError;
    use crate::platform::oauth::Flow;
    use crate::platform::oauth::tests::{answer, body, call, done, failed, flow, ok};
    use crate::platform::{ConnectFlow as _, Grant};

    fn app() -> App {
        App {
            client_id: "client".into(),
            client_secret: "secret".into(),
            api_base: "https://api.example".into(),
            dialog_base: "https://dialog.example".into(),
            api_version: "2".into(),
            redirect_uri: "https://hub.example/api/oauth/callback/twitter".into(),
            webhook_url: "https://hub.example/api/webhooks/twitter".into(),
            ..App::default()
        }
    }

    fn given_out() -> Value {
        json!({"token_type": "bearer", "expires_in": 7200, "access_token": "access",
            "refresh_token": "refresh", "scope": "dm.read"})
    }

    fn me() -> Value {
        json!({"data": {"id": "1700000000000000101", "name": "Northwind", "username": "northwind"}})
    }

    #[test]
    fn the_dialog() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let url = X.client(&app()).authorize("s1", Some(&verifier)).unwrap();
        assert_eq!(
            url,
            "https://dialog.example/i/oauth2/authorize?response_type=code&client_id=client\
             &redirect_uri=https%3A%2F%2Fhub.example%2Fapi%2Foauth%2Fcallback%2Ftwitter\
             &scope=tweet.read%20users.read%20dm.read%20dm.write%20offline.access%20media.write&state=s1\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
        );
        assert!(X.client(&app()).authorize("s1", None).is_err());
        let sentence = X
            .client(&App::default())
            .authorize("s1", Some(&verifier))
            .unwrap_err()
            .0;
        assert!(sentence.contains("TWITTER_CLIENT_ID"));
    }

    #[test]
    fn without_webhooks_the_identity_is_the_end() {
        let mut flow = flow(&X, &app());
        let exchange = call(flow.next(None));
        assert_eq!(exchange.url, "https://api.example/2/oauth2/token");
        assert_eq!(
            body(exchange),
            "grant_type=authorization_code&code=the-code\
             &redirect_uri=https%3A%2F%2Fhub.example%2Fapi%2Foauth%2Fcallback%2Ftwitter\
             &code_verifier=the-verifier&client_id=client"
        );
        let who = call(flow.next(ok(&given_out())));
        assert_eq!(
            who.url,
            "https://api.example/2/users/me?user.fields=username,name"
        );
        let account = done(flow.next(ok(&me())));
        assert_eq!(account.platform_user_id, "1700000000000000101");
        assert_eq!(
            (account.route.as_str(), account.username.as_str()),
            ("1700000000000000101", "northwind")
        );
        assert_eq!(account.refresh_token.unwrap().expose(), "refresh");
        assert_eq!(account.expires_in_s, Some(7200));
        // A public client has no secret and no header.
        let public = App {
            client_secret: Secret::default(),
            ..app()
        };
        let exchange = call(super::tests::flow(&X, &public).next(None));
        assert!(
            exchange
                .headers
                .iter()
                .all(|(name, _)| name != "authorization")
        );
    }

    fn with_webhooks() -> App {
        App {
            bot_token: "app-only".into(),
            ..app()
        }
    }

    /// The first answer that matters is the list of webhooks.
    fn at_webhooks() -> (Flow, HttpRequest) {
        let mut flow = flow(&X, &with_webhooks());
        flow.next(None);
        flow.next(ok(&given_out()));
        let list = call(flow.next(ok(&me())));
        (flow, list)
    }

    #[test]
    fn the_webhook_is_registered_and_every_event_subscribed() {
        let (mut flow, list) = at_webhooks();
        assert_eq!(list.url, "https://api.example/2/webhooks");
        assert!(
            list.headers
                .contains(&("authorization".into(), "Bearer app-only".into()))
        );
        let register = call(flow.next(ok(&json!({"meta": {"result_count": 0}}))));
        assert_eq!(register.url, "https://api.example/2/webhooks");
        let body: Value = serde_json::from_slice(&register.body).unwrap();
        assert_eq!(
            body,
            json!({"url": "https://hub.example/api/webhooks/twitter"})
        );
        let mut step = flow.next(ok(&json!({"data": {"id": "1846", "valid": true}})));
        for event_type in EVENT_TYPES {
            let subscription = call(step);
            assert_eq!(
                subscription.url,
                "https://api.example/2/activity/subscriptions"
            );
            let bearer = ("authorization".to_owned(), "Bearer access".to_owned());
            assert!(subscription.headers.contains(&bearer));
            let body: Value = serde_json::from_slice(&subscription.body).unwrap();
            let expected = json!({"event_type": event_type, "tag": "hub", "webhook_id": "1846",
                "filter": {"user_id": "1700000000000000101"}});
            assert_eq!(body, expected);
            step = flow.next(answer(400, &json!({"title": "already subscribed"})));
        }
        done(step);
    }

    #[test]
    fn trouble_with_webhooks_leaves_a_connected_account() {
        let refused = || answer(403, &json!({"title": "Forbidden"}));
        let (mut flow, _) = at_webhooks();
        done(flow.next(refused()));
        let (mut flow, _) = at_webhooks();
        flow.next(ok(&json!({})));
        done(flow.next(refused()));
        let (mut flow, _) = at_webhooks();
        let known = json!({"data": [{"id": "1846", "valid": true,
            "url": "https://hub.example/api/webhooks/twitter"}]});
        assert!(
            call(flow.next(ok(&known)))
                .url
                .ends_with("/activity/subscriptions")
        );
        done(flow.next(Some(Err(TransportError::Unclear))));
    }

    #[test]
    fn failures_are_sentences_without_secrets() {
        let mut refused = flow(&X, &app());
        refused.next(None);
        let body = json!({"error": "invalid_request", "error_description": "bad the-code"});
        let said = failed(refused.next(answer(400, &body)));
        assert!(
            said.contains("HTTP 400") && !said.contains("the-code"),
            "{said}"
        );
        let mut lost = flow(&X, &app());
        lost.next(None);
        failed(lost.next(Some(Err(TransportError::NotSent))));
        let mut nobody = flow(&X, &app());
        nobody.next(None);
        nobody.next(ok(&given_out()));
        failed(nobody.next(ok(&json!({"data": {}}))));
        let no_verifier = Grant::Code {
            code: "c".into(),
            verifier: None,
        };
        failed(Flow::new(&X, &app(), no_verifier).next(None));
    }
}
