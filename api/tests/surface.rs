//! The whole surface of the API over a real database: every route, every kind of caller, every
//! kind of wrong input, and what is left behind.

#[path = "surface/access.rs"]
mod access;
#[path = "surface/ahead.rs"]
mod ahead;
#[path = "surface/around.rs"]
mod around;
#[path = "surface/bodies.rs"]
mod bodies;
#[path = "surface/client.rs"]
mod client;
#[path = "surface/connecting.rs"]
mod connecting;
#[path = "shared/database.rs"]
mod database;
#[path = "surface/departures.rs"]
mod departures;
#[path = "surface/document.rs"]
mod document;
#[path = "surface/erasing.rs"]
mod erasing;
#[path = "surface/history.rs"]
mod history;
#[path = "surface/hub.rs"]
mod hub;
#[path = "surface/imported.rs"]
mod imported;
#[path = "surface/inbox.rs"]
mod inbox;
#[path = "surface/limits.rs"]
mod limits;
#[path = "surface/openapi.rs"]
mod openapi;
#[path = "surface/page.rs"]
mod page;
#[path = "surface/past.rs"]
mod past;
#[path = "surface/polling.rs"]
mod polling;
#[path = "../../store/tests/it/redis.rs"]
mod redis;
#[path = "surface/sending.rs"]
mod sending;
#[path = "surface/sessions.rs"]
mod sessions;
#[path = "surface/table.rs"]
mod table;
#[path = "surface/telegram.rs"]
mod telegram;
#[path = "surface/tokens.rs"]
mod tokens;
#[path = "surface/uploading.rs"]
mod uploading;
#[path = "surface/usage.rs"]
mod usage;
#[path = "surface/walk.rs"]
mod walk;
#[path = "surface/walker.rs"]
mod walker;
#[path = "surface/webhooks.rs"]
mod webhooks;
