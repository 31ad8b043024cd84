//! OAuth 2.0 (RFC 6749, PKCE: RFC 7636) where platforms speak it alike: the dialog, a code that becomes
//! tokens, tokens that are renewed, and whose account it is.
//!
//! What differs between platforms is a [`Login`]. Promises: nobody is sent to a dialog that would fail
//! for want of a setting, but told which one; a verifier is sent exactly where the platform wants one,
//! and never without; a code is exchanged once; what goes wrong is a sentence for the person who tried,
//! without the code and without a token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::call::Tokens;
use super::http::{HttpRequest, HttpResponse, TransportError};
use super::outcome::{Class, connecting, tokens, unexpected};
use super::{App, ConnectError, ConnectFlow, ConnectStep, Connected, Credentials, Grant};
use crate::secret::Secret;
use crate::signature::pkce_challenge;

/// How a client proves itself to the token endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// With its secret in the form.
    Form,
    /// With HTTP Basic; where it has no secret, by its name alone. The name is in the form either way.
    Basic,
}

/// A setting, by what operators call it, and whether it is there.
pub type Need = (&'static str, fn(&App) -> bool);

/// The hub as a client of one platform.
#[derive(Clone, Debug)]
pub struct Client<'a> {
    /// What sentences call the platform.
    pub name: &'static str,
    /// The installation's registration.
    pub app: &'a App,
    /// The settings that have to be there, by what operators call them.
    pub needs: &'static [Need],
    /// Where people agree.
    pub dialog: String,
    /// Where tokens are given out.
    pub tokens: String,
    /// How the client proves itself.
    pub proof: Proof,
    /// What it asks people for.
    pub scopes: String,
    /// Whether the platform wants PKCE.
    pub pkce: bool,
    /// What else the dialog is told.
    pub to_dialog: &'static [(&'static str, &'static str)],
    /// What else the token endpoint is told.
    pub to_tokens: &'static [(&'static str, &'static str)],
}

/// A client id has been set.
pub fn has_id(app: &App) -> bool {
    !app.client_id.is_empty()
}

/// A client secret has been set.
pub fn has_secret(app: &App) -> bool {
    !app.client_secret.is_empty()
}

impl Client<'_> {
    /// Where to send a person. Spaces are `%20`: some deployments refuse a `+`.
    pub fn authorize(
        &self,
        state: &str,
        verifier: Option<&Secret>,
    ) -> Result<String, ConnectError> {
        self.configured()?;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.app.client_id)
            .append_pair("redirect_uri", &self.app.redirect_uri)
            .append_pair("scope", &self.scopes)
            .append_pair("state", state);
        if self.pkce {
            let verifier = verifier
                .ok_or_else(|| ConnectError(format!("{} needs a PKCE verifier.", self.name)))?;
            query
                .append_pair("code_challenge", &pkce_challenge(verifier.expose()))
                .append_pair("code_challenge_method", "S256");
        }
        let query = query.extend_pairs(self.to_dialog);
        let query = query.finish().replace('+', "%20");
        Ok(format!("{}?{query}", self.dialog))
    }

    fn configured(&self) -> Result<(), ConnectError> {
        let missing: Vec<&str> = self
            .needs
            .iter()
            .filter(|(_, is_set)| !is_set(self.app))
            .map(|(name, _)| *name)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(ConnectError(format!(
            "{} is not configured: set {}.",
            self.name,
            missing.join(" and ")
        )))
    }

    /// A call of an endpoint that wants the client to prove itself.
    pub fn call(&self, url: &str, fields: &[(&str, &str)]) -> HttpRequest {
        let app = self.app;
        let mut fields = fields.to_vec();
        fields.push(("client_id", &app.client_id));
        if self.proof == Proof::Form {
            fields.push(("client_secret", app.client_secret.expose()));
        }
        let call = HttpRequest::post_form(url, &fields);
        if self.proof == Proof::Form || app.client_secret.is_empty() {
            return call;
        }
        let pair = format!("{}:{}", app.client_id, app.client_secret.expose());
        call.header("authorization", format!("Basic {}", STANDARD.encode(pair)))
    }

    fn exchange(&self, grant: &Grant) -> Result<HttpRequest, ConnectError> {
        self.configured()?;
        let Grant::Code { code, verifier } = grant else {
            return Err(self.sentence("needs an authorisation code."));
        };
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", self.app.redirect_uri.as_str()),
        ];
        if self.pkce {
            let missing = || self.sentence("needs an authorisation code and its verifier.");
            let verifier = verifier.as_ref().ok_or_else(missing)?;
            fields.push(("code_verifier", verifier.expose()));
        }
        fields.extend(self.to_tokens);
        Ok(self.call(&self.tokens, &fields))
    }

    /// The call that asks for new tokens; `None` when there is nothing to ask with.
    pub fn refresh(&self, credentials: &Credentials) -> Option<HttpRequest> {
        let token = credentials.refresh_token.as_ref()?;
        let mut fields = vec![
            ("grant_type", "refresh_token"),
            ("refresh_token", token.expose()),
        ];
        fields.extend(self.to_tokens);
        Some(self.call(&self.tokens, &fields))
    }

    fn sentence(&self, rest: &str) -> ConnectError {
        ConnectError(format!("{} {rest}", self.name))
    }
}

/// Which refusals of a token endpoint (400, 401) are not the account's: the client's own credentials
/// are the operator's business.
pub fn refused(words: &str) -> Class {
    let client = ["invalid_client", "unauthorized_client"];
    match client.iter().any(|word| words.contains(word)) {
        true => Class::Permanent,
        false => Class::Reconnect,
    }
}

/// Whose account it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The platform's id of the account as the client sees it.
    pub id: String,
    /// Its display name.
    pub username: String,
    /// The id that webhooks name the account by.
    pub route: String,
}

/// An answer of the platform.
pub type Answer = Result<HttpResponse, TransportError>;

/// How one platform does it.
pub trait Login: Sync + Send {
    /// The hub as its client.
    fn client<'a>(&self, app: &'a App) -> Client<'a>;

    /// The tokens that a code was exchanged for.
    fn exchanged(&self, answer: &Answer) -> Result<Tokens, ConnectError>;

    /// The call that asks whose they are.
    fn who(&self, app: &App, token: &Secret) -> HttpRequest;

    /// How often that is asked while the answer is that the token is unknown: one that was just given
    /// out may not be known everywhere.
    fn tries(&self) -> usize {
        1
    }

    /// Whose they are.
    fn identity(&self, answer: &Answer) -> Result<Identity, ConnectError>;

    /// What is left to do once the account is known, and never makes the connection fail.
    fn after(&self, _app: &App, _account: &Connected) -> Option<Box<dyn Aftermath>> {
        None
    }
}

/// Calls for an account that is connected already, whatever comes of them.
pub trait Aftermath: Send {
    /// The next call, after the answer to the one before; `None` when there is none.
    fn next(&mut self, answer: Option<Answer>) -> Option<HttpRequest>;
}

/// The tokens in the answer of an ordinary token endpoint, or a sentence.
pub fn given_out(name: &str, answer: &Answer) -> Result<Tokens, ConnectError> {
    tokens(&connecting(name, answer)?).ok_or_else(|| unexpected(name))
}

/// The body that says whose tokens they are, or a sentence.
pub fn identified(
    name: &str,
    answer: &Answer,
    read: impl FnOnce(&Value) -> Option<Identity>,
) -> Result<Identity, ConnectError> {
    read(&connecting(name, answer)?).ok_or_else(|| unexpected(name))
}

/// The conversation that turns a code into a connected account, in the state between two calls.
pub struct Flow {
    app: App,
    login: &'static dyn Login,
    step: Step,
}

enum Step {
    Start(Grant),
    Exchange,
    Identity(Tokens, usize),
    After(Connected, Box<dyn Aftermath>),
    Over,
}

impl Flow {
    /// A flow that has not called anybody yet.
    pub fn new(login: &'static dyn Login, app: &App, grant: Grant) -> Self {
        Self {
            app: app.clone(),
            login,
            step: Step::Start(grant),
        }
    }

    fn who(&mut self, tokens: Tokens, tried: usize) -> ConnectStep {
        let call = self.login.who(&self.app, &tokens.access_token);
        self.step = Step::Identity(tokens, tried);
        ConnectStep::Call(call)
    }

    fn identified(
        &mut self,
        tokens: Tokens,
        tried: usize,
        answer: &Answer,
    ) -> Result<ConnectStep, ConnectError> {
        let is_unknown = answer.as_ref().is_ok_and(|answer| answer.status == 401);
        if is_unknown && tried < self.login.tries() {
            return Ok(self.who(tokens, tried + 1));
        }
        let who = self.login.identity(answer)?;
        let account = Connected {
            platform_user_id: who.id,
            username: who.username,
            route: who.route,
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            expires_in_s: tokens.expires_in_s,
            granted: tokens.granted,
        };
        match self.login.after(&self.app, &account) {
            Some(after) => Ok(self.go_on(account, after, None)),
            None => Ok(ConnectStep::Done(account)),
        }
    }

    fn go_on(
        &mut self,
        account: Connected,
        mut after: Box<dyn Aftermath>,
        answer: Option<Answer>,
    ) -> ConnectStep {
        match after.next(answer) {
            Some(call) => {
                self.step = Step::After(account, after);
                ConnectStep::Call(call)
            }
            None => ConnectStep::Done(account),
        }
    }
}

impl ConnectFlow for Flow {
    fn next(&mut self, answer: Option<Answer>) -> ConnectStep {
        let step = std::mem::replace(&mut self.step, Step::Over);
        let next = match (step, answer) {
            (Step::Start(grant), _) => {
                let call = self.login.client(&self.app).exchange(&grant);
                self.step = Step::Exchange;
                call.map(ConnectStep::Call)
            }
            (Step::Exchange, Some(answer)) => {
                let tokens = self.login.exchanged(&answer);
                tokens.map(|tokens| self.who(tokens, 1))
            }
            (Step::Identity(tokens, tried), Some(answer)) => {
                self.identified(tokens, tried, &answer)
            }
            (Step::After(account, after), Some(answer)) => {
                Ok(self.go_on(account, after, Some(answer)))
            }
            (_, None) | (Step::Over, _) => Err(ConnectError(format!(
                "The {} login was interrupted. Please try again.",
                self.login.client(&self.app).name
            ))),
        };
        next.unwrap_or_else(ConnectStep::Failed)
    }
}

#[cfg(test)]
pub mod tests {
    //! What the tests of logins share: playing the platform's side of a [`Flow`].

    use super::*;

    /// The flow of a person who comes back with a code and its verifier.
    pub fn flow(login: &'static dyn Login, app: &App) -> Flow {
        let grant = Grant::Code {
            code: "the-code".into(),
            verifier: Some("the-verifier".into()),
        };
        Flow::new(login, app, grant)
    }

    /// An answer with this body.
    pub fn answer(status: u16, body: &Value) -> Option<Answer> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }))
    }

    /// A success.
    pub fn ok(body: &Value) -> Option<Answer> {
        answer(200, body)
    }

    /// The call in a step.
    pub fn call(step: ConnectStep) -> HttpRequest {
        match step {
            ConnectStep::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }

    /// The account in the last step.
    pub fn done(step: ConnectStep) -> Connected {
        match step {
            ConnectStep::Done(account) => account,
            other => panic!("{other:?}"),
        }
    }

    /// The sentence in the last step.
    pub fn failed(step: ConnectStep) -> String {
        match step {
            ConnectStep::Failed(error) => error.0,
            other => panic!("{other:?}"),
        }
    }

    /// A body as text.
    pub fn body(call: HttpRequest) -> String {
        String::from_utf8(call.body).unwrap()
    }

    #[test]
    fn whose_fault_a_refusal_is() {
        assert_eq!(refused("invalid_client: who?"), Class::Permanent);
        assert_eq!(refused("unauthorized_client"), Class::Permanent);
        assert_eq!(refused("invalid_grant"), Class::Reconnect);
        assert_eq!(refused("invalid_request"), Class::Reconnect);
    }
}
