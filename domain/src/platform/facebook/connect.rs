//! Connecting a Page: from the code a person brings back to a Page token without expiry.
//!
//! code → short user token → long user token → the person's Pages → subscribe the Page to the app.
//! The Page token inherits its life from the user token, hence the detour over the long one.

use serde_json::Value;

use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::meta::{self, GraphError};
use crate::platform::{App, ConnectError, ConnectFlow, ConnectStep, Connected, Grant, wire};
use crate::secret::Secret;

/// What the hub asks a person for.
const SCOPES: &str = "pages_show_list pages_messaging pages_manage_metadata pages_read_engagement";

/// What a Page tells the hub about.
const SUBSCRIBED_FIELDS: &str = "messages,messaging_postbacks,messaging_referrals,\
message_deliveries,message_reads,message_echoes,message_reactions,message_edits,\
messaging_handovers,standby,messaging_policy_enforcement";

/// The task a person must have on a Page to write in its name.
const MESSAGING_TASK: &str = "MESSAGING";

/// How many lists of a hundred Pages are looked through.
const LISTS_MAX: usize = 20;

/// Where to send a person who wants to connect a Page.
pub fn authorize(app: &App, state: &str) -> Result<String, ConnectError> {
    configured(app)?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &app.client_id)
        .append_pair("redirect_uri", &app.redirect_uri)
        .append_pair("response_type", "code")
        .append_pair("state", state)
        .append_pair("scope", SCOPES)
        .finish();
    Ok(format!(
        "{}/{}/dialog/oauth?{query}",
        app.dialog_base, app.api_version
    ))
}

fn configured(app: &App) -> Result<(), ConnectError> {
    let mut missing = Vec::new();
    if app.client_id.is_empty() {
        missing.push("FACEBOOK_APP_ID");
    }
    if app.client_secret.is_empty() {
        missing.push("FACEBOOK_APP_SECRET");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(ConnectError(format!(
        "Facebook is not configured: set {}.",
        missing.join(" and ")
    )))
}

/// The conversation with Graph, in the state between two calls.
pub struct Flow {
    app: App,
    step: Step,
}

enum Step {
    Start(Grant),
    ShortToken,
    LongToken,
    Pages { user_token: Secret, lists: usize },
    Subscribed(Connected),
    Over,
}

type Answer = Result<HttpResponse, TransportError>;

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
            (Step::Start(grant), _) => self.exchange_code(&grant),
            (Step::ShortToken, Some(answer)) => self.exchange_token(&answer),
            (Step::LongToken, Some(answer)) => self.first_pages(&answer),
            (Step::Pages { user_token, lists }, Some(answer)) => {
                self.choose_page(user_token, lists, &answer)
            }
            (Step::Subscribed(account), Some(answer)) => subscribed(account, &answer),
            (_, None) | (Step::Over, _) => Err(ConnectError(
                "The Facebook login was interrupted. Please try again.".into(),
            )),
        };
        next.unwrap_or_else(ConnectStep::Failed)
    }
}

type Next = Result<ConnectStep, ConnectError>;

impl Flow {
    fn exchange_code(&mut self, grant: &Grant) -> Next {
        configured(&self.app)?;
        let Grant::Code { code, .. } = grant else {
            return Err(ConnectError("Facebook needs an authorisation code.".into()));
        };
        self.step = Step::ShortToken;
        Ok(self.token_call(&[
            ("redirect_uri", &self.app.redirect_uri),
            ("code", code.expose()),
        ]))
    }

    fn exchange_token(&mut self, answer: &Answer) -> Next {
        let short = token(&success(answer)?)?;
        self.step = Step::LongToken;
        Ok(self.token_call(&[
            ("grant_type", "fb_exchange_token"),
            ("fb_exchange_token", short.expose()),
        ]))
    }

    fn token_call(&self, query: &[(&str, &str)]) -> ConnectStep {
        let mut query = query.to_vec();
        query.push(("client_id", &self.app.client_id));
        query.push(("client_secret", self.app.client_secret.expose()));
        ConnectStep::Call(HttpRequest::get(meta::url(
            &self.app,
            "oauth/access_token",
            &query,
        )))
    }

    fn first_pages(&mut self, answer: &Answer) -> Next {
        let user_token = token(&success(answer)?)?;
        Ok(self.pages(user_token, 1, None))
    }

    fn pages(&mut self, user_token: Secret, lists: usize, after: Option<&str>) -> ConnectStep {
        let mut query = vec![
            ("fields", "id,name,access_token,tasks,category"),
            ("limit", "100"),
        ];
        query.extend(after.map(|cursor| ("after", cursor)));
        let url = meta::url_as(&self.app, &user_token, "me/accounts", &query);
        self.step = Step::Pages { user_token, lists };
        ConnectStep::Call(HttpRequest::get(url))
    }

    fn choose_page(&mut self, user_token: Secret, lists: usize, answer: &Answer) -> Next {
        let list = success(answer)?;
        if let Some(page) = wire::items(&list["data"]).iter().find_map(page) {
            return Ok(self.subscribe(page));
        }
        let paging = &list["paging"];
        let after = wire::filled(&paging["cursors"]["after"]);
        match after.filter(|_| paging["next"].is_string() && lists < LISTS_MAX) {
            Some(after) => Ok(self.pages(user_token, lists + 1, Some(&after))),
            None => Err(ConnectError(
                "No Facebook Page found that you may send messages for. \
                 Please choose at least one Page when Facebook asks."
                    .into(),
            )),
        }
    }

    /// Without this no webhook of the Page ever arrives.
    fn subscribe(&mut self, account: Connected) -> ConnectStep {
        let path = format!("{}/subscribed_apps", account.route);
        let fields = [("subscribed_fields", SUBSCRIBED_FIELDS)];
        let url = meta::url_as(&self.app, &account.access_token, &path, &fields);
        self.step = Step::Subscribed(account);
        ConnectStep::Call(HttpRequest::post_form(url, &[]))
    }
}

/// The account of a Page the person may write for. Where Facebook does not list tasks, sending will
/// tell.
fn page(page: &Value) -> Option<Connected> {
    let tasks = page["tasks"].as_array();
    if tasks.is_some_and(|tasks| !tasks.iter().any(|task| task == MESSAGING_TASK)) {
        return None;
    }
    let id = wire::id(&page["id"])?;
    Some(Connected {
        username: wire::filled(&page["name"]).unwrap_or_else(|| "Facebook Page".into()),
        access_token: Secret::new(wire::filled(&page["access_token"])?),
        platform_user_id: id.clone(),
        route: id,
        refresh_token: None,
        expires_in_s: None,
    })
}

/// A Page that Graph refuses to subscribe is of no use. Any other answer (a gateway that does not
/// know the edge) still leaves an account that can send.
fn subscribed(account: Connected, answer: &Answer) -> Next {
    let answer = answer.as_ref().map_err(|_| unreachable_graph())?;
    if let Some(error) = GraphError::read(answer) {
        return Err(ConnectError(format!(
            "Facebook did not let the hub receive messages of the Page (code {}). \
             Please connect again and allow everything Facebook asks for.",
            error.code
        )));
    }
    if answer.status >= 500 {
        return Err(unreachable_graph());
    }
    Ok(ConnectStep::Done(account))
}

fn success(answer: &Answer) -> Result<Value, ConnectError> {
    let answer = answer.as_ref().map_err(|_| unreachable_graph())?;
    if let Some(error) = GraphError::read(answer) {
        // Graph's message is for developers and may quote what was sent.
        let said = format!(
            "Facebook refused the login (code {}). Please try again.",
            error.code
        );
        return Err(ConnectError(said));
    }
    if answer.is_success() {
        Ok(answer.json())
    } else {
        Err(unreachable_graph())
    }
}

fn token(body: &Value) -> Result<Secret, ConnectError> {
    let token = wire::filled(&body["access_token"]);
    token.map(Secret::new).ok_or_else(unreachable_graph)
}

fn unreachable_graph() -> ConnectError {
    ConnectError("Facebook did not answer as expected. Please try again.".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::Method;
    use serde_json::json;

    fn app() -> App {
        App {
            client_id: "845120034567890".into(),
            client_secret: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
            api_base: "https://graph.example".into(),
            dialog_base: "https://dialog.example".into(),
            api_version: "v26.0".into(),
            redirect_uri: "https://hub.example/api/auth/callback/facebook".into(),
            ..App::default()
        }
    }

    fn flow() -> Flow {
        Flow::new(
            &app(),
            Grant::Code {
                code: "the-code".into(),
                verifier: None,
            },
        )
    }

    fn ok(body: Value) -> Option<Answer> {
        let body = body.to_string().into_bytes();
        Some(Ok(HttpResponse {
            status: 200,
            headers: Vec::new(),
            body,
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

    #[test]
    fn the_dialog() {
        let url = authorize(&app(), "s1").unwrap();
        assert!(url.starts_with("https://dialog.example/v26.0/dialog/oauth?"));
        for (name, expected) in [
            ("client_id", "845120034567890"),
            (
                "redirect_uri",
                "https://hub.example/api/auth/callback/facebook",
            ),
            ("state", "s1"),
            ("response_type", "code"),
            ("scope", SCOPES),
        ] {
            assert_eq!(query(&url, name).as_deref(), Some(expected));
        }
        let sentence = authorize(&App::default(), "s1").unwrap_err().0;
        assert!(sentence.contains("FACEBOOK_APP_ID and FACEBOOK_APP_SECRET"));
    }

    #[test]
    fn the_whole_way() {
        let mut flow = flow();
        let url = call(flow.next(None)).url;
        assert!(url.starts_with("https://graph.example/v26.0/oauth/access_token?"));
        assert_eq!(query(&url, "code").as_deref(), Some("the-code"));
        let secret = query(&url, "client_secret");
        assert_eq!(secret.as_deref(), Some("0f1e2d3c4b5a69788796a5b4c3d2e1f0"));
        let url = call(flow.next(ok(json!({"access_token": "short"})))).url;
        assert_eq!(
            query(&url, "grant_type").as_deref(),
            Some("fb_exchange_token")
        );
        assert_eq!(query(&url, "fb_exchange_token").as_deref(), Some("short"));
        let url = call(flow.next(ok(json!({"access_token": "long"})))).url;
        assert!(url.starts_with("https://graph.example/v26.0/me/accounts?"));
        assert_eq!(query(&url, "access_token").as_deref(), Some("long"));
        assert_eq!(query(&url, "after"), None);
        assert!(query(&url, "appsecret_proof").is_some());
        let first = json!({"data": [{"id": "1", "access_token": "t", "tasks": ["ANALYZE"]}],
            "paging": {"cursors": {"after": "c1"}, "next": "https://elsewhere.example"}});
        let url = call(flow.next(ok(first))).url;
        assert!(
            url.starts_with("https://graph.example/"),
            "paging never leaves the API base"
        );
        assert_eq!(query(&url, "after").as_deref(), Some("c1"));
        let second = json!({"data": [{"id": 104_857_600_112_233_u64, "name": "Teapots",
            "access_token": "page", "tasks": ["MODERATE", "MESSAGING"]}]});
        let subscription = call(flow.next(ok(second)));
        assert_eq!(subscription.method, Method::Post);
        let expected = "https://graph.example/v26.0/104857600112233/subscribed_apps?";
        assert!(subscription.url.starts_with(expected));
        assert_eq!(
            query(&subscription.url, "access_token").as_deref(),
            Some("page")
        );
        let ConnectStep::Done(account) = flow.next(ok(json!({"success": "true"}))) else {
            panic!("not done");
        };
        assert_eq!(account.platform_user_id, "104857600112233");
        assert_eq!(account.route, "104857600112233");
        assert_eq!(account.username, "Teapots");
        assert_eq!(account.access_token.expose(), "page");
        assert_eq!(account.expires_in_s, None);
        failed(flow.next(None));
    }

    #[test]
    fn failures_are_sentences_without_secrets() {
        let error = json!({"error": {"code": 100, "message": "bad the-code"}});
        let mut refused = flow();
        refused.next(None);
        let sentence = failed(refused.next(ok(error.clone())));
        assert!(sentence.contains("code 100") && !sentence.contains("the-code"));
        let mut unreachable = flow();
        unreachable.next(None);
        failed(unreachable.next(Some(Err(TransportError::NotSent))));
        let mut pageless = flow();
        pageless.next(None);
        pageless.next(ok(json!({"access_token": "short"})));
        pageless.next(ok(json!({"access_token": "long"})));
        assert!(failed(pageless.next(ok(json!({"data": []})))).contains("No Facebook Page"));
        let widget = Grant::Widget {
            id: "1".into(),
            username: "ann".into(),
        };
        failed(Flow::new(&app(), widget).next(None));
        let code = Grant::Code {
            code: "c".into(),
            verifier: None,
        };
        failed(Flow::new(&App::default(), code).next(None));
    }

    #[test]
    fn a_page_that_cannot_be_subscribed_is_not_connected() {
        let account = || page(&json!({"id": "1", "name": "T", "access_token": "t"})).unwrap();
        let error = json!({"error": {"code": 200, "message": "m"}});
        assert!(subscribed(account(), &ok(error).unwrap()).is_err());
        assert!(subscribed(account(), &Err(TransportError::Unclear)).is_err());
        let gateway = HttpResponse {
            status: 404,
            ..HttpResponse::default()
        };
        assert!(subscribed(account(), &Ok(gateway)).is_ok());
    }

    #[test]
    fn paging_is_bounded() {
        let mut flow = flow();
        flow.next(None);
        flow.next(ok(json!({"access_token": "short"})));
        let mut step = flow.next(ok(json!({"access_token": "long"})));
        let more = json!({"data": [], "paging": {"cursors": {"after": "c"}, "next": "n"}});
        let mut lists = 0;
        while let ConnectStep::Call(_) = step {
            lists += 1;
            step = flow.next(ok(more.clone()));
        }
        assert_eq!(lists, LISTS_MAX);
    }
}
