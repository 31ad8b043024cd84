//! Conversations.

use sea_orm::entity::prelude::*;

/// A row of `read.conversations`; see [`hub_domain::projection::inbox::ConversationRow`].
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(schema_name = "read", table_name = "conversations")]
#[allow(
    missing_docs,
    reason = "the columns are documented on the domain's row"
)]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub shard: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub generation: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub user_id: Uuid,
    pub account_id: Uuid,
    pub platform: String,
    pub thread: String,
    pub participant_id: Option<String>,
    pub participant_name: Option<String>,
    pub named_at: Option<DateTimeUtc>,
    pub last_message_at: Option<DateTimeUtc>,
    pub unread: i32,
    pub messages: i32,
    pub read_through: i64,
    pub delivered_until: Option<DateTimeUtc>,
    pub seen_until: Option<DateTimeUtc>,
    pub forgotten: bool,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// No relations: read models are looked up by key, not walked.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
