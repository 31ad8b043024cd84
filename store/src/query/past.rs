//! The same questions about a past moment.
//!
//! Promises: the answer is what the live one was at that moment, worked out by the same fold. A
//! moment is a position of the user's shard ([`read::position_at`]). Rows that nothing has touched
//! since are taken from the live read model, as every change of a row moves its `updated_at` to the
//! time of the event; the others are folded from their streams up to that position. So the work is
//! that of the conversations that changed since, or of the one thread, and never that of the log.
//! It has a bound ([`Error::TooMuch`]), few are worked out at a time, and who cannot be served soon
//! is told to come back ([`Error::Behind`]).

mod rows;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use hub_domain::envelope::Recorded;
use hub_domain::id::StreamId;
use hub_domain::limits::{
    AS_OF_AT_ONCE_MAX, AS_OF_BATCH_MAX, AS_OF_EVENTS_MAX, AS_OF_TAIL_MAX, AS_OF_WAIT_MAX,
};
use hub_domain::projection::accounts::Accounts;
use hub_domain::projection::inbox::Inbox;
use sea_orm::{
    AccessMode, DatabaseTransaction, IsolationLevel, PaginatorTrait as _, TransactionTrait as _,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use sea_orm::Order;
use sea_orm::sea_query::NullOrdering;

use super::*;
use crate::error::Error;
use crate::{places, read};

/// Who may fold a past now.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AS_OF_AT_ONCE_MAX)))
    }

    async fn take(&self) -> Result<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.0).acquire_owned();
        match tokio::time::timeout(AS_OF_WAIT_MAX, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Error::Behind("the queue of questions about the past")),
        }
    }
}

/// The conversations of a past moment, with the accounts that were active then.
#[derive(Clone, Debug)]
pub struct PastConversations {
    /// The accounts by id.
    pub accounts: HashMap<Uuid, account::Model>,
    /// The page.
    pub page: Page<conversation::Model>,
}

/// A thread at a past moment.
#[derive(Clone, Debug)]
pub enum PastThread {
    /// As it was.
    Was(Box<conversation::Model>, Vec<message::Model>),
    /// It is the user's, and began later.
    NotYet,
    /// There is no such conversation of the user, it was forgotten, or its account was not active.
    Unknown,
}

/// A moment of a user's shard.
struct Moment {
    shard: Shard,
    time: DateTime<Utc>,
    position: i64,
}

impl Store {
    /// [`Store::conversations`] as it was answered at that time.
    pub async fn conversations_at(
        &self,
        user: UserId,
        time: DateTime<Utc>,
        platform: Option<Platform>,
        limit: i64,
        offset: i64,
    ) -> Result<PastConversations> {
        let moment = self.moment(user, time).await?;
        let _turn = self.past_turns().take().await?;
        let accounts = self.all_accounts_at(&moment, user).await?;
        let mut query = conversations_in(moment.shard)
            .filter(conversation::Column::UserId.eq(user.0))
            .filter(conversation::Column::AccountId.is_in(accounts.keys().copied()))
            .filter(conversation::Column::CreatedAt.lte(time));
        if let Some(platform) = platform {
            query = query.filter(conversation::Column::Platform.eq(platform.name()));
        }
        let still = query
            .clone()
            .filter(conversation::Column::UpdatedAt.lte(time))
            .filter(conversation::Column::Forgotten.eq(false));
        // One snapshot, or a conversation that changes meanwhile would be in neither part.
        let snapshot = self.snapshot().await?;
        let changed: Vec<Uuid> = query
            .filter(conversation::Column::UpdatedAt.gt(time))
            .select_only()
            .column(conversation::Column::Id)
            .into_tuple()
            .all(&snapshot)
            .await?;
        let folded = i64::try_from(changed.len()).unwrap_or(i64::MAX);
        let unchanged = still.clone().count(&snapshot).await?;
        // Each folded row moves the page by one at most.
        let skipped = std::cmp::max(offset - folded, 0);
        let mut rows = still
            .order_by_with_nulls(
                conversation::Column::LastMessageAt,
                Order::Desc,
                NullOrdering::Last,
            )
            .order_by_asc(conversation::Column::Id)
            .limit(limit.saturating_add(folded).unsigned_abs())
            .offset(skipped.unsigned_abs())
            .all(&snapshot)
            .await?;
        snapshot.commit().await?;
        // Of those that changed since, an imported one is older than what the hub knew of it then.
        let changed = self.folded_conversations(&moment, &changed).await?;
        let existed = i64::try_from(changed.len()).unwrap_or(i64::MAX);
        rows.extend(changed);
        // The order of the query above; no time is less than any time.
        rows.sort_by(|a, b| (b.last_message_at, a.id).cmp(&(a.last_message_at, b.id)));
        let page = Page {
            rows: page(rows, limit, offset - skipped),
            total: i64::try_from(unchanged)
                .unwrap_or(i64::MAX)
                .saturating_add(existed),
        };
        Ok(PastConversations { accounts, page })
    }

    /// [`Store::unread`] as it was answered at that time: what conversations that have not changed
    /// since have unread, and of the others what folding says.
    pub async fn unread_at(&self, user: UserId, time: DateTime<Utc>) -> Result<Unread> {
        let moment = self.moment(user, time).await?;
        let _turn = self.past_turns().take().await?;
        let accounts = self.all_accounts_at(&moment, user).await?;
        let query = conversations_in(moment.shard)
            .filter(conversation::Column::UserId.eq(user.0))
            .filter(conversation::Column::AccountId.is_in(accounts.keys().copied()));
        let snapshot = self.snapshot().await?;
        let unchanged: Vec<(Uuid, i64)> = query
            .clone()
            .filter(conversation::Column::UpdatedAt.lte(time))
            .filter(conversation::Column::Unread.gt(0))
            .select_only()
            .column(conversation::Column::AccountId)
            .column_as(conversation::Column::Unread.sum(), "unread")
            .group_by(conversation::Column::AccountId)
            .into_tuple()
            .all(&snapshot)
            .await?;
        let changed: Vec<Uuid> = query
            .filter(conversation::Column::CreatedAt.lte(time))
            .filter(conversation::Column::UpdatedAt.gt(time))
            .select_only()
            .column(conversation::Column::Id)
            .into_tuple()
            .all(&snapshot)
            .await?;
        snapshot.commit().await?;
        let folded = self.folded_conversations(&moment, &changed).await?;
        let folded = folded
            .into_iter()
            .map(|row| (row.account_id, i64::from(row.unread)));
        let mut unread = Unread::default();
        for account in accounts.values() {
            unread.add(account, 0);
        }
        for (account, count) in unchanged.into_iter().chain(folded) {
            if let Some(account) = accounts.get(&account) {
                unread.add(account, count);
            }
        }
        Ok(unread)
    }

    /// [`Store::thread`] as it was answered at that time, with its conversation.
    pub async fn thread_at(
        &self,
        user: UserId,
        conversation: ConversationId,
        time: DateTime<Utc>,
        limit: i64,
        offset: i64,
    ) -> Result<PastThread> {
        let moment = self.moment(user, time).await?;
        let now = conversations_in(moment.shard)
            .filter(conversation::Column::Id.eq(conversation.0))
            .filter(conversation::Column::UserId.eq(user.0))
            .one(self.orm())
            .await?;
        let Some(now) = now else {
            return Ok(PastThread::Unknown);
        };
        if now.created_at > time {
            return Ok(PastThread::NotYet);
        }
        let _turn = self.past_turns().take().await?;
        let account = self.account(user, AccountId(now.account_id)).await?;
        let accounts = account.into_iter().collect();
        if self.accounts_at(&moment, accounts).await?.is_empty() {
            return Ok(PastThread::Unknown);
        }
        let mut inbox = Inbox::default();
        for group in self.groups(&moment, &[conversation.into()]).await? {
            self.fold(&moment, &group, |it| inbox.fold(it)).await?;
        }
        let Some(row) = inbox.conversations.get(conversation) else {
            return Ok(PastThread::NotYet);
        };
        if row.forgotten {
            return Ok(PastThread::Unknown);
        }
        let listed = inbox.messages.all().filter(|row| row.is_listed());
        let mut messages = listed
            .map(|row| rows::message(moment.shard, row))
            .collect::<Result<Vec<_>>>()?;
        // The order of `newest_first`.
        messages.sort_by_key(|row| Reverse((row.sent_at, row.created_at, row.id)));
        Ok(PastThread::Was(
            Box::new(rows::conversation(moment.shard, row)),
            page(messages, limit, offset),
        ))
    }

    /// Finds the position, and makes sure that what is read on account of it has come that far.
    async fn moment(&self, user: UserId, time: DateTime<Utc>) -> Result<Moment> {
        let shard = self.sharding().of_user(user);
        let position = read::position_at(self.pool(), shard, time).await?;
        let place = Place { shard, position };
        for projection in Projection::ALL {
            if !self
                .wait_for_projection(projection, place, AS_OF_WAIT_MAX)
                .await?
            {
                return Err(Error::Behind("a read model"));
            }
        }
        let indexed = checkpoint::position(self.pool(), places::NAME, shard).await?;
        if position - indexed > AS_OF_TAIL_MAX {
            return Err(Error::Behind("the index of places"));
        }
        Ok(Moment {
            shard,
            time,
            position,
        })
    }

    /// A transaction that sees one state of the read models.
    async fn snapshot(&self) -> Result<DatabaseTransaction> {
        let orm = self.orm().clone();
        // In a task, for the reason that `crate::transaction` gives.
        let begun = tokio::spawn(async move {
            let level = Some(IsolationLevel::RepeatableRead);
            orm.begin_with_config(level, Some(AccessMode::ReadOnly))
                .await
        });
        let crashed = |_| Error::Unavailable(sqlx::Error::WorkerCrashed);
        Ok(begun.await.map_err(crashed)??)
    }

    /// The user's accounts that were active at that moment, as they were.
    async fn all_accounts_at(
        &self,
        moment: &Moment,
        user: UserId,
    ) -> Result<HashMap<Uuid, account::Model>> {
        let query = accounts_in(moment.shard)
            .filter(account::Column::UserId.eq(user.0))
            .filter(account::Column::CreatedAt.lte(moment.time));
        self.accounts_at(moment, query.all(self.orm()).await?).await
    }

    /// Of these accounts those that were active at that moment, as they were.
    async fn accounts_at(
        &self,
        moment: &Moment,
        now: Vec<account::Model>,
    ) -> Result<HashMap<Uuid, account::Model>> {
        let (mut then, changed): (Vec<_>, Vec<_>) = now
            .into_iter()
            .partition(|row| row.updated_at <= moment.time);
        let changed: Vec<StreamId> = changed.iter().map(|row| StreamId(row.id)).collect();
        let mut model = Accounts::default();
        for group in self.groups(moment, &changed).await? {
            self.fold(moment, &group, |it| model.fold(it)).await?;
        }
        then.extend(
            model
                .accounts
                .all()
                .map(|row| rows::account(moment.shard, row)),
        );
        let active = then.into_iter().filter(|row| row.is_active);
        Ok(active.map(|row| (row.id, row)).collect())
    }

    async fn folded_conversations(
        &self,
        moment: &Moment,
        changed: &[Uuid],
    ) -> Result<Vec<conversation::Model>> {
        let streams: Vec<StreamId> = changed.iter().copied().map(StreamId).collect();
        let mut found = Vec::with_capacity(changed.len());
        for group in self.groups(moment, &streams).await? {
            // One model for each group: the messages are dropped as soon as they are folded.
            let mut inbox = Inbox::default();
            self.fold(moment, &group, |it| inbox.fold(it)).await?;
            let rows = inbox.conversations.all().filter(|row| !row.forgotten);
            found.extend(rows.map(|row| rows::conversation(moment.shard, row)));
        }
        Ok(found)
    }

    /// Divides streams into groups of about a batch of events. Refuses more than the bound.
    async fn groups(&self, moment: &Moment, streams: &[StreamId]) -> Result<Vec<Group>> {
        if streams.is_empty() {
            return Ok(Vec::new());
        }
        let most = AS_OF_EVENTS_MAX;
        let counts = read::count(
            self.pool(),
            moment.shard,
            streams,
            moment.position,
            most.saturating_add(1),
        )
        .await?;
        if counts.values().sum::<i64>() > most {
            return Err(Error::TooMuch(most));
        }
        let mut groups: Vec<Group> = Vec::new();
        for (stream, events) in counts {
            match groups.last_mut() {
                Some(last) if last.events + events <= AS_OF_BATCH_MAX => {
                    last.streams.push(stream);
                    last.events += events;
                }
                _ => groups.push(Group {
                    streams: vec![stream],
                    events,
                }),
            }
        }
        Ok(groups)
    }

    /// Folds the events of a group, a batch at a time.
    async fn fold(
        &self,
        moment: &Moment,
        group: &Group,
        mut fold: impl FnMut(&Recorded),
    ) -> Result<()> {
        let mut after = 0;
        // Several streams have a batch together; one alone may have many.
        while after < group.events {
            let versions = (after, after + AS_OF_BATCH_MAX);
            let (shard, to) = (moment.shard, moment.position);
            let events = read::streams(self.pool(), shard, &group.streams, versions, to).await?;
            events.iter().for_each(&mut fold);
            after = versions.1;
        }
        Ok(())
    }
}

/// Streams that are folded together.
struct Group {
    streams: Vec<StreamId>,
    events: i64,
}

fn page<T>(rows: Vec<T>, limit: i64, offset: i64) -> Vec<T> {
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    let take = usize::try_from(limit).unwrap_or(usize::MAX);
    rows.into_iter().skip(skip).take(take).collect()
}
