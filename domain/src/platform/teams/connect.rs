//! Connecting a person: from the code they bring back to tokens and a name, and new tokens later.
//!
//! All of it happens at one tenant, the one the installation names: tokens are renewed where they
//! were given out. Every renewal brings a new refresh token; the old one stays good, so a lost
//! answer costs nothing.
//!
//! Documented at <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow>.

use serde_json::Value;

use super::graph;
use crate::platform::call::{CallFailure, Tokens};
use crate::platform::http::HttpRequest;
use crate::platform::oauth::{self, Answer, Client, Identity, Login, Proof};
use crate::platform::{App, ConnectError, outcome, wire};
use crate::secret::Secret;

/// What the hub asks a person for.
const SCOPES: &str = "offline_access User.Read Chat.Read Chat.ReadWrite ChatMessage.Send";

/// What it asks for on top, to get files that others share in chats. Only the dialog names it: who
/// connected before it did could otherwise not renew their tokens, and Microsoft puts everything a
/// person agreed to into a token of Graph, whatever a renewal names.
const FILES: &str = "Files.ReadWrite";

/// Codes of the sign-in service after which only the person can help: tokens that ended or were
/// revoked, a changed password, a disabled person, conditions of the organisation.
const PERSON_NEEDED: [&str; 3] = ["interaction_required", "consent_required", "login_required"];

/// Codes that mean trouble on the other side although the answer says 400.
const TROUBLE: [i64; 3] = [90_033, 50_196, 90_055];

/// How people log in.
pub struct Microsoft;

impl Login for Microsoft {
    fn client<'a>(&self, app: &'a App) -> Client<'a> {
        Client {
            name: "Microsoft Teams",
            app,
            needs: &[
                ("MICROSOFT_CLIENT_ID", oauth::has_id),
                ("MICROSOFT_CLIENT_SECRET", oauth::has_secret),
            ],
            dialog: format!("{}/oauth2/v2.0/authorize", app.dialog_base),
            tokens: format!("{}/oauth2/v2.0/token", app.dialog_base),
            proof: Proof::Form,
            scopes: format!("{SCOPES} {FILES}"),
            pkce: true,
            to_dialog: &[("response_mode", "query")],
            to_tokens: &[("scope", SCOPES)],
        }
    }

    fn exchanged(&self, answer: &Answer) -> Result<Tokens, ConnectError> {
        refreshed(answer).map_err(|failure| match failure {
            CallFailure::Backoff { .. } | CallFailure::RetryAfter { .. } => unreachable(),
            CallFailure::Reconnect { .. } | CallFailure::Permanent { .. } => {
                let number = answer.as_ref().ok().and_then(|it| code(&it.json()));
                let number = number.map(|it| format!(" (AADSTS{it})"));
                ConnectError(format!(
                    "Microsoft refused the login{}. Please try again.",
                    number.unwrap_or_default()
                ))
            }
        })
    }

    fn who(&self, app: &App, token: &Secret) -> HttpRequest {
        HttpRequest::get(graph::url(app, "me")).bearer(token.expose())
    }

    fn identity(&self, answer: &Answer) -> Result<Identity, ConnectError> {
        let answer = graph::success(answer).map_err(|failure| match failure {
            CallFailure::Reconnect { .. } | CallFailure::Permanent { .. } => ConnectError(
                "Microsoft did not tell who signed in. Teams needs a work or school account."
                    .into(),
            ),
            CallFailure::Backoff { .. } | CallFailure::RetryAfter { .. } => unreachable(),
        })?;
        let me = answer.json();
        let id = wire::id(&me["id"]).ok_or_else(unreachable)?;
        let id = id.to_ascii_lowercase();
        let username = wire::filled(&me["displayName"])
            .or_else(|| wire::filled(&me["userPrincipalName"]))
            .unwrap_or_else(|| "Teams User".into());
        Ok(Identity {
            route: id.clone(),
            id,
            username,
        })
    }
}

fn unreachable() -> ConnectError {
    ConnectError("Microsoft did not answer as expected. Please try again.".into())
}

/// The tokens in an answer of the token endpoint, or what became of them.
pub fn refreshed(answer: &Answer) -> Result<Tokens, CallFailure> {
    let answer = answer.as_ref().map_err(|_| CallFailure::Backoff {
        reason: "Microsoft's sign-in did not answer".to_owned(),
    })?;
    let body = answer.json();
    if answer.is_success()
        && let Some(tokens) = outcome::tokens(&body)
    {
        return Ok(tokens);
    }
    let error = body["error"].as_str().unwrap_or_default();
    let number = code(&body).unwrap_or_default();
    let reason = format!(
        "sign-in answered {} {} AADSTS{number}",
        answer.status,
        wire::reason(error)
    );
    let trouble = error.is_empty() || error == "temporarily_unavailable" || answer.status >= 500;
    Err(match answer.status {
        _ if trouble || TROUBLE.contains(&number) || answer.status == 429 => {
            match graph::wait(answer) {
                Some(wait) => CallFailure::RetryAfter { wait, reason },
                None => CallFailure::Backoff { reason },
            }
        }
        _ if error == "invalid_grant" || PERSON_NEEDED.contains(&error) => {
            CallFailure::Reconnect { reason }
        }
        // The installation's secret or registration: waiting does not help, nor does the person.
        _ => CallFailure::Permanent { reason },
    })
}

/// The number of the sign-in service's error.
fn code(body: &Value) -> Option<i64> {
    wire::items(&body["error_codes"])
        .first()
        .and_then(wire::int)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::HttpResponse;
    use crate::platform::oauth::Flow;
    use crate::platform::{ConnectFlow as _, ConnectStep, Credentials, Grant};
    use serde_json::json;

    fn app() -> App {
        App {
            client_id: "0d9e7a52".into(),
            client_secret: "s3cret&".into(),
            api_base: "https://graph.example".into(),
            dialog_base: "https://login.example/consumers".into(),
            api_version: "v1.0".into(),
            redirect_uri: "https://hub.example/api/oauth/callback/teams".into(),
            ..App::default()
        }
    }

    fn answered(status: u16, body: Value) -> Answer {
        Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        })
    }

    fn call(step: ConnectStep) -> (HttpRequest, Vec<(String, String)>) {
        let ConnectStep::Call(call) = step else {
            panic!("{step:?}")
        };
        let fields = url::form_urlencoded::parse(&call.body)
            .into_owned()
            .collect();
        (call, fields)
    }

    fn value(fields: &[(String, String)], name: &str) -> Option<String> {
        let found = fields.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    }

    fn flow() -> Flow {
        let grant = Grant::Code {
            code: "the-code".into(),
            verifier: Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into()),
        };
        Flow::new(&Microsoft, &app(), grant)
    }

    #[test]
    fn the_dialog_is_at_the_tenant() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let url = Microsoft
            .client(&app())
            .authorize("s1", Some(&verifier))
            .unwrap();
        let url = url::Url::parse(&url).unwrap();
        assert_eq!(url.path(), "/consumers/oauth2/v2.0/authorize");
        let query: Vec<_> = url.query_pairs().into_owned().collect();
        for (name, expected) in [
            ("client_id", "0d9e7a52"),
            ("response_type", "code"),
            (
                "redirect_uri",
                "https://hub.example/api/oauth/callback/teams",
            ),
            ("scope", &format!("{SCOPES} {FILES}")),
            ("state", "s1"),
            (
                "code_challenge",
                "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            ),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(value(&query, name).as_deref(), Some(expected));
        }
        let sentence = Microsoft
            .client(&App::default())
            .authorize("s1", None)
            .unwrap_err()
            .0;
        assert!(sentence.contains("MICROSOFT_CLIENT_ID and MICROSOFT_CLIENT_SECRET"));
    }

    #[test]
    fn the_whole_way() {
        let mut flow = flow();
        let (exchange, fields) = call(flow.next(None));
        assert_eq!(
            exchange.url,
            "https://login.example/consumers/oauth2/v2.0/token"
        );
        for (name, expected) in [
            ("grant_type", "authorization_code"),
            ("code", "the-code"),
            ("client_secret", "s3cret&"),
            (
                "code_verifier",
                "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            ),
        ] {
            assert_eq!(value(&fields, name).as_deref(), Some(expected));
        }
        let tokens = json!({"token_type": "Bearer", "expires_in": 4321,
            "access_token": "eyJ0.access", "refresh_token": "0.AX"});
        let (me, _) = call(flow.next(Some(answered(200, tokens))));
        assert_eq!(me.url, "https://graph.example/v1.0/me");
        let bearer = ("authorization".to_owned(), "Bearer eyJ0.access".to_owned());
        assert!(me.headers.contains(&bearer));
        let person = json!({"id": "A1A1A1A1-0000-4000-8000-000000000001", "displayName": null,
            "userPrincipalName": "nora@northwind.example"});
        let ConnectStep::Done(account) = flow.next(Some(answered(200, person))) else {
            panic!("not done")
        };
        assert_eq!(
            account.platform_user_id,
            "a1a1a1a1-0000-4000-8000-000000000001"
        );
        assert_eq!(account.username, "nora@northwind.example");
        assert_eq!(account.refresh_token.unwrap().expose(), "0.AX");
        assert_eq!(account.expires_in_s, Some(4321));
        assert!(matches!(flow.next(None), ConnectStep::Failed(_)));
    }

    #[test]
    fn failures_are_sentences_without_secrets() {
        let mut refused = flow();
        refused.next(None);
        let error = json!({"error": "invalid_grant", "error_codes": [70008],
            "error_description": "AADSTS70008: the-code has expired"});
        let ConnectStep::Failed(sentence) = refused.next(Some(answered(400, error))) else {
            panic!("not refused")
        };
        assert!(sentence.0.contains("AADSTS70008") && !sentence.0.contains("the-code"));
        let mut personal = flow();
        personal.next(None);
        personal.next(Some(answered(200, json!({"access_token": "t"}))));
        let error = json!({"error": {"code": "Forbidden", "message": "m"}});
        let ConnectStep::Failed(sentence) = personal.next(Some(answered(403, error))) else {
            panic!("not refused")
        };
        assert!(sentence.0.contains("work or school"));
    }

    #[test]
    fn a_refresh_is_at_the_same_tenant_and_rotates() {
        let mut credentials = Credentials::default();
        assert_eq!(Microsoft.client(&app()).refresh(&credentials), None);
        credentials.refresh_token = Some("0.AX".into());
        let call = Microsoft.client(&app()).refresh(&credentials).unwrap();
        assert_eq!(
            call.url,
            "https://login.example/consumers/oauth2/v2.0/token"
        );
        let fields: Vec<_> = url::form_urlencoded::parse(&call.body)
            .into_owned()
            .collect();
        assert_eq!(
            value(&fields, "grant_type").as_deref(),
            Some("refresh_token")
        );
        assert_eq!(value(&fields, "refresh_token").as_deref(), Some("0.AX"));
        let tokens = refreshed(&answered(
            200,
            json!({"access_token": "new", "refresh_token": "0.AY", "expires_in": "3599"}),
        ));
        let tokens = tokens.unwrap();
        assert_eq!(tokens.refresh_token.unwrap().expose(), "0.AY");
        assert_eq!(tokens.expires_in_s, Some(3599));
    }

    #[test]
    fn refusals_of_the_token_endpoint_by_class() {
        let class = |status: u16, error: &str, number: i64| {
            let body = json!({"error": error, "error_codes": [number]});
            match refreshed(&answered(status, body)).unwrap_err() {
                CallFailure::Reconnect { .. } => "reconnect",
                CallFailure::Permanent { .. } => "permanent",
                CallFailure::Backoff { .. } => "backoff",
                CallFailure::RetryAfter { .. } => "retry",
            }
        };
        for number in [
            70_008, 700_082, 50_173, 700_084, 50_057, 50_076, 65_001, 53_003,
        ] {
            assert_eq!(class(400, "invalid_grant", number), "reconnect");
        }
        assert_eq!(class(400, "interaction_required", 50_079), "reconnect");
        for (error, number) in [
            ("invalid_client", 7_000_215),
            ("invalid_client", 7_000_222),
            ("unauthorized_client", 700_016),
        ] {
            assert_eq!(class(401, error, number), "permanent");
        }
        assert_eq!(class(503, "temporarily_unavailable", 90_033), "backoff");
        assert_eq!(class(400, "invalid_grant", 90_055), "backoff");
        assert_eq!(class(429, "", 0), "backoff");
    }
}
