//! Those who wait for a poll. They were noted before it began, so it tells them the truth.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use hub_domain::command::{PageAnswer, PollAnswer};
use hub_domain::id::{Key, Shard};
use hub_store::account::Owner;
use hub_store::jobs::Outcome;
use hub_store::polls::Wish;
use hub_store::{Result, Store};

/// How long the translation of a poll's pages is waited for, all of them together.
const TRANSLATED_WITHIN: Duration = Duration::from_secs(3);

/// Who waited when the poll began.
pub(super) struct Wishes {
    owner: Owner,
    all: Vec<Wish>,
}

impl Wishes {
    pub(super) async fn of(store: &Store, owner: Owner) -> Result<Self> {
        let all = store.poll_wishes(owner).await?;
        Ok(Self { owner, all })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The earliest moment somebody wants to look back to.
    pub(super) fn since(&self) -> Option<DateTime<Utc>> {
        self.all.iter().filter_map(|wish| wish.since).min()
    }

    /// Gives everybody this answer. Before the wish goes, so that a crash answers twice, not never;
    /// the first answer stays.
    pub(super) async fn grant(
        &self,
        store: &Store,
        shard: Shard,
        answer: &PollAnswer,
    ) -> Result<()> {
        for wish in &self.all {
            store.put_answer(shard, wish.answer, answer).await?;
        }
        if !self.all.is_empty() {
            store.end_poll_wishes(self.owner, &self.all).await?;
        }
        Ok(())
    }

    /// Tells everybody that there will be no poll, and ends the job.
    pub(super) async fn refuse(&self, store: &Store, message: &str) -> Result<Outcome> {
        self.end(store, message, None).await
    }

    /// Tells everybody that there is no poll for this long, and ends the job.
    pub(super) async fn hold(
        &self,
        store: &Store,
        message: &str,
        held: Duration,
    ) -> Result<Outcome> {
        self.end(store, message, Some(held.as_secs().max(1))).await
    }

    async fn end(
        &self,
        store: &Store,
        message: &str,
        retry_after_s: Option<u64>,
    ) -> Result<Outcome> {
        let shard = store.sharding().of_user(self.owner.user);
        let answer = PollAnswer::Failed {
            message: message.to_owned(),
            retryable: retry_after_s.is_some(),
            retry_after_s,
        };
        self.grant(store, shard, &answer).await?;
        Ok(Outcome::Done)
    }
}

/// How many messages these pages brought. What is not translated in time is not counted.
pub(super) async fn brought(store: &Store, owner: Owner, pages: &[Key]) -> Result<u64> {
    let shard = store.sharding().of_user(owner.user);
    let deadline = Instant::now() + TRANSLATED_WITHIN;
    let mut messages = 0;
    for page in pages {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = store.wait_for_answer(shard, *page, left).await?;
        messages += answer.map_or(0, |it: PageAnswer| it.messages);
    }
    Ok(messages)
}
