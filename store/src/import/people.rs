//! Users with their passwords, and the sessions they have open.

use chrono::Utc;
use futures::TryStreamExt as _;
use hub_domain::envelope::{Append, Expected};
use hub_domain::event::{SessionStarted, UserRegistered};
use hub_domain::id::{Key, SessionId, UserId, login_stream};
use sha2::{Digest, Sha256};

use super::source::{TokenRow, UserRow};
use super::{Import, OWNER_SKIPPED, meta};
use crate::Store;
use crate::error::{Error, Result};

/// Hashes dearer than this would take a login seconds, or for ever.
const COST_MAX: u32 = 15;

/// Stands for a hash that no password has.
const NO_HASH: &str = "!";

impl Import<'_> {
    /// A user with everything they own.
    pub(super) async fn person(&mut self, row: &UserRow) -> Result<()> {
        match user(self.store, row, self.options.dry_run).await? {
            Ok(is_new) => self.report.users.take(is_new),
            Err(reason) => {
                self.report.users.skip(reason, 1);
                let below = self.source.below_user(row.id).await?;
                let report = &mut self.report;
                report.connected_accounts.skip(OWNER_SKIPPED, below.0);
                report.conversations.skip(OWNER_SKIPPED, below.1);
                report.messages.skip(OWNER_SKIPPED, below.2);
                return Ok(());
            }
        }
        if !is_usable(&row.password_hash) {
            self.report
                .users
                .note("its password hash is none that can be checked: no password opens it");
        }
        self.users.insert(row.id);
        for account in self.source.accounts(row.id).await? {
            self.account(UserId(row.id), &account).await?;
        }
        self.tell();
        Ok(())
    }

    /// The sessions that are open.
    pub(super) async fn sessions(&mut self) -> Result<()> {
        let now = Utc::now();
        let mut rows = self.source.tokens();
        let table = &mut self.report.refresh_tokens;
        while let Some(row) = rows.try_next().await? {
            let owner = row.user.filter(|user| self.users.contains(user));
            let reason = match owner {
                None => Some(OWNER_SKIPPED),
                Some(_) if row.is_revoked => Some("it was revoked"),
                Some(_) if row.expires_at <= now => Some("it has expired"),
                Some(user) => {
                    let signed_for = (self.options.owner_of_token)(&row.token);
                    let is_ours = signed_for == Some(UserId(user));
                    (!is_ours).then_some("it is not signed with this JWT_REFRESH_SECRET")
                }
            };
            match (owner, reason) {
                (Some(user), None) => {
                    let taken = session(self.store, UserId(user), &row, self.options.dry_run);
                    table.take(taken.await?);
                }
                (_, reason) => table.skip(reason.unwrap_or(OWNER_SKIPPED), 1),
            }
        }
        Ok(())
    }
}

/// Registers a user as they were. True when they were not here; the inner error says why they are
/// not taken over.
async fn user(
    store: &Store,
    row: &UserRow,
    dry_run: bool,
) -> Result<std::result::Result<bool, &'static str>> {
    let user = UserId(row.id);
    let email = row.email.trim().to_lowercase();
    let stream = login_stream(&email);
    if store.vault().is_erased_now(user).await? {
        return Ok(Err("they were erased here"));
    }
    match store.stored_login(stream).await? {
        Some(login) if login.user == user => return Ok(Ok(false)),
        Some(_) => return Ok(Err("somebody else is registered here with their address")),
        None if dry_run => return Ok(Ok(true)),
        None => {}
    }
    let shard = store.sharding().of_login(stream);
    let sealed = store.vault().user(user).await?.seal(&email);
    let mut tx = crate::transaction::begin(store.pool()).await?;
    // An address whose owner was erased has a stream and no login, as when somebody registers.
    let left: Option<i64> =
        sqlx::query_scalar("SELECT version FROM streams WHERE shard = $1 AND stream = $2")
            .bind(shard.0)
            .bind(stream.0)
            .fetch_optional(&mut *tx)
            .await?;
    let registered = UserRegistered {
        user,
        email: sealed.clone(),
    };
    let append = Append::one(shard, stream, registered)
        .expecting(left.map_or(Expected::NoStream, Expected::Version))
        .because(meta(row.created_at));
    store.append_in(&mut tx, &append).await?;
    let is_usable = is_usable(&row.password_hash);
    sqlx::query(
        "INSERT INTO logins (shard, stream, user_id, email, password_hash, imported, created_at, \
             updated_at) \
         VALUES ($1, $2, $3, $4, $5, true, coalesce($6, now()), coalesce($7, $6, now()))",
    )
    .bind(shard.0)
    .bind(stream.0)
    .bind(user.0)
    .bind(&sealed.0)
    .bind(if is_usable {
        &row.password_hash
    } else {
        NO_HASH
    })
    .bind(row.created_at)
    .bind(row.updated_at)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    store.appended();
    Ok(Ok(true))
}

/// Whether this is a bcrypt hash that a login can check.
fn is_usable(hash: &str) -> bool {
    let cost = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .find_map(|prefix| hash.strip_prefix(prefix))
        .and_then(|rest| rest.split_once('$'))
        .filter(|(cost, _)| cost.len() == 2 && cost.bytes().all(|it| it.is_ascii_digit()))
        .filter(|(_, salted)| salted.len() == 53)
        .and_then(|(cost, _)| cost.parse().ok());
    cost.is_some_and(|cost| (4..=COST_MAX).contains(&cost))
}

/// Takes an open session over. True when it was not here.
async fn session(store: &Store, user: UserId, row: &TokenRow, dry_run: bool) -> Result<bool> {
    let shard = store.sharding().of_user(user);
    let hash: [u8; 32] = Sha256::digest(&row.token).into();
    let key = Key::of(&[b"imported session", &hash]);
    let is_known = super::known_keys(store.pool(), shard, &[key]).await?;
    if dry_run || !is_known.is_empty() {
        return Ok(is_known.is_empty());
    }
    let session = SessionId(row.id);
    let mut tx = crate::transaction::begin(store.pool()).await?;
    sqlx::query(
        "INSERT INTO refresh_tokens (shard, token_hash, session, user_id, expires_at, created_at) \
         VALUES ($1, $2, $3, $4, $5, coalesce($6, now())) ON CONFLICT DO NOTHING",
    )
    .bind(shard.0)
    .bind(hash.as_slice())
    .bind(session.0)
    .bind(user.0)
    .bind(row.expires_at)
    .bind(row.created_at)
    .execute(&mut *tx)
    .await?;
    let append = Append::one(shard, session, SessionStarted { user, session })
        .once(key)
        .because(meta(row.created_at));
    match store.append_in(&mut tx, &append).await {
        Err(Error::Conflict { .. }) => return Ok(false),
        appended => appended?,
    };
    tx.commit().await?;
    store.appended();
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bcrypt_of_a_bearable_cost_is_kept() {
        let rest = "abcdefghijklmnopqrstuu2njjerFUdKeNqVoGia/slSqhJQ.vuAy";
        for usable in ["$2a$10$", "$2b$12$", "$2y$04$", "$2b$15$"] {
            assert!(is_usable(&format!("{usable}{rest}")), "{usable}");
        }
        for odd in ["$2b$31$", "$2x$10$", "$2b$1$", "$2b$00$", "$2b$+9$", ""] {
            assert!(!is_usable(&format!("{odd}{rest}")), "{odd}");
        }
        assert!(!is_usable("$2b$10$short"));
        assert!(!is_usable(NO_HASH));
    }
}
