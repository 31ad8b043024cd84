//! What surrounds an event in the log.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::Event;
use crate::id::{Key, Place, Shard, StreamId};

/// Who and what caused an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The user who acted, when a person did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Uuid>,
    /// The event or command this follows from, as `e:3-1042` or `c:3-1042`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causation: Option<String>,
    /// The request id of the HTTP request that began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The time it really happened, for imported history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_at: Option<DateTime<Utc>>,
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Shard and position: the event's id.
    pub place: Place,
    /// The stream.
    pub stream: StreamId,
    /// 1, 2, 3, … in the stream.
    pub version: i64,
    /// What happened.
    pub event: Event,
    /// Who and what caused it.
    pub meta: Meta,
    /// When it was appended, by the database's clock.
    pub recorded_at: DateTime<Utc>,
}

impl Recorded {
    /// When it really happened: of imported history what it says, of everything else when it was
    /// appended. For what people see; what is compared with moments of the log is `recorded_at`.
    pub fn happened_at(&self) -> DateTime<Utc> {
        self.meta.original_at.unwrap_or(self.recorded_at)
    }
}

/// What the writer believes about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing; append in any case.
    Any,
    /// The stream does not exist yet.
    NoStream,
    /// The stream has exactly this version.
    Version(i64),
}

/// Events that are appended together or not at all, to one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// The shard of the stream.
    pub shard: Shard,
    /// The stream.
    pub stream: StreamId,
    /// What the writer believes about it.
    pub expected: Expected,
    /// What to append; not empty.
    pub events: Vec<Event>,
    /// The keys that make this append happen once. When one of them exists, nothing is appended
    /// and the caller gets the first append's place.
    pub keys: Vec<Key>,
    /// Who and what caused it.
    pub meta: Meta,
}

impl Append {
    /// One event, whatever the version of its stream.
    pub fn one(shard: Shard, stream: impl Into<StreamId>, event: impl Into<Event>) -> Self {
        Self {
            shard,
            stream: stream.into(),
            expected: Expected::Any,
            events: vec![event.into()],
            keys: Vec::new(),
            meta: Meta::default(),
        }
    }

    /// The same, happening once per key.
    #[must_use]
    pub fn once(mut self, key: Key) -> Self {
        self.keys.push(key);
        self
    }

    /// The same, under an expectation about the stream.
    #[must_use]
    pub fn expecting(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    /// The same, caused by this.
    #[must_use]
    pub fn because(mut self, meta: Meta) -> Self {
        self.meta = meta;
        self
    }
}
