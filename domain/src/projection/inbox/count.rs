//! Numbers that would otherwise be counted row by row when somebody looks.
//!
//! Each event is asked what it is about; what that counted for before and after makes the
//! difference. So no fold has to remember a number, and a new event counts right by itself.

use super::*;

/// The conversations of an account, as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotalRow {
    /// The account.
    pub account: AccountId,
    /// Its owner.
    pub user: UserId,
    /// How many conversations it has.
    pub conversations: i64,
    /// Unread incoming messages in all of them.
    pub unread: i64,
}

/// What a conversation and the messages an event is about count for.
#[derive(Clone, Copy, Default)]
pub(super) struct Counted {
    exists: bool,
    unread: i32,
    listed: i32,
}

impl Inbox {
    /// What the subject of an event counts for now.
    pub(super) fn counted(&self, subject: &Touch) -> Counted {
        // An event is about one conversation.
        let Some(row) = subject.conversations.first() else {
            return Counted::default();
        };
        let row = self.conversations.get(*row);
        let mut messages: Vec<MessageId> = subject.messages.clone();
        messages.extend(
            subject
                .platform_ids
                .iter()
                .filter_map(|(conversation, id)| self.find(*conversation, id)),
        );
        messages.sort_unstable();
        messages.dedup();
        let listed = messages
            .iter()
            .filter(|id| self.messages.get(**id).is_some_and(MessageRow::is_listed))
            .count();
        Counted {
            exists: row.is_some_and(|row| !row.forgotten),
            unread: row.map_or(0, |row| row.unread),
            listed: i32::try_from(listed).unwrap_or(i32::MAX),
        }
    }

    /// Brings the numbers up to date after an event.
    pub(super) fn recount(&mut self, subject: &Touch, before: Counted, at: DateTime<Utc>) {
        let after = self.counted(subject);
        let Some(conversation) = subject.conversations.first().copied() else {
            return;
        };
        if after.listed != before.listed
            && let Some(row) = self.conversations.change(conversation)
        {
            row.messages += after.listed - before.listed;
            row.updated_at = at;
        }
        if (after.exists, after.unread) == (before.exists, before.unread) {
            return;
        }
        let Some(row) = self.conversations.get(conversation) else {
            return;
        };
        let (account, user) = (row.account, row.user);
        let total = self.totals.change_or(account, || TotalRow {
            account,
            user,
            conversations: 0,
            unread: 0,
        });
        total.conversations += i64::from(after.exists) - i64::from(before.exists);
        total.unread += i64::from(after.unread - before.unread);
    }
}
