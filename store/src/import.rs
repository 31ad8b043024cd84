//! Taking over an earlier installation: its database becomes events of our log.
//!
//! Promises:
//! - **Ids stay.** Users, accounts, conversations and messages keep theirs. What arrives later is
//!   named by the platform, and finds them through [`crate::aliases`]. Where the hub knew the thing
//!   already under an id of its own (it was connected, or written to, before it was imported), that
//!   id stays, because rows and links of clients refer to it; the report counts these.
//! - **Once.** Everything is appended under the key under which the platform's own telling would be:
//!   importing again, or going on after a crash anywhere, appends only what is missing, and what a
//!   platform delivers again is here already.
//! - **Nothing happens.** Imported history tells no client, calls no platform, starts no send.
//! - **Times stay.** What people see is the time it had there. When the hub learnt of it is the time of
//!   the import: `updatedAt`, and what `asOf` goes by.
//! - **Nothing is lost silently.** Each row read is taken over, here already, or left out for a reason
//!   that is counted; then every conversation is compared with the source.
//!
//! The source is read as one snapshot, over one connection, and never written to. A person's rows are
//! in one shard and go there in batches; a second batch is read and sealed while one is committed.

mod accounts;
mod compare;
mod messages;
mod people;
mod plan;
mod report;
mod source;
mod value;

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use hub_domain::envelope::Meta;
use hub_domain::id::{Key, Shard, UserId};
use hub_domain::secret::Secret;
use sqlx::PgPool;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use compare::Expected;
use source::Source;
use value::{Form, OldKey};

pub use report::{Comparison, Difference, Numbers, Report, Table};
pub use source::Generation;

/// Why rows of somebody who is left out are left out.
const OWNER_SKIPPED: &str = "its user is not taken over";

/// Why rows without an owner are left out.
const LOST: &str = "it belongs to nobody";

/// What to import, and how.
pub struct Options<'a> {
    /// The connection URL of the earlier installation's database.
    pub source: Secret,
    /// Its ENCRYPTION_KEY; `None` when it had none.
    pub encryption_key: Option<Secret>,
    /// The time zone of times that have none.
    pub timezone: &'a str,
    /// Write nothing.
    pub dry_run: bool,
    /// The first day whose content is kept.
    pub kept_from: Option<NaiveDate>,
    /// The earlier installation has stopped for good: Telegram sessions of people who signed in by
    /// phone are used. Telegram ends a session that is used from two places.
    pub telegram_sessions: bool,
    /// Whose refresh token this is, when it is one that this installation would take.
    pub owner_of_token: &'a (dyn Fn(&str) -> Option<UserId> + Send + Sync),
    /// Told how far it is.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
}

/// How far an import is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is being done.
    pub stage: &'static str,
    /// This many rows.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

/// Imports, compares, and says what came of it. [`Error::Refused`] when the source is no earlier
/// installation or the key is not its key; then nothing was written.
pub async fn run(store: &Store, options: &Options<'_>) -> Result<Report> {
    let key = OldKey::new(options.encryption_key.as_ref())?;
    let mut source = Source::open(&options.source, options.timezone).await?;
    fits(&mut source, &key).await?;
    let counts = source.counts().await?;
    let mut report = Report::new(options.dry_run, source.generation);
    report.api_usage_logs.skip(
        "calls of an earlier installation are not counted here",
        source.usage_rows.unsigned_abs(),
    );
    for (table, rows) in [
        (&mut report.connected_accounts, counts.lost_accounts),
        (&mut report.conversations, counts.lost_conversations),
        (&mut report.messages, counts.lost_messages),
    ] {
        table.skip(LOST, rows.unsigned_abs());
    }
    let mut import = Import {
        store,
        options,
        key,
        source,
        report,
        total: counts.messages.unsigned_abs(),
        users: HashSet::new(),
        expected: Vec::new(),
    };
    let mut after = None;
    loop {
        let users = import.source.users(after).await?;
        let Some(last) = users.last() else { break };
        after = Some(last.id);
        for row in &users {
            import.person(row).await?;
        }
    }
    import.sessions().await?;
    let Import {
        mut report,
        expected,
        ..
    } = import;
    let rows = [
        counts.users,
        counts.tokens,
        counts.accounts,
        counts.conversations,
        counts.messages,
    ];
    // One snapshot: whatever was not met on the way down would be lost silently.
    for ((name, table), rows) in report.tables().into_iter().zip(rows) {
        if table.read != rows.unsigned_abs() {
            return Err(Error::Refused(format!(
                "{} rows of {name} were met and there are {rows}: what is in the log stays, the \
                 rest needs somebody who looks",
                table.read
            )));
        }
    }
    if !options.dry_run {
        report.comparison = Some(compare::compare(store, &expected, options.progress).await?);
    }
    Ok(report)
}

/// Refuses a key that does not open what is encrypted: everything would be taken for plain text.
async fn fits(source: &mut Source, key: &OldKey) -> Result<()> {
    let sample = source.sample().await?;
    let encrypted: Vec<_> = sample
        .iter()
        .filter(|it| value::looks_encrypted(it))
        .collect();
    let opened = encrypted
        .iter()
        .filter(|it| key.read(it).1 == Form::Opened)
        .count();
    if opened * 2 < encrypted.len() {
        return Err(Error::Refused(format!(
            "the key opens {opened} of {} values that look encrypted: it is not the ENCRYPTION_KEY \
             they were written with",
            encrypted.len()
        )));
    }
    Ok(())
}

/// An import under way.
struct Import<'a> {
    store: &'a Store,
    options: &'a Options<'a>,
    key: OldKey,
    source: Source,
    report: Report,
    /// Messages there are.
    total: u64,
    /// Users that are here, so that their sessions may be.
    users: HashSet<Uuid>,
    expected: Vec<Expected>,
}

impl Import<'_> {
    fn tell(&self) {
        (self.options.progress)(Progress {
            stage: "messages",
            done: self.report.messages.read,
            total: self.total,
        });
    }

    /// The text behind a stored value that may be encrypted.
    fn open(&self, stored: Option<&str>) -> Option<String> {
        stored
            .filter(|it| !it.is_empty())
            .map(|it| self.key.read(it).0)
    }
}

/// Of what happened then.
fn meta(at: Option<DateTime<Utc>>) -> Meta {
    Meta {
        original_at: at,
        ..Meta::default()
    }
}

/// Which of these keys are in the log.
async fn known_keys(pool: &PgPool, shard: Shard, keys: &[Key]) -> Result<HashSet<Key>> {
    let bytes: Vec<Vec<u8>> = keys.iter().map(|key| key.0.to_vec()).collect();
    let known: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT key FROM keys WHERE shard = $1 AND key = ANY ($2)")
            .bind(shard.0)
            .bind(bytes)
            .fetch_all(pool)
            .await?;
    let known = known.into_iter().filter_map(|key| key.try_into().ok());
    Ok(known.map(Key).collect())
}

/// Which of these streams there are.
async fn known_streams(pool: &PgPool, shard: Shard, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
    let known: Vec<Uuid> =
        sqlx::query_scalar("SELECT stream FROM streams WHERE shard = $1 AND stream = ANY ($2)")
            .bind(shard.0)
            .bind(ids)
            .fetch_all(pool)
            .await?;
    Ok(known.into_iter().collect())
}
