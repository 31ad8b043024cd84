//! Sealing what is personal or secret.
//!
//! Every person has a key of their own, for names and tokens, and one for each day, for content:
//! texts, media, details. Raw input has a key for each platform account and day ([`raw`]). The
//! installation's key (`ENCRYPTION_KEY`) wraps them all. Sealed text is AES-256-GCM with a random
//! 96-bit nonce, the key's subject as associated data, and an envelope that says which key it was.
//!
//! Erasing a key makes everything sealed under it unreadable wherever it was copied: that is what
//! erasing a person means, and what retention does to a day. Promises: an erased key is never made
//! again; what was sealed under it opens as [`Opened::Erased`] and not as an error; altered content
//! is an error; another process goes on using a key at most [`CACHE_TTL`] after it was erased, and
//! what it seals then is as unreadable as the rest.

mod erasure;
pub mod file;
mod key;
mod keyring;
pub mod raw;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use chrono::{DateTime, NaiveDate, Utc};
use hub_domain::id::{Key, Shard, Sharding, UserId};
use hub_domain::retention;
use hub_domain::secret::Secret;
use hub_domain::signature::hmac_sha256;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

pub use key::{DataKey, Opened, Sealer, is_sealed};
pub use keyring::Keyring;

use crate::error::{Error, Result};
use crate::seal::SealKey;
use crate::signal::{Signals, Topic};

/// What people see in the place of something that was erased.
pub const REDACTED: &str = "[erased]";

/// How long a process may go on using a data key after it was erased elsewhere, when no signal
/// reaches it.
pub const CACHE_TTL: Duration = Duration::from_secs(60);

/// How long a process may take somebody for a user after they were erased elsewhere, when no
/// signal reaches it.
const ALIVE_TTL: Duration = Duration::from_secs(1);

/// What the key of digests is for.
const DIGEST_LABEL: &[u8] = b"hub digest key 1";

/// Data keys kept in memory; beyond that the cache starts over.
const CACHE_MAX: usize = 100_000;

/// The installation's key as 32 bytes: as it is when it has that length, else hashed.
pub(crate) fn installation_key(encryption_key: &Secret) -> [u8; 32] {
    let bytes = encryption_key.expose().as_bytes();
    match bytes.try_into() {
        Ok(exact) => exact,
        Err(_) => Sha256::digest(bytes).into(),
    }
}

/// A key as the database has it.
#[derive(Clone, Debug)]
enum State {
    /// To be used.
    Here(DataKey),
    /// Erased, for good.
    Erased,
}

/// Where a key is, and what its envelopes say.
#[derive(Clone, Copy, Debug)]
struct Find {
    shard: Shard,
    subject: Uuid,
    period: Option<NaiveDate>,
}

/// What is written down with a new key.
#[derive(Clone, Copy, Debug)]
struct Make {
    kind: &'static str,
    owner: Option<Uuid>,
    period: Option<NaiveDate>,
    /// The key that must not be erased for this one to be made.
    under: Option<Uuid>,
}

/// Finds, makes, caches and erases data keys.
#[derive(Clone)]
pub struct Vault {
    pool: PgPool,
    sharding: Sharding,
    installation: DataKey,
    digests: [u8; 32],
    seals: SealKey,
    signals: Signals,
    cache: Arc<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: RwLock<HashMap<Uuid, (State, Instant)>>,
    /// The signals that had been raised when the cache was last emptied.
    signals: AtomicU64,
}

impl Vault {
    pub(crate) fn new(
        pool: PgPool,
        sharding: Sharding,
        encryption_key: &Secret,
        signals: Signals,
    ) -> Self {
        let key = installation_key(encryption_key);
        Self {
            pool,
            sharding,
            installation: DataKey::new(&key, Uuid::nil(), None).expect("32 bytes are a key"),
            digests: hmac_sha256(&key, DIGEST_LABEL),
            seals: SealKey::new(encryption_key),
            signals,
            cache: Arc::default(),
        }
    }

    /// The key that says that this installation has sealed a part of the log.
    pub fn seal_key(&self) -> &SealKey {
        &self.seals
    }

    /// What stands for something that these parts name: equal for equal parts, and without the
    /// installation's key nobody can tell for which.
    pub fn digest(&self, parts: &[&[u8]]) -> Key {
        let named = hmac_sha256(&self.digests, &Key::of(parts).0);
        let mut digest = [0; 16];
        digest.copy_from_slice(&named[..16]);
        Key(digest)
    }

    /// The key of a user, made when it is first asked for. [`Error::Erased`] once they were erased.
    pub async fn user(&self, user: UserId) -> Result<DataKey> {
        let (find, make) = self.own(user);
        match self.find_or_make(find, make).await? {
            State::Here(key) => Ok(key),
            State::Erased => Err(Error::Erased),
        }
    }

    /// What seals a user's content of that moment. Nothing is kept of days before `kept_from`.
    /// [`Error::Erased`] once the user was erased.
    pub async fn content(
        &self,
        user: UserId,
        at: DateTime<Utc>,
        kept_from: Option<NaiveDate>,
    ) -> Result<Sealer> {
        let day = retention::period(at, Utc::now());
        if kept_from.is_some_and(|first| day < first) {
            return Ok(Sealer::Nothing);
        }
        // Made first if need be: the key of a day is only made under it.
        self.user(user).await?;
        let make = Make {
            kind: "day",
            owner: Some(user.0),
            period: Some(day),
            under: Some(user.0),
        };
        Ok(match self.find_or_make(self.day(user, day), make).await? {
            State::Here(key) => Sealer::Under(key),
            State::Erased => Sealer::Nothing,
        })
    }

    /// The keys that open these texts of a user; those that are not in memory by one query.
    pub async fn keyring<'a>(
        &self,
        user: UserId,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Keyring> {
        let asked = keyring::periods(texts);
        let finds: Vec<Find> = asked
            .iter()
            .map(|period| match period {
                Some(day) => self.day(user, *day),
                None => self.own(user).0,
            })
            .collect();
        let mut found = self.find(self.sharding.of_user(user), &finds).await?;
        let keys = finds
            .iter()
            .filter_map(|find| match found.remove(&find.subject)? {
                State::Here(key) => Some((find.period, key)),
                State::Erased => None,
            });
        Ok(Keyring::new(asked, keys.collect()))
    }

    /// Whether there is such a user, as of a second ago at most. Whoever registered or was imported
    /// has a key, and whoever was erased has lost it.
    pub async fn is_there(&self, user: UserId) -> Result<bool> {
        let (find, _) = self.own(user);
        let state = match self.cached(find.subject, ALIVE_TTL) {
            Some(state) => Some(state),
            None => self.read(find.shard, &[find]).await?.remove(&find.subject),
        };
        Ok(matches!(state, Some(State::Here(_))))
    }

    /// Whether a user was erased, as the database has it. Needs no `ENCRYPTION_KEY`.
    pub async fn is_erased_now(&self, user: UserId) -> Result<bool> {
        let erased = sqlx::query_scalar(
            "SELECT wrapped IS NULL FROM data_keys WHERE shard = $1 AND subject = $2",
        )
        .bind(self.sharding.of_user(user).0)
        .bind(user.0)
        .fetch_optional(&self.pool)
        .await?;
        Ok(erased.unwrap_or(false))
    }

    fn own(&self, user: UserId) -> (Find, Make) {
        let find = Find {
            shard: self.sharding.of_user(user),
            subject: user.0,
            period: None,
        };
        let make = Make {
            kind: "user",
            owner: Some(user.0),
            period: None,
            under: None,
        };
        (find, make)
    }

    fn day(&self, user: UserId, day: NaiveDate) -> Find {
        Find {
            shard: self.sharding.of_user(user),
            subject: Uuid::new_v5(&user.0, format!("day:{day}").as_bytes()),
            period: Some(day),
        }
    }

    async fn find_or_make(&self, find: Find, make: Make) -> Result<State> {
        if let Some(state) = self.find(find.shard, &[find]).await?.remove(&find.subject) {
            return Ok(state);
        }
        self.make(find, make).await?;
        // Somebody else may have been first: what is stored counts. Nothing is stored when the key
        // it belongs to was erased meanwhile.
        let made = self.read(find.shard, &[find]).await?.remove(&find.subject);
        made.ok_or(Error::Erased)
    }

    /// Keys of one shard, from memory or by one query. Those that do not exist are left out.
    async fn find(&self, shard: Shard, finds: &[Find]) -> Result<HashMap<Uuid, State>> {
        let mut found = HashMap::with_capacity(finds.len());
        let mut missing = Vec::new();
        for find in finds {
            match self.cached(find.subject, CACHE_TTL) {
                Some(state) => {
                    found.insert(find.subject, state);
                }
                None => missing.push(*find),
            }
        }
        if !missing.is_empty() {
            found.extend(self.read(shard, &missing).await?);
        }
        Ok(found)
    }

    fn cached(&self, subject: Uuid, at_most: Duration) -> Option<State> {
        let raised = self.signals.count(Topic::Keys);
        if self.cache.signals.load(Ordering::Acquire) != raised {
            let mut cache = self.cache.keys.write().ok()?;
            cache.clear();
            self.cache.signals.store(raised, Ordering::Release);
            return None;
        }
        let cache = self.cache.keys.read().ok()?;
        let (state, read_at) = cache.get(&subject)?;
        (read_at.elapsed() < at_most).then(|| state.clone())
    }

    /// Keys as they are stored now; whoever asks next finds them in memory.
    async fn read(&self, shard: Shard, finds: &[Find]) -> Result<HashMap<Uuid, State>> {
        let read_at = Instant::now();
        let raised = self.signals.count(Topic::Keys);
        let subjects: Vec<Uuid> = finds.iter().map(|find| find.subject).collect();
        let rows: Vec<(Uuid, Option<String>)> = sqlx::query_as(
            "SELECT subject, wrapped FROM data_keys WHERE shard = $1 AND subject = ANY ($2)",
        )
        .bind(shard.0)
        .bind(subjects)
        .fetch_all(&self.pool)
        .await?;
        let mut found = HashMap::with_capacity(rows.len());
        for (subject, wrapped) in rows {
            let find = finds.iter().find(|find| find.subject == subject);
            let period = find.and_then(|find| find.period);
            let state = match wrapped {
                Some(wrapped) => {
                    let bytes = self.installation.open_bytes(&wrapped)?;
                    State::Here(DataKey::new(&bytes, subject, period)?)
                }
                None => State::Erased,
            };
            found.insert(subject, state);
        }
        // What was erased while we read may have been read as it was before.
        if let Ok(mut cache) = self.cache.keys.write()
            && raised == self.signals.count(Topic::Keys)
        {
            if cache.len() >= CACHE_MAX {
                cache.clear();
            }
            for (subject, state) in &found {
                cache.insert(*subject, (state.clone(), read_at));
            }
        }
        Ok(found)
    }

    async fn make(&self, find: Find, make: Make) -> Result<()> {
        let mut bytes = [0u8; 32];
        rand::fill(&mut bytes).map_err(|_| Error::Sealed("no randomness"))?;
        let wrapped = self.installation.seal_bytes(&bytes);
        let statement = match make.under {
            Some(under) => sqlx::query(include_str!("../sql/make_day_key.sql"))
                .bind(find.shard.0)
                .bind(find.subject)
                .bind(under),
            None => sqlx::query(
                "INSERT INTO data_keys (shard, subject, wrapped, kind, owner, period) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(find.shard.0)
            .bind(find.subject),
        };
        statement
            .bind(wrapped)
            .bind(make.kind)
            .bind(make.owner)
            .bind(make.period)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Empties this process's cache and tells the others to.
    fn told(&self) {
        self.signals.raise(Topic::Keys);
    }
}
