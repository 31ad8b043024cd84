//! Tokens of connected accounts while they are in use: how long they are good, who renews them, and
//! the pauses platforms ask for. All of it is in the account's row, so that every worker of every
//! process agrees, with Redis and without. Times go by the database's clock.
//!
//! **One renews.** Whoever wants to renew claims the row for a while, by a name of its own. Two never
//! renew the same token, unless the first is believed dead; nobody holds a connection meanwhile.
//!
//! **Nothing is lost that can be kept.** New tokens are in the row before anybody calls with them. The
//! refresh token they were made with stays beside the new one until the new one has worked, which is
//! the next renewal. Somebody who was believed dead and still has an answer leaves its refresh token
//! as a second choice. Tokens of an account that was connected again meanwhile are never overwritten.

use std::time::Duration;

use hub_domain::event::Sealed;
use hub_domain::id::{AccountId, Shard, UserId};
use hub_domain::platform::call::Tokens;
use hub_domain::platform::{Credentials, Platform};
use hub_domain::secret::Secret;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::Store;
use crate::account::Owner;
use crate::error::{Error, Result};
use crate::vault::DataKey;

/// How long a renewal is believed to go on. Longer than all of its tries together; when its worker
/// died, calls that need a new token wait for so long.
pub const RENEWAL_MAX: Duration = Duration::from_secs(60);

/// What is known of an account's tokens, without the tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenState {
    /// Goes up whenever the tokens change, and is never the same again.
    pub version: i64,
    /// Seconds the access token is good for, negative once it has expired; `None`: it does not.
    pub expires_in_s: Option<f64>,
    /// Seconds since it was renewed, if it was since the account was connected.
    pub renewed_ago_s: Option<f64>,
    /// How long the account is to be left alone.
    pub paused: Option<Duration>,
    /// No renewal may begin for so long: one goes on, or the last one met trouble.
    pub renewal_blocked: Option<Duration>,
    /// True while a renewal goes on.
    pub is_renewing: bool,
    /// Why the platform no longer accepts these tokens.
    pub refused: Option<String>,
}

impl TokenState {
    /// True when less than this is left.
    pub fn expires_within(&self, margin: Duration) -> bool {
        self.expires_in_s
            .is_some_and(|left| left <= margin.as_secs_f64())
    }

    /// True when the platform will not accept the access token any more.
    pub fn is_expired(&self) -> bool {
        self.expires_within(Duration::ZERO)
    }
}

/// Tokens for a call.
#[derive(Clone, Debug)]
pub struct Held {
    /// The secrets.
    pub credentials: Credentials,
    /// What is known of them.
    pub state: TokenState,
}

/// The right to renew an account's tokens.
#[derive(Debug)]
pub struct Claim {
    name: Uuid,
    /// The tokens to renew.
    pub credentials: Credentials,
    /// The refresh token before, to be tried when the platform refuses the newest.
    pub previous: Option<Secret>,
}

/// An account whose token is about to expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// The account's shard.
    pub shard: Shard,
    /// Whose account.
    pub owner: Owner,
}

const STATE: &str = "SELECT version, extract(epoch FROM expires_at - now())::float8, \
     extract(epoch FROM now() - renewed_at)::float8, \
     extract(epoch FROM paused_until - now())::float8, \
     extract(epoch FROM renewal_until - now())::float8, renewal IS NOT NULL, refused, \
     access_token, refresh_token, granted FROM account_tokens WHERE shard = $1 AND account = $2";

impl Store {
    /// What is known of an account's tokens; `None` once they were erased.
    pub async fn token_state(&self, owner: Owner) -> Result<Option<TokenState>> {
        let row = self.token_row(owner).await?;
        row.map(|row| state(&row)).transpose()
    }

    /// The tokens of an account, or `None` once they were erased.
    pub async fn tokens(&self, owner: Owner, route: &str) -> Result<Option<Held>> {
        let Some(row) = self.token_row(owner).await? else {
            return Ok(None);
        };
        let Some(key) = self.key_of(owner).await? else {
            return Ok(None);
        };
        Ok(Some(Held {
            credentials: Credentials {
                route: route.to_owned(),
                access_token: open(&key, row.try_get(7)?)?,
                refresh_token: open_some(&key, row.try_get(8)?)?,
                granted: row.try_get(9)?,
            },
            state: state(&row)?,
        }))
    }

    /// The secrets alone, as they are: for whoever takes leave.
    pub async fn credentials(&self, owner: Owner, route: &str) -> Result<Option<Credentials>> {
        let held = self.tokens(owner, route).await?;
        Ok(held.map(|held| held.credentials))
    }

    async fn token_row(&self, owner: Owner) -> Result<Option<PgRow>> {
        let query = sqlx::query(STATE)
            .bind(self.sharding().of_user(owner.user).0)
            .bind(owner.account.0);
        Ok(query.fetch_optional(self.pool()).await?)
    }

    async fn key_of(&self, owner: Owner) -> Result<Option<DataKey>> {
        match self.vault().user(owner.user).await {
            Err(Error::Erased) => Ok(None),
            key => key.map(Some),
        }
    }

    /// Asks to be the one who renews these tokens. `None` when somebody else is at it, when the last
    /// renewal has just met trouble, or when the tokens are no longer of this version.
    pub async fn claim_renewal(
        &self,
        owner: Owner,
        route: &str,
        version: i64,
    ) -> Result<Option<Claim>> {
        let name = Uuid::new_v4();
        let row = sqlx::query(
            "UPDATE account_tokens SET renewal = $4, \
             renewal_until = now() + $5 * interval '1 second' \
             WHERE shard = $1 AND account = $2 AND version = $3 AND refused IS NULL \
             AND (renewal_until IS NULL OR renewal_until <= now()) \
             RETURNING access_token, refresh_token, previous_refresh_token, granted",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(version)
        .bind(name)
        .bind(RENEWAL_MAX.as_secs_f64())
        .fetch_optional(self.pool())
        .await?;
        let (Some(row), Some(key)) = (row, self.key_of(owner).await?) else {
            return Ok(None);
        };
        Ok(Some(Claim {
            name,
            credentials: Credentials {
                route: route.to_owned(),
                access_token: open(&key, row.try_get(0)?)?,
                refresh_token: open_some(&key, row.try_get(1)?)?,
                granted: row.try_get(3)?,
            },
            previous: open_some(&key, row.try_get(2)?)?,
        }))
    }

    /// Keeps what the platform gave out for the tokens of a claim. `used` is the refresh token it was
    /// asked with. False when the claim was no longer good: then at most the new refresh token was
    /// kept, as a second choice for whoever renews now.
    pub async fn finish_renewal(
        &self,
        owner: Owner,
        claim: &Claim,
        used: Option<&Secret>,
        new: &Tokens,
    ) -> Result<bool> {
        let Some(key) = self.key_of(owner).await? else {
            return Ok(false);
        };
        // Never nothing in place of something: without a new one, the one that worked stays.
        let rotated = new
            .refresh_token
            .as_ref()
            .filter(|token| Some(*token) != used);
        let refresh = rotated.or(used);
        let before = match rotated {
            Some(_) => used,
            None => [&claim.credentials.refresh_token, &claim.previous]
                .into_iter()
                .flatten()
                .find(|token| Some(*token) != used),
        };
        let seal = |token: Option<&Secret>| token.map(|token| key.seal(token.expose()).0);
        let expires_in = new
            .expires_in_s
            .map(|it| Duration::from_secs(it).as_secs_f64());
        let kept = sqlx::query(
            "UPDATE account_tokens SET access_token = $4, refresh_token = $5, \
             previous_refresh_token = $6, expires_at = now() + $7 * interval '1 second', \
             granted = coalesce($8, granted), \
             renewed_at = now(), renewal = NULL, renewal_until = NULL, version = version + 1 \
             WHERE shard = $1 AND account = $2 AND renewal = $3",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(claim.name)
        .bind(key.seal(new.access_token.expose()).0)
        .bind(seal(refresh))
        .bind(seal(before))
        .bind(expires_in)
        .bind(&new.granted)
        .execute(self.pool())
        .await?
        .rows_affected();
        if kept == 1 {
            return Ok(true);
        }
        sqlx::query(
            "UPDATE account_tokens SET previous_refresh_token = $3 \
             WHERE shard = $1 AND account = $2 AND renewal IS NOT NULL AND $3 IS NOT NULL",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(seal(rotated))
        .execute(self.pool())
        .await?;
        Ok(false)
    }

    /// The refresh token to try when the newest was refused: it may have come during the renewal.
    pub async fn second_choice(&self, owner: Owner, claim: &Claim) -> Result<Option<Secret>> {
        let text: Option<Option<String>> = sqlx::query_scalar(
            "SELECT previous_refresh_token FROM account_tokens \
             WHERE shard = $1 AND account = $2 AND renewal = $3",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(claim.name)
        .fetch_optional(self.pool())
        .await?;
        match (text.flatten(), self.key_of(owner).await?) {
            (Some(text), Some(key)) => open(&key, text).map(Some),
            _ => Ok(None),
        }
    }

    /// Gives a claim back. Nobody tries again before this time has passed.
    pub async fn give_up_renewal(
        &self,
        owner: Owner,
        claim: &Claim,
        again_after: Duration,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE account_tokens SET renewal = NULL, \
             renewal_until = now() + $4 * interval '1 second' \
             WHERE shard = $1 AND account = $2 AND renewal = $3",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(claim.name)
        .bind(again_after.as_secs_f64())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Notes that the platform no longer accepts tokens of this version. Connecting the account
    /// again ends that.
    pub async fn refuse_tokens(&self, owner: Owner, version: i64, reason: &str) -> Result<()> {
        sqlx::query(
            "UPDATE account_tokens SET refused = $4, renewal = NULL, renewal_until = NULL \
             WHERE shard = $1 AND account = $2 AND version = $3",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(version)
        .bind(reason)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Leaves an account alone for a while, in all processes. A pause is never made shorter.
    pub async fn pause_account(&self, owner: Owner, wait: Duration) -> Result<()> {
        sqlx::query(
            "UPDATE account_tokens SET \
             paused_until = greatest(paused_until, now() + $3 * interval '1 second') \
             WHERE shard = $1 AND account = $2",
        )
        .bind(self.sharding().of_user(owner.user).0)
        .bind(owner.account.0)
        .bind(wait.as_secs_f64())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Active accounts of a platform whose tokens expire within this time, soonest first.
    pub async fn expiring(
        &self,
        platform: Platform,
        within: Duration,
        limit: i64,
    ) -> Result<Vec<Expiring>> {
        let rows: Vec<(i16, Uuid, Uuid)> = sqlx::query_as(
            "SELECT t.shard, t.account, a.user_id FROM account_tokens t \
             JOIN generations g ON g.shard = t.shard AND g.projection = 'accounts' \
             JOIN read.accounts a \
             ON a.shard = t.shard AND a.generation = g.live AND a.id = t.account \
             WHERE t.shard = ANY ($1) AND t.expires_at <= now() + $2 * interval '1 second' \
             AND t.refused IS NULL AND a.is_active AND a.platform = $3 \
             ORDER BY t.expires_at LIMIT $4",
        )
        .bind((0..self.sharding().count).collect::<Vec<i16>>())
        .bind(within.as_secs_f64())
        .bind(platform.name())
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let expiring = rows.into_iter().map(|(shard, account, user)| Expiring {
            shard: Shard(shard),
            owner: Owner {
                user: UserId(user),
                account: AccountId(account),
            },
        });
        Ok(expiring.collect())
    }
}

fn state(row: &PgRow) -> Result<TokenState> {
    let left = |seconds: Option<f64>| {
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|left| !left.is_zero())
    };
    let renewal_blocked = left(row.try_get(4)?);
    Ok(TokenState {
        version: row.try_get(0)?,
        expires_in_s: row.try_get(1)?,
        renewed_ago_s: row.try_get(2)?,
        paused: left(row.try_get(3)?),
        is_renewing: renewal_blocked.is_some() && row.try_get(5)?,
        renewal_blocked,
        refused: row.try_get(6)?,
    })
}

fn open(key: &DataKey, text: String) -> Result<Secret> {
    key.open(&Sealed(text)).map(Secret::new)
}

fn open_some(key: &DataKey, text: Option<String>) -> Result<Option<Secret>> {
    text.map(|text| open(key, text)).transpose()
}
