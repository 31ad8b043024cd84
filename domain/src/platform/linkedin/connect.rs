//! Connecting a member: from the code a person brings back to a token, and to who it is. What the
//! member allowed comes with the token and says what the account may do ([`super::grant`]); the
//! organizations they administer are subscribed to afterwards ([`super::subscribe`]).

use super::urn;
use crate::platform::call::Tokens;
use crate::platform::http::HttpRequest;
use crate::platform::oauth::{self, Answer, Client, Identity, Login, Proof};
use crate::platform::{App, ConnectError, wire};
use crate::secret::Secret;

const NAME: &str = "LinkedIn";

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
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        let who = call(
            flow.next(ok(&json!({"access_token": "AQX", "expires_in": 5_184_000,
            "scope": "openid,profile"}))),
        );
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
        assert_eq!(account.granted.as_deref(), Some("openid,profile"));
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
