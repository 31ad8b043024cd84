//! Who may log in: e-mail addresses and password hashes.

use chrono::{DateTime, Utc};
use hub_domain::envelope::{Append, Expected, Meta};
use hub_domain::event::{Sealed, UserRegistered};
use hub_domain::id::{StreamId, UserId};
use sqlx::Row;
use uuid::Uuid;

use crate::Store;
use crate::error::Result;

/// A user as the login knows them.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub user: UserId,
    /// The bcrypt hash.
    pub password_hash: String,
    /// Whether it comes from an earlier installation, which may have hashed the password in a form
    /// of its own.
    pub imported: bool,
    /// Registered.
    pub created_at: DateTime<Utc>,
    /// Password last changed.
    pub updated_at: DateTime<Utc>,
}

impl Store {
    /// Registers a user under a login stream. [`crate::Error::Conflict`] when the address is taken: the
    /// stream moves from nothing, or from where an erased user left it, and two at once cannot both
    /// move it.
    pub async fn register(
        &self,
        stream: StreamId,
        user: UserId,
        email: &str,
        password_hash: &str,
        meta: Meta,
    ) -> Result<Login> {
        let shard = self.sharding().of_login(stream);
        let email: Sealed = self.vault().user(user).await?.seal(email);
        let mut tx = crate::transaction::begin(self.pool()).await?;
        let left: Option<i64> = sqlx::query_scalar(
            "SELECT version FROM streams s WHERE shard = $1 AND stream = $2 AND NOT EXISTS \
             (SELECT FROM logins l WHERE l.shard = s.shard AND l.stream = s.stream)",
        )
        .bind(shard.0)
        .bind(stream.0)
        .fetch_optional(&mut *tx)
        .await?;
        let append = Append::one(
            shard,
            stream,
            UserRegistered {
                user,
                email: email.clone(),
            },
        )
        .expecting(left.map_or(Expected::NoStream, Expected::Version))
        .because(meta);
        self.append_in(&mut tx, &append).await?;
        let row = sqlx::query(
            "INSERT INTO logins (shard, stream, user_id, email, password_hash) \
             VALUES ($1, $2, $3, $4, $5) RETURNING date_trunc('milliseconds', created_at)",
        )
        .bind(shard.0)
        .bind(stream.0)
        .bind(user.0)
        .bind(&email.0)
        .bind(password_hash)
        .fetch_one(&mut *tx)
        .await?;
        let created_at: DateTime<Utc> = row.try_get(0)?;
        tx.commit().await?;
        self.appended();
        Ok(Login {
            user,
            password_hash: password_hash.to_owned(),
            imported: false,
            created_at,
            updated_at: created_at,
        })
    }

    /// The login of an address. An erased user has none.
    pub async fn login(&self, stream: StreamId) -> Result<Option<Login>> {
        let login = self.stored_login(stream).await?;
        match &login {
            Some(it) if self.vault().is_erased_now(it.user).await? => Ok(None),
            _ => Ok(login),
        }
    }

    /// The login of an address as it is stored, also while its user is being erased.
    pub async fn stored_login(&self, stream: StreamId) -> Result<Option<Login>> {
        let row = sqlx::query(
            "SELECT user_id, password_hash, imported, created_at, updated_at FROM logins \
             WHERE shard = $1 AND stream = $2",
        )
        .bind(self.sharding().of_login(stream).0)
        .bind(stream.0)
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| {
            Ok(Login {
                user: UserId(row.try_get::<Uuid, _>(0)?),
                password_hash: row.try_get(1)?,
                imported: row.try_get(2)?,
                created_at: row.try_get(3)?,
                updated_at: row.try_get(4)?,
            })
        })
        .transpose()
    }

    /// Puts another hash of the same password in the place of one. Nothing happens when that is not
    /// there any more.
    pub async fn rehash(
        &self,
        stream: StreamId,
        old: &str,
        new: &str,
        imported: bool,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE logins SET password_hash = $4, imported = $5 \
             WHERE shard = $1 AND stream = $2 AND password_hash = $3",
        )
        .bind(self.sharding().of_login(stream).0)
        .bind(stream.0)
        .bind(old)
        .bind(new)
        .bind(imported)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The highest cost of all hashes that are dearer than new ones, as two digits.
    pub async fn costliest_hash(&self) -> Result<Option<String>> {
        Ok(sqlx::query_scalar(
            "SELECT max(substr(password_hash, 5, 2)) FROM logins \
             WHERE substr(password_hash, 5, 2) > '10'",
        )
        .fetch_one(self.pool())
        .await?)
    }
}
