//! What an account's conversations add up to.

use sea_orm::entity::prelude::*;

/// A row of `read.totals`; see [`hub_domain::projection::inbox::TotalRow`].
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(schema_name = "read", table_name = "totals")]
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
    pub conversations: i64,
    pub unread: i64,
}

/// No relations: read models are looked up by key, not walked.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
