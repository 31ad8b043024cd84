//! Media as clients see them: which of a message is shown, and where it is loaded from.

use hub_domain::id::ObjectId;
use hub_domain::projection::inbox::File;
use hub_store::entity::message;

pub use hub_domain::link::{Address, Links, Unserved};

/// The object that a client is shown of a message: the first that the hub has.
pub fn shown(row: &message::Model) -> Option<ObjectId> {
    let files: Vec<File> = serde_json::from_value(row.files.clone()).ok()?;
    files.into_iter().find_map(|it| Some(it.stored?.object))
}
