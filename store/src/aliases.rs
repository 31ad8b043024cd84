//! Ids that do not follow from their natural keys, because they were there before the hub.
//!
//! Imported accounts and conversations keep their ids. Whoever meets one of them by its natural key
//! derives the id that would follow and finds here the one that counts. Promises: the aliases of an
//! account's conversations are there before anything can arrive for the account, because they are
//! written with its place in the directory; an alias never changes. So what was found once is kept in
//! memory, and whoever owns none (`has_aliases` in the directory) is never asked about.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use hub_domain::id::{AccountId, ConversationId, UserId, account_id, conversation_id};
use hub_domain::platform::Platform;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Store;
use crate::account::Owner;
use crate::error::Result;

/// Answers kept in memory; beyond that the cache starts over.
const CACHE_MAX: usize = 100_000;

/// What was found before.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<RwLock<HashMap<Uuid, Uuid>>>);

/// An id that would follow, and the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) derived: Uuid,
    pub(crate) id: Uuid,
}

impl Store {
    /// The account a user has on a platform, or will have when it is connected.
    pub async fn account_named(
        &self,
        user: UserId,
        platform: Platform,
        platform_user_id: &str,
    ) -> Result<AccountId> {
        let derived = account_id(user, platform, platform_user_id);
        Ok(AccountId(self.alias(user, derived.0).await?))
    }

    /// The conversation of an account whose owner has aliases, by the platform's id of the thread.
    pub async fn conversation_named(&self, owner: Owner, thread: &str) -> Result<ConversationId> {
        let derived = conversation_id(owner.account, thread).0;
        if let Ok(known) = self.aliases.0.read()
            && let Some(id) = known.get(&derived)
        {
            return Ok(ConversationId(*id));
        }
        let id = self.alias(owner.user, derived).await?;
        if let Ok(mut known) = self.aliases.0.write() {
            if known.len() >= CACHE_MAX {
                known.clear();
            }
            known.insert(derived, id);
        }
        Ok(ConversationId(id))
    }

    async fn alias(&self, user: UserId, derived: Uuid) -> Result<Uuid> {
        let id: Option<Uuid> =
            sqlx::query_scalar("SELECT id FROM aliases WHERE shard = $1 AND derived = $2")
                .bind(self.sharding().of_user(user).0)
                .bind(derived)
                .fetch_optional(self.pool())
                .await?;
        Ok(id.unwrap_or(derived))
    }

    /// Whether a user has any.
    pub async fn has_aliases(&self, user: UserId) -> Result<bool> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM aliases WHERE shard = $1 AND user_id = $2)",
        )
        .bind(self.sharding().of_user(user).0)
        .bind(user.0)
        .fetch_one(self.pool())
        .await?)
    }

    /// The aliases among these of a user's, by the id that would follow.
    pub(crate) async fn aliases_of(
        &self,
        user: UserId,
        derived: &[Uuid],
    ) -> Result<HashMap<Uuid, Uuid>> {
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT derived, id FROM aliases WHERE shard = $1 AND derived = ANY ($2)",
        )
        .bind(self.sharding().of_user(user).0)
        .bind(derived)
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().collect())
    }

    /// Writes aliases of a user; one that is there stays as it is.
    pub(crate) async fn put_aliases(
        &self,
        connection: &mut PgConnection,
        user: UserId,
        aliases: &[Alias],
    ) -> Result<()> {
        if aliases.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO aliases (shard, derived, id, user_id) \
             SELECT $1, w.derived, w.id, $2 FROM unnest($3::uuid[], $4::uuid[]) w (derived, id) \
             ON CONFLICT DO NOTHING",
        )
        .bind(self.sharding().of_user(user).0)
        .bind(user.0)
        .bind(aliases.iter().map(|it| it.derived).collect::<Vec<_>>())
        .bind(aliases.iter().map(|it| it.id).collect::<Vec<_>>())
        .execute(connection)
        .await?;
        Ok(())
    }
}
