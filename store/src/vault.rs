//! Sealing what is personal or secret.
//!
//! Every subject (a user, a day of raw input) has a data key; the installation's key
//! (`ENCRYPTION_KEY`) wraps it. Sealed text is AES-256-GCM with a random 96-bit nonce, the subject
//! as associated data, and a version prefix. Deleting a subject's data key makes everything sealed
//! under it unreadable wherever it was copied: that is what erasing a person means.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use hub_domain::event::Sealed;
use hub_domain::id::{Shard, Sharding, UserId};
use hub_domain::secret::Secret;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::seal::SealKey;

const PREFIX: &str = "h1.";

/// How long a process may go on using a data key after it was deleted elsewhere.
const CACHE_TTL: Duration = Duration::from_secs(60);

/// Data keys kept in memory; beyond that the cache starts over.
const CACHE_MAX: usize = 100_000;

/// True of a text that [`DataKey::seal`] may have made.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// A key that seals and opens, with what it is bound to.
#[derive(Clone)]
pub struct DataKey {
    key: Arc<LessSafeKey>,
    subject: Uuid,
}

impl DataKey {
    fn new(bytes: &[u8], subject: Uuid) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, bytes)
            .map_err(|_| Error::Sealed("a data key has the wrong length"))?;
        Ok(Self {
            key: Arc::new(LessSafeKey::new(key)),
            subject,
        })
    }

    /// Seals a text.
    pub fn seal(&self, text: &str) -> Sealed {
        Sealed(self.seal_bytes(text.as_bytes()))
    }

    /// Seals bytes.
    pub fn seal_bytes(&self, bytes: &[u8]) -> String {
        let mut nonce = [0u8; NONCE_LEN];
        rand::fill(&mut nonce).expect("the operating system's random source works");
        let mut sealed = Vec::with_capacity(NONCE_LEN + bytes.len() + 16);
        sealed.extend_from_slice(bytes);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.subject.as_bytes()),
                &mut sealed,
            )
            .expect("content is far below the cipher's limit");
        let mut envelope = nonce.to_vec();
        envelope.extend_from_slice(&sealed);
        envelope.extend_from_slice(tag.as_ref());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(envelope))
    }

    /// Opens a text sealed with this key.
    pub fn open(&self, sealed: &Sealed) -> Result<String> {
        String::from_utf8(self.open_bytes(&sealed.0)?)
            .map_err(|_| Error::Sealed("the content is not text"))
    }

    /// Opens bytes sealed with this key.
    pub fn open_bytes(&self, sealed: &str) -> Result<Vec<u8>> {
        let envelope = sealed
            .strip_prefix(PREFIX)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .filter(|bytes| bytes.len() >= NONCE_LEN)
            .ok_or(Error::Sealed("the envelope is malformed"))?;
        let (nonce, content) = envelope.split_at(NONCE_LEN);
        let mut content = content.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce)
            .map_err(|_| Error::Sealed("the envelope is malformed"))?;
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(self.subject.as_bytes()), &mut content)
            .map_err(|_| Error::Sealed("wrong key or altered content"))?;
        Ok(plain.to_vec())
    }
}

/// The installation's key as 32 bytes: as it is when it has that length, else hashed.
pub(crate) fn installation_key(encryption_key: &Secret) -> [u8; 32] {
    let bytes = encryption_key.expose().as_bytes();
    match bytes.try_into() {
        Ok(exact) => exact,
        Err(_) => Sha256::digest(bytes).into(),
    }
}

/// Finds, makes and caches data keys.
#[derive(Clone)]
pub struct Vault {
    pool: PgPool,
    sharding: Sharding,
    installation: DataKey,
    seals: SealKey,
    cache: Arc<RwLock<HashMap<Uuid, (DataKey, Instant)>>>,
}

impl Vault {
    pub(crate) fn new(pool: PgPool, sharding: Sharding, encryption_key: &Secret) -> Self {
        let key = installation_key(encryption_key);
        Self {
            pool,
            sharding,
            installation: DataKey::new(&key, Uuid::nil()).expect("32 bytes are a key"),
            seals: SealKey::new(encryption_key),
            cache: Arc::default(),
        }
    }

    /// The installation's own key, for what belongs to no person (a successor token on its way).
    pub fn installation(&self) -> &DataKey {
        &self.installation
    }

    /// The key that says that this installation has sealed a part of the log.
    pub fn seal_key(&self) -> &SealKey {
        &self.seals
    }

    /// The key of a user, made when it is first asked for.
    pub async fn user(&self, user: UserId) -> Result<DataKey> {
        self.key(self.sharding.of_user(user), user.0).await
    }

    /// The key that raw input of this day is sealed under; it goes when the day's input goes.
    pub async fn raw_input(&self, day: DateTime<Utc>) -> Result<DataKey> {
        let (shard, subject) = self.raw_subject(day);
        self.key(shard, subject).await
    }

    /// The key of a user, if there is one: for whoever only looks.
    pub async fn user_if_any(&self, user: UserId) -> Result<Option<DataKey>> {
        self.read(self.sharding.of_user(user), user.0).await
    }

    /// The key of a day of raw input, if there is one: for whoever only looks.
    pub async fn raw_input_if_any(&self, day: DateTime<Utc>) -> Result<Option<DataKey>> {
        let (shard, subject) = self.raw_subject(day);
        self.read(shard, subject).await
    }

    /// Deletes the key of a day of raw input: whatever was sealed under it is gone.
    pub async fn forget_raw_input(&self, day: DateTime<Utc>) -> Result<()> {
        let (shard, subject) = self.raw_subject(day);
        sqlx::query("DELETE FROM data_keys WHERE shard = $1 AND subject = $2")
            .bind(shard.0)
            .bind(subject)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    fn raw_subject(&self, day: DateTime<Utc>) -> (Shard, Uuid) {
        let name = format!("raw:{}", day.format("%Y-%m-%d"));
        let subject = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        (self.sharding.of_name(&name), subject)
    }

    async fn key(&self, shard: Shard, subject: Uuid) -> Result<DataKey> {
        if let Some((key, read_at)) = self
            .cache
            .read()
            .ok()
            .and_then(|cache| cache.get(&subject).cloned())
            && read_at.elapsed() < CACHE_TTL
        {
            return Ok(key);
        }
        let key = match self.read(shard, subject).await? {
            Some(key) => key,
            None => self.make(shard, subject).await?,
        };
        if let Ok(mut cache) = self.cache.write() {
            if cache.len() >= CACHE_MAX {
                cache.clear();
            }
            cache.insert(subject, (key.clone(), Instant::now()));
        }
        Ok(key)
    }

    async fn read(&self, shard: Shard, subject: Uuid) -> Result<Option<DataKey>> {
        let wrapped: Option<String> =
            sqlx::query_scalar("SELECT wrapped FROM data_keys WHERE shard = $1 AND subject = $2")
                .bind(shard.0)
                .bind(subject)
                .fetch_optional(&self.pool)
                .await?;
        wrapped
            .map(|wrapped| DataKey::new(&self.installation.open_bytes(&wrapped)?, subject))
            .transpose()
    }

    async fn make(&self, shard: Shard, subject: Uuid) -> Result<DataKey> {
        let mut bytes = [0u8; 32];
        rand::fill(&mut bytes).map_err(|_| Error::Sealed("no randomness"))?;
        sqlx::query(
            "INSERT INTO data_keys (shard, subject, wrapped) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(shard.0)
        .bind(subject)
        .bind(self.installation.seal_bytes(&bytes))
        .execute(&self.pool)
        .await?;
        // Somebody else may have been first: what is stored counts.
        self.read(shard, subject)
            .await?
            .ok_or(Error::Sealed("a data key vanished while it was made"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_it_sealed() {
        let subject = Uuid::from_u128(1);
        let key = DataKey::new(&[7; 32], subject).unwrap();
        let sealed = key.seal("Grüße ☕");
        assert_eq!(key.open(&sealed).unwrap(), "Grüße ☕");
        assert_ne!(sealed, key.seal("Grüße ☕"));
        assert!(!sealed.0.contains("Gr"));

        let other = DataKey::new(&[7; 32], Uuid::from_u128(2)).unwrap();
        assert!(other.open(&sealed).is_err());
        let mut altered = sealed.0.clone();
        altered.replace_range(10..11, if &altered[10..11] == "A" { "B" } else { "A" });
        assert!(key.open(&Sealed(altered)).is_err());
        assert!(key.open(&Sealed("plain".into())).is_err());
    }
}
