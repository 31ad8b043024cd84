//! Postgres and Redis: the one room that both processes share.
//!
//! Everything that speaks SQL, Redis or AES is here and nowhere else.
//!
//! - [`append`], [`commands`], [`read`]: the log; [`group`] is how appends share a commit
//! - [`checkpoint`]: how reactors remember how far they are
//! - [`places`]: an index from streams to places in the log
//! - [`follow`], [`parked`]: turns over the log, and what they cannot process; [`dlq`] is what
//!   operators ask and do about it
//! - [`project`]: folding batches into read-model tables
//! - [`generation`]: rebuilding them beside the live ones, with a proof of equality
//! - [`seal`]: a chain of hashes over the log, so that nobody changes it unnoticed
//! - [`query`] over [`entity`]: reading them, for the API
//! - [`inspect`], [`told`]: looking into the log, and when sockets were told
//! - [`jobs`]: work with a due time, behind apalis's storage seam; [`schedules`]: how ticks ended
//! - [`peer`]: what the log's speed is measured against
//! - [`vault`]: sealing what is personal or secret; [`erase`]: forgetting a person
//! - [`polls`]: when accounts are polled, and who waits for it
//! - [`login`], [`session`], [`oauth`], [`account`], [`token`], [`answer`]: side tables
//! - [`agreements`]: who connected an account, and what became of their wish to leave
//! - [`subscriptions`]: what platforms have promised to tell, and until when
//! - [`import`]: taking over an earlier installation; [`aliases`]: the ids it brought with it
//! - [`telegram`]: who holds the session of a Telegram user account; [`reset`]: forgetting what it told
//! - [`objects`]: files of people, sealed, in an object store
//! - [`signal`], [`bus`]: hints that something happened; polling is the truth
//! - [`limit`]: counting requests, calls of platforms and failed logins, in Redis or in memory
//! - [`usage`]: who used what, and the daily report of it

pub mod account;
pub mod agreements;
pub mod aliases;
pub mod answer;
pub mod append;
pub mod bus;
pub mod checkpoint;
pub mod commands;
pub mod dlq;
pub mod entity;
pub mod erase;
pub mod error;
pub mod follow;
pub mod generation;
pub mod group;
pub mod import;
pub mod inspect;
pub mod jobs;
pub mod limit;
pub mod login;
pub mod oauth;
pub mod objects;
pub mod parked;
pub mod peer;
pub mod places;
pub mod polls;
pub mod project;
pub mod query;
pub mod read;
pub mod reset;
pub mod schedules;
pub mod schema;
pub mod seal;
pub mod session;
mod shown;
pub mod signal;
pub mod subscriptions;
pub mod telegram;
pub mod token;
pub mod told;
pub mod transaction;
pub mod usage;
pub mod vault;

use std::time::Duration;

use hub_domain::id::Sharding;
use hub_domain::secret::Secret;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

pub use error::{Error, Result};
pub use sqlx::{PgConnection as Connection, PgPool};

/// A connection that did something so shortly ago is taken to be well.
const BELIEVED: Duration = Duration::from_millis(100);

/// A request waits this long for a connection, then is told to come back.
const ACQUIRE_MAX: Duration = Duration::from_secs(2);

/// A process that starts waits this long for the database.
const FIRST_CONNECTION_MAX: Duration = Duration::from_secs(5);

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// PostgreSQL connection URL.
    pub database_url: Secret,
    /// Most connections of this process, but for those that only read the read models.
    pub connections_max: u32,
    /// Most connections that read the read models. Few answer a crowd sooner than many: what they
    /// ask for is computed, and more of it at a time than the database has cores makes all wait.
    pub readers_max: u32,
    /// Redis connection URL, when hints and live updates must cross processes.
    pub redis_url: Option<Secret>,
    /// The installation's key: wraps data keys. 32 bytes are used as they are, anything else is
    /// hashed (contract 6.8).
    pub encryption_key: Secret,
}

/// An open store. Cheap to clone; all clones share connections, appenders and signals.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    orm: sea_orm::DatabaseConnection,
    sharding: Sharding,
    vault: vault::Vault,
    signals: signal::Signals,
    bus: bus::Bus,
    limits: limit::Limits,
    usage: usage::Usage,
    events: group::Group<append::EventLog>,
    commands: group::Group<commands::CommandLog>,
    past_turns: query::past::Turns,
    aliases: aliases::Known,
    shown: shown::Shown,
}

impl Store {
    /// Connects to a migrated and initialised database and starts the appenders.
    ///
    /// Fails when the database cannot be reached, is not initialised, or Redis is named and not
    /// reachable.
    pub async fn open(options: Options) -> Result<Self> {
        let pool = connect(&options.database_url, options.connections_max).await?;
        let readers = connect(&options.database_url, options.readers_max).await?;
        let sharding = schema::sharding(&pool).await?;
        let signals = signal::Signals::new(options.redis_url.as_ref()).await?;
        let bus = bus::Bus::new(options.redis_url.as_ref()).await?;
        let limits = limit::Limits::new(options.redis_url.as_ref()).await?;
        let log = append::EventLog::new(signals.clone());
        let commands = commands::CommandLog::new(signals.clone());
        Ok(Self {
            orm: sea_orm::SqlxPostgresConnector::from_sqlx_postgres_pool(readers),
            vault: vault::Vault::new(
                pool.clone(),
                sharding,
                &options.encryption_key,
                signals.clone(),
            ),
            events: group::Group::start(pool.clone(), log),
            commands: group::Group::start(pool.clone(), commands),
            usage: usage::Usage::start(pool.clone(), sharding),
            pool,
            sharding,
            signals,
            bus,
            limits,
            past_turns: query::past::Turns::new(),
            aliases: aliases::Known::default(),
            shown: shown::Shown::default(),
        })
    }

    /// The connections, for statements of this crate.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The connections that read the read models.
    pub fn orm(&self) -> &sea_orm::DatabaseConnection {
        &self.orm
    }

    /// Closes all connections, once what they are at has ended. Nothing works after that.
    pub async fn close(&self) {
        self.orm.get_postgres_connection_pool().close().await;
        self.pool.close().await;
    }

    /// Where things fall.
    pub fn sharding(&self) -> Sharding {
        self.sharding
    }

    /// Sealing and opening.
    pub fn vault(&self) -> &vault::Vault {
        &self.vault
    }

    /// Hints between tasks and processes.
    pub fn signals(&self) -> &signal::Signals {
        &self.signals
    }

    /// Live changes on their way to sockets.
    pub fn bus(&self) -> &bus::Bus {
        &self.bus
    }

    /// Counters of requests and of failed attempts.
    pub fn limits(&self) -> &limit::Limits {
        &self.limits
    }

    /// What is counted of requests and calls.
    pub fn usage(&self) -> &usage::Usage {
        &self.usage
    }

    /// Who may fold a past now.
    pub(crate) fn past_turns(&self) -> &query::past::Turns {
        &self.past_turns
    }

    /// True when the database answers within two seconds.
    pub async fn is_database_up(&self) -> bool {
        let probe = sqlx::query("SELECT 1").execute(&self.pool);
        matches!(
            tokio::time::timeout(Duration::from_secs(2), probe).await,
            Ok(Ok(_))
        )
    }
}

/// Opens a pool that gives up after two seconds, so that callers can answer 503 in time. Fails with
/// the server's own words when the database cannot be reached now.
pub async fn connect(url: &Secret, connections_max: u32) -> Result<PgPool> {
    let options: PgConnectOptions = url.expose().parse().map_err(Error::from)?;
    let options = options.application_name("hub");
    // The pool only says that it timed out; a connection of our own says why.
    let first = <sqlx::PgConnection as sqlx::Connection>::connect_with(&options);
    match tokio::time::timeout(FIRST_CONNECTION_MAX, first).await {
        Ok(Ok(first)) => sqlx::Connection::close(first).await.map_err(Error::from)?,
        Ok(Err(error)) => return Err(Error::Unavailable(error)),
        Err(_) => return Err(Error::Unavailable(sqlx::Error::PoolTimedOut)),
    }
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_MAX)
        // Asking a connection whether it is well is a round trip, for each statement one more.
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for >= BELIEVED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options)
        .await
        .map_err(Error::from)
}
