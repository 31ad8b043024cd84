//! Checking the log against its seals, and both against seals that were exported.
//!
//! Reads a page at a time, whatever the size of the log, and changes nothing. Events and seals that
//! come while it reads are left for the next time.

use std::fmt;
use std::io::BufRead;

use chrono::{DateTime, Utc};
use hub_domain::id::{Place, Shard};
use hub_domain::limits::{SEAL_EVENTS_MAX, SEAL_LATE};
use serde::{Serialize, Serializer};
use sqlx::PgPool;

use super::export::{self, Exported};
use super::format::{self, BEGINNING, FORMAT, LEAF_BYTES, Leaf};
use super::{SEALING, Seal, SealKey};
use crate::error::{Error, Result};
use crate::generation::Verdict;
use crate::read::Stored;
use crate::schema::sharding;

const NOT_YET: &str = "This database knows no seals yet: run `hub migrate` against it first.";

/// Positions read at a time where only their presence counts.
const PAGE: i64 = 10_000;

/// The first thing found wrong in a shard. Its text is for people: `3-1042 was altered`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The event is not what was sealed.
    Altered(Place),
    /// There is no event, though the log or a seal says so.
    Missing(Place),
    /// The event was sealed at another place.
    Moved {
        /// Where it is.
        at: Place,
        /// Where it was sealed.
        sealed_as: Place,
    },
    /// An event that no append has counted.
    BeyondHead(Place),
    /// A seal that is not right in itself.
    Seal {
        /// The first event it covers.
        first: Place,
        /// The position of the last.
        through: i64,
        /// What is wrong, as the end of the sentence.
        fault: &'static str,
    },
    /// The seals end elsewhere than the hub remembers.
    SealsEnd {
        /// The last event that has a seal.
        at: Place,
        /// The position up to which the hub remembers to have sealed.
        remembered: i64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered(place) => write!(f, "{place} was altered"),
            Self::Missing(place) => write!(f, "{place} is missing"),
            Self::Moved { at, sealed_as } => write!(f, "{at} holds what was sealed as {sealed_as}"),
            Self::BeyondHead(place) => write!(f, "{place} is beyond the head of its shard"),
            Self::Seal {
                first,
                through,
                fault,
            } => write!(f, "the seal of {first} to {through} {fault}"),
            Self::SealsEnd { at, remembered } => write!(
                f,
                "the seals end at {at}, but the log was sealed up to position {remembered}"
            ),
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A seal that was made long after its events. Not wrong by itself: a hub that was upgraded seals
/// its past, and a worker may have stood still. But so do seals that were taken away and made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Late {
    /// The last event it covers.
    pub through: i64,
    /// When that was recorded.
    pub recorded_at: DateTime<Utc>,
    /// When it was sealed.
    pub sealed_at: DateTime<Utc>,
}

/// What was found in a shard.
#[derive(Clone, Debug, Serialize)]
pub struct ShardReport {
    /// The shard.
    pub shard: i16,
    /// The position of its last event.
    pub head: i64,
    /// Everything up to here is as it was sealed.
    pub verified: i64,
    /// Seals that were checked.
    pub seals: u64,
    /// Events after the last seal: they are there, and nothing more is known about them.
    pub unsealed: i64,
    /// The seal that was made the longest after its events, when that is long.
    pub late: Option<Late>,
    /// What is wrong: the first thing in the log, and the first against exported seals.
    pub findings: Vec<Finding>,
}

/// What was found in the log.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which log.
    pub log: &'static str,
    /// Equal to what was sealed, or not.
    pub verdict: Verdict,
    /// True when it was checked that this installation made the seals.
    pub macs_checked: bool,
    /// Exported seals that the database has too, when there were some to compare with.
    pub exported_seals: Option<u64>,
    /// Events up to the heads.
    pub events: i64,
    /// Events that are as they were sealed.
    pub verified: i64,
    /// Events that no seal covers yet.
    pub unsealed: i64,
    /// Every shard.
    pub shards: Vec<ShardReport>,
}

/// Checks the whole log: positions are dense, every seal continues the one before, every event is
/// what was sealed, and the seals are ours when there is a `key` to tell. With `exported` seals
/// ([`export`](super::export())), the database must have these, too.
pub async fn verify(
    pool: &PgPool,
    key: Option<&SealKey>,
    exported: Option<&mut (dyn BufRead + Send)>,
) -> Result<Report> {
    let mut shards = Vec::new();
    for shard in 0..sharding(pool).await?.count {
        shards.push(walk(pool, key, Shard(shard)).await?);
    }
    let exported_seals = match exported {
        Some(lines) => Some(compare(pool, lines, &mut shards).await?),
        None => None,
    };
    let is_equal = shards.iter().all(|shard| shard.findings.is_empty());
    Ok(Report {
        log: "events",
        verdict: if is_equal {
            Verdict::Equal
        } else {
            Verdict::Different
        },
        macs_checked: key.is_some(),
        exported_seals,
        events: shards.iter().map(|shard| shard.head).sum(),
        verified: shards.iter().map(|shard| shard.verified).sum(),
        unsealed: shards.iter().map(|shard| shard.unsealed).sum(),
        shards,
    })
}

/// Follows a shard from its beginning to the first thing that is wrong.
async fn walk(pool: &PgPool, key: Option<&SealKey>, shard: Shard) -> Result<ShardReport> {
    // One statement, one snapshot: what moves together is seen together.
    let (head, last_event, last_seal, remembered): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT s.head, \
             coalesce((SELECT max(position) FROM events e WHERE e.shard = s.shard), 0), \
             coalesce((SELECT max(through) FROM seals l WHERE l.shard = s.shard), 0), c.position \
         FROM shards s JOIN checkpoints c ON c.shard = s.shard AND c.reactor = $2 \
             AND c.generation = $3 \
         WHERE s.shard = $1 AND s.log = 'events'",
    )
    .bind(shard.0)
    .bind(SEALING.name)
    .bind(SEALING.generation)
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| Error::NotInitialised(NOT_YET.to_owned()))?;
    let mut report = ShardReport {
        shard: shard.0,
        head,
        verified: 0,
        seals: 0,
        unsealed: (head - last_seal).max(0),
        late: None,
        findings: Vec::new(),
    };
    let place = |position| Place { shard, position };
    let mut previous = BEGINNING.to_vec();
    while report.verified < last_seal {
        let Some(seal) = Seal::next(pool, place(report.verified), last_seal).await? else {
            break;
        };
        let found = match fault(&seal, place(report.verified), &previous, key) {
            Some(found) => Some(found),
            None => events(pool, shard, seal.after, &seal.leaves, Some(&seal)).await?,
        };
        if let Some(found) = found {
            report.findings.push(found);
            return Ok(report);
        }
        report.seals += 1;
        report.verified = seal.through;
        note_late(&mut report.late, &seal);
        previous = seal.hash;
    }
    let found = if remembered != last_seal {
        Some(Finding::SealsEnd {
            at: place(last_seal),
            remembered,
        })
    } else if let Some(missing) = first_missing(pool, place(last_seal), head).await? {
        Some(Finding::Missing(missing))
    } else if last_event > head {
        Some(Finding::BeyondHead(first_after(pool, place(head)).await?))
    } else {
        None
    };
    report.findings.extend(found);
    Ok(report)
}

/// What is wrong with a seal, before any event is looked at.
fn fault(seal: &Seal, from: Place, previous: &[u8], key: Option<&SealKey>) -> Option<Finding> {
    let range = |after: i64, fault| {
        Some(Finding::Seal {
            first: Place {
                shard: seal.shard,
                position: after + 1,
            },
            through: seal.through,
            fault,
        })
    };
    if seal.after > from.position {
        return Some(Finding::Seal {
            first: Place {
                position: from.position + 1,
                ..from
            },
            through: seal.after,
            fault: "is missing",
        });
    }
    if seal.format != FORMAT {
        return range(seal.after, "has a format that this build does not know");
    }
    if seal.after != from.position || seal.previous != previous {
        return range(seal.after, "does not continue the one before");
    }
    let hash = previous
        .try_into()
        .ok()
        .map(|previous| format::hash(previous, seal.shard, seal.after, seal.through, &seal.leaves));
    let fits = format::fits(seal.after, seal.through, &seal.leaves);
    let Some(hash) = hash.filter(|hash| fits && *hash == *seal.hash) else {
        return range(seal.after, "was altered");
    };
    if key.is_some_and(|key| !key.is_ours(&hash, seal.sealed_at, &seal.mac)) {
        return range(seal.after, "was not made with this ENCRYPTION_KEY");
    }
    None
}

/// The first event after `after` that is not what these leaves say. The times a seal names are
/// checked here as well, because its hash does not cover them.
async fn events(
    pool: &PgPool,
    shard: Shard,
    after: i64,
    leaves: &[u8],
    seal: Option<&Seal>,
) -> Result<Option<Finding>> {
    let mut position = after;
    let (mut first, mut last) = (None, None);
    for page in leaves.chunks(SEAL_EVENTS_MAX as usize * LEAF_BYTES) {
        let from = Place { shard, position };
        let mut events = stored(pool, from, (page.len() / LEAF_BYTES) as i64)
            .await?
            .into_iter()
            .peekable();
        for expected in page.chunks(LEAF_BYTES) {
            position += 1;
            let place = Place { shard, position };
            let Some(event) = events.next_if(|event| event.place == place) else {
                return Ok(Some(Finding::Missing(place)));
            };
            let leaf = format::leaf(&event);
            if leaf != *expected {
                let here = leaves.chunks(LEAF_BYTES).position(|it| it == leaf);
                let sealed_as = match (here, seal) {
                    (Some(index), _) => Some(after + 1 + index as i64),
                    (None, Some(_)) => sealed_as(pool, shard, &leaf).await?,
                    // What is in the database now is not to be believed.
                    (None, None) => None,
                };
                return Ok(Some(match sealed_as {
                    Some(position) => Finding::Moved {
                        at: place,
                        sealed_as: Place { shard, position },
                    },
                    None => Finding::Altered(place),
                }));
            }
            first = first.or(Some(event.recorded_at));
            last = Some(event.recorded_at);
        }
    }
    Ok(seal
        .filter(|seal| (first, last) != (Some(seal.first_recorded_at), Some(seal.last_recorded_at)))
        .map(|seal| Finding::Seal {
            first: Place {
                shard,
                position: after + 1,
            },
            through: seal.through,
            fault: "names other times than its events",
        }))
}

/// The events at the `count` positions after `from`, as far as they are there.
async fn stored(pool: &PgPool, from: Place, count: i64) -> Result<Vec<Stored>> {
    let rows = sqlx::query(
        "SELECT position, stream, version, kind, schema, payload::text, meta::text, recorded_at \
         FROM events WHERE shard = $1 AND position > $2 AND position <= $2 + $3 ORDER BY position",
    )
    .bind(from.shard.0)
    .bind(from.position)
    .bind(count)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Stored::from_row(from.shard, row))
        .collect()
}

/// The position whose leaf this is, when the shard has it in a seal.
async fn sealed_as(pool: &PgPool, shard: Shard, leaf: &Leaf) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar(
        "SELECT after + (position($2::bytea IN leaves) - 1) / $3 + 1 FROM seals \
         WHERE shard = $1 AND position($2::bytea IN leaves) % $3 = 1 ORDER BY through LIMIT 1",
    )
    .bind(shard.0)
    .bind(leaf.as_slice())
    .bind(LEAF_BYTES as i32)
    .fetch_optional(pool)
    .await?)
}

/// The first position after `from` and up to `to` that has no event.
async fn first_missing(pool: &PgPool, from: Place, to: i64) -> Result<Option<Place>> {
    let mut at = from;
    while at.position < to {
        let there: Vec<i64> = sqlx::query_scalar(
            "SELECT position FROM events WHERE shard = $1 AND position > $2 \
                 AND position <= least($2 + $3, $4) ORDER BY position",
        )
        .bind(at.shard.0)
        .bind(at.position)
        .bind(PAGE)
        .bind(to)
        .fetch_all(pool)
        .await?;
        let expected = at.position + 1..=to.min(at.position + PAGE);
        let mut there = there.into_iter();
        for position in expected {
            at.position = position;
            if there.next() != Some(position) {
                return Ok(Some(at));
            }
        }
    }
    Ok(None)
}

async fn first_after(pool: &PgPool, from: Place) -> Result<Place> {
    let position: i64 =
        sqlx::query_scalar("SELECT min(position) FROM events WHERE shard = $1 AND position > $2")
            .bind(from.shard.0)
            .bind(from.position)
            .fetch_one(pool)
            .await?;
    Ok(Place { position, ..from })
}

fn note_late(late: &mut Option<Late>, seal: &Seal) {
    let delay = |late: &Late| late.sealed_at - late.recorded_at;
    let this = Late {
        through: seal.through,
        recorded_at: seal.last_recorded_at,
        sealed_at: seal.sealed_at,
    };
    let is_late = delay(&this).to_std().is_ok_and(|delay| delay > SEAL_LATE);
    if is_late && late.as_ref().is_none_or(|most| delay(most) < delay(&this)) {
        *late = Some(this);
    }
}

/// Compares with exported seals, line by line, and writes down the first that differs in each shard.
/// Returns how many are in the database too.
async fn compare(
    pool: &PgPool,
    lines: &mut (dyn BufRead + Send),
    shards: &mut [ShardReport],
) -> Result<u64> {
    let mut same = 0;
    let mut differing = vec![false; shards.len()];
    for exported in export::read(lines) {
        let Exported { seal, leaves } = exported?;
        let index = usize::try_from(seal.shard.0).unwrap_or(usize::MAX);
        let Some(report) = shards.get_mut(index) else {
            return Err(export::refused(format!(
                "it has seals of shard {}, which this database has not",
                seal.shard
            )));
        };
        if differing[index] {
            continue;
        }
        let hash: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT hash FROM seals WHERE shard = $1 AND through = $2")
                .bind(seal.shard.0)
                .bind(seal.through)
                .fetch_optional(pool)
                .await?;
        if hash.is_some_and(|hash| hash == seal.hash) {
            same += 1;
            continue;
        }
        differing[index] = true;
        // What was exported is believed: with its leaves the event can be named.
        let event = match leaves {
            Some(leaves) => events(pool, seal.shard, seal.after, &leaves, None).await?,
            None => None,
        };
        let found = event.unwrap_or(Finding::Seal {
            first: Place {
                shard: seal.shard,
                position: seal.after + 1,
            },
            through: seal.through,
            fault: "is not the one that was exported",
        });
        if !report.findings.contains(&found) {
            report.findings.push(found);
        }
    }
    if same == 0 && !differing.contains(&true) {
        return Err(export::refused("it has no seals in it".to_owned()));
    }
    Ok(same)
}
