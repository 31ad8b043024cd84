//! The connected accounts of each user.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Table;
use crate::envelope::Recorded;
use crate::event::{
    AccountConnected, AccountDisconnected, AccountForgotten, AccountNeedsReconnect, AccountPolled,
    Event, Sealed, UserErased,
};
use crate::id::{AccountId, Epoch, UserId};
use crate::platform::Platform;

/// A connected account as the API answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// The account.
    pub id: AccountId,
    /// Its owner.
    pub user: UserId,
    /// The platform.
    pub platform: Platform,
    /// The platform's id of the account.
    pub platform_user_id: String,
    /// Its display name.
    pub username: Sealed,
    /// The id that webhooks name the account by.
    pub route: String,
    /// False once disconnected.
    pub is_active: bool,
    /// What the platform said when it stopped accepting the authorisation.
    pub needs_reconnect: Option<String>,
    /// Where the next poll begins; `None` before the first.
    pub cursor: Option<Value>,
    /// What counts of its history.
    pub epoch: Epoch,
    /// First connected.
    pub created_at: DateTime<Utc>,
    /// Last changed.
    pub updated_at: DateTime<Utc>,
}

/// The rows of the accounts read model.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// By account.
    pub accounts: Table<AccountId, AccountRow>,
}

/// The kinds of events this projection cares about: for readers that want to pass the others
/// without a look.
pub const CONCERNS: [&str; 6] = [
    "AccountConnected",
    "AccountDisconnected",
    "AccountNeedsReconnect",
    "AccountPolled",
    "AccountForgotten",
    "UserErased",
];

/// The events this projection cares about.
enum Concern<'a> {
    Connected(&'a AccountConnected),
    Disconnected(&'a AccountDisconnected),
    NeedsReconnect(&'a AccountNeedsReconnect),
    Polled(&'a AccountPolled),
    Forgotten(&'a AccountForgotten),
    Erased(&'a UserErased),
}

/// The rows an event needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// One account.
    Account(AccountId),
    /// Every account of a user.
    AccountsOf(UserId),
}

/// The rows an event needs, or `None` when this projection does not care about it.
pub fn needs(event: &Event) -> Option<Needs> {
    concern(event).map(|concern| match concern {
        Concern::Connected(it) => Needs::Account(it.account),
        Concern::Disconnected(it) => Needs::Account(it.account),
        Concern::NeedsReconnect(it) => Needs::Account(it.account),
        Concern::Polled(it) => Needs::Account(it.account),
        Concern::Forgotten(it) => Needs::Account(it.account),
        Concern::Erased(it) => Needs::AccountsOf(it.user),
    })
}

fn concern(event: &Event) -> Option<Concern<'_>> {
    match event {
        Event::AccountConnected(it) => Some(Concern::Connected(it)),
        Event::AccountDisconnected(it) => Some(Concern::Disconnected(it)),
        Event::AccountNeedsReconnect(it) => Some(Concern::NeedsReconnect(it)),
        Event::AccountPolled(it) => Some(Concern::Polled(it)),
        Event::AccountForgotten(it) => Some(Concern::Forgotten(it)),
        Event::UserErased(it) => Some(Concern::Erased(it)),
        Event::UserRegistered(_)
        | Event::SessionStarted(_)
        | Event::SessionRefreshed(_)
        | Event::SessionRevoked(_)
        | Event::ResetRequested(_)
        | Event::ConversationForgotten(_)
        | Event::ConnectFailed(_)
        | Event::AccountNoted(_)
        | Event::MessageReceived(_)
        | Event::MessageObserved(_)
        | Event::MessageEdited(_)
        | Event::MessageDeleted(_)
        | Event::ReactionChanged(_)
        | Event::ReceiptReceived(_)
        | Event::ContactNamed(_)
        | Event::MediaAnnounced(_)
        | Event::MediaUploaded(_)
        | Event::MediaStored(_)
        | Event::MediaUnavailable(_)
        | Event::ConversationNoted(_)
        | Event::MessageQueued(_)
        | Event::SendAttempted(_)
        | Event::MessageSent(_)
        | Event::SendDelayed(_)
        | Event::SendFailed(_)
        | Event::SendUncertain(_)
        | Event::ConversationImported(_)
        | Event::MessageImported(_)
        | Event::MessageRead(_)
        | Event::ConversationRead(_) => None,
    }
}

impl Accounts {
    /// Applies one event. What it [`needs`] must have been loaded if it exists.
    pub fn fold(&mut self, recorded: &Recorded) {
        let at = recorded.recorded_at;
        match concern(&recorded.event) {
            Some(Concern::Connected(it)) => {
                let row = self.accounts.change_or(it.account, || AccountRow {
                    id: it.account,
                    user: it.user,
                    platform: it.platform,
                    platform_user_id: it.platform_user_id.clone(),
                    username: it.username.clone(),
                    route: it.route.clone(),
                    is_active: true,
                    needs_reconnect: None,
                    cursor: None,
                    epoch: Epoch::FIRST,
                    created_at: recorded.happened_at(),
                    updated_at: at,
                });
                row.username = it.username.clone();
                row.route = it.route.clone();
                row.is_active = true;
                row.needs_reconnect = None;
                row.updated_at = at;
            }
            Some(Concern::Disconnected(it)) => {
                if let Some(row) = self.accounts.change(it.account) {
                    row.is_active = false;
                    row.updated_at = at;
                }
            }
            Some(Concern::NeedsReconnect(it)) => {
                if let Some(row) = self.accounts.change(it.account) {
                    row.needs_reconnect = Some(it.reason.clone());
                    row.updated_at = at;
                }
            }
            Some(Concern::Polled(it)) => {
                if let Some(row) = self.accounts.change(it.account) {
                    row.cursor = Some(it.cursor.clone());
                    row.updated_at = at;
                }
            }
            Some(Concern::Forgotten(it)) => {
                if let Some(row) = self.accounts.change(it.account) {
                    row.epoch = Epoch(recorded.place.position);
                    row.updated_at = at;
                }
            }
            Some(Concern::Erased(it)) => {
                let own = self.accounts.all().filter(|row| row.user == it.user);
                let ids: Vec<AccountId> = own.map(|row| row.id).collect();
                for id in ids {
                    if let Some(row) = self.accounts.change(id) {
                        row.is_active = false;
                        row.updated_at = at;
                    }
                }
            }
            None => {}
        }
    }
}
