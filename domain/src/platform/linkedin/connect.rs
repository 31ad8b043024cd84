//! Connecting a member: from the code a person brings back to a token, and on to the organizations
//! they administer.
//!
//! code → token → who it is → which organizations → a subscription for each. What comes after the
//! identity needs the number of our app and never fails the connection: without it comments are not
//! pushed, and messages are fetched all the same.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{urn, versioned};
use crate::platform::call::Tokens;
use crate::platform::http::{HttpRequest, Method};
use crate::platform::oauth::{self, Aftermath, Answer, Client, Identity, Login, Proof};
use crate::platform::outcome::connecting;
use crate::platform::{App, ConnectError, Connected, wire};
use crate::secret::Secret;

const NAME: &str = "LinkedIn";

/// Organizations that are subscribed to in one go.
const ORGANIZATIONS_MAX: usize = 10;

/// In the first seconds of a token's life the API may take it for a revoked one.
const IDENTITY_TRIES: usize = 3;

/// How members log in. There is no PKCE in the web flow. The scopes are always the same: asking for
/// others would end the member's earlier tokens.
pub struct Website;

impl Login for Website {
    fn client<'a>(&self, app: &'a App) -> Client<'a> {
        Client {
            name: NAME,
            app,
            needs: &[
                ("LINKEDIN_CLIENT_ID", oauth::has_id),
                ("LINKEDIN_CLIENT_SECRET", oauth::has_secret),
            ],
            dialog: format!("{}/oauth/v2/authorization", app.dialog_base),
            tokens: format!("{}/oauth/v2/accessToken", app.dialog_base),
            proof: Proof::Form,
            scopes: app.scopes.clone(),
            pkce: false,
            to_dialog: &[],
            to_tokens: &[],
        }
    }

    fn exchanged(&self, answer: &Answer) -> Result<Tokens, ConnectError> {
        oauth::given_out(NAME, answer)
    }

    fn who(&self, app: &App, token: &Secret) -> HttpRequest {
        HttpRequest::get(format!("{}/v2/userinfo", app.api_base)).bearer(token.expose())
    }

    fn tries(&self) -> usize {
        IDENTITY_TRIES
    }

    fn identity(&self, answer: &Answer) -> Result<Identity, ConnectError> {
        oauth::identified(NAME, answer, |member| {
            let id = wire::id(&member["sub"])?;
            let names = ["name", "given_name"];
            let name = names.iter().find_map(|field| wire::filled(&member[*field]));
            Some(Identity {
                username: name.unwrap_or_else(|| "LinkedIn User".into()),
                route: urn::person(&id),
                id,
            })
        })
    }

    fn after(&self, app: &App, account: &Connected) -> Option<Box<dyn Aftermath>> {
        if app.app_id.is_empty() || app.webhook_url.is_empty() {
            return None;
        }
        Some(Box::new(Organizations {
            app: app.clone(),
            token: account.access_token.clone(),
            member: account.route.clone(),
            left: None,
        }))
    }
}

/// Having what happens to a member's organizations delivered.
struct Organizations {
    app: App,
    token: Secret,
    member: String,
    left: Option<VecDeque<String>>,
}

impl Organizations {
    fn subscribe(&mut self) -> Option<HttpRequest> {
        let organization = self.left.as_mut()?.pop_front()?;
        let app = format!("urn:li:developerApplication:{}", self.app.app_id);
        let key = format!(
            "(developerApplication:{},user:{},entity:{},eventType:{})",
            urn::encoded(&app),
            urn::encoded(&self.member),
            urn::encoded(&organization),
            super::action::TYPE
        );
        let url = format!("{}/rest/eventSubscriptions/{key}", self.app.api_base);
        let mut call = HttpRequest::post_json(url, &json!({ "webhook": self.app.webhook_url }));
        call.method = Method::Put;
        Some(versioned(call, &self.app.api_version, &self.token))
    }
}

impl Aftermath for Organizations {
    fn next(&mut self, answer: Option<Answer>) -> Option<HttpRequest> {
        let Some(answer) = answer else {
            let url = format!(
                "{}/rest/organizationAcls?q=roleAssignee&role=ADMINISTRATOR&state=APPROVED&count={ORGANIZATIONS_MAX}",
                self.app.api_base
            );
            let call = HttpRequest::get(url);
            return Some(versioned(call, &self.app.api_version, &self.token));
        };
        match &self.left {
            None => self.left = Some(organizations(&connecting(NAME, &answer).ok()?)),
            // An organization that cannot be subscribed to leaves the others.
            Some(_) => drop(answer.ok()?),
        }
        self.subscribe()
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
    use crate::platform::http::TransportError;
    use crate::platform::oauth::Flow;
    use crate::platform::oauth::tests::{answer, body, call, done, failed, flow, ok};
    use crate::platform::{ConnectFlow as _, Grant};

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

    #[test]
    fn the_dialog() {
        assert_eq!(
            Website.client(&app()).authorize("s1", None).unwrap(),
            "https://www.example/oauth/v2/authorization?response_type=code&client_id=client\
             &redirect_uri=https%3A%2F%2Fhub.example%2Fapi%2Foauth%2Fcallback%2Flinkedin\
             &scope=openid%20profile&state=s1"
        );
        let sentence = Website
            .client(&App::default())
            .authorize("s1", None)
            .unwrap_err()
            .0;
        assert!(sentence.contains("LINKEDIN_CLIENT_ID and LINKEDIN_CLIENT_SECRET"));
    }

    #[test]
    fn the_identity_comes_from_userinfo() {
        let mut flow = flow(&Website, &app());
        let exchange = call(flow.next(None));
        assert_eq!(exchange.url, "https://www.example/oauth/v2/accessToken");
        assert_eq!(
            body(exchange),
            "grant_type=authorization_code&code=the-code\
             &redirect_uri=https%3A%2F%2Fhub.example%2Fapi%2Foauth%2Fcallback%2Flinkedin\
             &client_id=client&client_secret=secret"
        );
        let who = call(flow.next(ok(&json!({"access_token": "AQX", "expires_in": 5_184_000}))));
        assert_eq!(who.url, "https://api.example/v2/userinfo");
        // A token may be too young to be known everywhere.
        let who = call(flow.next(answer(401, &json!({"serviceErrorCode": 65601}))));
        assert_eq!(who.url, "https://api.example/v2/userinfo");
        let account = done(flow.next(ok(&json!({"sub": "HubOwn3r_A", "given_name": "Nora"}))));
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
        let mut flow = flow(&Website, &app);
        flow.next(None);
        flow.next(ok(&json!({"access_token": "AQX"})));
        let acls = call(flow.next(ok(&json!({"sub": "A", "name": "Nora Wind"}))));
        assert!(
            acls.url
                .starts_with("https://api.example/rest/organizationAcls?q=roleAssignee")
        );
        let list = json!({"elements": [{"organization": "urn:li:organization:1"},
            {"organizationTarget": "urn:li:organization:2"}, {}]});
        let first = call(flow.next(ok(&list)));
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
        let second = call(flow.next(answer(403, &json!({"message": "no"}))));
        assert!(second.url.contains("organization%3A2"));
        assert_eq!(
            done(flow.next(answer(204, &Value::Null))).username,
            "Nora Wind"
        );
    }

    #[test]
    fn trouble_with_organizations_leaves_a_connected_account() {
        let app = App {
            app_id: "123".into(),
            ..app()
        };
        let mut flow = flow(&Website, &app);
        flow.next(None);
        flow.next(ok(&json!({"access_token": "AQX"})));
        flow.next(ok(&json!({"sub": "A"})));
        let account = done(flow.next(answer(403, &json!({"message": "not enough permissions"}))));
        assert_eq!(account.username, "LinkedIn User");
    }

    #[test]
    fn failures_are_sentences_without_secrets() {
        let mut refused = flow(&Website, &app());
        refused.next(None);
        let body = json!({"error": "invalid_request", "error_description": "bad the-code"});
        let said = failed(refused.next(answer(400, &body)));
        assert!(
            said.contains("HTTP 400") && !said.contains("the-code"),
            "{said}"
        );
        let mut revoked = flow(&Website, &app());
        revoked.next(None);
        revoked.next(ok(&json!({"access_token": "AQX"})));
        for _ in 1..IDENTITY_TRIES {
            call(revoked.next(answer(401, &json!({}))));
        }
        failed(revoked.next(answer(401, &json!({}))));
        let mut lost = flow(&Website, &app());
        lost.next(None);
        failed(lost.next(Some(Err(TransportError::Unclear))));
        let widget = Grant::Widget {
            id: "1".into(),
            username: "ann".into(),
        };
        failed(Flow::new(&Website, &app(), widget).next(None));
    }
}
