//! What the API asks a worker for, and what it gets: sealed before it is stored anywhere.

use serde::{Deserialize, Serialize};

use crate::id::AccountId;

/// What somebody wants of Telegram that needs a session.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
pub enum Wish {
    /// A login code for this number.
    Phone {
        /// The number.
        phone: String,
    },
    /// To sign in with the code, and the password where there is one.
    Verify {
        /// The number.
        phone: String,
        /// The code Telegram sent.
        code: String,
        /// What names the attempt.
        hash: String,
        /// The cloud password.
        password: Option<String>,
    },
    /// The newest dialogs.
    Dialogs {
        /// At most this many.
        limit: usize,
    },
    /// The newest messages of a chat.
    Messages {
        /// The thread.
        thread: String,
        /// At most this many.
        limit: usize,
    },
    /// Everything that is new, dialog by dialog.
    Sync {},
}

/// What came of a wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Answered {
    /// A code is on its way.
    CodeSent {
        /// What names the attempt.
        hash: String,
    },
    /// The account has a cloud password.
    PasswordNeeded,
    /// Signed in.
    SignedIn {
        /// The account.
        account: AccountId,
        /// Its display name.
        username: String,
    },
    /// Dialogs, the newest first.
    Dialogs {
        /// Them.
        dialogs: Vec<DialogShown>,
    },
    /// Messages, the newest first.
    Messages {
        /// Them.
        messages: Vec<MessageShown>,
    },
    /// It goes on in the background.
    Syncing,
    /// It did not work.
    Refused {
        /// In words for the person who asked.
        message: String,
        /// Seconds to wait, where Telegram asks for patience.
        retry_after_s: Option<u64>,
        /// Whether the person can do something about it: a wrong code, not a broken wire.
        by_person: bool,
    },
}

/// A dialog, in the names the API shows it under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DialogShown {
    /// The thread.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is a person.
    pub is_user: bool,
    /// Whether it is a group of any kind.
    pub is_group: bool,
    /// What is unread, by Telegram's count.
    pub unread_count: i32,
    /// When its last message was written, in seconds since 1970.
    pub date: i64,
}

/// A message, in the names the API shows it under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageShown {
    /// Its number.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Who wrote it.
    pub sender_id: String,
    /// When, in seconds since 1970.
    pub date: i64,
    /// Whether the account's person wrote it.
    pub out: bool,
}
