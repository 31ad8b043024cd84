//! Resets: the owner of an account wants everything forgotten and fetched anew.
//!
//! The wish is an event, so that a crash forgets no wish; a job fulfils it and leaves word for the
//! request that waits. This knows what there is to forget, and where that word is left.

use std::time::Duration;

use hub_domain::envelope::{Append, Meta};
use hub_domain::event::ResetRequested;
use hub_domain::id::{ConversationId, Key, Place};
use uuid::Uuid;

use crate::Store;
use crate::account::Owner;
use crate::error::Result;

impl Store {
    /// Writes down that the owner wants the account forgotten and fetched anew.
    pub async fn request_reset(&self, owner: Owner, meta: Meta) -> Result<Place> {
        let Owner { user, account } = owner;
        let event = ResetRequested { user, account };
        let append = Append::one(self.sharding().of_user(user), account, event)
            .once(Key::of(&[b"reset", Uuid::new_v4().as_bytes()]))
            .because(meta);
        Ok(self.append(append).await?.place())
    }

    /// The conversations of an account that are shown or waited for, as far as the read model knows.
    pub async fn remembered_conversations(&self, owner: Owner) -> Result<Vec<ConversationId>> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM read.conversations WHERE shard = $1 AND generation = \
                 (SELECT live FROM generations WHERE shard = $1 AND projection = 'inbox') \
             AND user_id = $2 AND account_id = $3 AND NOT forgotten ORDER BY id",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.user.0)
        .bind(owner.account.0)
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(ConversationId).collect())
    }

    /// Says that everything is forgotten, and under which key the beginning of the look at what
    /// Telegram still has is told.
    pub async fn tell_reset(&self, requested: Place, look: Key) -> Result<()> {
        self.put_answer(requested.shard, told(requested), &look)
            .await
    }

    /// Waits until everything is forgotten, at most this long; what [`Store::tell_reset`] said.
    pub async fn wait_for_reset(&self, requested: Place, at_most: Duration) -> Result<Option<Key>> {
        self.wait_for_answer(requested.shard, told(requested), at_most)
            .await
    }
}

fn told(requested: Place) -> Key {
    Key::of(&[b"reset told", requested.to_string().as_bytes()])
}
