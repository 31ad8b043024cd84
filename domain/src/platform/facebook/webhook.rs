//! What a body of Facebook's is: a webhook, or a page of message history.

use serde_json::Value;

use super::history;
use crate::platform::fact::Fact;
use crate::platform::meta::messaging;

/// Reads a webhook envelope, one entry of it, one item of an entry, or a page of Graph's message
/// history. `own_app` is our app id; empty when not configured.
pub fn read(own_app: &str, body: &Value) -> Vec<Fact> {
    messaging::read("page", own_app, body).unwrap_or_else(|| match history::messages(body) {
        Some(messages) => messages.into_iter().map(history::read).collect(),
        None => messaging::read_item(own_app, body),
    })
}
