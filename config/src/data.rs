//! Where the hub keeps files of its own.

use std::path::PathBuf;

use crate::layers::Layers;

/// The folder the hub may write to.
#[derive(Clone, Debug)]
pub struct DataSettings {
    /// Holds the private database and the generated secrets of development.
    pub dir: PathBuf,
}

impl DataSettings {
    pub(crate) fn read(layers: &Layers) -> Self {
        Self {
            dir: PathBuf::from(layers.text("data.dir")),
        }
    }
}
