//! How reactors follow the event log: one way for all of them.
//!
//! A turn is one transaction: the events after the checkpoint are read, the handler is given those
//! it can process, the checkpoint moves. Promises: the checkpoint passes an event only when it was
//! processed or stands in `parked`, in the same transaction. An event that cannot be read, or whose
//! processing fails because of what is in it, parks its **stream**: it stands there with the
//! reason, later events of the stream stand behind it as held, other streams go on. A failure of
//! the database parks nothing; the turn fails and is tried again. A hole in the log stops the
//! shard.
//!
//! The usual turn knows nothing of this. Only when it has failed is the batch taken once more, in
//! savepoints, and halved until the culprit is alone.
//!
//! Before a turn, a handler that cares about few kinds glides: its checkpoint moves past what does
//! not concern it in one statement that reads no event.
//!
//! Shards that have little to do each share a turn ([`turns`]): it costs as many round trips as one.
//! Whatever goes wrong in it, it is taken back as a whole and its shards are done one by one.
//!
//! A retry is a turn over the parked events of one stream, in order, under the same checkpoint.

mod together;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use hub_domain::envelope::Recorded;
use hub_domain::event::ReadError;
use hub_domain::id::{Place, Shard, StreamId};
use hub_domain::limits::{GLIDE_EVENTS_MAX, REACTOR_BATCH_MAX};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::checkpoint::{self, Reactor, Turn};
use crate::error::Result;
use crate::parked::{self, Class, Parking};
use crate::read::{self, Entry};

pub use together::turns;

/// How far one turn may go.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Never beyond this position.
    pub to: i64,
    /// At most this many events.
    pub batch: i64,
    /// Places that are passed without a look: somebody else answers for them.
    pub without: HashSet<Place>,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            to: i64::MAX,
            batch: REACTOR_BATCH_MAX,
            without: HashSet::new(),
        }
    }
}

/// Events by kind that need no look.
#[derive(Clone, Copy, Debug)]
pub struct Glide<'a> {
    /// Kinds the handler never has anything to do with.
    pub never: &'a [&'static str],
    /// Kinds it has to do with only when they are the first event of their stream.
    pub first_only: &'a [&'static str],
    /// Never beyond this position.
    pub to: i64,
}

impl Glide<'_> {
    fn passes(&self, entry: &Entry) -> bool {
        let (kind, version) = match entry {
            Ok(it) => (it.event.kind(), it.version),
            Err(it) => (it.kind.as_str(), it.version),
        };
        self.never.contains(&kind) || version > 1 && self.first_only.contains(&kind)
    }
}

/// Events of a shard, in order.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The shard.
    pub shard: Shard,
    /// Some of its events.
    pub events: &'a [Recorded],
}

/// What a reactor does with events.
pub trait Handler: Sync {
    /// Whose checkpoint moves.
    fn reactor(&self) -> Reactor;

    /// What it passes without a look. `None` when it looks at most events anyway.
    fn glide(&self) -> Option<Glide<'_>> {
        None
    }

    /// How far the turn that begins after these places, one a shard, may go in each.
    fn reach(
        &self,
        connection: &mut PgConnection,
        from: &[Place],
    ) -> impl Future<Output = Result<Vec<Reach>>> + Send {
        let _ = connection;
        let reach = vec![Reach::default(); from.len()];
        async { Ok(reach) }
    }

    /// Told at the end of a turn, in its transaction, that everything after each place up to the
    /// position with it was processed or put aside.
    fn passed(
        &self,
        connection: &mut PgConnection,
        spans: &[(Place, i64)],
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (connection, spans);
        async { Ok(()) }
    }

    /// Processes events, those of a shard in order. When it fails, or panics, everything it has
    /// written is taken back, and it may be given the same events again, in smaller parts.
    fn apply(
        &self,
        connection: &mut PgConnection,
        batches: &[Batch<'_>],
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Works on one batch of a shard. Returns how many positions it passed: 0 when there is nothing to
/// do or another worker is at it.
pub async fn turn(pool: &PgPool, handler: &impl Handler, shard: Shard) -> Result<usize> {
    if let Some(glide) = handler.glide() {
        let passed = pass_by(pool, handler.reactor(), &[shard], glide).await?;
        if let Some((_, passed)) = passed.first() {
            return Ok(*passed);
        }
    }
    alone(pool, handler, shard).await
}

/// A turn of one shard, with as much care as it needs.
async fn alone(pool: &PgPool, handler: &impl Handler, shard: Shard) -> Result<usize> {
    match attempt(pool, handler, shard, Care::None).await? {
        Some(passed) => Ok(passed),
        None => Ok(attempt(pool, handler, shard, Care::Savepoints)
            .await?
            .unwrap_or(0)),
    }
}

/// Glides in each of these shards; returns those in which it got anywhere, and how far.
async fn pass_by(
    pool: &PgPool,
    reactor: Reactor,
    shards: &[Shard],
    glide: Glide<'_>,
) -> Result<Vec<(Shard, usize)>> {
    let passed: Vec<(i16, i64)> = sqlx::query_as(include_str!("../sql/glide.sql"))
        .bind(shards.iter().map(|shard| shard.0).collect::<Vec<_>>())
        .bind(reactor.name)
        .bind(reactor.generation)
        .bind(glide.never)
        .bind(glide.first_only)
        .bind(GLIDE_EVENTS_MAX)
        .bind(glide.to)
        .bind(reactor.fold())
        .fetch_all(pool)
        .await?;
    let passed = passed
        .into_iter()
        .map(|(shard, passed)| (Shard(shard), usize::try_from(passed).unwrap_or(0)));
    Ok(passed.collect())
}

/// What came of trying a parked stream again.
#[derive(Debug, Default)]
pub struct Retried {
    /// What was processed, in order.
    pub processed: Vec<Recorded>,
    /// Why the stream is still parked, if an event failed again.
    pub failed: Option<String>,
    /// More of the stream stands behind what was tried: ask again.
    pub more: bool,
}

/// Processes the parked events of a stream, in order, up to the first that fails again; at most
/// `REACTOR_BATCH_MAX` in one transaction.
pub async fn retry(
    pool: &PgPool,
    handler: &impl Handler,
    shard: Shard,
    stream: StreamId,
) -> Result<Retried> {
    let reactor = handler.reactor();
    let Some(mut turn) = checkpoint::hold(pool, reactor, shard).await? else {
        return Ok(Retried::default());
    };
    let limit = REACTOR_BATCH_MAX + 1;
    let mut positions = parked::positions(&mut turn.tx, reactor, shard, stream, limit).await?;
    let more = positions.len() as i64 == limit;
    positions.truncate(REACTOR_BATCH_MAX as usize);
    if positions.is_empty() {
        turn.leave().await?;
        return Ok(Retried::default());
    }
    let entries = read::at(&mut *turn.tx, shard, &positions).await?;
    let mut sieve = Sieve::new(&mut turn.tx, handler, shard, Vec::new());
    let processed = sieve.take(entries, Care::Savepoints).await?;
    let parkings = sieve.parkings();
    let still: HashSet<i64> = parkings.iter().map(|it| it.position).collect();
    positions.retain(|position| !still.contains(position));
    turn.release(&positions).await?;
    let failed = match parkings.first() {
        Some(head) => {
            turn.tried(head).await?;
            Some(head.reason.clone())
        }
        None => {
            if more {
                // Until the rest has its turn, the next in line holds the stream.
                promote(&mut turn, shard, stream, "its turn has not come yet").await?;
            }
            None
        }
    };
    let from = turn.from.position;
    turn.finish(from).await?;
    if let Some(head) = parkings.first().filter(|head| head.class != Class::Held)
        && !positions.is_empty()
    {
        // The first of the stream was mended; this is another trouble.
        checkpoint::tell(reactor, shard, head);
    }
    Ok(Retried {
        processed: processed.unwrap_or_default(),
        more: more && failed.is_none(),
        failed,
    })
}

/// Makes the first of a stream's rows its head. False when none is left.
pub(crate) async fn promote(
    turn: &mut Turn,
    shard: Shard,
    stream: StreamId,
    reason: &str,
) -> Result<bool> {
    let reactor = turn.reactor;
    let next = parked::positions(&mut turn.tx, reactor, shard, stream, 1).await?;
    let Some(position) = next.first().copied() else {
        return Ok(false);
    };
    parked::promote(&mut turn.tx, reactor, shard, position, reason).await?;
    Ok(true)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// The first failure ends it.
    None,
    /// What fails is taken back to a savepoint and narrowed down.
    Savepoints,
}

/// `None` when the batch has to be taken with more care.
async fn attempt<H: Handler>(
    pool: &PgPool,
    handler: &H,
    shard: Shard,
    care: Care,
) -> Result<Option<usize>> {
    let reactor = handler.reactor();
    let Some(mut turn) = checkpoint::begin(pool, reactor, shard).await? else {
        return Ok(Some(0));
    };
    let reach = handler.reach(&mut turn.tx, &[turn.from]).await?;
    let reach = reach.into_iter().next().unwrap_or_default();
    let limit = reach.batch.min(reach.to - turn.from.position);
    if limit <= 0 {
        turn.leave().await?;
        return Ok(Some(0));
    }
    let mut entries = read::each_after(&mut *turn.tx, turn.from, limit).await?;
    let Some(to) = entries.last().map(|last| read::place(last).position) else {
        turn.leave().await?;
        return Ok(Some(0));
    };
    let passed = entries.len();
    entries.retain(|entry| !reach.without.contains(&read::place(entry)));
    if let Some(glide) = handler.glide() {
        // What is parked must not depend on where a turn happens to begin.
        entries.retain(|entry| !glide.passes(entry));
    }
    let streams = match turn.heads {
        0 => Vec::new(),
        _ => parked::streams(&mut turn.tx, reactor, shard).await?,
    };
    let mut sieve = Sieve::new(&mut turn.tx, handler, shard, streams);
    if sieve.take(entries, care).await?.is_none() {
        turn.leave().await?;
        return Ok(None);
    }
    for parking in sieve.parkings() {
        turn.park(parking);
    }
    handler.passed(&mut turn.tx, &[(turn.from, to)]).await?;
    turn.finish(to).await?;
    Ok(Some(passed))
}

/// Divides a batch into what is processed and what is put aside.
struct Sieve<'a, H> {
    connection: &'a mut PgConnection,
    handler: &'a H,
    shard: Shard,
    /// From which position on a stream is parked.
    parked_from: HashMap<StreamId, i64>,
    aside: Vec<Parking>,
}

impl<'a, H: Handler> Sieve<'a, H> {
    fn new(
        connection: &'a mut PgConnection,
        handler: &'a H,
        shard: Shard,
        streams: Vec<StreamId>,
    ) -> Self {
        Self {
            connection,
            handler,
            shard,
            parked_from: streams.into_iter().map(|stream| (stream, 0)).collect(),
            aside: Vec::new(),
        }
    }

    /// Hands over what can be processed and returns it; `None` when that failed and it takes care
    /// to find out why.
    async fn take(&mut self, entries: Vec<Entry>, care: Care) -> Result<Option<Vec<Recorded>>> {
        let mut readable = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry {
                Ok(recorded) => {
                    if let Some(recorded) = self.unless_held(recorded) {
                        readable.push(recorded);
                    }
                }
                Err(unreadable) => self.unreadable(unreadable).await?,
            }
        }
        if care == Care::Savepoints {
            return self.narrow(readable).await.map(Some);
        }
        match self.run(&readable).await? {
            Ok(()) => Ok(Some(readable)),
            Err(_) => Ok(None),
        }
    }

    async fn run(&mut self, events: &[Recorded]) -> Result<std::result::Result<(), String>> {
        let shard = self.shard;
        run(self.handler, self.connection, &[Batch { shard, events }]).await
    }

    fn unless_held(&mut self, recorded: Recorded) -> Option<Recorded> {
        let position = recorded.place.position;
        let from = self.parked_from.get(&recorded.stream);
        if from.is_none_or(|from| position < *from) {
            return Some(recorded);
        }
        self.aside.push(Parking {
            position,
            stream: Some(recorded.stream),
            kind: recorded.event.kind().to_owned(),
            schema: recorded.event.schema(),
            class: Class::Held,
            reason: String::new(),
        });
        None
    }

    async fn unreadable(&mut self, it: read::Unreadable) -> Result<()> {
        let class = match it.source {
            ReadError::NeedsNewerCode { .. } => Class::NeedsNewerCode,
            ReadError::Malformed { .. } | ReadError::NoWayUp { .. } => Class::Unreadable,
        };
        self.culprit(Parking {
            position: it.place.position,
            stream: Some(it.stream),
            kind: it.kind,
            schema: it.schema,
            class,
            reason: it.source.to_string(),
        })
        .await
    }

    /// Puts an event aside that cannot be processed, and with it its stream, unless an operator has
    /// given up on it before.
    async fn culprit(&mut self, parking: Parking) -> Result<()> {
        let (position, reactor) = (parking.position, self.handler.reactor());
        let given_up = parked::discarded(self.connection, reactor, self.shard, &[position]).await?;
        if given_up.is_empty() {
            if let Some(stream) = parking.stream {
                let from = self.parked_from.entry(stream).or_insert(position);
                *from = position.min(*from);
            }
            self.aside.push(parking);
        }
        Ok(())
    }

    /// Processes what can be processed, in order, and finds the culprits by halving.
    async fn narrow(&mut self, events: Vec<Recorded>) -> Result<Vec<Recorded>> {
        let mut done = Vec::with_capacity(events.len());
        // Parts still to be taken, the next one last.
        let mut parts = vec![events];
        while let Some(part) = parts.pop() {
            let mut part: Vec<Recorded> = part
                .into_iter()
                .filter_map(|recorded| self.unless_held(recorded))
                .collect();
            if part.is_empty() {
                continue;
            }
            let mut savepoint = self.connection.begin().await?;
            let batch = [Batch {
                shard: self.shard,
                events: &part,
            }];
            match run(self.handler, &mut savepoint, &batch).await? {
                Ok(()) => {
                    savepoint.commit().await?;
                    done.append(&mut part);
                }
                Err(reason) => {
                    savepoint.rollback().await?;
                    if part.len() > 1 {
                        let second = part.split_off(part.len() / 2);
                        parts.extend([second, part]);
                    } else if let Some(alone) = part.pop() {
                        self.culprit(Parking {
                            position: alone.place.position,
                            stream: Some(alone.stream),
                            kind: alone.event.kind().to_owned(),
                            schema: alone.event.schema(),
                            class: Class::Failed,
                            reason,
                        })
                        .await?;
                    }
                }
            }
        }
        Ok(done)
    }

    /// What was put aside, in order; each stream with one head at most.
    fn parkings(self) -> Vec<Parking> {
        let (mut aside, parked_from) = (self.aside, self.parked_from);
        aside.sort_by_key(|it| it.position);
        for parking in &mut aside {
            let from = parking.stream.and_then(|stream| parked_from.get(&stream));
            if from.is_some_and(|from| *from < parking.position) {
                parking.class = Class::Held;
                parking.reason.clear();
            }
        }
        aside
    }
}

/// Runs a handler. The inner error says in words without content why these events are to blame.
async fn run<H: Handler>(
    handler: &H,
    connection: &mut PgConnection,
    batches: &[Batch<'_>],
) -> Result<std::result::Result<(), String>> {
    if batches.iter().all(|batch| batch.events.is_empty()) {
        return Ok(Ok(()));
    }
    let applied = AssertUnwindSafe(handler.apply(connection, batches)).catch_unwind();
    match applied.await {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(error)) if error.is_poison() => Ok(Err(error.reason())),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(Err("the handler panicked".to_owned())),
    }
}
