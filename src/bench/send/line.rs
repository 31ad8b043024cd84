//! A conversation that is written in, with an account of a user of its own or of a neighbour's.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use chrono::Utc;
use hub_domain::envelope::Append;
use hub_domain::event::{AccountConnected, MessageQueued, MessageType, Thread};
use hub_domain::id::{Key, MessageId, Shard, UserId, account_id, conversation_id};
use hub_domain::platform::{Connected, Platform};
use hub_store::Store;
use hub_store::account::Owner;
use uuid::Uuid;

use super::BOT_TOKEN;

/// The bot's id at the platform.
const BOT: &str = "7100000001";

/// One conversation.
pub struct Line {
    /// Where its events are.
    pub shard: Shard,
    /// Whose it is, and what the platform calls it.
    pub at: Thread,
    /// Messages so far.
    accepted: AtomicU64,
}

impl Line {
    /// The conversation of this number, of the account of that one.
    pub async fn open(store: &Store, account: usize, number: usize) -> Result<Self> {
        let user = UserId(Uuid::from_u128(0x7365_6e64 << 64 | account as u128));
        let person = format!("51000{account:04}");
        let shard = store.sharding().of_user(user);
        let owner = Owner {
            user,
            account: account_id(user, Platform::Telegram, &person),
        };
        let key = store.vault().user(user).await?;
        let connected = Connected {
            platform_user_id: person.clone(),
            username: "Blue Teapots".to_owned(),
            route: BOT.to_owned(),
            access_token: BOT_TOKEN.into(),
            refresh_token: None,
            expires_in_s: None,
            granted: None,
        };
        store.put_account_tokens(owner, &connected, None).await?;
        let event = AccountConnected {
            user,
            account: owner.account,
            platform: Platform::Telegram,
            platform_user_id: person,
            username: key.seal(&connected.username),
            route: connected.route,
        };
        // Others of the account say so too.
        let once = Key::of(&[b"bench", owner.account.0.as_bytes()]);
        let append = Append::one(shard, owner.account, event).once(once);
        store.append(append).await?;
        let thread = format!("7214365{number:04}");
        Ok(Self {
            shard,
            at: Thread {
                user,
                account: owner.account,
                platform: Platform::Telegram,
                conversation: conversation_id(owner.account, &thread),
                thread,
            },
            accepted: AtomicU64::new(0),
        })
    }

    /// Accepts the next message. It says which one it is.
    pub async fn accept(&self, store: &Store) -> Result<()> {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let content = store.vault().content(self.at.user, Utc::now(), None);
        let message = MessageId(Uuid::now_v7());
        let queued = MessageQueued {
            at: self.at.clone(),
            message,
            message_type: MessageType::Text,
            text: content.await?.seal(&text(number)),
            attached: None,
        };
        let once = Key::of(&[b"send", message.0.as_bytes()]);
        let append = Append::one(self.shard, self.at.conversation, queued).once(once);
        store.append(append).await?;
        Ok(())
    }

    /// Fails unless these are the texts that were accepted, in that order.
    pub fn compare(&self, taken: &[&str]) -> Result<()> {
        let accepted = self.accepted.load(Ordering::Relaxed);
        for (number, taken) in (0..).zip(taken) {
            ensure!(
                *taken == text(number),
                "in {} number {number} should follow, but there was: {taken}",
                self.at.thread
            );
        }
        ensure!(
            taken.len() as u64 == accepted,
            "in {} {accepted} messages were accepted and {} taken",
            self.at.thread,
            taken.len()
        );
        Ok(())
    }
}

fn text(number: u64) -> String {
    format!("Yes, the blue teapot is still in stock. ({number})")
}
