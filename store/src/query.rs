//! Questions to the read models, always in the name of a user.
//!
//! The user is in every condition: somebody else's id finds nothing. Readers see the live
//! generation of each projection.

pub(crate) mod past;

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use hub_domain::id::{AccountId, ConversationId, MessageId, Place, Shard, UserId};
use hub_domain::platform::Platform;
use hub_domain::projection::inbox::State;
use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait as _, DbBackend, EntityTrait, FromQueryResult as _,
    QueryFilter, QueryOrder, QuerySelect, Select, Statement,
};

use crate::Store;
use crate::checkpoint;
use crate::entity::{account, conversation, message, total};
use crate::error::Result;
use crate::project::Projection;

pub use past::{PastConversations, PastThread};

/// Unread messages of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// In all active accounts.
    pub total: i64,
    /// By platform, every platform with an active account included.
    pub by_platform: BTreeMap<String, i64>,
}

impl Unread {
    fn add(&mut self, account: &account::Model, unread: i64) {
        let of_platform = self.by_platform.entry(account.platform.clone());
        *of_platform.or_default() += unread;
        self.total += unread;
    }
}

/// A page of rows, and how many there are in all.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// How many there are.
    pub total: i64,
}

/// Messages a client lists (`MessageRow::is_listed`). Written so that the planner sees the thread
/// index's condition in it.
const LISTED: &str = "state <> 'placeholder' \
     AND NOT (state = 'failed' AND attempts <= 1 AND failure IS DISTINCT FROM 'undelivered')";

fn live(shard: Shard, projection: Projection) -> SimpleExpr {
    Expr::cust_with_values(
        "generation = (SELECT live FROM generations WHERE shard = $1 AND projection = $2)",
        [
            sea_orm::Value::from(shard.0),
            sea_orm::Value::from(projection.name()),
        ],
    )
}

/// The live accounts of a shard; every question to them begins here.
fn accounts_in(shard: Shard) -> Select<account::Entity> {
    account::Entity::find()
        .filter(account::Column::Shard.eq(shard.0))
        .filter(live(shard, Projection::Accounts))
}

/// The live conversations of a shard; every question to them begins here.
fn conversations_in(shard: Shard) -> Select<conversation::Entity> {
    conversation::Entity::find()
        .filter(conversation::Column::Shard.eq(shard.0))
        .filter(live(shard, Projection::Inbox))
}

/// The live messages of a shard; every question to them begins here.
fn messages_in(shard: Shard) -> Select<message::Entity> {
    message::Entity::find()
        .filter(message::Column::Shard.eq(shard.0))
        .filter(live(shard, Projection::Inbox))
}

/// The order clients see messages in (contract 2.3).
fn newest_first(query: Select<message::Entity>) -> Select<message::Entity> {
    query
        .order_by_desc(message::Column::SentAt)
        .order_by_desc(message::Column::CreatedAt)
        .order_by_desc(message::Column::Id)
}

impl Store {
    /// The accounts of a user, newest first.
    pub async fn accounts(
        &self,
        user: UserId,
        include_inactive: bool,
    ) -> Result<Vec<account::Model>> {
        let shard = self.sharding().of_user(user);
        let mut query = accounts_in(shard).filter(account::Column::UserId.eq(user.0));
        if !include_inactive {
            query = query.filter(account::Column::IsActive.eq(true));
        }
        Ok(query
            .order_by_desc(account::Column::CreatedAt)
            .order_by_desc(account::Column::Id)
            .all(self.orm())
            .await?)
    }

    /// An account of a user, active or not.
    pub async fn account(
        &self,
        user: UserId,
        account: AccountId,
    ) -> Result<Option<account::Model>> {
        let shard = self.sharding().of_user(user);
        Ok(accounts_in(shard)
            .filter(account::Column::Id.eq(account.0))
            .filter(account::Column::UserId.eq(user.0))
            .one(self.orm())
            .await?)
    }

    /// Conversations of the user's active accounts, newest message first.
    pub async fn conversations(
        &self,
        user: UserId,
        platform: Option<Platform>,
        limit: i64,
        offset: i64,
    ) -> Result<Page<conversation::Model>> {
        self.page_of(user, (platform, None), limit, offset).await
    }

    /// The newest conversations of one active account of the user.
    pub async fn conversations_of(
        &self,
        user: UserId,
        account: AccountId,
        limit: i64,
    ) -> Result<Page<conversation::Model>> {
        self.page_of(user, (None, Some(account)), limit, 0).await
    }

    async fn page_of(
        &self,
        user: UserId,
        (platform, account): (Option<Platform>, Option<AccountId>),
        limit: i64,
        offset: i64,
    ) -> Result<Page<conversation::Model>> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            include_str!("../sql/conversations.sql"),
            [
                self.sharding().of_user(user).0.into(),
                user.0.into(),
                platform.map(Platform::name).into(),
                account.map(|account| account.0).into(),
                limit.into(),
                offset.into(),
            ],
        );
        let mut page = Page {
            rows: Vec::new(),
            total: 0,
        };
        for row in self.orm().query_all_raw(statement).await? {
            page.total = row.try_get("", "total")?;
            if let Some(conversation) = conversation::Model::from_query_result_optional(&row, "")? {
                page.rows.push(conversation);
            }
        }
        Ok(page)
    }

    /// Which of these messages, named by conversation and the platform's id, the user has sent
    /// through the hub, as far as the read model has them.
    pub async fn sent_messages(
        &self,
        user: UserId,
        names: &[(ConversationId, String)],
    ) -> Result<HashSet<(ConversationId, String)>> {
        let sent = Condition::all().add(message::Column::State.eq(State::Sent.name()));
        self.named_messages(user, names, sent).await
    }

    /// Which of these messages, named by conversation and the platform's id, the read model has.
    pub async fn known_messages(
        &self,
        user: UserId,
        names: &[(ConversationId, String)],
    ) -> Result<HashSet<(ConversationId, String)>> {
        let told = Condition::all().add(message::Column::State.ne(State::Placeholder.name()));
        self.named_messages(user, names, told).await
    }

    async fn named_messages(
        &self,
        user: UserId,
        names: &[(ConversationId, String)],
        only: Condition,
    ) -> Result<HashSet<(ConversationId, String)>> {
        if names.is_empty() {
            return Ok(HashSet::new());
        }
        let ids = names.iter().map(|(conversation, _)| conversation.0);
        let platform_ids = names.iter().map(|(_, id)| id.as_str());
        let rows = messages_in(self.sharding().of_user(user))
            .filter(message::Column::ConversationId.is_in(ids))
            .filter(message::Column::PlatformMessageId.is_in(platform_ids))
            .filter(only)
            .all(self.orm())
            .await?;
        let found = rows.into_iter().filter_map(|row| {
            Some((
                ConversationId(row.conversation_id),
                row.platform_message_id?,
            ))
        });
        Ok(found.collect())
    }

    /// What the accounts of a user add up to, active or not.
    async fn totals(&self, user: UserId) -> Result<Vec<total::Model>> {
        let shard = self.sharding().of_user(user);
        Ok(total::Entity::find()
            .filter(total::Column::Shard.eq(shard.0))
            .filter(live(shard, Projection::Inbox))
            .filter(total::Column::UserId.eq(user.0))
            .all(self.orm())
            .await?)
    }

    /// A conversation of a user, if its account is active and it was not forgotten.
    pub async fn conversation(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Option<(conversation::Model, account::Model)>> {
        let shard = self.sharding().of_user(user);
        let found = conversations_in(shard)
            .filter(conversation::Column::Id.eq(conversation.0))
            .filter(conversation::Column::UserId.eq(user.0))
            .filter(conversation::Column::Forgotten.eq(false))
            .one(self.orm())
            .await?;
        let Some(found) = found else { return Ok(None) };
        let account = self.account(user, AccountId(found.account_id)).await?;
        Ok(account
            .filter(|account| account.is_active)
            .map(|account| (found, account)))
    }

    /// A page of a conversation's messages, newest first. The caller has checked that the
    /// conversation is the user's; its row says how many there are.
    pub async fn thread(
        &self,
        user: UserId,
        conversation: ConversationId,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<message::Model>> {
        let shard = self.sharding().of_user(user);
        let query = messages_in(shard)
            .filter(message::Column::ConversationId.eq(conversation.0))
            .filter(Expr::cust(LISTED));
        Ok(newest_first(query)
            .limit(limit.unsigned_abs())
            .offset(offset.unsigned_abs())
            .all(self.orm())
            .await?)
    }

    /// The newest messages of all active accounts of a user, with their conversations.
    pub async fn recent_messages(
        &self,
        user: UserId,
        since: Option<DateTime<Utc>>,
        limit: i64,
    ) -> Result<Vec<(message::Model, conversation::Model)>> {
        // Messages carry no user: the newest of the newest conversations are the newest of all,
        // because a conversation's last_message_at is at least that of each of its messages.
        let page = self.conversations(user, None, limit, 0).await?;
        let shard = self.sharding().of_user(user);
        let ids: Vec<uuid::Uuid> = page.rows.iter().map(|row| row.id).collect();
        let mut query = messages_in(shard)
            .filter(message::Column::ConversationId.is_in(ids))
            .filter(Expr::cust(LISTED));
        if let Some(since) = since {
            query = query.filter(message::Column::SentAt.gte(since));
        }
        let rows = newest_first(query)
            .limit(limit.unsigned_abs())
            .all(self.orm())
            .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let of = page.rows.iter().find(|it| it.id == row.conversation_id)?;
                Some((row, of.clone()))
            })
            .collect())
    }

    /// A message of a user with its conversation, if the account is active.
    pub async fn message(
        &self,
        user: UserId,
        message: MessageId,
    ) -> Result<Option<(message::Model, conversation::Model, account::Model)>> {
        let shard = self.sharding().of_user(user);
        let found = messages_in(shard)
            .filter(message::Column::Id.eq(message.0))
            .filter(Expr::cust("state <> 'placeholder'"))
            .one(self.orm())
            .await?;
        let Some(found) = found else { return Ok(None) };
        let owner = self
            .conversation(user, ConversationId(found.conversation_id))
            .await?;
        Ok(owner.map(|(conversation, account)| (found, conversation, account)))
    }

    /// Messages of a conversation that the sender still has to do with, in the order they were
    /// accepted: those to be sent, and uncertain ones that others wait behind.
    pub async fn unsettled_messages(
        &self,
        user: UserId,
        conversation: ConversationId,
        limit: u64,
    ) -> Result<Vec<message::Model>> {
        let shard = self.sharding().of_user(user);
        Ok(messages_in(shard)
            .filter(message::Column::ConversationId.eq(conversation.0))
            .filter(Expr::cust(
                "(state IN ('queued', 'sending', 'delayed') \
                 OR state = 'uncertain' AND retry_at > now())",
            ))
            .order_by_asc(message::Column::Position)
            .limit(limit)
            .all(self.orm())
            .await?)
    }

    /// Messages of ours in a conversation that the hub did not send or does not know to have sent,
    /// written since then by the platform's clock.
    pub async fn observed_since(
        &self,
        user: UserId,
        conversation: ConversationId,
        since: DateTime<Utc>,
        limit: u64,
    ) -> Result<Vec<message::Model>> {
        let shard = self.sharding().of_user(user);
        Ok(messages_in(shard)
            .filter(message::Column::ConversationId.eq(conversation.0))
            .filter(message::Column::State.eq(State::Observed.name()))
            .filter(message::Column::SentAt.gte(since))
            .limit(limit)
            .all(self.orm())
            .await?)
    }

    /// The unread counts of a user: platforms with an active account are there even with 0.
    pub async fn unread(&self, user: UserId) -> Result<Unread> {
        let accounts = self.accounts(user, false).await?;
        let mut unread = Unread::default();
        for account in &accounts {
            unread.add(account, 0);
        }
        for total in self.totals(user).await? {
            if let Some(account) = accounts.iter().find(|account| account.id == total.id) {
                unread.add(account, total.unread);
            }
        }
        Ok(unread)
    }
}
