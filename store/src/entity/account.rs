//! Connected accounts.

use sea_orm::entity::prelude::*;

/// A row of `read.accounts`; see [`hub_domain::projection::accounts::AccountRow`].
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(schema_name = "read", table_name = "accounts")]
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
    pub platform: String,
    pub platform_user_id: String,
    pub username: String,
    pub route: String,
    pub is_active: bool,
    pub needs_reconnect: Option<String>,
    pub epoch: i64,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// No relations: read models are looked up by key, not walked.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
