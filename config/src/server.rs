//! Where the API listens and who it talks to.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::error::SettingsError;
use crate::layers::Layers;
use crate::values::parse_origin;

/// Strict by default; development relaxes what only matters on the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// One person's machine.
    Development,
    /// Anything other people reach.
    Production,
}

/// Where the API listens and the addresses it is known by.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on.
    pub port: u16,
    /// Where the web client is served, without a trailing slash.
    pub frontend_url: Option<String>,
    /// The hub's own address as others reach it, without a trailing slash.
    pub public_url: String,
    /// Origins of web clients; includes the one of `frontend_url`. `*` stands for all.
    pub cors_origins: Vec<String>,
    /// Proxies in front of the API that add to `X-Forwarded-For`. Zero: nobody is believed.
    pub trusted_proxies: usize,
    /// Folder of a built web client to serve.
    pub static_dir: Option<PathBuf>,
    /// Development or production.
    pub environment: Environment,
}

impl ServerSettings {
    /// Whether an `Origin` header may use the API from a browser.
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.cors_origins
            .iter()
            .any(|allowed| allowed == "*" || allowed == origin)
    }

    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingsError> {
        let port = layers.port("server.port")?;
        let frontend_url = layers.base_url("server.frontend_url")?;
        let public_url = layers
            .base_url("server.public_url")?
            .unwrap_or_else(|| format!("http://localhost:{port}"));
        let mut cors_origins = layers.origins("server.cors_origins")?;
        let frontend_origin = frontend_url.as_deref().and_then(parse_origin);
        if let Some(origin) = frontend_origin
            && !cors_origins.contains(&origin)
        {
            cors_origins.push(origin);
        }
        Ok(Self {
            host: layers.address("server.host")?,
            port,
            frontend_url,
            public_url,
            cors_origins,
            trusted_proxies: layers.number("server.trusted_proxies", 0..=10)?,
            static_dir: layers.text_opt("server.static_dir").map(PathBuf::from),
            environment: layers.choice(
                "server.environment",
                &[
                    ("production", Environment::Production),
                    ("development", Environment::Development),
                    ("test", Environment::Development),
                ],
                "production or development",
            )?,
        })
    }
}
