//! Connecting through a person's Pages: from the code they bring back to a Page token without expiry.
//!
//! code → short user token → long user token → who that is → the person's Pages → subscribe the Page
//! to the app. Pages that belong to a business portfolio may be missing in the list of Pages, and are
//! asked for by the ids that the person granted.
//! The Page token inherits its life from the user token, hence the detour over the long one. An
//! Instagram account that is linked to a Page is connected in the same way.

use serde_json::Value;

use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::meta::{self, GraphError};
use crate::platform::{
    App, ConnectError, ConnectFlow, ConnectStep, Connected, Grant, Grantor, wire,
};
use crate::secret::Secret;

/// What differs between the products that are connected in this way.
pub struct Product {
    /// Its name, for people.
    pub name: &'static str,
    /// The settings of app id and secret.
    pub settings: [&'static str; 2],
    /// What the hub asks a person for.
    pub scopes: &'static str,
    /// What it wants to know of a Page in the list.
    pub fields: &'static str,
    /// The same of a Page alone, which does not tell the person's tasks.
    pub page_fields: &'static str,
    /// What a Page then tells the hub about.
    pub subscribed_fields: &'static str,
    /// The account that a Page stands for, if the hub can use it.
    pub account: fn(&Value) -> Option<Connected>,
    /// What to tell somebody who has no such account.
    pub nothing: &'static str,
}

/// The task a person must have on a Page to write in its name.
const MESSAGING_TASK: &str = "MESSAGING";

/// How many lists of a hundred Pages are looked through.
pub const LISTS_MAX: usize = 20;

/// How many Pages that no list has are asked for.
pub const ALONE_MAX: usize = 5;

/// The permissions whose targets are Pages.
const TARGETS_OF: [&str; 3] = [
    "pages_messaging",
    "pages_manage_metadata",
    "pages_show_list",
];

/// Where to send a person who wants to connect an account.
pub fn authorize(product: &Product, app: &App, state: &str) -> Result<String, ConnectError> {
    configured(product.name, product.settings, app)?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &app.client_id)
        .append_pair("redirect_uri", &app.redirect_uri)
        .append_pair("response_type", "code")
        .append_pair("state", state)
        .append_pair("scope", product.scopes)
        .finish();
    Ok(format!(
        "{}/{}/dialog/oauth?{query}",
        app.dialog_base, app.api_version
    ))
}

/// Says which of these settings are missing.
pub fn configured(name: &str, settings: [&str; 2], app: &App) -> Result<(), ConnectError> {
    let missing: Vec<&str> = [app.client_id.is_empty(), app.client_secret.is_empty()]
        .into_iter()
        .zip(settings)
        .filter_map(|(missing, setting)| missing.then_some(setting))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ConnectError(format!(
        "{name} is not configured: set {}.",
        missing.join(" and ")
    )))
}

/// The conversation with Graph, in the state between two calls.
pub struct Flow {
    product: &'static Product,
    app: App,
    step: Step,
    grantor: Option<Grantor>,
    /// Pages that were granted and that nobody has shown yet.
    unseen: Vec<String>,
}

enum Step {
    Start(Grant),
    ShortToken,
    LongToken,
    Inspected { user_token: Secret },
    Pages { user_token: Secret, lists: usize },
    PageAlone { user_token: Secret },
    Subscribed(Connected),
    Over,
}

/// What came back from a call.
pub type Answer = Result<HttpResponse, TransportError>;

impl Flow {
    /// A flow that has not called anybody yet.
    pub fn new(product: &'static Product, app: &App, grant: Grant) -> Self {
        Self {
            product,
            app: app.clone(),
            step: Step::Start(grant),
            grantor: None,
            unseen: Vec::new(),
        }
    }
}

impl ConnectFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> ConnectStep {
        let step = std::mem::replace(&mut self.step, Step::Over);
        let next = match (step, answer) {
            (Step::Start(grant), _) => self.exchange_code(&grant),
            (Step::ShortToken, Some(answer)) => self.exchange_token(&answer),
            (Step::LongToken, Some(answer)) => self.inspect(&answer),
            (Step::Inspected { user_token }, Some(answer)) => {
                Ok(self.first_pages(user_token, &answer))
            }
            (Step::Pages { user_token, lists }, Some(answer)) => {
                self.choose_page(user_token, lists, &answer)
            }
            (Step::PageAlone { user_token }, Some(answer)) => self.take_page(user_token, &answer),
            (Step::Subscribed(account), Some(answer)) => {
                subscribed(self.product.name, account, &answer)
            }
            (_, None) | (Step::Over, _) => Err(interrupted(self.product.name)),
        };
        next.unwrap_or_else(ConnectStep::Failed)
    }

    fn grantor(&self) -> Option<&Grantor> {
        self.grantor.as_ref()
    }
}

/// The next step, or why there is none.
pub type Next = Result<ConnectStep, ConnectError>;

impl Flow {
    fn exchange_code(&mut self, grant: &Grant) -> Next {
        let Product { name, settings, .. } = self.product;
        configured(name, *settings, &self.app)?;
        let code = code_of(name, grant)?;
        self.step = Step::ShortToken;
        Ok(self.token_call(&[
            ("redirect_uri", &self.app.redirect_uri),
            ("code", code.expose()),
        ]))
    }

    fn exchange_token(&mut self, answer: &Answer) -> Next {
        let name = self.product.name;
        let short = token(name, &success(name, answer)?)?;
        self.step = Step::LongToken;
        Ok(self.token_call(&[
            ("grant_type", "fb_exchange_token"),
            ("fb_exchange_token", short.expose()),
        ]))
    }

    fn token_call(&self, query: &[(&str, &str)]) -> ConnectStep {
        ConnectStep::Call(token_call(&self.app, query))
    }

    fn inspect(&mut self, answer: &Answer) -> Next {
        let name = self.product.name;
        let user_token = token(name, &success(name, answer)?)?;
        let call = debug_token(&self.app, &user_token);
        self.step = Step::Inspected { user_token };
        Ok(ConnectStep::Call(call))
    }

    /// Nobody fails to connect because Graph does not say who they are.
    fn first_pages(&mut self, user_token: Secret, answer: &Answer) -> ConnectStep {
        if let Ok(told) = success(self.product.name, answer) {
            self.grantor = grantor(&told["data"]);
            self.unseen = targets(&told["data"], &TARGETS_OF);
        }
        self.pages(user_token, 1, None)
    }

    fn pages(&mut self, user_token: Secret, lists: usize, after: Option<&str>) -> ConnectStep {
        let mut query = vec![("fields", self.product.fields), ("limit", "100")];
        query.extend(after.map(|cursor| ("after", cursor)));
        let url = meta::url_as(&self.app, &user_token, "me/accounts", &query);
        self.step = Step::Pages { user_token, lists };
        ConnectStep::Call(HttpRequest::get(url))
    }

    fn choose_page(&mut self, user_token: Secret, lists: usize, answer: &Answer) -> Next {
        let list = success(self.product.name, answer)?;
        let pages = wire::items(&list["data"]);
        if let Some((page, account)) = pages.iter().find_map(|page| self.usable(page)) {
            return Ok(self.subscribe(&page, account));
        }
        let shown: Vec<String> = pages.iter().filter_map(|it| wire::id(&it["id"])).collect();
        self.unseen.retain(|page| !shown.contains(page));
        let paging = &list["paging"];
        let after = wire::filled(&paging["cursors"]["after"]);
        match after.filter(|_| paging["next"].is_string() && lists < LISTS_MAX) {
            Some(after) => Ok(self.pages(user_token, lists + 1, Some(&after))),
            None => {
                self.unseen.truncate(ALONE_MAX);
                self.next_alone(user_token)
            }
        }
    }

    /// A Page that the person granted and that is in none of the lists.
    fn next_alone(&mut self, user_token: Secret) -> Next {
        let Some(page) = self.unseen.pop() else {
            return Err(ConnectError(self.product.nothing.into()));
        };
        let fields = [("fields", self.product.page_fields)];
        let url = meta::url_as(&self.app, &user_token, &page, &fields);
        self.step = Step::PageAlone { user_token };
        Ok(ConnectStep::Call(HttpRequest::get(url)))
    }

    /// One that cannot be had leaves the others.
    fn take_page(&mut self, user_token: Secret, answer: &Answer) -> Next {
        let page = success(self.product.name, answer).ok();
        match page.and_then(|page| self.usable(&page)) {
            Some((page, account)) => Ok(self.subscribe(&page, account)),
            None => self.next_alone(user_token),
        }
    }

    /// A Page's id, and the account that it stands for.
    fn usable(&self, page: &Value) -> Option<(String, Connected)> {
        let account = (self.product.account)(page).filter(|_| may_write(page))?;
        Some((wire::id(&page["id"])?, account))
    }

    /// Without this no webhook of the Page ever arrives.
    fn subscribe(&mut self, page: &str, account: Connected) -> ConnectStep {
        let path = format!("{page}/subscribed_apps");
        let fields = [("subscribed_fields", self.product.subscribed_fields)];
        let url = meta::url_as(&self.app, &account.access_token, &path, &fields);
        self.step = Step::Subscribed(account);
        ConnectStep::Call(HttpRequest::post_form(url, &[]))
    }
}

/// Whether the person may write in the Page's name. Where Facebook does not list tasks, sending will
/// tell.
fn may_write(page: &Value) -> bool {
    let tasks = page["tasks"].as_array();
    tasks.is_none_or(|tasks| tasks.iter().any(|task| task == MESSAGING_TASK))
}

/// Asks what a token is.
pub fn debug_token(app: &App, token: &Secret) -> HttpRequest {
    let ours = format!("{}|{}", app.client_id, app.client_secret.expose());
    let query = [("input_token", token.expose()), ("access_token", &ours)];
    HttpRequest::get(meta::url(app, "debug_token", &query))
}

/// Whose token it is, as Graph says to [`debug_token`].
pub fn grantor(token: &Value) -> Option<Grantor> {
    Some(Grantor {
        id: wire::id(&token["user_id"])?,
        data_access_until_s: wire::int(&token["data_access_expires_at"]).filter(|at| *at > 0),
    })
}

/// What these permissions were granted for, each once. None: for everything there is.
pub fn targets(token: &Value, permissions: &[&str]) -> Vec<String> {
    let mut targets = Vec::new();
    for scope in wire::items(&token["granular_scopes"]) {
        if !permissions.iter().any(|name| scope["scope"] == **name) {
            continue;
        }
        for target in wire::items(&scope["target_ids"])
            .iter()
            .filter_map(wire::id)
        {
            let is_id = target.bytes().all(|byte| byte.is_ascii_digit());
            if is_id && !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    targets
}

/// The call that exchanges a code or a token, with the app's credentials.
pub fn token_call(app: &App, query: &[(&str, &str)]) -> HttpRequest {
    let mut query = query.to_vec();
    query.push(("client_id", &app.client_id));
    query.push(("client_secret", app.client_secret.expose()));
    HttpRequest::get(meta::url(app, "oauth/access_token", &query))
}

/// The code a person brought back.
pub fn code_of<'a>(name: &str, grant: &'a Grant) -> Result<&'a Secret, ConnectError> {
    match grant {
        Grant::Code { code, .. } => Ok(code),
        Grant::Widget { .. } => Err(ConnectError(format!("{name} needs an authorisation code."))),
    }
}

/// An account that the platform refuses to subscribe is of no use. Any other answer (a gateway that
/// does not know the edge) still leaves an account that can send.
pub fn subscribed(name: &str, account: Connected, answer: &Answer) -> Next {
    let answer = answer.as_ref().map_err(|_| unreachable_graph(name))?;
    if let Some(error) = GraphError::read(answer) {
        return Err(ConnectError(format!(
            "{name} did not let the hub receive messages of the account (code {}). \
             Please connect again and allow everything {name} asks for.",
            error.code
        )));
    }
    if answer.status >= 500 {
        return Err(unreachable_graph(name));
    }
    Ok(ConnectStep::Done(account))
}

/// The body of a success, or a sentence about the failure.
pub fn success(name: &str, answer: &Answer) -> Result<Value, ConnectError> {
    let answer = answer.as_ref().map_err(|_| unreachable_graph(name))?;
    if let Some(error) = GraphError::read(answer) {
        // Graph's message is for developers and may quote what was sent.
        let said = format!(
            "{name} refused the login (code {}). Please try again.",
            error.code
        );
        return Err(ConnectError(said));
    }
    if answer.is_success() {
        Ok(answer.json())
    } else {
        Err(unreachable_graph(name))
    }
}

/// The token in an answer.
pub fn token(name: &str, body: &Value) -> Result<Secret, ConnectError> {
    let token = wire::filled(&body["access_token"]);
    token
        .map(Secret::new)
        .ok_or_else(|| unreachable_graph(name))
}

/// Somebody asked for a step that has no place here.
pub fn interrupted(name: &str) -> ConnectError {
    ConnectError(format!(
        "The {name} login was interrupted. Please try again."
    ))
}

/// There is no answer, or none anybody understands.
pub fn unreachable_graph(name: &str) -> ConnectError {
    ConnectError(format!(
        "{name} did not answer as expected. Please try again."
    ))
}
