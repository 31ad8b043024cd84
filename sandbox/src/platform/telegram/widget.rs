//! The login widget's page: the person agrees at once and comes back with signed fields.

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use url::Url;

use super::{Bot, NAME};
use crate::call::Call;
use crate::faults::Op;
use crate::sign::widget_hash;

/// The person who logs in unless the URL names another: id, first name, user name.
const PERSON: (&str, &str, &str) = ("7999888777", "Tomás", "tomas_b");

impl Bot {
    /// Sends the person back to `redirect` with the widget's fields and our `state`, which is not
    /// Telegram's and therefore not signed. `id`, `first_name` and `username` choose another person,
    /// `deny=1` one who refuses.
    pub(super) fn widget(&self, call: &Call) -> Response {
        let wrong = |what: &str| (StatusCode::BAD_REQUEST, Html(what.to_owned())).into_response();
        let bot = call.param("bot").unwrap_or_default();
        if !bot
            .trim_start_matches('@')
            .eq_ignore_ascii_case(&self.username)
        {
            return wrong("Username invalid");
        }
        let redirect = call
            .param("redirect")
            .and_then(|target| Url::parse(&target).ok());
        let Some(mut target) = redirect.filter(|url| matches!(url.scheme(), "http" | "https"))
        else {
            return wrong("Bot domain invalid: redirect must be an absolute http or https URL");
        };
        let refuses = call.param("deny").is_some_and(|deny| deny == "1")
            || self.world.faults.hit(NAME, Op::Dialog).is_some();
        if refuses {
            target
                .query_pairs_mut()
                .append_pair("error", "access_denied");
        } else {
            let choose =
                |name: &str, default: &str| call.param(name).unwrap_or_else(|| default.to_owned());
            let fields = [
                ("id", choose("id", PERSON.0)),
                ("first_name", choose("first_name", PERSON.1)),
                ("username", choose("username", PERSON.2)),
                ("auth_date", chrono::Utc::now().timestamp().to_string()),
            ];
            let hash = widget_hash(&self.token, &fields);
            target
                .query_pairs_mut()
                .extend_pairs(&fields)
                .append_pair("hash", &hash);
        }
        if let Some(state) = call.param("state") {
            target.query_pairs_mut().append_pair("state", &state);
        }
        (StatusCode::FOUND, [(header::LOCATION, target.to_string())]).into_response()
    }
}
