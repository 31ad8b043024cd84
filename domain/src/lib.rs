//! The pure part of Hub: values in, values out.
//!
//! Nothing here knows a clock, a random generator, a database or a network. Time, ids and entropy
//! are arguments, so every rule can be tested by the million, fuzzed and replayed. CI refuses an
//! async runtime, a database or an HTTP client in this crate's dependency tree.
//!
//! Where to look:
//! - [`id`]: the names of things (users, accounts, conversations, messages) and how they are derived
//! - [`event`], [`envelope`], [`command`]: what is written to the log
//! - [`platform`]: one sans-IO adapter per platform, speaking [`platform::fact`] and [`platform::http`]
//! - [`projection`]: folds from events to read-model rows
//! - [`retry`], [`retention`], [`limits`], [`text`], [`media`], [`signature`], [`jwt`]: small rules used by all of the above
//! - [`imported`]: what rows of earlier installations mean here

pub mod command;
pub mod envelope;
pub mod event;
pub mod id;
pub mod imported;
pub mod jwt;
pub mod limits;
pub mod link;
pub mod media;
pub mod platform;
pub mod projection;
pub mod retention;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod text;
