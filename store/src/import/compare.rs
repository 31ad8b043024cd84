//! The inbox held against the source, conversation by conversation.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use hub_domain::id::Shard;
use uuid::Uuid;

use super::Progress;
use super::report::{Comparison, Difference, Numbers};
use super::source::MessageRow;
use crate::Store;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::project::{self, Projection};

/// Conversations of one question.
const AT_ONCE: usize = 1_000;

/// How long the read models may stand still while somebody else folds them.
const STILL_MAX: Duration = Duration::from_secs(60);

/// What the inbox should say of a conversation.
pub(super) struct Expected {
    pub(super) shard: Shard,
    pub(super) conversation: Uuid,
    pub(super) numbers: Numbers,
    /// When the source says the newest message was written; counts where there is none.
    pub(super) column: Option<DateTime<Utc>>,
    /// Events that make this of it.
    pub(super) events: i64,
}

impl Expected {
    /// A message of it.
    pub(super) fn count(&mut self, row: &MessageRow) {
        self.numbers.messages += 1;
        self.numbers.unread += i64::from(!row.outgoing && !row.is_read);
        self.numbers.last_message_at = self.numbers.last_message_at.max(Some(row.sent_at));
        self.events += 1;
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            last_message_at: match self.numbers.messages {
                0 => self.column,
                _ => self.numbers.last_message_at,
            },
            ..self.numbers
        }
    }
}

/// Folds what is not folded yet, then compares. A conversation that has gone on since, by its
/// stream, must have at least what was imported, unless its account was reset.
pub(super) async fn compare(
    store: &Store,
    expected: &[Expected],
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Comparison> {
    fold(store, progress).await?;
    let mut by_shard: HashMap<Shard, Vec<&Expected>> = HashMap::new();
    for it in expected {
        by_shard.entry(it.shard).or_default().push(it);
    }
    let mut comparison = Comparison::default();
    for (shard, expected) in by_shard {
        for part in expected.chunks(AT_ONCE) {
            part_of(store, shard, part, &mut comparison).await?;
        }
    }
    Ok(comparison)
}

async fn part_of(
    store: &Store,
    shard: Shard,
    expected: &[&Expected],
    comparison: &mut Comparison,
) -> Result<()> {
    let ids: Vec<Uuid> = expected.iter().map(|it| it.conversation).collect();
    type Row = (Uuid, i32, i32, Option<DateTime<Utc>>, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT c.id, c.messages, c.unread, c.last_message_at, EXISTS (SELECT \
             FROM read.accounts a WHERE a.shard = $1 AND a.id = c.account_id AND a.epoch > 0 \
             AND a.generation = (SELECT live FROM generations \
                 WHERE shard = $1 AND projection = 'accounts')) \
         FROM read.conversations c \
         WHERE c.shard = $1 AND c.id = ANY ($2) AND c.generation = (SELECT live FROM generations \
             WHERE shard = $1 AND projection = 'inbox')",
    )
    .bind(shard.0)
    .bind(&ids)
    .fetch_all(store.pool())
    .await?;
    let found: HashMap<Uuid, (Numbers, bool)> = rows
        .into_iter()
        .map(|(id, messages, unread, last_message_at, was_reset)| {
            let numbers = Numbers {
                messages: messages.into(),
                unread: unread.into(),
                last_message_at,
            };
            (id, (numbers, was_reset))
        })
        .collect();
    let versions: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT stream, version FROM streams WHERE shard = $1 AND stream = ANY ($2)",
    )
    .bind(shard.0)
    .bind(&ids)
    .fetch_all(store.pool())
    .await?;
    let versions: HashMap<Uuid, i64> = versions.into_iter().collect();
    for it in expected {
        let source = it.numbers();
        let hub = found.get(&it.conversation).copied();
        let version = versions.get(&it.conversation).copied().unwrap_or(0);
        comparison.conversations += 1;
        comparison.messages += source.messages.unsigned_abs();
        match hub {
            Some((hub, _)) if hub == source => comparison.equal += 1,
            // Its owner wanted it forgotten and has what the platform still had.
            Some((_, true)) if version > it.events => comparison.gone_on += 1,
            Some((hub, _))
                if version > it.events
                    && hub.messages >= source.messages
                    && hub.last_message_at >= source.last_message_at =>
            {
                comparison.gone_on += 1;
            }
            hub => comparison.differs(Difference {
                conversation: it.conversation,
                source,
                hub: hub.map(|(hub, _)| hub),
            }),
        }
    }
    Ok(())
}

/// Brings the live read models to the end of the log; a worker that runs does a part of it.
async fn fold(store: &Store, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<()> {
    let pool = store.pool();
    let mut done = 0;
    for projection in Projection::ALL {
        let mut moved_at = Instant::now();
        loop {
            let generation = checkpoint::live_generation(pool, projection.name()).await?;
            let behind = checkpoint::behind(pool, projection.reactor(generation)).await?;
            if behind.is_empty() {
                break;
            }
            let mut folded = 0;
            for shard in behind {
                folded += project::step(pool, projection, generation, shard).await?;
            }
            if folded > 0 {
                moved_at = Instant::now();
                done += folded as u64;
                progress(Progress {
                    stage: "events folded",
                    done,
                    total: done,
                });
            } else if moved_at.elapsed() > STILL_MAX {
                return Err(Error::Behind("a read model"));
            } else {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}
