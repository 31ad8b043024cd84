//! Hub's settings: a compiled-in, commented `default.toml`, a file, the environment.
//!
//! Nothing here reads the process environment or ends the process: the environment is a function
//! given to [`Settings::load`], and what is wrong comes back as one sentence. An unknown key in a
//! file is an error, because a misspelt setting that is silently ignored is worse than none.
//! To add a setting: a commented key in `default.toml`, a line in `keys.rs`, a typed field in the
//! file of its concern. Tests fail until all three agree.

mod api;
mod auth;
mod data;
mod database;
mod development;
mod error;
mod keys;
mod layers;
mod log;
mod media;
mod platforms;
mod redis;
mod role;
mod sandbox;
mod server;
pub mod telemetry;
mod values;
mod warnings;
mod worker;

use std::fmt;

use hub_domain::platform::{App, Platform};
use hub_domain::secret::Secret;

pub use api::ApiSettings;
pub use auth::AuthSettings;
pub use data::DataSettings;
pub use database::DatabaseSettings;
pub use error::SettingsError;
pub use log::{LogFormat, LogSettings};
pub use media::{BucketSettings, MediaSettings};
pub use platforms::PlatformSettings;
pub use redis::RedisSettings;
pub use role::Role;
pub use sandbox::SandboxSettings;
pub use server::{Environment, ServerSettings};
pub use worker::WorkerSettings;

use layers::Layers;

/// All settings, typed and checked.
#[derive(Clone)]
pub struct Settings {
    /// Where the API listens and the addresses it is known by.
    pub server: ServerSettings,
    /// The folder the hub may write to.
    pub data: DataSettings,
    /// How to reach PostgreSQL.
    pub database: DatabaseSettings,
    /// How to reach Redis.
    pub redis: RedisSettings,
    /// Secrets and lifetimes of the hub's own tokens.
    pub auth: AuthSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// How the worker talks to platforms.
    pub worker: WorkerSettings,
    /// Limits and waits of the API.
    pub api: ApiSettings,
    /// Pictures, videos and files of messages.
    pub media: MediaSettings,
    /// The played platforms.
    pub sandbox: SandboxSettings,
    /// The hub's registration with each platform; read it through [`Settings::app`].
    pub platforms: PlatformSettings,
    layers: Layers,
}

impl Settings {
    /// Reads the settings. `env` looks a name up in the environment: `|name| var(name).ok()`.
    pub fn load(env: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        Self::read(Layers::merge(env)?)
    }

    /// Reads the settings for one person's machine: whatever `cargo run` needs and nobody set is
    /// filled in, and secrets are generated once into the data folder. The database stays unset
    /// when nobody named one: the caller starts a private cluster and calls
    /// [`Settings::use_database`].
    pub fn for_dev(env: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut layers = Layers::merge(env)?;
        development::fill(&mut layers)?;
        Self::read(layers)
    }

    /// Reads the settings for looking at something without touching anything: platforms nobody
    /// configured are the sandbox's, and no secret is generated.
    pub fn for_inspection(env: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut layers = Layers::merge(env)?;
        development::point_at_sandbox(&mut layers)?;
        Self::read(layers)
    }

    /// The hub's registration with a platform.
    pub fn app(&self, platform: Platform) -> App {
        self.platforms.app(platform)
    }

    /// Points at a database that the program itself started.
    pub fn use_database(&mut self, url: &str) {
        self.layers.fill("database.url", url);
        self.database.url = Some(Secret::new(url));
    }

    /// Checks that everything this role cannot work without is set and, in production, that no
    /// secret is a sample or short.
    pub fn require(&self, role: Role) -> Result<(), SettingsError> {
        role::require(self, role)
    }

    /// The effective settings, one line each, with their origin and with secrets masked.
    pub fn describe(&self) -> Vec<String> {
        self.layers.describe()
    }

    /// Settings that are allowed and probably not meant, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        warnings::of(self)
    }

    fn read(layers: Layers) -> Result<Self, SettingsError> {
        let server = ServerSettings::read(&layers)?;
        let data = DataSettings::read(&layers);
        Ok(Self {
            media: MediaSettings::read(&layers, &data.dir)?,
            data,
            database: DatabaseSettings::read(&layers)?,
            redis: RedisSettings::read(&layers)?,
            auth: AuthSettings::read(&layers)?,
            log: LogSettings::read(&layers)?,
            worker: WorkerSettings::read(&layers)?,
            api: ApiSettings::read(&layers)?,
            sandbox: SandboxSettings::read(&layers)?,
            platforms: PlatformSettings::read(&layers, &server)?,
            server,
            layers,
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.describe()).finish()
    }
}
