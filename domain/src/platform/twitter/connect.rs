//! Connecting a user: from the code a person brings back to tokens, and on to webhooks.
//!
//! code → tokens → who it is → the app's webhook → a subscription for each kind of event. A code
//! lives for 30 seconds. What comes after the identity is only done where an app-only token is
//! configured, and never fails the connection: without webhooks the account is polled.

use serde_json::json;

use super::{party, token_call, url};
use crate::platform::call::Tokens;
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::outcome::{connecting, tokens, unexpected};
use crate::platform::{App, ConnectError, ConnectFlow, ConnectStep, Connected, Grant, wire};
use crate::secret::Secret;
use crate::signature;

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

/// Where to send a person who wants to connect an account. X refuses a `+` for a space in places.
pub fn authorize(
    app: &App,
    state: &str,
    verifier: Option<&Secret>,
) -> Result<String, ConnectError> {
    configured(app)?;
    let verifier = verifier.ok_or_else(|| ConnectError("X needs a PKCE verifier.".into()))?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("response_type", "code")
        .append_pair("client_id", &app.client_id)
        .append_pair("redirect_uri", &app.redirect_uri)
        .append_pair("scope", SCOPES)
        .append_pair("state", state)
        .append_pair(
            "code_challenge",
            &signature::pkce_challenge(verifier.expose()),
        )
        .append_pair("code_challenge_method", "S256")
        .finish()
        .replace('+', "%20");
    Ok(format!("{}/i/oauth2/authorize?{query}", app.dialog_base))
}

fn configured(app: &App) -> Result<(), ConnectError> {
    if app.client_id.is_empty() {
        let said = "X is not configured: set TWITTER_CLIENT_ID.";
        return Err(ConnectError(said.into()));
    }
    Ok(())
}

/// The conversation with X, in the state between two calls.
pub struct Flow {
    app: App,
    step: Step,
}

enum Step {
    Start(Grant),
    Tokens,
    Identity(Tokens),
    Webhooks(Connected),
    Registered(Connected),
    Subscribed {
        account: Connected,
        webhook: String,
        done: usize,
    },
    Over,
}

type Answer = Result<HttpResponse, TransportError>;
type Next = Result<ConnectStep, ConnectError>;

impl Flow {
    /// A flow that has not called anybody yet.
    pub fn new(app: &App, grant: Grant) -> Self {
        Self {
            app: app.clone(),
            step: Step::Start(grant),
        }
    }
}

impl ConnectFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> ConnectStep {
        let step = std::mem::replace(&mut self.step, Step::Over);
        let next = match (step, answer) {
            (Step::Start(grant), _) => self.exchange(&grant),
            (Step::Tokens, Some(answer)) => self.who(&answer),
            (Step::Identity(tokens), Some(answer)) => self.identified(tokens, &answer),
            (Step::Webhooks(account), Some(answer)) => Ok(self.register(account, &answer)),
            (Step::Registered(account), Some(answer)) => Ok(
                match connecting(NAME, &answer).map(|body| wire::id(&body["data"]["id"])) {
                    Ok(Some(webhook)) => self.subscribe(account, webhook, 0),
                    _ => ConnectStep::Done(account),
                },
            ),
            // An event that cannot be subscribed, or is already, leaves the others.
            (
                Step::Subscribed {
                    account,
                    webhook,
                    done,
                },
                Some(answer),
            ) => Ok(match answer {
                Ok(_) => self.subscribe(account, webhook, done),
                Err(_) => ConnectStep::Done(account),
            }),
            (_, None) | (Step::Over, _) => Err(ConnectError(
                "The X login was interrupted. Please try again.".into(),
            )),
        };
        next.unwrap_or_else(ConnectStep::Failed)
    }
}

impl Flow {
    fn exchange(&mut self, grant: &Grant) -> Next {
        configured(&self.app)?;
        let Grant::Code {
            code,
            verifier: Some(verifier),
        } = grant
        else {
            return Err(ConnectError(
                "X needs an authorisation code and its verifier.".into(),
            ));
        };
        self.step = Step::Tokens;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", self.app.redirect_uri.as_str()),
            ("code_verifier", verifier.expose()),
        ];
        Ok(ConnectStep::Call(token_call(&self.app, "token", &fields)))
    }

    fn who(&mut self, answer: &Answer) -> Next {
        let tokens = tokens(&connecting(NAME, answer)?).ok_or_else(|| unexpected(NAME))?;
        let url = url(&self.app, "users/me?user.fields=username,name");
        let call = HttpRequest::get(url).bearer(tokens.access_token.expose());
        self.step = Step::Identity(tokens);
        Ok(ConnectStep::Call(call))
    }

    fn identified(&mut self, tokens: Tokens, answer: &Answer) -> Next {
        let body = connecting(NAME, answer)?;
        let user = &body["data"];
        let id = wire::id(&user["id"]).ok_or_else(|| unexpected(NAME))?;
        let account = Connected {
            username: wire::filled(&user["username"])
                .or_else(|| party::name(user))
                .unwrap_or_else(|| "X user".into()),
            platform_user_id: id.clone(),
            route: id,
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            expires_in_s: tokens.expires_in_s,
        };
        if self.app.bot_token.is_empty() || self.app.webhook_url.is_empty() {
            return Ok(ConnectStep::Done(account));
        }
        let call = HttpRequest::get(url(&self.app, "webhooks"));
        self.step = Step::Webhooks(account);
        Ok(ConnectStep::Call(call.bearer(self.app.bot_token.expose())))
    }

    /// The app's webhook is registered once, and X then asks the hub to prove its address.
    fn register(&mut self, account: Connected, answer: &Answer) -> ConnectStep {
        let Ok(list) = connecting(NAME, answer) else {
            return ConnectStep::Done(account);
        };
        let ours = wire::items(&list["data"])
            .iter()
            .find(|hook| hook["url"] == self.app.webhook_url.as_str());
        if let Some(webhook) = ours.and_then(|hook| wire::id(&hook["id"])) {
            return self.subscribe(account, webhook, 0);
        }
        let body = json!({ "url": self.app.webhook_url });
        let call = HttpRequest::post_json(url(&self.app, "webhooks"), &body);
        self.step = Step::Registered(account);
        ConnectStep::Call(call.bearer(self.app.bot_token.expose()))
    }

    /// Messages are private: they are subscribed with the account's own token.
    fn subscribe(&mut self, account: Connected, webhook: String, done: usize) -> ConnectStep {
        let Some(event_type) = EVENT_TYPES.get(done) else {
            return ConnectStep::Done(account);
        };
        let body = json!({
            "event_type": event_type,
            "filter": { "user_id": account.route },
            "tag": "hub",
            "webhook_id": webhook,
        });
        let call = HttpRequest::post_json(url(&self.app, "activity/subscriptions"), &body)
            .bearer(account.access_token.expose());
        self.step = Step::Subscribed {
            account,
            webhook,
            done: done + 1,
        };
        ConnectStep::Call(call)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

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

    fn flow(app: &App) -> Flow {
        let grant = Grant::Code {
            code: "the-code".into(),
            verifier: Some("the-verifier".into()),
        };
        Flow::new(app, grant)
    }

    fn ok(body: Value) -> Option<Answer> {
        answer(200, body)
    }

    fn answer(status: u16, body: Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn call(step: ConnectStep) -> HttpRequest {
        match step {
            ConnectStep::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }

    fn done(step: ConnectStep) -> Connected {
        match step {
            ConnectStep::Done(account) => account,
            other => panic!("{other:?}"),
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
        let url = authorize(&app(), "s1", Some(&verifier)).unwrap();
        assert_eq!(
            url,
            "https://dialog.example/i/oauth2/authorize?response_type=code&client_id=client\
             &redirect_uri=https%3A%2F%2Fhub.example%2Fapi%2Foauth%2Fcallback%2Ftwitter\
             &scope=tweet.read%20users.read%20dm.read%20dm.write%20offline.access%20media.write&state=s1\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
        );
        assert!(authorize(&app(), "s1", None).is_err());
        let sentence = authorize(&App::default(), "s1", Some(&verifier))
            .unwrap_err()
            .0;
        assert!(sentence.contains("TWITTER_CLIENT_ID"));
    }

    #[test]
    fn without_webhooks_the_identity_is_the_end() {
        let mut flow = flow(&app());
        let exchange = call(flow.next(None));
        assert_eq!(exchange.url, "https://api.example/2/oauth2/token");
        assert_eq!(
            String::from_utf8(exchange.body).unwrap(),
            "grant_type=authorization_code&code=the-code\
             &redirect_uri=https%3A%2F%2Fhub.example%2Fapi%2Foauth%2Fcallback%2Ftwitter\
             &code_verifier=the-verifier&client_id=client"
        );
        let who = call(flow.next(ok(given_out())));
        assert_eq!(
            who.url,
            "https://api.example/2/users/me?user.fields=username,name"
        );
        let account = done(flow.next(ok(me())));
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
        let exchange = call(self::flow(&public).next(None));
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
        let mut flow = flow(&with_webhooks());
        flow.next(None);
        flow.next(ok(given_out()));
        let list = call(flow.next(ok(me())));
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
        let register = call(flow.next(ok(json!({"meta": {"result_count": 0}}))));
        assert_eq!(register.url, "https://api.example/2/webhooks");
        let body: Value = serde_json::from_slice(&register.body).unwrap();
        assert_eq!(
            body,
            json!({"url": "https://hub.example/api/webhooks/twitter"})
        );
        let mut step = flow.next(ok(json!({"data": {"id": "1846", "valid": true}})));
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
            step = flow.next(answer(400, json!({"title": "already subscribed"})));
        }
        done(step);
    }

    #[test]
    fn trouble_with_webhooks_leaves_a_connected_account() {
        let refused = || answer(403, json!({"title": "Forbidden"}));
        let (mut flow, _) = at_webhooks();
        done(flow.next(refused()));
        let (mut flow, _) = at_webhooks();
        flow.next(ok(json!({})));
        done(flow.next(refused()));
        let (mut flow, _) = at_webhooks();
        let known = json!({"data": [{"id": "1846", "valid": true,
            "url": "https://hub.example/api/webhooks/twitter"}]});
        assert!(
            call(flow.next(ok(known)))
                .url
                .ends_with("/activity/subscriptions")
        );
        done(flow.next(Some(Err(TransportError::Unclear))));
    }

    #[test]
    fn failures_are_sentences_without_secrets() {
        let sentence = |step| match step {
            ConnectStep::Failed(error) => error.0,
            other => panic!("{other:?}"),
        };
        let mut refused = flow(&app());
        refused.next(None);
        let body = json!({"error": "invalid_request", "error_description": "bad the-code"});
        let said = sentence(refused.next(answer(400, body)));
        assert!(
            said.contains("HTTP 400") && !said.contains("the-code"),
            "{said}"
        );
        let mut lost = flow(&app());
        lost.next(None);
        sentence(lost.next(Some(Err(TransportError::NotSent))));
        let mut nobody = flow(&app());
        nobody.next(None);
        nobody.next(ok(given_out()));
        sentence(nobody.next(ok(json!({"data": {}}))));
        let no_verifier = Grant::Code {
            code: "c".into(),
            verifier: None,
        };
        sentence(Flow::new(&app(), no_verifier).next(None));
    }
}
