//! Laws: what holds for every history, not only for the ones somebody thought of.
//!
//! proptest prints the smallest history that breaks a law, and a seed to find it again.

#[path = "laws/commands.rs"]
mod commands;
#[path = "laws/events.rs"]
mod events;
#[path = "laws/history.rs"]
mod history;
#[path = "laws/inbox.rs"]
mod inbox;
#[path = "laws/retry.rs"]
mod retry;
#[path = "laws/rows.rs"]
mod rows;
#[path = "laws/sends.rs"]
mod sends;
