//! How to reach Redis, when there is one.

use hub_domain::secret::Secret;
use url::Url;

use crate::error::SettingsError;
use crate::layers::Layers;

/// How to reach Redis. Only what is cheap to lose lives there.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Connection URL; may contain the password. `None`: the process does it in memory.
    pub url: Option<Secret>,
}

impl RedisSettings {
    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingsError> {
        let url =
            match layers.server_url("redis.url", &["redis", "rediss", "redis+unix", "unix"])? {
                Some(url) => Some(url),
                None => from_parts(layers)?,
            };
        Ok(Self { url })
    }
}

fn from_parts(layers: &Layers) -> Result<Option<Secret>, SettingsError> {
    let Some(host) = layers.text_opt("redis.host") else {
        return Ok(None);
    };
    let port = layers.port("redis.port")?;
    let invalid = || layers.invalid("redis.host", "a host name");
    let mut url = Url::parse(&format!("redis://{host}:{port}")).map_err(|_| invalid())?;
    if let Some(password) = layers.text_opt("redis.password") {
        url.set_password(Some(password)).map_err(|()| invalid())?;
    }
    Ok(Some(Secret::new(url.as_str())))
}
