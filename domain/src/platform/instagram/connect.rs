//! Connecting an account: through its Page, or with Instagram's own login.
//!
//! The own login: code → short token (an hour) → long token (sixty days) → who it is → subscribe.
//! Three hosts take part: the dialog's, the one that exchanges codes, and the API. The token's
//! answer carries an id of the person that no webhook knows; `user_id` of `/me` is the one. That
//! other id is `id` of `/me`, and what Instagram calls somebody who leaves.

use serde_json::Value;

use crate::platform::call::{CallFailure, Tokens};
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::meta::pages::{
    self, Answer, Next, Product, configured, interrupted, success, token,
};
use crate::platform::meta::{self, GraphError};
use crate::platform::{
    App, ConnectError, ConnectFlow, ConnectStep, Connected, Grant, Grantor, wire,
};
use crate::secret::Secret;

const NAME: &str = "Instagram";

const SETTINGS: [&str; 2] = ["INSTAGRAM_APP_ID", "INSTAGRAM_APP_SECRET"];

/// Connecting an account that is linked to a Page. Messages of such an account come with the Page's
/// subscription, whatever its fields.
pub static LINKED: Product = Product {
    name: NAME,
    settings: SETTINGS,
    scopes: "instagram_basic instagram_manage_messages pages_manage_metadata pages_show_list \
             business_management",
    fields: "id,name,access_token,tasks,instagram_business_account{id,username,name}",
    page_fields: "id,name,access_token,instagram_business_account{id,username,name}",
    subscribed_fields: "messages,messaging_postbacks,message_reactions,messaging_handovers,standby",
    account: linked,
    nothing: "No Instagram account found that the hub can use. It must be a professional account \
              that is linked to a Facebook Page you may send messages for; choose both when \
              Facebook asks.",
};

fn linked(page: &Value) -> Option<Connected> {
    let account = &page["instagram_business_account"];
    let id = wire::id(&account["id"])?;
    Some(Connected {
        username: username(account),
        access_token: Secret::new(wire::filled(&page["access_token"])?),
        platform_user_id: id.clone(),
        route: id,
        refresh_token: None,
        expires_in_s: None,
        granted: None,
    })
}

fn username(account: &Value) -> String {
    wire::filled(&account["username"])
        .or_else(|| wire::filled(&account["name"]))
        .unwrap_or_else(|| "Instagram account".into())
}

/// What the hub asks a person for at Instagram's own login.
const SCOPES: &str = "instagram_business_basic,instagram_business_manage_messages";

/// What an account tells the hub about.
const FIELDS: &str = "messages,messaging_postbacks,messaging_seen,messaging_referral,\
message_reactions,message_edit,messaging_handover,standby";

/// The same where a name is unknown, which fails the whole call.
const FIELDS_OF_OLD: &str = "messages,messaging_postbacks,messaging_seen,message_reactions";

/// Instagram's own login page.
pub fn authorize(app: &App, state: &str) -> Result<String, ConnectError> {
    configured(NAME, SETTINGS, app)?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &app.client_id)
        .append_pair("redirect_uri", &app.redirect_uri)
        .append_pair("response_type", "code")
        .append_pair("scope", SCOPES)
        .append_pair("state", state)
        .finish();
    Ok(format!("{}/oauth/authorize?{query}", app.dialog_base))
}

/// The call that exchanges a long token for the next one.
pub fn refresh(app: &App, long: &Secret) -> HttpRequest {
    HttpRequest::get(unversioned(
        app,
        "refresh_access_token",
        &[
            ("grant_type", "ig_refresh_token"),
            ("access_token", long.expose()),
        ],
    ))
}

/// What the answer to [`refresh`] means.
pub fn refreshed(answer: &Result<HttpResponse, TransportError>) -> Result<Tokens, CallFailure> {
    match meta::call_failure(answer) {
        // Whatever else Graph has against a token, only its person can get another.
        Some(CallFailure::Permanent { reason }) => return Err(CallFailure::Reconnect { reason }),
        Some(failure) => return Err(failure),
        None => {}
    }
    let body = answer.as_ref().map(HttpResponse::json).unwrap_or_default();
    match wire::filled(&body["access_token"]) {
        Some(token) => Ok(Tokens {
            access_token: Secret::new(token),
            refresh_token: None,
            expires_in_s: wire::count(&body["expires_in"]),
            granted: None,
        }),
        None => Err(CallFailure::Backoff {
            reason: "the answer has no token".to_owned(),
        }),
    }
}

/// Tokens are handed out without a version in the path.
fn unversioned(app: &App, path: &str, query: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query)
        .finish();
    format!("{}/{path}?{query}", app.api_base)
}

/// The conversation with Instagram, in the state between two calls.
pub struct Flow {
    app: App,
    step: Step,
    grantor: Option<Grantor>,
}

enum Step {
    Start(Grant),
    ShortToken,
    LongToken,
    Identity {
        token: Secret,
        expires_in_s: Option<u64>,
    },
    Subscribed {
        account: Connected,
        again: bool,
    },
    Over,
}

impl Flow {
    /// A flow that has not called anybody yet.
    pub fn new(app: &App, grant: Grant) -> Self {
        Self {
            app: app.clone(),
            step: Step::Start(grant),
            grantor: None,
        }
    }
}

impl ConnectFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> ConnectStep {
        let step = std::mem::replace(&mut self.step, Step::Over);
        let next = match (step, answer) {
            (Step::Start(grant), _) => self.exchange_code(&grant),
            (Step::ShortToken, Some(answer)) => self.exchange_token(&answer),
            (Step::LongToken, Some(answer)) => self.ask_who(&answer),
            (
                Step::Identity {
                    token,
                    expires_in_s,
                },
                Some(answer),
            ) => self.identify(token, expires_in_s, &answer),
            (Step::Subscribed { account, again }, Some(answer)) => {
                self.subscribed(account, again, &answer)
            }
            (_, None) | (Step::Over, _) => Err(interrupted(NAME)),
        };
        next.unwrap_or_else(ConnectStep::Failed)
    }

    fn grantor(&self) -> Option<&Grantor> {
        self.grantor.as_ref()
    }
}

impl Flow {
    fn exchange_code(&mut self, grant: &Grant) -> Next {
        configured(NAME, SETTINGS, &self.app)?;
        // The browser's fragment is not part of the code, whoever passes it on.
        let code = pages::code_of(NAME, grant)?.expose();
        let code = code.strip_suffix("#_").unwrap_or(code);
        let url = format!("{}/oauth/access_token", self.app.token_base);
        let fields = [
            ("client_id", self.app.client_id.as_str()),
            ("client_secret", self.app.client_secret.expose()),
            ("grant_type", "authorization_code"),
            ("redirect_uri", &self.app.redirect_uri),
            ("code", code),
        ];
        self.step = Step::ShortToken;
        Ok(ConnectStep::Call(HttpRequest::post_form(url, &fields)))
    }

    fn exchange_token(&mut self, answer: &Answer) -> Next {
        if let Ok(answer) = answer
            && let Some(code) = wire::int(&answer.json()["code"])
        {
            return Err(ConnectError(format!(
                "Instagram refused the login (code {code}). Please try again."
            )));
        }
        let body = success(NAME, answer)?;
        // Documented as a list, seen as an object.
        let body = match &body["data"][0] {
            Value::Null => &body,
            first => first,
        };
        let short = token(NAME, body)?;
        self.step = Step::LongToken;
        Ok(ConnectStep::Call(HttpRequest::get(unversioned(
            &self.app,
            "access_token",
            &[
                ("grant_type", "ig_exchange_token"),
                ("client_secret", self.app.client_secret.expose()),
                ("access_token", short.expose()),
            ],
        ))))
    }

    fn ask_who(&mut self, answer: &Answer) -> Next {
        let body = success(NAME, answer)?;
        let long = token(NAME, &body)?;
        let fields = [("fields", "id,user_id,username,name,account_type")];
        let url = meta::url_as(&self.app, &long, "me", &fields);
        self.step = Step::Identity {
            token: long,
            expires_in_s: wire::count(&body["expires_in"]),
        };
        Ok(ConnectStep::Call(HttpRequest::get(url)))
    }

    fn identify(&mut self, token: Secret, expires_in_s: Option<u64>, answer: &Answer) -> Next {
        let me = success(NAME, answer)?;
        let id = wire::id(&me["user_id"]).ok_or_else(|| pages::unreachable_graph(NAME))?;
        // The app's own id of them, which no webhook knows and every signed request carries.
        self.grantor = wire::id(&me["id"]).map(|id| Grantor {
            id,
            data_access_until_s: None,
        });
        let account = Connected {
            username: username(&me),
            platform_user_id: id.clone(),
            route: id,
            access_token: token,
            refresh_token: None,
            expires_in_s,
            granted: None,
        };
        Ok(self.subscribe(account, FIELDS, false))
    }

    /// Without this no webhook of the account ever arrives.
    fn subscribe(&mut self, account: Connected, fields: &str, again: bool) -> ConnectStep {
        let fields = [("subscribed_fields", fields)];
        let url = meta::url_as(
            &self.app,
            &account.access_token,
            "me/subscribed_apps",
            &fields,
        );
        self.step = Step::Subscribed { account, again };
        ConnectStep::Call(HttpRequest::post_form(url, &[]))
    }

    fn subscribed(&mut self, account: Connected, again: bool, answer: &Answer) -> Next {
        let error = answer.as_ref().ok().and_then(GraphError::read);
        if !again && error.is_some_and(|error| error.code == 100) {
            return Ok(self.subscribe(account, FIELDS_OF_OLD, true));
        }
        pages::subscribed(NAME, account, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::Method;
    use serde_json::json;

    fn app() -> App {
        App {
            client_id: "990011".into(),
            client_secret: "a1b2c3d4e5f60718293a4b5c6d7e8f90".into(),
            api_base: "https://graph.example".into(),
            dialog_base: "https://www.example".into(),
            token_base: "https://api.example".into(),
            api_version: "v26.0".into(),
            redirect_uri: "https://hub.example/api/auth/callback/instagram".into(),
            ..App::default()
        }
    }

    fn ok(body: Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status: 200,
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

    fn failed(step: ConnectStep) -> String {
        match step {
            ConnectStep::Failed(error) => error.0,
            other => panic!("{other:?}"),
        }
    }

    fn query(url: &str, name: &str) -> Option<String> {
        let url = url::Url::parse(url).unwrap();
        let found = url.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }

    fn grant(code: &str) -> Grant {
        Grant::Code {
            code: code.into(),
            verifier: None,
        }
    }

    #[test]
    fn the_own_login_from_dialog_to_subscription() {
        let dialog = authorize(&app(), "s1").unwrap();
        assert!(dialog.starts_with("https://www.example/oauth/authorize?"));
        assert_eq!(query(&dialog, "scope").as_deref(), Some(SCOPES));
        assert_eq!(query(&dialog, "state").as_deref(), Some("s1"));
        for short in [
            json!({"data": [{"access_token": "short", "user_id": "1020"}]}),
            json!({"access_token": "short", "user_id": 26_263_000_000_000_001_u64}),
        ] {
            let mut flow = Flow::new(&app(), grant("the-code#_"));
            let exchange = call(flow.next(None));
            assert_eq!(exchange.method, Method::Post);
            assert_eq!(exchange.url, "https://api.example/oauth/access_token");
            let form = String::from_utf8(exchange.body).unwrap();
            assert!(form.ends_with("&code=the-code"), "{form}");
            let url = call(flow.next(ok(short))).url;
            assert!(url.starts_with("https://graph.example/access_token?"));
            assert_eq!(query(&url, "access_token").as_deref(), Some("short"));
            let long = json!({"access_token": "long", "expires_in": 5_183_944});
            let url = call(flow.next(ok(long))).url;
            assert!(url.starts_with("https://graph.example/v26.0/me?"));
            let me = json!({"id": "26263000000000001", "user_id": 17_841_478_800_123_456_u64,
                "username": "northwind.teapots"});
            let subscription = call(flow.next(ok(me)));
            assert!(
                query(&subscription.url, "subscribed_fields")
                    .unwrap()
                    .contains("message_edit")
            );
            let unknown_field = json!({"error": {"code": 100, "message": "unknown field"}});
            let again = call(flow.next(ok(unknown_field)));
            assert_eq!(
                query(&again.url, "subscribed_fields").as_deref(),
                Some(FIELDS_OF_OLD)
            );
            let ConnectStep::Done(account) = flow.next(ok(json!({"success": true}))) else {
                panic!("not done");
            };
            assert_eq!(account.platform_user_id, "17841478800123456");
            assert_eq!(account.route, "17841478800123456");
            assert_eq!(account.username, "northwind.teapots");
            assert_eq!(account.access_token.expose(), "long");
            assert_eq!(account.expires_in_s, Some(5_183_944));
            // The number that signed requests name the person by.
            let grantor = flow.grantor().expect("/me says who");
            assert_eq!(grantor.id, "26263000000000001");
        }
    }

    #[test]
    fn refusals_of_the_own_login_are_sentences() {
        let mut flow = Flow::new(&app(), grant("c"));
        flow.next(None);
        let error = json!({"error_type": "OAuthException", "code": 400,
            "error_message": "Matching code was not found or was already used"});
        let answer = HttpResponse {
            status: 400,
            headers: Vec::new(),
            body: error.to_string().into_bytes(),
        };
        assert!(failed(flow.next(Some(Ok(answer)))).contains("code 400"));
        let sentence = failed(Flow::new(&App::default(), grant("c")).next(None));
        assert!(sentence.contains("INSTAGRAM_APP_ID and INSTAGRAM_APP_SECRET"));
        let mut anonymous = Flow::new(&app(), grant("c"));
        anonymous.next(None);
        anonymous.next(ok(json!({"access_token": "short"})));
        anonymous.next(ok(json!({"access_token": "long"})));
        failed(anonymous.next(ok(json!({"id": "26263"}))));
    }

    #[test]
    fn through_facebook_the_account_of_the_first_linked_page_is_taken() {
        let app = App {
            token_base: String::new(),
            ..app()
        };
        let mut flow = pages::Flow::new(&LINKED, &app, grant("c"));
        flow.next(None);
        flow.next(ok(json!({"access_token": "short"})));
        flow.next(ok(json!({"access_token": "long"})));
        let told = json!({"data": {"user_id": "1015", "granular_scopes": []}});
        let url = call(flow.next(ok(told))).url;
        assert_eq!(flow.grantor().map(|it| it.id.as_str()), Some("1015"));
        assert!(
            query(&url, "fields")
                .unwrap()
                .contains("instagram_business_account{id")
        );
        let list = json!({"data": [
            {"id": "10", "access_token": "a", "tasks": ["MESSAGING"]},
            {"id": "11", "access_token": "b", "tasks": ["MESSAGING"],
                "instagram_business_account": {"id": 17_841_478_800_123_456_u64,
                    "username": "northwind.teapots"}}]});
        let subscription = call(flow.next(ok(list)));
        let expected = "https://graph.example/v26.0/11/subscribed_apps?";
        assert!(
            subscription.url.starts_with(expected),
            "{}",
            subscription.url
        );
        let ConnectStep::Done(account) = flow.next(ok(json!({"success": true}))) else {
            panic!("not done");
        };
        assert_eq!(account.route, "17841478800123456");
        assert_eq!(account.username, "northwind.teapots");
        assert_eq!(account.access_token.expose(), "b");
        let mut unlinked = pages::Flow::new(&LINKED, &app, grant("c"));
        unlinked.next(None);
        unlinked.next(ok(json!({"access_token": "short"})));
        unlinked.next(ok(json!({"access_token": "long"})));
        unlinked.next(ok(json!({"data": {}})));
        let list = json!({"data": [{"id": "10", "access_token": "a"}]});
        assert!(failed(unlinked.next(ok(list))).contains("linked to a Facebook Page"));
    }

    #[test]
    fn a_long_token_is_exchanged_for_the_next_one() {
        let url = refresh(&app(), &"long".into()).url;
        assert_eq!(
            url,
            "https://graph.example/refresh_access_token?grant_type=ig_refresh_token\
             &access_token=long"
        );
        let tokens = refreshed(&ok(json!({"access_token": "next", "expires_in": 5})).unwrap());
        let tokens = tokens.unwrap();
        assert_eq!(tokens.access_token.expose(), "next");
        assert_eq!((tokens.expires_in_s, tokens.refresh_token), (Some(5), None));
        let expired = json!({"error": {"code": 190, "error_subcode": 463, "message": "m"}});
        let failure = refreshed(&ok(expired).unwrap()).unwrap_err();
        assert!(
            matches!(failure, CallFailure::Reconnect { .. }),
            "{failure:?}"
        );
        let unreached = refreshed(&Err(TransportError::NotSent)).unwrap_err();
        assert!(matches!(unreached, CallFailure::Backoff { .. }));
        assert!(refreshed(&ok(json!({})).unwrap()).is_err());
    }
}
