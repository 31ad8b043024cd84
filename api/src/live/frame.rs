//! An event as it goes over the wire, made once for all sockets that get it.

use axum::extract::ws::Utf8Bytes;
use serde_json::Value;

use super::sockets::Door;

/// An event in the words of both doors. Clones share the text.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    plain: Utf8Bytes,
    packet: Utf8Bytes,
}

impl Frame {
    /// `event` is one of our own words, in which nothing needs escaping.
    pub(super) fn new(event: &str, payload: &Value) -> Self {
        let payload = payload.to_string();
        Self {
            plain: format!(r#"{{"event":"{event}","data":{payload}}}"#).into(),
            packet: format!(r#"42["{event}",{payload}]"#).into(),
        }
    }

    /// What goes through this door.
    pub(super) fn text(&self, door: Door) -> &Utf8Bytes {
        match door {
            Door::Plain => &self.plain,
            Door::SocketIo => &self.packet,
        }
    }
}
