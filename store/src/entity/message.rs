//! Messages.

use sea_orm::entity::prelude::*;

/// A row of `read.messages`; see [`hub_domain::projection::inbox::MessageRow`].
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(schema_name = "read", table_name = "messages")]
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
    pub conversation_id: Uuid,
    pub platform_message_id: Option<String>,
    pub state: String,
    pub sender_id: String,
    pub sender_name: Option<String>,
    pub body: Option<String>,
    pub message_type: String,
    pub media: Option<String>,
    pub detail: Option<String>,
    pub outgoing: bool,
    pub is_read: bool,
    pub sent_at: Option<DateTimeUtc>,
    pub delivered_at: Option<DateTimeUtc>,
    pub seen_at: Option<DateTimeUtc>,
    pub edited_at: Option<DateTimeUtc>,
    pub deleted_at: Option<DateTimeUtc>,
    pub reactions: Json,
    pub attempts: i32,
    pub retry_at: Option<DateTimeUtc>,
    pub failure: Option<String>,
    pub failure_reason: Option<String>,
    pub position: i64,
    pub created_at: DateTimeUtc,
    pub files: Json,
}

/// No relations: read models are looked up by key, not walked.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
