//! The sandbox as a peer, over real HTTP, with a server that plays the hub.
//!
//! Signatures are checked here by code of this test's own, over the bytes that arrived.

mod controls;
mod facebook;
mod faults;
mod harness;
mod instagram;
mod linkedin;
mod teams;
mod telegram;
mod twitter;
mod webhooks;
mod whatsapp;
