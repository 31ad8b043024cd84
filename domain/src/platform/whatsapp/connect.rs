//! Connecting a business phone number.
//!
//! code → token → which business account → which number → subscribe the business account to the app.
//! The number and the business account may be configured; what is not, the token tells. Where the
//! code yields no token, the configured one of a system user is used.

use serde_json::Value;

use crate::platform::http::HttpRequest;
use crate::platform::meta;
use crate::platform::meta::pages::{
    self, Answer, Next, configured, interrupted, success, token_call,
};
use crate::platform::{
    App, ConnectError, ConnectFlow, ConnectStep, Connected, Grant, Grantor, wire,
};
use crate::secret::Secret;

const NAME: &str = "WhatsApp";

const SETTINGS: [&str; 2] = ["WHATSAPP_APP_ID", "WHATSAPP_APP_SECRET"];

/// What the hub asks a person for.
const SCOPES: &str = "whatsapp_business_messaging,whatsapp_business_management";

/// What it wants to know of a number.
const FIELDS: &str = "id,display_phone_number,verified_name,platform_type,status";

/// The permission whose targets are business accounts.
const TARGETS_OF: [&str; 2] = [
    "whatsapp_business_management",
    "whatsapp_business_messaging",
];

/// Where to send a person who wants to connect a number.
pub fn authorize(app: &App, state: &str) -> Result<String, ConnectError> {
    configured(NAME, SETTINGS, app)?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("client_id", &app.client_id)
        .append_pair("redirect_uri", &app.redirect_uri)
        .append_pair("response_type", "code")
        .append_pair("state", state)
        .append_pair("scope", SCOPES);
    if !app.login_config_id.is_empty() {
        query
            .append_pair("config_id", &app.login_config_id)
            .append_pair("override_default_response_type", "true");
    }
    Ok(format!(
        "{}/{}/dialog/oauth?{}",
        app.dialog_base,
        app.api_version,
        query.finish()
    ))
}

/// The conversation with Graph, in the state between two calls.
pub struct Flow {
    app: App,
    step: Step,
    grantor: Option<Grantor>,
}

enum Step {
    Start(Grant),
    Token,
    Business {
        token: Secret,
    },
    Number {
        token: Secret,
        business: Option<String>,
    },
    Subscribed(Connected),
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
            (Step::Token, Some(answer)) => self.find_business(&answer),
            (Step::Business { token }, Some(answer)) => self.choose_business(token, &answer),
            (Step::Number { token, business }, Some(answer)) => {
                self.choose_number(token, business.as_deref(), &answer)
            }
            (Step::Subscribed(account), Some(answer)) => pages::subscribed(NAME, account, &answer),
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
        let code = pages::code_of(NAME, grant)?;
        let query = [
            ("redirect_uri", self.app.redirect_uri.as_str()),
            ("code", code.expose()),
        ];
        self.step = Step::Token;
        Ok(ConnectStep::Call(token_call(&self.app, &query)))
    }

    fn find_business(&mut self, answer: &Answer) -> Next {
        let body = success(NAME, answer)?;
        let token = match wire::filled(&body["access_token"]) {
            Some(token) => Secret::new(token),
            None if !self.app.bot_token.is_empty() => self.app.bot_token.clone(),
            None => return Err(pages::unreachable_graph(NAME)),
        };
        let business = self.app.business_account_id.clone();
        if !business.is_empty() {
            return Ok(self.numbers(token, Some(business)));
        }
        let call = pages::debug_token(&self.app, &token);
        self.step = Step::Business { token };
        Ok(ConnectStep::Call(call))
    }

    fn choose_business(&mut self, token: Secret, answer: &Answer) -> Next {
        // A configured number can be connected without knowing whose it is.
        let told = success(NAME, answer);
        self.grantor = told
            .as_ref()
            .ok()
            .and_then(|body| pages::grantor(&body["data"]));
        let known = told.map(|body| business_of(&body["data"]));
        match known {
            Ok(Some(business)) => Ok(self.numbers(token, Some(business))),
            _ if !self.app.phone_number_id.is_empty() => Ok(self.numbers(token, None)),
            Ok(None) => Err(nothing()),
            Err(error) => Err(error),
        }
    }

    fn numbers(&mut self, token: Secret, business: Option<String>) -> ConnectStep {
        let number = &self.app.phone_number_id;
        let path = match &business {
            Some(business) if number.is_empty() => format!("{business}/phone_numbers"),
            _ => number.clone(),
        };
        let url = meta::url_as(&self.app, &token, &path, &[("fields", FIELDS)]);
        self.step = Step::Number { token, business };
        ConnectStep::Call(HttpRequest::get(url))
    }

    fn choose_number(&mut self, token: Secret, business: Option<&str>, answer: &Answer) -> Next {
        let body = success(NAME, answer)?;
        let numbers = match &body["data"] {
            Value::Array(numbers) => numbers.as_slice(),
            _ => std::slice::from_ref(&body),
        };
        // A number that is not registered with the Cloud API neither sends nor receives.
        let registered = numbers.iter().find(|number| is_registered(number));
        let Some(number) = registered else {
            return Err(numbers.first().map_or_else(nothing, unregistered));
        };
        let id = wire::id(&number["id"]).ok_or_else(|| pages::unreachable_graph(NAME))?;
        let account = Connected {
            username: shown(number),
            platform_user_id: id.clone(),
            route: id,
            access_token: token,
            refresh_token: None,
            expires_in_s: None,
            granted: None,
        };
        match business {
            Some(business) => Ok(self.subscribe(business, account)),
            None => Ok(ConnectStep::Done(account)),
        }
    }

    /// Without this no webhook of the number ever arrives.
    fn subscribe(&mut self, business: &str, account: Connected) -> ConnectStep {
        let path = format!("{business}/subscribed_apps");
        let url = meta::url_as(&self.app, &account.access_token, &path, &[]);
        self.step = Step::Subscribed(account);
        ConnectStep::Call(HttpRequest::post_form(url, &[]))
    }
}

/// The business account a token was granted for.
fn business_of(token: &Value) -> Option<String> {
    let first = |name: &&str| pages::targets(token, &[name]).into_iter().next();
    TARGETS_OF.iter().find_map(first)
}

/// Where Graph does not say on which platform a number is, sending will tell.
fn is_registered(number: &Value) -> bool {
    let elsewhere = number["platform_type"]
        .as_str()
        .is_some_and(|kind| kind != "CLOUD_API");
    !elsewhere && number["status"].as_str() != Some("DISCONNECTED")
}

fn shown(number: &Value) -> String {
    wire::filled(&number["display_phone_number"])
        .or_else(|| wire::filled(&number["verified_name"]))
        .unwrap_or_else(|| "WhatsApp Business".into())
}

fn unregistered(number: &Value) -> ConnectError {
    ConnectError(format!(
        "The number {} is not registered with the Cloud API. Register it in WhatsApp Manager with \
         its six-digit PIN, then connect again.",
        shown(number)
    ))
}

fn nothing() -> ConnectError {
    ConnectError(
        "No WhatsApp Business number found. Please choose a business account with a phone number \
         when Facebook asks."
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::{HttpResponse, Method};
    use serde_json::json;

    fn app() -> App {
        App {
            client_id: "845120034567890".into(),
            client_secret: "7c4a8d09ca3762af61e59520943dc264".into(),
            api_base: "https://graph.example".into(),
            dialog_base: "https://dialog.example".into(),
            api_version: "v26.0".into(),
            redirect_uri: "https://hub.example/api/auth/callback/whatsapp".into(),
            ..App::default()
        }
    }

    fn flow(app: &App) -> Flow {
        let mut flow = Flow::new(
            app,
            Grant::Code {
                code: "the-code".into(),
                verifier: None,
            },
        );
        assert!(
            call(flow.next(None))
                .url
                .starts_with("https://graph.example/v26.0/oauth/access_token?")
        );
        flow
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

    fn done(step: ConnectStep) -> Connected {
        match step {
            ConnectStep::Done(account) => account,
            other => panic!("{other:?}"),
        }
    }

    fn query(url: &str, name: &str) -> Option<String> {
        let url = url::Url::parse(url).unwrap();
        let found = url.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }

    #[test]
    fn the_dialog_carries_the_configuration_when_there_is_one() {
        let plain = authorize(&app(), "s1").unwrap();
        assert!(plain.starts_with("https://dialog.example/v26.0/dialog/oauth?"));
        assert_eq!(query(&plain, "scope").as_deref(), Some(SCOPES));
        assert_eq!(query(&plain, "config_id"), None);
        let configured = App {
            login_config_id: "c7".into(),
            ..app()
        };
        let url = authorize(&configured, "s1").unwrap();
        assert_eq!(query(&url, "config_id").as_deref(), Some("c7"));
        assert!(authorize(&App::default(), "s1").is_err());
    }

    #[test]
    fn the_token_tells_the_business_account_and_that_the_number() {
        let mut flow = flow(&app());
        let url = call(flow.next(ok(json!({"access_token": "t"})))).url;
        assert!(url.starts_with("https://graph.example/v26.0/debug_token?"));
        assert_eq!(query(&url, "input_token").as_deref(), Some("t"));
        let scopes = json!([{"scope": "public_profile"},
            {"scope": "whatsapp_business_management", "target_ids": ["102930475610293"]}]);
        let told = json!({"data": {"granular_scopes": scopes, "user_id": "1015"}});
        let url = call(flow.next(ok(told))).url;
        assert_eq!(flow.grantor().map(|it| it.id.as_str()), Some("1015"));
        assert!(url.starts_with("https://graph.example/v26.0/102930475610293/phone_numbers?"));
        let numbers = json!({"data": [
            {"id": "1", "display_phone_number": "1", "platform_type": "NOT_APPLICABLE"},
            {"id": "205612348765432", "display_phone_number": "+49 30 555550123",
                "platform_type": "CLOUD_API", "status": "CONNECTED"}]});
        let subscription = call(flow.next(ok(numbers)));
        assert_eq!(subscription.method, Method::Post);
        let expected = "https://graph.example/v26.0/102930475610293/subscribed_apps?";
        assert!(subscription.url.starts_with(expected));
        let account = done(flow.next(ok(json!({"success": true}))));
        assert_eq!(account.route, "205612348765432");
        assert_eq!(account.platform_user_id, "205612348765432");
        assert_eq!(account.username, "+49 30 555550123");
        assert_eq!(account.access_token.expose(), "t");
    }

    #[test]
    fn what_is_configured_is_not_asked_for() {
        let app = App {
            business_account_id: "W".into(),
            phone_number_id: "P".into(),
            bot_token: "system".into(),
            ..app()
        };
        let mut flow = flow(&app);
        let url = call(flow.next(ok(json!({})))).url;
        assert!(url.starts_with("https://graph.example/v26.0/P?"), "{url}");
        assert_eq!(query(&url, "access_token").as_deref(), Some("system"));
        let number = json!({"id": "P", "verified_name": "Northwind"});
        let url = call(flow.next(ok(number))).url;
        assert!(url.starts_with("https://graph.example/v26.0/W/subscribed_apps?"));
        let account = done(flow.next(ok(json!({"success": true}))));
        assert_eq!(account.username, "Northwind");
    }

    #[test]
    fn a_configured_number_needs_no_known_business_account() {
        let app = App {
            phone_number_id: "P".into(),
            ..app()
        };
        let mut flow = flow(&app);
        flow.next(ok(json!({"access_token": "t"})));
        let refused = json!({"error": {"code": 190, "message": "m"}});
        let url = call(flow.next(ok(refused))).url;
        assert!(url.starts_with("https://graph.example/v26.0/P?"));
        assert_eq!(
            done(flow.next(ok(json!({"id": "P"})))).username,
            "WhatsApp Business"
        );
    }

    #[test]
    fn failures_are_sentences() {
        let token = || ok(json!({"access_token": "t"}));
        let mut none = flow(&app());
        none.next(token());
        assert!(failed(none.next(ok(json!({"data": {}})))).contains("No WhatsApp Business number"));
        let configured = App {
            business_account_id: "W".into(),
            ..app()
        };
        let mut unregistered = flow(&configured);
        unregistered.next(token());
        let list = json!({"data": [{"id": "1", "display_phone_number": "+49 1",
            "platform_type": "NOT_APPLICABLE"}]});
        let sentence = failed(unregistered.next(ok(list)));
        assert!(sentence.contains("+49 1 is not registered"), "{sentence}");
        let mut tokenless = flow(&app());
        failed(tokenless.next(ok(json!({}))));
    }
}
