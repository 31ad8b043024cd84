//! What polled pages brought that the log did not have: counted where it is a repair, and told to
//! the poll when somebody waits for it.

use std::collections::BTreeMap;

use hub_domain::command::{Command, PageAnswer};
use hub_domain::envelope::Append;
use hub_domain::event::Event;
use hub_domain::id::{Key, Place, UserId};
use hub_domain::platform::Platform;
use hub_store::commands::Received;
use hub_store::{Result, Store};

/// The pages among a batch of commands, by position.
pub(super) struct Pages(BTreeMap<i64, Page>);

struct Page {
    platform: Platform,
    user: UserId,
    repairs: bool,
    answer: Option<Key>,
    events: u64,
    messages: u64,
}

impl Pages {
    pub(super) fn of(received: &[Received]) -> Self {
        let pages = received.iter().filter_map(|it| {
            let Ok(Command::Page {
                platform,
                user,
                repairs,
                answer,
                ..
            }) = &it.command
            else {
                return None;
            };
            let page = Page {
                platform: *platform,
                user: *user,
                repairs: *repairs,
                answer: *answer,
                events: 0,
                messages: 0,
            };
            Some((it.place.position, page))
        });
        Self(pages.collect())
    }

    /// Notes that this append was new.
    pub(super) fn brought(&mut self, place: Place, append: &Append) {
        let Some(page) = self.0.get_mut(&place.position) else {
            return;
        };
        for event in &append.events {
            let is_message = matches!(event, Event::MessageReceived(_) | Event::MessageObserved(_));
            page.events += 1;
            page.messages += u64::from(is_message);
        }
    }

    /// Counts repairs and leaves answers. A crash before the checkpoint translates once more and
    /// finds nothing new: the first answer stays, and at worst a repair is not counted.
    pub(super) async fn tell(&self, store: &Store) -> Result<()> {
        for page in self.0.values() {
            if page.repairs && page.events > 0 {
                let platform = page.platform.name();
                metrics::counter!("hub_ingest_repaired_total", "platform" => platform)
                    .increment(page.events);
            }
            if let Some(answer) = page.answer {
                let shard = store.sharding().of_user(page.user);
                let messages = page.messages;
                store
                    .put_answer(shard, answer, &PageAnswer { messages })
                    .await?;
            }
        }
        Ok(())
    }
}
