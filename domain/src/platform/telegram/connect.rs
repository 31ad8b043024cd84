//! Connecting Telegram: a person proves who they are with the login widget; the account that
//! talks is the installation's bot.

use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::{App, ConnectError, ConnectFlow, ConnectStep, Connected, Grant, wire};

use super::{bot_id, method_url};

/// The page of the web client that shows the widget.
pub fn authorize(app: &App, state: &str) -> Result<String, ConnectError> {
    let mut missing = Vec::new();
    if bot_id(&app.bot_token).is_none() {
        missing.push("TELEGRAM_BOT_TOKEN");
    }
    if app.bot_username.is_empty() {
        missing.push("TELEGRAM_BOT_USERNAME");
    }
    if !missing.is_empty() {
        let names = missing.join(" and ");
        return Err(ConnectError(format!(
            "Telegram is not configured: set {names}."
        )));
    }
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("state", state)
        .append_pair("bot", &app.bot_username)
        .append_pair("redirect", &app.redirect_uri)
        .finish();
    Ok(format!("{}/auth/telegram?{query}", app.dialog_base))
}

/// One call: does the bot's token still live.
pub struct Flow {
    app: App,
    grant: Option<Grant>,
}

impl Flow {
    /// A flow that has not called anybody yet.
    pub fn new(app: &App, grant: Grant) -> Self {
        Self {
            app: app.clone(),
            grant: Some(grant),
        }
    }

    fn start(&self) -> Result<ConnectStep, ConnectError> {
        if !matches!(self.grant, Some(Grant::Widget { .. })) {
            let said = "Telegram is connected with its login button, not with a code.";
            return Err(ConnectError(said.into()));
        }
        if bot_id(&self.app.bot_token).is_none() {
            let said = "Telegram is not configured: set TELEGRAM_BOT_TOKEN.";
            return Err(ConnectError(said.into()));
        }
        let url = method_url(&self.app, &self.app.bot_token, "getMe");
        Ok(ConnectStep::Call(HttpRequest::get(url)))
    }

    /// The widget has already proved who the person is; only a token that is certainly dead keeps
    /// them out, not a Telegram that does not answer just now.
    fn finish(
        &mut self,
        answer: &Result<HttpResponse, TransportError>,
    ) -> Result<ConnectStep, ConnectError> {
        let bot = bot_id(&self.app.bot_token);
        let (Some(route), Some(Grant::Widget { id, username })) = (bot, self.grant.take()) else {
            let said = "The Telegram login was interrupted. Please try again.";
            return Err(ConnectError(said.into()));
        };
        if let Ok(answer) = answer {
            if matches!(answer.status, 401 | 404) {
                let said = "Telegram no longer accepts this hub's bot. Please tell its operator.";
                return Err(ConnectError(said.into()));
            }
            let told = wire::id(&answer.json()["result"]["id"]);
            if told.is_some_and(|told| told != route) {
                let said = "Telegram answered for another bot. Please tell the operator.";
                return Err(ConnectError(said.into()));
            }
        }
        Ok(ConnectStep::Done(Connected {
            platform_user_id: id,
            username,
            route,
            access_token: self.app.bot_token.clone(),
            refresh_token: None,
            expires_in_s: None,
            granted: None,
        }))
    }
}

impl ConnectFlow for Flow {
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> ConnectStep {
        let next = match answer {
            None => self.start(),
            Some(answer) => self.finish(&answer),
        };
        next.unwrap_or_else(ConnectStep::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App {
            bot_token: "7100000001:AAHub".into(),
            bot_username: "northwind_desk_bot".into(),
            api_base: "https://telegram.example".into(),
            dialog_base: "https://web.example".into(),
            redirect_uri: "https://hub.example/api/auth/callback/telegram".into(),
            ..App::default()
        }
    }

    fn flow() -> Flow {
        Flow::new(
            &app(),
            Grant::Widget {
                id: "42".into(),
                username: "ann".into(),
            },
        )
    }

    fn answer(status: u16, body: &str) -> Option<Result<HttpResponse, TransportError>> {
        Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.into(),
        }))
    }

    #[test]
    fn the_widget_page() {
        assert_eq!(
            authorize(&app(), "s1").unwrap(),
            "https://web.example/auth/telegram?state=s1&bot=northwind_desk_bot&\
             redirect=https%3A%2F%2Fhub.example%2Fapi%2Fauth%2Fcallback%2Ftelegram"
        );
        let sentence = authorize(&App::default(), "s1").unwrap_err().0;
        assert!(sentence.contains("TELEGRAM_BOT_TOKEN and TELEGRAM_BOT_USERNAME"));
    }

    #[test]
    fn the_account_is_the_person_and_the_route_is_the_bot() {
        let alive = answer(
            200,
            r#"{"ok":true,"result":{"id":7100000001,"is_bot":true}}"#,
        );
        for answer in [
            alive,
            answer(502, "<html>"),
            Some(Err(TransportError::NotSent)),
        ] {
            let mut flow = flow();
            let ConnectStep::Call(call) = flow.next(None) else {
                panic!("no call")
            };
            assert_eq!(
                call.url,
                "https://telegram.example/bot7100000001:AAHub/getMe"
            );
            let ConnectStep::Done(account) = flow.next(answer) else {
                panic!("not done")
            };
            assert_eq!(account.platform_user_id, "42");
            assert_eq!(account.username, "ann");
            assert_eq!(account.route, "7100000001");
            assert_eq!(account.access_token.expose(), "7100000001:AAHub");
        }
    }

    #[test]
    fn refusals() {
        let failed = |flow: &mut Flow, answer| match flow.next(answer) {
            ConnectStep::Failed(error) => assert!(!error.0.contains("AAHub")),
            other => panic!("{other:?}"),
        };
        failed(&mut flow(), answer(401, r#"{"ok":false,"error_code":401}"#));
        failed(&mut flow(), answer(200, r#"{"ok":true,"result":{"id":1}}"#));
        let code = Grant::Code {
            code: "c".into(),
            verifier: None,
        };
        failed(&mut Flow::new(&app(), code), None);
        let widget = Grant::Widget {
            id: "42".into(),
            username: "ann".into(),
        };
        failed(&mut Flow::new(&App::default(), widget), None);
    }
}
