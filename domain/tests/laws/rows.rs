//! Rows as a database keeps them: loaded by what a batch touches, written when they changed.

use std::collections::BTreeMap;

use hub_domain::envelope::Recorded;
use hub_domain::id::{AccountId, ConversationId, MessageId};
use hub_domain::projection::inbox::{ConversationRow, Inbox, MessageRow, TotalRow, Touch};

/// Every row of an inbox, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub conversations: BTreeMap<ConversationId, ConversationRow>,
    pub messages: BTreeMap<MessageId, MessageRow>,
    pub totals: BTreeMap<AccountId, TotalRow>,
}

impl Rows {
    /// The rows after these events, folded in one go.
    pub fn of(events: &[Recorded]) -> Self {
        let mut inbox = Inbox::default();
        for recorded in events {
            inbox.fold(recorded);
        }
        let mut rows = Self::default();
        rows.write(&inbox);
        rows
    }

    /// Folds a batch the way the store does: loads what it touches and nothing else, removes what
    /// went away, then writes what changed.
    pub fn fold(&mut self, batch: &[Recorded]) {
        let mut touch = Touch::default();
        for recorded in batch {
            touch.add(&recorded.event);
        }
        let mut inbox = self.load(|rows, inbox| {
            let mut accounts = touch.accounts.clone();
            for id in &touch.conversations {
                if let Some(row) = rows.conversations.get(id) {
                    inbox.load_conversation(row.clone());
                    accounts.push(row.account);
                }
            }
            for row in accounts.iter().filter_map(|id| rows.totals.get(id)) {
                inbox.load_total(row.clone());
            }
            for row in rows.messages.values() {
                if touches(&touch, row) {
                    inbox.load_message(row.clone());
                }
            }
        });
        for recorded in batch {
            inbox.fold(recorded);
        }
        self.write(&inbox);
    }

    /// An inbox with every row in it.
    pub fn load_all(&self) -> Inbox {
        self.load(|rows, inbox| {
            for row in rows.conversations.values() {
                inbox.load_conversation(row.clone());
            }
            for row in rows.messages.values() {
                inbox.load_message(row.clone());
            }
            for row in rows.totals.values() {
                inbox.load_total(row.clone());
            }
        })
    }

    fn load(&self, load: impl FnOnce(&Self, &mut Inbox)) -> Inbox {
        let mut inbox = Inbox::default();
        load(self, &mut inbox);
        inbox
    }

    /// Writes what changed.
    pub fn write(&mut self, inbox: &Inbox) {
        for id in inbox.messages.removed() {
            self.messages.remove(&id);
        }
        for conversation in inbox.forgotten() {
            let stays =
                |row: &MessageRow| row.conversation != conversation || row.state.is_pending();
            self.messages.retain(|_, row| stays(row));
        }
        for row in inbox.conversations.changed() {
            self.conversations.insert(row.id, row.clone());
        }
        for row in inbox.messages.changed() {
            self.messages.insert(row.id, row.clone());
        }
        for row in inbox.totals.changed() {
            self.totals.insert(row.account, row.clone());
        }
    }

    /// The same without what must depend on the order of arrival: positions and our own times.
    pub fn without_order(mut self) -> Self {
        for row in self.conversations.values_mut() {
            row.created_at = Default::default();
            row.updated_at = Default::default();
        }
        for row in self.messages.values_mut() {
            row.created_at = Default::default();
            row.position = 0;
        }
        self
    }

    /// Checks what holds at every position.
    pub fn check(&self) {
        for row in self.conversations.values() {
            let of = |message: &&MessageRow| message.conversation == row.id;
            let unread = self.messages.values().filter(of);
            let unread = unread.filter(|it| it.is_unread(row.read_through)).count();
            assert_eq!(row.unread, unread as i32, "unread of {row:?}");
            let listed = self.messages.values().filter(of);
            let listed = listed.filter(|it| it.is_listed()).count();
            assert_eq!(row.messages, listed as i32, "messages of {row:?}");
            assert!(
                !row.forgotten || listed == 0,
                "shown and forgotten: {row:?}"
            );
        }
        let mut totals: BTreeMap<AccountId, (i64, i64)> = BTreeMap::new();
        for row in self.conversations.values() {
            let total = totals.entry(row.account).or_default();
            total.0 += i64::from(!row.forgotten);
            total.1 += i64::from(row.unread);
        }
        let kept = self.totals.values();
        let kept = kept.map(|it| (it.account, (it.conversations, it.unread)));
        assert_eq!(kept.collect::<BTreeMap<_, _>>(), totals);
        // The database has a unique index on this.
        let mut named = BTreeMap::new();
        for row in self.messages.values() {
            if let Some(platform_id) = &row.platform_message_id {
                let twin = named.insert((row.conversation, platform_id), row);
                assert!(twin.is_none(), "{row:?} and {twin:?}");
            }
        }
    }
}

/// Whether a stored message is among those a touch asks for.
pub fn touches(touch: &Touch, row: &MessageRow) -> bool {
    let by_platform_id = row.platform_message_id.as_ref().is_some_and(|id| {
        touch
            .platform_ids
            .iter()
            .any(|it| it.0 == row.conversation && it.1 == *id)
    });
    let is_to_be_sent = touch.forgotten.contains(&row.conversation) && row.state.is_pending();
    touch.messages.contains(&row.id) || by_platform_id || is_to_be_sent
}
