//! The sandbox as a peer, over real HTTP, with a server that plays the hub.
//!
//! Signatures are checked here by code of this test's own, over the bytes that arrived.

mod controls;
mod facebook;
mod faults;
mod harness;
mod teams;
mod telegram;
mod webhooks;
