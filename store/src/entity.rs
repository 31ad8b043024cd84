//! The read models as sea-orm entities, for queries. Projections write them with statements of
//! their own ([`crate::project`]).

pub mod account;
pub mod conversation;
pub mod message;
pub mod total;
