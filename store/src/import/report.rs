//! What an import did, in numbers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::source::Generation;

/// Differences that are named.
const NAMED_MAX: usize = 20;

/// What became of the rows of a table. `read` is the sum of the other numbers; notes are about rows
/// that are counted already.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// Rows in the earlier installation.
    pub read: u64,
    /// Taken over now; in a dry run, those that would be.
    pub imported: u64,
    /// Here already.
    pub already: u64,
    /// Left out, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Taken over with something to say about it.
    pub notes: BTreeMap<&'static str, u64>,
}

impl Table {
    pub(super) fn take(&mut self, is_new: bool) {
        self.read += 1;
        match is_new {
            true => self.imported += 1,
            false => self.already += 1,
        }
    }

    /// Rows that were appended; what else was handed in with them came between.
    pub(super) fn appended(&mut self, handed_in: u64, new: u64) {
        self.read += handed_in;
        self.imported += new;
        self.already += handed_in - new;
    }

    pub(super) fn skip(&mut self, reason: &'static str, rows: u64) {
        if rows > 0 {
            self.read += rows;
            *self.skipped.entry(reason).or_default() += rows;
        }
    }

    pub(super) fn note(&mut self, what: &'static str) {
        *self.notes.entry(what).or_default() += 1;
    }
}

/// A conversation that is not here what it was there.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The conversation.
    pub conversation: Uuid,
    /// What the earlier installation says of it.
    pub source: Numbers,
    /// What the inbox says of it; `None` when it does not have it.
    pub hub: Option<Numbers>,
}

/// What is compared of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Numbers {
    /// Messages in it.
    pub messages: i64,
    /// Of these from the other side and unread.
    pub unread: i64,
    /// When the newest was written.
    pub last_message_at: Option<DateTime<Utc>>,
}

/// The inbox held against the earlier installation.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Conversations compared.
    pub conversations: u64,
    /// Messages in them.
    pub messages: u64,
    /// The same.
    pub equal: u64,
    /// Gone on since they were imported, with nothing missing.
    pub gone_on: u64,
    /// Not the same.
    pub different: u64,
    /// The first of these.
    pub differences: Vec<Difference>,
}

impl Comparison {
    pub(super) fn differs(&mut self, difference: Difference) {
        self.different += 1;
        if self.differences.len() < NAMED_MAX {
            self.differences.push(difference);
        }
    }
}

/// What an import did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Nothing was written.
    pub dry_run: bool,
    /// Who wrote the earlier installation's database.
    pub generation: Generation,
    /// Users.
    pub users: Table,
    /// Refresh tokens.
    pub refresh_tokens: Table,
    /// Connected accounts.
    pub connected_accounts: Table,
    /// Conversations.
    pub conversations: Table,
    /// Messages.
    pub messages: Table,
    /// The log of calls.
    pub api_usage_logs: Table,
    /// The inbox held against the source; `None` after a dry run.
    pub comparison: Option<Comparison>,
}

impl Report {
    pub(super) fn new(dry_run: bool, generation: Generation) -> Self {
        Self {
            dry_run,
            generation,
            users: Table::default(),
            refresh_tokens: Table::default(),
            connected_accounts: Table::default(),
            conversations: Table::default(),
            messages: Table::default(),
            api_usage_logs: Table::default(),
            comparison: None,
        }
    }

    /// The tables by name, in the order of their dependence.
    pub fn tables(&self) -> [(&'static str, &Table); 6] {
        [
            ("users", &self.users),
            ("refresh_tokens", &self.refresh_tokens),
            ("connected_accounts", &self.connected_accounts),
            ("conversations", &self.conversations),
            ("messages", &self.messages),
            ("api_usage_logs", &self.api_usage_logs),
        ]
    }

    /// Whether a conversation is not here what it was there.
    pub fn differs(&self) -> bool {
        self.comparison.as_ref().is_some_and(|it| it.different > 0)
    }
}
