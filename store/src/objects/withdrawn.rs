//! Which messages were withdrawn: their media are to go.

use hub_domain::id::{ConversationId, MessageId, UserId};
use uuid::Uuid;

use crate::Store;
use crate::error::Result;

impl Store {
    /// The message that a platform calls so, if it was withdrawn, by the live inbox.
    pub async fn withdrawn_message(
        &self,
        user: UserId,
        conversation: ConversationId,
        platform_message_id: &str,
    ) -> Result<Option<MessageId>> {
        let found: Option<Uuid> = sqlx::query_scalar(
            "SELECT id FROM read.messages WHERE shard = $1 AND conversation_id = $2 \
                 AND platform_message_id = $3 AND deleted_at IS NOT NULL AND generation = \
                 (SELECT live FROM generations WHERE shard = $1 AND projection = 'inbox')",
        )
        .bind(self.sharding().of_user(user).0)
        .bind(conversation.0)
        .bind(platform_message_id)
        .fetch_optional(self.pool())
        .await?;
        Ok(found.map(MessageId))
    }

    /// Whether a message was withdrawn, by the live inbox.
    pub async fn is_withdrawn(&self, user: UserId, message: MessageId) -> Result<bool> {
        let found: Option<bool> = sqlx::query_scalar(
            "SELECT deleted_at IS NOT NULL FROM read.messages WHERE shard = $1 AND id = $2 \
                 AND generation = \
                 (SELECT live FROM generations WHERE shard = $1 AND projection = 'inbox')",
        )
        .bind(self.sharding().of_user(user).0)
        .bind(message.0)
        .fetch_optional(self.pool())
        .await?;
        Ok(found.unwrap_or(false))
    }
}
