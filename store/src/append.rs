//! Appending events.
//!
//! Promises: an append is on disk when it returns; its events have the next positions of their
//! shard, without a gap, visible in order; a stream that is not at the expected version refuses
//! that append alone; a key that exists makes the append a repetition, answered with the first
//! one's place. An append with keys survives a connection that breaks during the commit: it is
//! tried again under the same keys and can only be found to have happened.

mod statement;

use std::collections::{HashMap, HashSet};

use hub_domain::envelope::{Append, Expected};
use hub_domain::id::{Key, Place, Shard, StreamId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::group::Batch;
use crate::signal::{Signals, Topic};
use statement::{insert, is_conflict, is_retryable};

/// Rounds of a batch that decide nothing: more than a few mean that other processes get in our way
/// as fast as we look. Rounds that decide something are not counted, or a crowd that wants the same
/// thing would be told to come back later, and with it everybody who shares its batch.
const FRUITLESS_ROUNDS_MAX: usize = 8;

/// Times an append with keys is sent again when its outcome is unknown.
const RESENDS_MAX: usize = 3;

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log now, its first event here.
    New(Place),
    /// One of its keys was in the log already, here. Nothing was appended.
    Repeated(Place),
}

impl Appended {
    /// Where it is in the log, whoever put it there.
    pub fn place(self) -> Place {
        match self {
            Self::New(place) | Self::Repeated(place) => place,
        }
    }

    /// True when this call put it there.
    pub fn is_new(self) -> bool {
        matches!(self, Self::New(_))
    }
}

impl Store {
    /// Appends, sharing a commit with whoever appends at the same moment.
    ///
    /// When the connection breaks during the commit, an append with keys is sent again under the
    /// same keys, and found to have happened if it did; one without keys ends as
    /// [`Error::Unknown`].
    pub async fn append(&self, append: Append) -> Result<Appended> {
        if append.keys.is_empty() {
            return self.events.submit(append).await;
        }
        let mut in_doubt = None;
        for _ in 0..=RESENDS_MAX {
            if in_doubt.is_some() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            match self.events.submit(append.clone()).await {
                Err(error @ Error::Unknown(_)) => in_doubt = Some(error),
                // Nothing happened this time; the time before it may have.
                Err(Error::Unavailable(_) | Error::Busy) if in_doubt.is_some() => {}
                outcome => return outcome,
            }
        }
        Err(in_doubt.unwrap_or(Error::Busy))
    }

    /// Appends inside the caller's transaction, which should commit at once: the shard's head is
    /// locked until then. A conflict or a repeated key is an error that ends the transaction.
    /// Call [`Store::appended`] after the commit.
    pub async fn append_in(&self, connection: &mut PgConnection, append: &Append) -> Result<Place> {
        match insert(connection, &[append]).await {
            Ok(bases) => Ok(place(&bases, append.shard, 1)),
            Err(error) if is_conflict(&error) => Err(Error::Conflict {
                stream: append.stream,
                expected: append.expected,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the readers of the log that something was committed with [`Store::append_in`].
    pub fn appended(&self) {
        self.signals.raise(Topic::Events);
    }
}

/// The event log as something that commits batches.
#[derive(Clone)]
pub struct EventLog {
    signals: Signals,
}

impl EventLog {
    pub(crate) fn new(signals: Signals) -> Self {
        Self { signals }
    }
}

impl Batch for EventLog {
    type Item = Append;
    type Done = Appended;

    fn shard(item: &Append) -> Shard {
        item.shard
    }

    async fn commit(
        &self,
        connection: &mut PgConnection,
        items: Vec<Append>,
    ) -> Vec<Result<Appended>> {
        let mut outcomes: Vec<Option<Result<Appended>>> = items.iter().map(|_| None).collect();
        let mut appended = false;
        let mut fruitless = 0;
        while fruitless < FRUITLESS_ROUNDS_MAX {
            let before = undecided(&outcomes).len();
            let round = compatible(&items, &outcomes);
            if round.is_empty() {
                break;
            }
            let batch: Vec<&Append> = round.iter().map(|index| &items[*index]).collect();
            match insert(connection, &batch).await {
                Ok(bases) => {
                    appended = true;
                    accept(&items, &round, &bases, &mut outcomes);
                }
                Err(error) if is_conflict(&error) => {}
                Err(error) if is_retryable(&error) => {
                    fruitless += 1;
                    continue;
                }
                Err(error) => {
                    fail(&mut outcomes, &round, &error);
                    break;
                }
            }
            let left = undecided(&outcomes);
            if let Err(error) = refuse(connection, &items, &left, &mut outcomes).await {
                fail(&mut outcomes, &left, &error);
                break;
            }
            if undecided(&outcomes).len() == before {
                fruitless += 1;
            } else {
                fruitless = 0;
            }
        }
        if appended {
            self.signals.raise(Topic::Events);
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or(Err(Error::Busy)))
            .collect()
    }
}

fn undecided(outcomes: &[Option<Result<Appended>>]) -> Vec<usize> {
    let open = outcomes.iter().enumerate().filter(|it| it.1.is_none());
    open.map(|(index, _)| index).collect()
}

/// Notes the places of a round that was written.
fn accept(
    items: &[Append],
    round: &[usize],
    bases: &HashMap<i16, i64>,
    outcomes: &mut [Option<Result<Appended>>],
) {
    let mut nth: HashMap<Shard, i64> = HashMap::new();
    for index in round {
        let item = &items[*index];
        let first = nth.entry(item.shard).or_insert(1);
        outcomes[*index] = Some(Ok(Appended::New(place(bases, item.shard, *first))));
        *first += item.events.len() as i64;
    }
}

/// The undecided writes that can go into one statement: each key once, and a stream with an
/// expectation only once. The others wait for the next round, when the first ones are decided.
fn compatible(items: &[Append], outcomes: &[Option<Result<Appended>>]) -> Vec<usize> {
    let mut keys: HashSet<(Shard, Key)> = HashSet::new();
    let mut streams: HashMap<StreamId, bool> = HashMap::new();
    let mut round = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if outcomes[index].is_some() {
            continue;
        }
        let expects = item.expected != Expected::Any;
        let clashes = match streams.get(&item.stream) {
            Some(first_expects) => expects || *first_expects,
            None => false,
        };
        if clashes
            || item
                .keys
                .iter()
                .any(|key| keys.contains(&(item.shard, *key)))
        {
            // Later writes to this stream stay behind this one.
            streams.insert(item.stream, true);
            continue;
        }
        streams.insert(item.stream, expects);
        keys.extend(item.keys.iter().map(|key| (item.shard, *key)));
        round.push(index);
    }
    round
}

/// Decides the open writes that the database refuses as it is now: repeated keys, wrong versions.
///
/// A write that waits behind another one for its stream is not refused for its expectation: the
/// one before it may yet make it true.
async fn refuse(
    connection: &mut PgConnection,
    items: &[Append],
    open: &[usize],
    outcomes: &mut [Option<Result<Appended>>],
) -> std::result::Result<(), sqlx::Error> {
    if open.is_empty() {
        return Ok(());
    }
    let mut shards = Vec::new();
    let mut keys = Vec::new();
    let mut stream_shards = Vec::new();
    let mut streams = Vec::new();
    for index in open {
        let item = &items[*index];
        for key in &item.keys {
            shards.push(item.shard.0);
            keys.push(key.0.to_vec());
        }
        stream_shards.push(item.shard.0);
        streams.push(item.stream.0);
    }
    // Versions before keys: whoever moved a stream in the version we see has its keys in by the time
    // we look for them. The other way round a repetition could pass for a conflict.
    let versions: HashMap<Uuid, i64> = sqlx::query_as(
        "SELECT s.stream, s.version FROM streams s \
         JOIN unnest($1::smallint[], $2::uuid[]) w (shard, stream) USING (shard, stream)",
    )
    .bind(&stream_shards)
    .bind(&streams)
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .collect();
    let known: HashMap<(i16, Vec<u8>), i64> = sqlx::query_as(
        "SELECT k.shard, k.key, k.position FROM keys k \
         JOIN unnest($1::smallint[], $2::bytea[]) w (shard, key) USING (shard, key)",
    )
    .bind(&shards)
    .bind(&keys)
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .map(|(shard, key, position): (i16, Vec<u8>, i64)| ((shard, key), position))
    .collect();
    let mut contested: HashSet<StreamId> = HashSet::new();
    for index in open {
        let item = &items[*index];
        let repeated = item
            .keys
            .iter()
            .find_map(|key| known.get(&(item.shard.0, key.0.to_vec())));
        let version = versions.get(&item.stream.0).copied().unwrap_or(0);
        let expected = match item.expected {
            Expected::Any => version,
            Expected::NoStream => 0,
            Expected::Version(expected) => expected,
        };
        if let Some(position) = repeated {
            outcomes[*index] = Some(Ok(Appended::Repeated(Place {
                shard: item.shard,
                position: *position,
            })));
        } else if version != expected && !contested.contains(&item.stream) {
            outcomes[*index] = Some(Err(Error::Conflict {
                stream: item.stream,
                expected: item.expected,
            }));
        } else {
            contested.insert(item.stream);
        }
    }
    Ok(())
}

fn fail(outcomes: &mut [Option<Result<Appended>>], round: &[usize], error: &sqlx::Error) {
    for index in round {
        if outcomes[*index].is_none() {
            outcomes[*index] = Some(Err(copy(error)));
        }
    }
}

/// sqlx errors cannot be cloned, and every caller of a failed batch needs one.
fn copy(error: &sqlx::Error) -> Error {
    let text = sqlx::Error::Protocol(error.to_string());
    match error {
        // The statement commits by itself: when the connection breaks, it may have.
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => Error::Unknown(text),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Error::Unavailable(text),
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // The server is going away and may have committed before it said so.
            Some("57P01" | "57P02") => Error::Unknown(text),
            Some("57P03" | "53300" | "53100") => Error::Unavailable(text),
            _ => Error::Statement(text),
        },
        _ => Error::Statement(text),
    }
}

fn place(bases: &HashMap<i16, i64>, shard: Shard, nth: i64) -> Place {
    Place {
        shard,
        position: bases.get(&shard.0).copied().unwrap_or_default() + nth,
    }
}
