//! The store against a real PostgreSQL: what it promises, broken on purpose.
//!
//! Every test has a database of its own. Nothing sleeps to wait for something: waits are bounded
//! questions ([`world::eventually`]). Whatever is random comes from a printed seed; set
//! `HUB_TEST_SEED` to run the same again.

mod accounts;
mod agreements;
mod bus;
mod catalogue;
mod checkpoints;
mod commands;
mod corruption;
mod dlq;
mod dlq_traffic;
mod dump;
mod erasure;
mod expectations;
mod explaining;
mod facts;
mod folds;
mod gapless;
mod generation;
mod going_back;
mod import;
mod jobs;
mod keys;
mod limits;
mod objects;
mod old_snapshot;
mod outage;
mod past;
mod person;
mod plaintext;
mod projection;
mod proxy;
mod random;
mod redis;
mod retention;
mod schedule;
mod seals;
mod sessions;
mod subscriptions;
mod telegram;
mod together;
mod transaction;
mod unknown_outcome;
mod until;
mod usage;
mod waiting;
mod world;
