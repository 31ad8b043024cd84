//! Reading: subscriptions, profiles, threads. Threads hold exactly what was exchanged here.

use axum::http::Method;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Messenger, graph};
use crate::call::{Call, text};
use crate::platform::graph::threads::{Line, graph_time, page_of};
use crate::platform::graph::{Answer, GraphError, Kind, Token};
use crate::sign::hmac_hex;

impl Messenger {
    /// Adds a message to its thread.
    pub(super) fn remember(&self, page: &str, psid: &str, line: Line) {
        let mut state = self.state();
        let thread = state
            .threads
            .entry((page.to_owned(), psid.to_owned()))
            .or_default();
        thread.push(line);
    }

    /// A Page's subscription to webhooks.
    pub(super) fn subscribed_apps(&self, call: &Call, method: &Method, page: &str) -> Answer {
        self.page_token(call, page)?;
        let mut state = self.state();
        let body = match *method {
            Method::POST => {
                state
                    .subscriptions
                    .insert(page.to_owned(), listed(call, "subscribed_fields"));
                json!({"success": true})
            }
            Method::DELETE => {
                state.subscriptions.remove(page);
                json!({"success": true})
            }
            _ => {
                let apps: Vec<Value> = state
                    .subscriptions
                    .get(page)
                    .map(|fields| {
                        json!({"id": self.login.app_id, "name": "Hub", "subscribed_fields": fields})
                    })
                    .into_iter()
                    .collect();
                json!({"data": apps})
            }
        };
        Ok(graph::ok(page, &body))
    }

    /// A Page's threads, newest first.
    pub(super) fn conversations(&self, call: &Call, page: &str) -> Answer {
        let token = self.page_token(call, page)?;
        let only = call.param("user_id");
        let mut threads: Vec<(DateTime<Utc>, Value)> = self
            .threads_of(&token.page)
            .into_iter()
            .filter(|(psid, ..)| only.as_ref().is_none_or(|only| only == psid))
            .filter_map(|(psid, lines, ever)| {
                let newest = lines.first()?;
                let thread = json!({
                    "id": self.thread_id(&token.page, &psid),
                    "updated_time": graph_time(newest.at),
                    "snippet": newest.text,
                    "message_count": ever,
                    "can_reply": true,
                    "participants": {"data": [
                        self.party(&token.page, &psid, false),
                        self.party(&token.page, &psid, true),
                    ]},
                });
                Some((newest.at, thread))
            })
            .collect();
        threads.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let threads = threads.into_iter().map(|(_, thread)| thread).collect();
        Ok(graph::ok(page, &page_of(threads, call)))
    }

    /// A thread's messages, newest first.
    pub(super) fn messages(&self, call: &Call, thread: &str) -> Answer {
        let token = self.bearer(call)?;
        let lines = self
            .lines_of(&token, thread)
            .ok_or_else(|| graph::not_found(thread))?;
        Ok(graph::ok(&token.page, &page_of(lines, call)))
    }

    /// A single object: oneself, a Page, a thread, or a person's profile.
    pub(super) fn object(&self, call: &Call, id: &str) -> Answer {
        let token = self.bearer(call)?;
        if id == "me" {
            return Ok(graph::ok(&token.page, &self.me(&token)));
        }
        if id == token.page {
            return Ok(graph::ok(&token.page, &self.page_object(&token)));
        }
        if let Some(lines) = self.lines_of(&token, id) {
            let body = json!({"id": id, "messages": {"data": lines}});
            return Ok(graph::ok(&token.page, &body));
        }
        let name = self
            .state()
            .people
            .get(id)
            .cloned()
            .filter(|_| token.kind == Kind::Page);
        let name = name.ok_or_else(|| graph::not_found(id))?;
        let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
        let body = json!({"id": id, "name": name, "first_name": first, "last_name": last});
        Ok(graph::ok(&token.page, &body))
    }

    fn page_token(&self, call: &Call, page: &str) -> Result<Token, GraphError> {
        let token = self.bearer(call)?;
        if token.kind == Kind::Page && (page == "me" || page == token.page) {
            Ok(token)
        } else {
            Err(graph::not_found(page))
        }
    }

    fn threads_of(&self, page: &str) -> Vec<(String, Vec<Line>, usize)> {
        self.state()
            .threads
            .iter()
            .filter(|((owner, _), _)| owner == page)
            .map(|((_, psid), thread)| {
                (
                    psid.clone(),
                    thread.lines.iter().cloned().collect(),
                    thread.ever,
                )
            })
            .collect()
    }

    fn lines_of(&self, token: &Token, thread: &str) -> Option<Vec<Value>> {
        let (psid, lines, _) = self
            .threads_of(&token.page)
            .into_iter()
            .find(|(psid, ..)| self.thread_id(&token.page, psid) == thread)?;
        let line = |line: &Line| {
            line.shown(
                self.party(&token.page, &psid, line.by_page),
                self.party(&token.page, &psid, !line.by_page),
            )
        };
        Some(lines.iter().map(line).collect())
    }

    fn party(&self, page: &str, psid: &str, the_page: bool) -> Value {
        if the_page {
            return json!({"id": page, "name": self.page_name(page)});
        }
        let name = self.state().people.get(psid).cloned().unwrap_or_default();
        json!({"id": psid, "name": name, "email": format!("{psid}@facebook.com")})
    }

    /// The same thread has the same id after a restart.
    fn thread_id(&self, page: &str, psid: &str) -> String {
        let digest = hmac_hex(
            self.login.app_secret.as_bytes(),
            format!("thread {page} {psid}").as_bytes(),
        );
        let number = u64::from_str_radix(&digest[..14], 16).unwrap_or_default();
        format!("t_{number}")
    }
}

/// A parameter that is a list: as JSON, or with commas.
fn listed(call: &Call, name: &str) -> Vec<String> {
    match call.value(name) {
        Some(Value::Array(items)) => items.iter().filter_map(text).collect(),
        _ => call
            .param(name)
            .unwrap_or_default()
            .split(',')
            .map(str::to_owned)
            .collect(),
    }
}
