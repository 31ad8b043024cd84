//! Reading threads, which hold exactly what was exchanged here. They have no count of messages.

use serde_json::{Value, json};

use super::Direct;
use crate::call::Call;
use crate::platform::graph::threads::{Line, graph_time, page_of};
use crate::platform::graph::{self, Answer, Token};
use crate::sign::hmac_hex;

impl Direct {
    /// Adds a message to its thread.
    pub(super) fn remember(&self, account: &str, person: &str, line: Line) {
        let key = (account.to_owned(), person.to_owned());
        self.state().threads.entry(key).or_default().push(line);
    }

    /// An account's threads, newest first, each with its newest message.
    pub(super) fn conversations(&self, call: &Call, node: &str) -> Answer {
        let token = self.account_token(call, node)?;
        let mut threads = self.threads_of(&token.page);
        threads.sort_by_key(|(_, lines)| std::cmp::Reverse(lines.first().map(|it| it.at)));
        let threads = threads.into_iter().filter_map(|(person, lines)| {
            let newest = lines.first()?;
            Some(json!({
                "id": self.thread_id(&token.page, &person),
                "updated_time": graph_time(newest.at),
                "messages": {"data": [{"id": newest.mid}]},
            }))
        });
        Ok(graph::ok(&token.page, &page_of(threads.collect(), call)))
    }

    /// A thread's messages, newest first.
    pub(super) fn messages(&self, call: &Call, thread: &str) -> Answer {
        let token = self.bearer(call)?;
        let lines = self.thread(&token, thread);
        let lines = lines.ok_or_else(|| graph::not_found(thread))?;
        Ok(graph::ok(&token.page, &page_of(lines, call)))
    }

    /// The messages of a thread of this account.
    pub(super) fn thread(&self, token: &Token, thread: &str) -> Option<Vec<Value>> {
        let (person, lines) = self
            .threads_of(&token.page)
            .into_iter()
            .find(|(person, _)| self.thread_id(&token.page, person) == thread)?;
        let line = |line: &Line| {
            line.shown(
                self.party(&token.page, &person, line.by_page),
                self.party(&token.page, &person, !line.by_page),
            )
        };
        Some(lines.iter().map(line).collect())
    }

    fn threads_of(&self, account: &str) -> Vec<(String, Vec<Line>)> {
        let state = self.state();
        let own = state.threads.iter().filter(|((it, _), _)| it == account);
        own.map(|((_, person), thread)| (person.clone(), thread.lines.iter().cloned().collect()))
            .collect()
    }

    fn party(&self, account: &str, person: &str, ours: bool) -> Value {
        if ours {
            return json!({"id": account, "username": self.login.name(account)});
        }
        let name = self.state().people.get(person).cloned();
        let username = name.unwrap_or_default().to_lowercase().replace(' ', ".");
        json!({"id": person, "username": username})
    }

    /// The same thread has the same id after a restart.
    fn thread_id(&self, account: &str, person: &str) -> String {
        let about = format!("thread {account} {person}");
        let digest = hmac_hex(self.login.app_secret.as_bytes(), about.as_bytes());
        format!("aWdf{}ZD", &digest[..32])
    }
}
