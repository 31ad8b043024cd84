//! Connecting a member: from the code a person brings back to a token, and on to the organizations
//! they administer.
//!
//! code → token → who it is → which organizations → a subscription for each. What comes after the
//! identity needs the number of our app and never fails the connection: without it comments are not
//! pushed, and messages are fetched all the same.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{oauth_call, urn, versioned};
use crate::platform::call::Tokens;
use crate::platform::http::{HttpRequest, HttpResponse, Method, TransportError};
use crate::platform::outcome::{connecting, tokens, unexpected};
use crate::platform::{App, ConnectError, ConnectFlow, ConnectStep, Connected, Grant, wire};

const NAME: &str = "LinkedIn";

/// Organizations that are subscribed to in one go.
const ORGANIZATIONS_MAX: usize = 10;

/// In the first seconds of a token's life the API may take it for a revoked one.
const IDENTITY_TRIES: usize = 3;

/// Where to send a person who wants to connect an account. There is no PKCE in the web flow. The
/// scopes are always the same: asking for others would end the member's earlier tokens.
pub fn authorize(app: &App, state: &str) -> Result<String, ConnectError> {
    configured(app)?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("response_type", "code")
        .append_pair("client_id", &app.client_id)
        .append_pair("redirect_uri", &app.redirect_uri)
        .append_pair("state", state)
        .append_pair("scope", &app.scopes)
        .finish()
        .replace('+', "%20");
    Ok(format!(
        "{}/oauth/v2/authorization?{query}",
        app.dialog_base
    ))
}

fn configured(app: &App) -> Result<(), ConnectError> {
    let mut missing = Vec::new();
    if app.client_id.is_empty() {
        missing.push("LINKEDIN_CLIENT_ID");
    }
    if app.client_secret.is_empty() {
        missing.push("LINKEDIN_CLIENT_SECRET");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(ConnectError(format!(
        "LinkedIn is not configured: set {}.",
        missing.join(" and ")
    )))
}

/// The conversation with LinkedIn, in the state between two calls.
pub struct Flow {
    app: App,
    step: Step,
}

enum Step {
    Start(Grant),
    Tokens,
    Identity {
        tokens: Tokens,
        tries: usize,
    },
    Organizations(Connected),
    Subscribed {
        account: Connected,
        left: VecDeque<String>,
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
            (Step::Tokens, Some(answer)) => connecting(NAME, &answer).and_then(|body| {
                let tokens = tokens(&body).ok_or_else(|| unexpected(NAME))?;
                Ok(self.who(tokens, 1))
            }),
            (Step::Identity { tokens, tries }, Some(answer)) => {
                self.identified(tokens, tries, &answer)
            }
            (Step::Organizations(account), Some(answer)) => {
                let found = connecting(NAME, &answer).map(|list| organizations(&list));
                Ok(self.subscribe(account, found.unwrap_or_default()))
            }
            // An organization that cannot be subscribed to leaves the others.
            (Step::Subscribed { account, left }, Some(answer)) => Ok(match answer {
                Ok(_) => self.subscribe(account, left),
                Err(_) => ConnectStep::Done(account),
            }),
            (_, None) | (Step::Over, _) => Err(ConnectError(
                "The LinkedIn login was interrupted. Please try again.".into(),
            )),
        };
        next.unwrap_or_else(ConnectStep::Failed)
    }
}

impl Flow {
    fn exchange(&mut self, grant: &Grant) -> Next {
        configured(&self.app)?;
        let Grant::Code { code, .. } = grant else {
            return Err(ConnectError("LinkedIn needs an authorisation code.".into()));
        };
        self.step = Step::Tokens;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", self.app.redirect_uri.as_str()),
        ];
        Ok(ConnectStep::Call(oauth_call(
            &self.app,
            "accessToken",
            &fields,
        )))
    }

    fn who(&mut self, tokens: Tokens, tries: usize) -> ConnectStep {
        let call = HttpRequest::get(format!("{}/v2/userinfo", self.app.api_base));
        let call = call.bearer(tokens.access_token.expose());
        self.step = Step::Identity { tokens, tries };
        ConnectStep::Call(call)
    }

    fn identified(&mut self, tokens: Tokens, tries: usize, answer: &Answer) -> Next {
        let too_fresh = answer.as_ref().is_ok_and(|answer| answer.status == 401);
        if too_fresh && tries < IDENTITY_TRIES {
            return Ok(self.who(tokens, tries + 1));
        }
        let member = connecting(NAME, answer)?;
        let id = wire::id(&member["sub"]).ok_or_else(|| unexpected(NAME))?;
        let name = ["name", "given_name"]
            .iter()
            .find_map(|field| wire::filled(&member[*field]));
        let account = Connected {
            username: name.unwrap_or_else(|| "LinkedIn User".into()),
            route: urn::person(&id),
            platform_user_id: id,
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            expires_in_s: tokens.expires_in_s,
        };
        if self.app.app_id.is_empty() || self.app.webhook_url.is_empty() {
            return Ok(ConnectStep::Done(account));
        }
        let url = format!(
            "{}/rest/organizationAcls?q=roleAssignee&role=ADMINISTRATOR&state=APPROVED&count={ORGANIZATIONS_MAX}",
            self.app.api_base
        );
        let call = versioned(
            HttpRequest::get(url),
            &self.app.api_version,
            &account.access_token,
        );
        self.step = Step::Organizations(account);
        Ok(ConnectStep::Call(call))
    }

    fn subscribe(&mut self, account: Connected, mut left: VecDeque<String>) -> ConnectStep {
        let Some(organization) = left.pop_front() else {
            return ConnectStep::Done(account);
        };
        let app = format!("urn:li:developerApplication:{}", self.app.app_id);
        let key = format!(
            "(developerApplication:{},user:{},entity:{},eventType:{})",
            urn::encoded(&app),
            urn::encoded(&account.route),
            urn::encoded(&organization),
            super::action::TYPE
        );
        let url = format!("{}/rest/eventSubscriptions/{key}", self.app.api_base);
        let mut call = HttpRequest::post_json(url, &json!({ "webhook": self.app.webhook_url }));
        call.method = Method::Put;
        let call = versioned(call, &self.app.api_version, &account.access_token);
        self.step = Step::Subscribed { account, left };
        ConnectStep::Call(call)
    }
}

fn organizations(list: &Value) -> VecDeque<String> {
    let name =
        |acl: &Value| urn::of(&acl["organization"]).or_else(|| urn::of(&acl["organizationTarget"]));
    wire::items(&list["elements"])
        .iter()
        .filter_map(name)
        .take(ORGANIZATIONS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App {
            client_id: "client".into(),
            client_secret: "secret".into(),
            api_base: "https://api.example".into(),
            dialog_base: "https://www.example".into(),
            api_version: "202610".into(),
            scopes: "openid profile".into(),
            redirect_uri: "https://hub.example/api/oauth/callback/linkedin".into(),
            webhook_url: "https://hub.example/api/webhooks/linkedin".into(),
            ..App::default()
        }
    }

    fn flow(app: &App) -> Flow {
        let grant = Grant::Code {
            code: "the-code".into(),
            verifier: None,
        };
        Flow::new(app, grant)
    }

    fn answer(status: u16, body: Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    fn ok(body: Value) -> Option<Answer> {
        answer(200, body)
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

    fn failed(step: ConnectStep) -> String {
        match step {
            ConnectStep::Failed(error) => error.0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_dialog() {
        assert_eq!(
            authorize(&app(), "s1").unwrap(),
            "https://www.example/oauth/v2/authorization?response_type=code&client_id=client\
             &redirect_uri=https%3A%2F%2Fhub.example%2Fapi%2Foauth%2Fcallback%2Flinkedin\
             &state=s1&scope=openid%20profile"
        );
        let sentence = authorize(&App::default(), "s1").unwrap_err().0;
        assert!(sentence.contains("LINKEDIN_CLIENT_ID and LINKEDIN_CLIENT_SECRET"));
    }

    #[test]
    fn the_identity_comes_from_userinfo() {
        let mut flow = flow(&app());
        let exchange = call(flow.next(None));
        assert_eq!(exchange.url, "https://www.example/oauth/v2/accessToken");
        assert_eq!(
            String::from_utf8(exchange.body).unwrap(),
            "grant_type=authorization_code&code=the-code\
             &redirect_uri=https%3A%2F%2Fhub.example%2Fapi%2Foauth%2Fcallback%2Flinkedin\
             &client_id=client&client_secret=secret"
        );
        let who = call(flow.next(ok(json!({"access_token": "AQX", "expires_in": 5_184_000}))));
        assert_eq!(who.url, "https://api.example/v2/userinfo");
        // A token may be too young to be known everywhere.
        let who = call(flow.next(answer(401, json!({"serviceErrorCode": 65601}))));
        assert_eq!(who.url, "https://api.example/v2/userinfo");
        let account = done(flow.next(ok(json!({"sub": "HubOwn3r_A", "given_name": "Nora"}))));
        assert_eq!(account.platform_user_id, "HubOwn3r_A");
        assert_eq!(account.route, "urn:li:person:HubOwn3r_A");
        assert_eq!(account.username, "Nora");
        assert_eq!(account.expires_in_s, Some(5_184_000));
        assert!(account.refresh_token.is_none());
    }

    #[test]
    fn organizations_are_subscribed_to() {
        let app = App {
            app_id: "123".into(),
            ..app()
        };
        let mut flow = flow(&app);
        flow.next(None);
        flow.next(ok(json!({"access_token": "AQX"})));
        let acls = call(flow.next(ok(json!({"sub": "A", "name": "Nora Wind"}))));
        assert!(
            acls.url
                .starts_with("https://api.example/rest/organizationAcls?q=roleAssignee")
        );
        let list = json!({"elements": [{"organization": "urn:li:organization:1"},
            {"organizationTarget": "urn:li:organization:2"}, {}]});
        let first = call(flow.next(ok(list)));
        assert_eq!(first.method, Method::Put);
        assert_eq!(
            first.url,
            "https://api.example/rest/eventSubscriptions/\
             (developerApplication:urn%3Ali%3AdeveloperApplication%3A123,\
             user:urn%3Ali%3Aperson%3AA,entity:urn%3Ali%3Aorganization%3A1,\
             eventType:ORGANIZATION_SOCIAL_ACTION_NOTIFICATIONS)"
        );
        let body: Value = serde_json::from_slice(&first.body).unwrap();
        assert_eq!(
            body,
            json!({"webhook": "https://hub.example/api/webhooks/linkedin"})
        );
        let second = call(flow.next(answer(403, json!({"message": "no"}))));
        assert!(second.url.contains("organization%3A2"));
        assert_eq!(
            done(flow.next(answer(204, Value::Null))).username,
            "Nora Wind"
        );
    }

    #[test]
    fn trouble_with_organizations_leaves_a_connected_account() {
        let app = App {
            app_id: "123".into(),
            ..app()
        };
        let mut flow = flow(&app);
        flow.next(None);
        flow.next(ok(json!({"access_token": "AQX"})));
        flow.next(ok(json!({"sub": "A"})));
        let account = done(flow.next(answer(403, json!({"message": "not enough permissions"}))));
        assert_eq!(account.username, "LinkedIn User");
    }

    #[test]
    fn failures_are_sentences_without_secrets() {
        let mut refused = flow(&app());
        refused.next(None);
        let body = json!({"error": "invalid_request", "error_description": "bad the-code"});
        let said = failed(refused.next(answer(400, body)));
        assert!(
            said.contains("HTTP 400") && !said.contains("the-code"),
            "{said}"
        );
        let mut revoked = flow(&app());
        revoked.next(None);
        revoked.next(ok(json!({"access_token": "AQX"})));
        for _ in 1..IDENTITY_TRIES {
            call(revoked.next(answer(401, json!({}))));
        }
        failed(revoked.next(answer(401, json!({}))));
        let mut lost = flow(&app());
        lost.next(None);
        failed(lost.next(Some(Err(TransportError::Unclear))));
        let widget = Grant::Widget {
            id: "1".into(),
            username: "ann".into(),
        };
        failed(Flow::new(&app(), widget).next(None));
    }
}
