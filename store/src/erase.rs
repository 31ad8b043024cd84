//! Forgetting a person, in a log that never changes.
//!
//! First the fact, once ([`Store::begin_erasure`]); from then on everything else follows from it.
//! [`Store::finish_erasure`] does what the database alone can do: sessions, states, tokens, places
//! in the directory, jobs, keys, raw input, the login. Every step may be repeated and may be the
//! last before a crash; the job that follows the event repeats them until all are done, and once
//! more when no process can have a key in memory any more. What was sealed stays where it is, in
//! the log, in read models and in copies of them, and nobody can open it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use hub_domain::envelope::{Append, Meta};
use hub_domain::event::{AccountDisconnected, UserErased};
use hub_domain::id::{AccountId, Key, Place, UserId};
use hub_domain::platform::Platform;
use serde::Serialize;
use uuid::Uuid;

use crate::Store;
use crate::account::Owner;
use crate::checkpoint::{self, Reactor};
use crate::error::Result;
use crate::signal::Topic;
use crate::vault::CACHE_TTL;

/// Where the dispatcher is tells whether any worker runs.
const DISPATCH: Reactor = Reactor {
    name: "dispatch",
    generation: 0,
};

/// A worker that runs has seen an event after this long.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A platform account that a person has connected, now or ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The platform.
    pub platform: Platform,
    /// The id that webhooks name it by.
    pub route: String,
    /// The account.
    pub account: AccountId,
}

/// What there is of a person, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Estate {
    /// Connected accounts, disconnected ones included.
    pub accounts: i64,
    /// Conversations.
    pub conversations: i64,
    /// Messages in them.
    pub messages: i64,
    /// Messages that wait to be sent.
    pub unsent: i64,
    /// Refresh tokens.
    pub refresh_tokens: i64,
    /// Keys of days with content, and the person's own.
    pub keys: i64,
    /// Keys of raw input about accounts that nobody else has connected.
    pub raw_keys: i64,
}

/// What one run of the steps removed; nothing where an earlier run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Refresh tokens.
    pub refresh_tokens: u64,
    /// OAuth states.
    pub oauth_states: u64,
    /// Jobs.
    pub jobs: u64,
    /// Places in the directory.
    pub directory: u64,
    /// Accounts' tokens.
    pub account_tokens: u64,
    /// Names that imported things brought with them.
    pub aliases: u64,
    /// The person's own key and those of days.
    pub keys: u64,
    /// Keys of raw input.
    pub raw_keys: u64,
    /// What was counted of their requests and of calls for them.
    pub usage: u64,
    /// The login with its password.
    pub logins: u64,
    /// Platform accounts whose raw input has to wait for the translator: see
    /// [`Store::finish_erasure`].
    pub waiting: u64,
}

impl Store {
    /// Writes down that a person is to be forgotten, and where that is in the log; the same place
    /// however often it is asked for. Nothing brings them back.
    pub async fn begin_erasure(&self, user: UserId, meta: Meta) -> Result<Place> {
        let shard = self.sharding().of_user(user);
        let append = Append::one(shard, user, UserErased { user })
            .once(Key::of(&[b"user erased", user.0.as_bytes()]))
            .because(meta);
        Ok(self.append(append).await?.place())
    }

    /// Waits until a worker has taken leave of the platforms, which needs the tokens, and has
    /// erased the keys: at most this long, and not at all when none runs. True when it has.
    pub async fn wait_for_farewell(
        &self,
        user: UserId,
        begun: Place,
        at_most: Duration,
    ) -> Result<bool> {
        let started = Instant::now();
        let mut listener = self.signals().listen(Topic::Keys);
        loop {
            if self.vault().is_erased_now(user).await? {
                return Ok(true);
            }
            let waited = started.elapsed();
            let is_alone = waited >= SEEN_WITHIN
                && checkpoint::position(self.pool(), DISPATCH, begun.shard).await? < begun.position;
            if is_alone || waited >= at_most {
                return Ok(false);
            }
            listener.wait(LOOK_EVERY).await;
        }
    }

    /// Every step of an erasure that needs no platform; repeating it removes what came in since.
    ///
    /// Complete when this returns, with one exception: raw input that is about somebody else's
    /// account as well and that nobody has translated yet. Without its keys they would never get
    /// their part, so those keys wait, and the job comes again.
    pub async fn finish_erasure(&self, user: UserId, begun: Place) -> Result<Erased> {
        let shard = begun.shard.0;
        let connections = self.connections(user).await?;
        let accounts: Vec<Uuid> = connections.iter().map(|it| it.account.0).collect();
        let routes = self.raw_routes(user, &connections).await?;
        for table in [
            "DELETE FROM polls WHERE shard = $1 AND account = ANY ($2)",
            "DELETE FROM poll_wishes WHERE shard = $1 AND account = ANY ($2)",
        ] {
            self.remove(sqlx::query(table).bind(shard).bind(&accounts))
                .await?;
        }
        let agreements = sqlx::query("DELETE FROM agreements WHERE user_id = $1").bind(user.0);
        self.remove(agreements).await?;
        let mut erased = Erased {
            refresh_tokens: self
                .remove(
                    sqlx::query("DELETE FROM refresh_tokens WHERE shard = $1 AND user_id = $2")
                        .bind(shard)
                        .bind(user.0),
                )
                .await?,
            oauth_states: self
                .remove(sqlx::query("DELETE FROM oauth_states WHERE user_id = $1").bind(user.0))
                .await?,
            // Sends stay: they find the account gone, and write down that the message did not leave.
            jobs: self
                .remove(
                    sqlx::query(
                        "DELETE FROM jobs WHERE shard = $1 \
                         AND queue IN ('contact', 'media', 'disconnect', 'poll', 'tokens', 'fetch', \
                             'subscribe', 'telegram', 'withdrawn') \
                         AND payload ->> 'user' = $2",
                    )
                    .bind(shard)
                    .bind(user.to_string()),
                )
                .await?,
            directory: self
                .remove(sqlx::query("DELETE FROM directory WHERE user_id = $1").bind(user.0))
                .await?,
            account_tokens: self
                .remove(
                    sqlx::query(
                        "WITH held AS (DELETE FROM telegram_sessions \
                             WHERE shard = $1 AND account = ANY ($2)) \
                         DELETE FROM account_tokens WHERE shard = $1 AND account = ANY ($2)",
                    )
                    .bind(shard)
                    .bind(&accounts),
                )
                .await?,
            aliases: self
                .remove(
                    sqlx::query("DELETE FROM aliases WHERE shard = $1 AND user_id = $2")
                        .bind(shard)
                        .bind(user.0),
                )
                .await?,
            keys: self.vault().erase_user(user).await?,
            usage: self
                .remove(
                    sqlx::query("DELETE FROM api_usage_logs WHERE shard = $1 AND user_id = $2")
                        .bind(shard)
                        .bind(user.0),
                )
                .await?,
            ..Erased::default()
        };
        for it in &routes {
            if !self.owners(it.platform, &it.route).await?.is_empty() {
                continue;
            }
            if self.is_awaited(it).await? {
                erased.waiting += 1;
                continue;
            }
            erased.raw_keys += self
                .vault()
                .forget_raw_route(it.platform, &it.route)
                .await?;
        }
        // The names of what is still awaited are needed once more.
        if erased.waiting == 0 {
            let subscriptions = "DELETE FROM subscriptions WHERE shard = $1 AND account = ANY ($2)";
            self.remove(sqlx::query(subscriptions).bind(shard).bind(&accounts))
                .await?;
        }
        self.disconnect_latecomers(user, begun).await?;
        // Last: until here an operator finds the person by their address and can go on.
        erased.logins = self
            .remove(sqlx::query("DELETE FROM logins WHERE user_id = $1").bind(user.0))
            .await?;
        // Of all who may be at it one takes the login away: a person is counted once.
        if erased.logins > 0 {
            metrics::counter!("hub_erasures_total").increment(1);
        }
        Ok(erased)
    }

    /// When nobody can have the person's keys in memory any more; `None` while they exist.
    pub async fn settled_at(&self, user: UserId) -> Result<Option<DateTime<Utc>>> {
        let erased_at: Option<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT erased_at FROM data_keys WHERE shard = $1 AND subject = $2 \
             AND erased_at IS NOT NULL",
        )
        .bind(self.sharding().of_user(user).0)
        .bind(user.0)
        .fetch_optional(self.pool())
        .await?;
        Ok(erased_at.map(|at| at + CACHE_TTL))
    }

    /// What there is of a person.
    pub async fn estate(&self, user: UserId) -> Result<Estate> {
        let shard = self.sharding().of_user(user).0;
        let connections = self.connections(user).await?;
        let mut raw_keys = 0;
        for it in &self.raw_routes(user, &connections).await? {
            let owners = self.owners(it.platform, &it.route).await?;
            if owners.iter().all(|owner| owner.user == user) {
                let keys = self.vault().raw_keys_of_route(it.platform, &it.route);
                raw_keys += keys.await?;
            }
        }
        let (conversations, messages, unsent): (i64, i64, i64) = sqlx::query_as(
            "SELECT count(DISTINCT c.id) FILTER (WHERE NOT c.forgotten), count(m.id), \
                 count(m.id) FILTER (WHERE m.state IN ('queued', 'sending', 'delayed')) \
             FROM read.conversations c JOIN generations g \
                 ON g.shard = c.shard AND g.projection = 'inbox' AND g.live = c.generation \
             LEFT JOIN read.messages m ON m.shard = c.shard AND m.generation = c.generation \
                 AND m.conversation_id = c.id AND m.state <> 'placeholder' \
             WHERE c.shard = $1 AND c.user_id = $2",
        )
        .bind(shard)
        .bind(user.0)
        .fetch_one(self.pool())
        .await?;
        let (refresh_tokens, keys): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM refresh_tokens WHERE shard = $1 AND user_id = $2), \
                 (SELECT count(*) FROM data_keys WHERE shard = $1 AND wrapped IS NOT NULL \
                  AND (owner = $2 OR subject = $2))",
        )
        .bind(shard)
        .bind(user.0)
        .fetch_one(self.pool())
        .await?;
        Ok(Estate {
            accounts: i64::try_from(connections.len()).unwrap_or(i64::MAX),
            conversations,
            messages,
            unsent,
            refresh_tokens,
            keys,
            raw_keys,
        })
    }

    /// Every platform account the person ever connected, by the log: read models may be behind.
    pub async fn connections(&self, user: UserId) -> Result<Vec<Connection>> {
        let rows: Vec<(String, String, Uuid)> = sqlx::query_as(
            "SELECT DISTINCT payload ->> 'platform', payload ->> 'route', \
                 (payload ->> 'account')::uuid \
             FROM events WHERE shard = $1 AND kind = 'AccountConnected' \
             AND payload ->> 'user' = $2",
        )
        .bind(self.sharding().of_user(user).0)
        .bind(user.to_string())
        .fetch_all(self.pool())
        .await?;
        let known = rows.into_iter().filter_map(|(platform, route, account)| {
            Some(Connection {
                platform: platform.parse().ok()?,
                route,
                account: AccountId(account),
            })
        });
        Ok(known.collect())
    }

    /// Whether the translator has still to read input about this account and others.
    async fn is_awaited(&self, it: &Connection) -> Result<bool> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM checkpoints p JOIN commands c \
                 ON c.shard = p.shard AND c.position > p.position \
             WHERE p.reactor = 'translate' AND p.generation = 0 AND c.kind = 'webhook' \
             AND c.payload ->> 'platform' = $1 \
             AND (c.payload -> 'routes')::jsonb @> to_jsonb($2::text) \
             AND json_array_length(c.payload -> 'routes') > 1)",
        )
        .bind(it.platform.name())
        .bind(&it.route)
        .fetch_one(self.pool())
        .await?)
    }

    /// An account that was being connected while its owner was erased may have come after the fact
    /// that ends them all.
    async fn disconnect_latecomers(&self, user: UserId, begun: Place) -> Result<()> {
        let late: Vec<Uuid> = sqlx::query_scalar(
            "SELECT DISTINCT (payload ->> 'account')::uuid FROM events \
             WHERE shard = $1 AND position > $2 AND kind = 'AccountConnected' \
             AND payload ->> 'user' = $3",
        )
        .bind(begun.shard.0)
        .bind(begun.position)
        .bind(user.to_string())
        .fetch_all(self.pool())
        .await?;
        for account in late.into_iter().map(AccountId) {
            let event = AccountDisconnected { user, account };
            let append = Append::one(begun.shard, account, event)
                .once(Key::of(&[b"owner erased", account.0.as_bytes()]));
            self.append(append).await?;
        }
        Ok(())
    }

    /// Takes a person out of the directory of an account. True when nobody else is in it.
    pub async fn leave_directory(&self, user: UserId, it: &Connection) -> Result<bool> {
        let owner = Owner {
            user,
            account: it.account,
        };
        self.remove_owner(it.platform, &it.route, owner).await?;
        Ok(self.owners(it.platform, &it.route).await?.is_empty())
    }

    async fn remove(
        &self,
        statement: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<u64> {
        Ok(statement.execute(self.pool()).await?.rows_affected())
    }
}
