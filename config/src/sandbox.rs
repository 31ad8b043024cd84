//! The played platforms.

use crate::error::SettingsError;
use crate::layers::Layers;

/// The played platforms.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Port they listen on, on this machine only.
    pub port: u16,
    /// Whether scripted customers write by themselves.
    pub customers: bool,
}

impl SandboxSettings {
    /// Where the hub reaches them.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            port: layers.port("sandbox.port")?,
            customers: layers.switch("sandbox.customers")?,
        })
    }
}
