//! Media as clients see them: which of a message is shown, and where it is loaded from.

use chrono::{DateTime, TimeDelta, Utc};
use hub_domain::id::{MessageId, ObjectId, object_id};
use hub_domain::projection::inbox::File;
use hub_store::entity::message;

pub use hub_domain::link::{Address, Links, Unserved};

/// How long after a message came its media may still be on their way. Later it is shown without.
const AHEAD: TimeDelta = TimeDelta::minutes(1);

/// The object that a client is shown of a message: the first that the hub has, or, of a message that
/// has just come, the first that is being fetched. Clients are told of a message once and do not ask
/// again, so they get its address ahead; whoever loads it waits for the bytes.
pub fn shown(row: &message::Model, now: DateTime<Utc>) -> Option<ObjectId> {
    let files: Vec<File> = serde_json::from_value(row.files.clone()).ok()?;
    let is_fresh = now.signed_duration_since(row.created_at) < AHEAD;
    let came = matches!(row.state.as_str(), "received" | "observed");
    if files.is_empty() && is_fresh && came {
        return Some(object_id(MessageId(row.id), 0));
    }
    files.into_iter().find_map(|it| Some(it.stored?.object))
}
