//! Pictures, videos and files of messages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hub_domain::secret::Secret;
use url::Url;

use crate::error::SettingsError;
use crate::layers::Layers;

/// Pictures, videos and files of messages.
#[derive(Clone, Debug)]
pub struct MediaSettings {
    /// The folder they are kept in, unless there is a bucket.
    pub dir: PathBuf,
    /// The bucket they are kept in.
    pub bucket: Option<BucketSettings>,
    /// Largest one that is fetched.
    pub bytes_max: usize,
    /// Largest one that is taken from a client.
    pub upload_bytes_max: usize,
    /// Longest a download may take, and an upload. Shorter than a job's lease, or two workers fetch the same.
    pub timeout: Duration,
    /// How long an address stays good that a client was given, at least.
    pub url_ttl: Duration,
    /// Origins that are fetched from without a question.
    pub trusted_origins: Vec<String>,
}

/// A bucket of an S3-compatible service.
#[derive(Clone, Debug)]
pub struct BucketSettings {
    /// Its name.
    pub name: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The service, without a path; `None` for AWS.
    pub endpoint: Option<String>,
    /// Who asks.
    pub access_key_id: String,
    /// What requests are signed with.
    pub secret_access_key: Secret,
}

impl BucketSettings {
    /// `None` where no bucket is named.
    fn read(layers: &Layers) -> Result<Option<Self>, SettingsError> {
        let Some(name) = layers.text_opt("media.bucket") else {
            return Ok(None);
        };
        let needed = |key: &str| {
            let missing = || layers.invalid(key, "a value, where media.bucket names a bucket");
            let found = layers.text_opt(key).map(str::to_owned);
            found.ok_or_else(missing)
        };
        let endpoint = layers.text_opt("media.s3_endpoint");
        let is_origin = |text: &str| {
            let url = Url::parse(text).ok();
            url.is_some_and(|url| {
                let is_web = matches!(url.scheme(), "http" | "https");
                let is_bare = url.username().is_empty() && url.query().is_none();
                is_web && is_bare && url.path() == "/"
            })
        };
        if endpoint.is_some_and(|it| !is_origin(it)) {
            let expected = "an http:// or https:// address without a path";
            return Err(layers.invalid("media.s3_endpoint", expected));
        }
        let secret_access_key = layers.secret("media.s3_secret_access_key");
        if secret_access_key.is_empty() {
            needed("media.s3_secret_access_key")?;
        }
        Ok(Some(Self {
            name: name.to_owned(),
            region: needed("media.s3_region")?,
            endpoint: endpoint.map(|it| it.trim_end_matches('/').to_owned()),
            access_key_id: needed("media.s3_access_key_id")?,
            secret_access_key,
        }))
    }
}

impl MediaSettings {
    pub(crate) fn read(layers: &Layers, data: &Path) -> Result<Self, SettingsError> {
        let timeout = layers.number("media.timeout_ms", 100..=75_000)?;
        let trusted_origins = layers.origins("media.trusted_origins")?;
        if trusted_origins.iter().any(|it| it == "*") {
            let expected = "origins such as http://127.0.0.1:4100, each by its name";
            return Err(layers.invalid("media.trusted_origins", expected));
        }
        Ok(Self {
            dir: match layers.text_opt("media.dir") {
                Some(dir) => PathBuf::from(dir),
                None => data.join("media"),
            },
            bucket: BucketSettings::read(layers)?,
            bytes_max: layers.number("media.bytes", 1024..=1024 * 1024 * 1024)?,
            upload_bytes_max: layers.number("media.upload_bytes", 1024..=100_000_000)?,
            timeout: Duration::from_millis(timeout),
            url_ttl: layers.seconds("media.url_ttl_s", 60)?,
            trusted_origins,
        })
    }
}
