//! How to reach PostgreSQL.

use hub_domain::secret::Secret;
use url::Url;

use crate::error::SettingsError;
use crate::layers::Layers;

/// How to reach PostgreSQL.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// Connection URL; contains the password. `None` until development starts its own cluster.
    pub url: Option<Secret>,
    /// Connections one process opens at most.
    pub pool_size: u32,
    /// Connections beside these that read the read models.
    pub readers: u32,
    /// Shards of a database that is created now; an existing one knows its own number.
    pub shards: u16,
}

impl DatabaseSettings {
    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingsError> {
        let url = match layers.server_url("database.url", &["postgres", "postgresql"])? {
            Some(url) => Some(url),
            None => from_parts(layers)?,
        };
        Ok(Self {
            url,
            pool_size: layers.number("database.pool_size", 10..=1000)?,
            readers: layers.number("database.readers", 1..=1000)?,
            shards: layers.number("database.shards", 1..=1024)?,
        })
    }
}

fn from_parts(layers: &Layers) -> Result<Option<Secret>, SettingsError> {
    let Some(host) = layers.text_opt("database.host") else {
        return Ok(None);
    };
    let port = layers.port("database.port")?;
    let name = layers.text("database.name");
    let socket = host.starts_with('/');
    let authority = if socket { "localhost" } else { host };
    let invalid = || layers.invalid("database.host", "a host name or the folder of a socket");
    let mut url = Url::parse(&format!("postgres://{authority}:{port}")).map_err(|_| invalid())?;
    url.path_segments_mut().map_err(|()| invalid())?.push(name);
    if let Some(user) = layers.text_opt("database.user") {
        url.set_username(user).map_err(|()| invalid())?;
    }
    if let Some(password) = layers.text_opt("database.password") {
        url.set_password(Some(password)).map_err(|()| invalid())?;
    }
    if socket {
        url.query_pairs_mut().append_pair("host", host);
    }
    Ok(Some(Secret::new(url.as_str())))
}
