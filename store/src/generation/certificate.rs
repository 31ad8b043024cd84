//! What a rebuild proves.

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{Pair, Progress};

/// Rows of a table, as a number and a hash that does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// How many.
    pub rows: i64,
    /// The sum of the rows' MD5 values, half by half, modulo 2^64. MD5 because both sides are
    /// folded by ourselves: this finds mistakes, it does not withstand somebody who forges rows.
    #[serde(serialize_with = "as_hex")]
    pub hash: [u64; 2],
}

impl Digest {
    /// The hash as 32 hexadecimal digits.
    pub fn hex(&self) -> String {
        format!("{:016x}{:016x}", self.hash[0], self.hash[1])
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        for (half, more) in self.hash.iter_mut().zip(other.hash) {
            *half = half.wrapping_add(more);
        }
    }
}

fn as_hex<S: Serializer>(hash: &[u64; 2], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:016x}{:016x}", hash[0], hash[1]))
}

/// A table in one shard, in both generations at the same position.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The table.
    pub table: &'static str,
    /// What readers saw.
    pub live: Digest,
    /// What was rebuilt.
    pub rebuilt: Digest,
}

/// Streams that stand parked, in both generations at the same position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParkedStreams {
    /// In what readers saw.
    pub live: i64,
    /// In what was rebuilt.
    pub rebuilt: i64,
}

/// A shard: where it was compared, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct ShardProof {
    /// The shard.
    pub shard: i16,
    /// Both generations were at this position when they were compared.
    pub compared_at: i64,
    /// Both were at this position when readers were switched, if they were. What lies between the
    /// two was folded by the same code into both, and not compared.
    pub switched_at: Option<i64>,
    /// The streams whose rows do not show everything, because an event cannot be processed.
    pub parked: ParkedStreams,
    /// The projection's tables.
    pub tables: Vec<Compared>,
}

impl ShardProof {
    pub(super) fn rows(&self) -> i64 {
        self.tables
            .iter()
            .map(|table| table.live.rows + table.rebuilt.rows)
            .sum()
    }
}

/// A table in all shards.
#[derive(Clone, Debug, Serialize)]
pub struct TableProof {
    /// The table.
    pub table: &'static str,
    /// What readers saw.
    pub live: Digest,
    /// What was rebuilt.
    pub rebuilt: Digest,
    /// Both are the same.
    pub equal: bool,
}

/// A row that is not the same in both generations. Columns by name only: their content is
/// personal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// The shard.
    pub shard: i16,
    /// The row.
    pub id: Uuid,
    /// Where it is: `both`, `live` or `rebuilt`.
    pub found_in: String,
    /// The columns that differ; none when the row is in one generation only.
    pub columns: Vec<String>,
}

/// What the comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Counts and hashes are the same in every table and shard.
    Equal,
    /// They are not.
    Different,
}

/// What became of the rebuilt generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Readers see it now; the one before is kept.
    Live,
    /// It is kept beside the live one.
    Kept,
    /// It is gone.
    Dropped,
}

/// The result of a rebuild.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    /// The projection.
    pub projection: &'static str,
    /// The generation readers saw when it was made.
    pub live: i16,
    /// The generation that was built beside it; a smaller number when it was gone back to.
    pub rebuilt: i16,
    /// An earlier run had begun it.
    pub resumed: bool,
    /// The version of the fold that this build has.
    pub fold: i32,
    /// The version that folded the live generation: 0 when there were several or nobody knows, null
    /// when nothing was folded yet.
    pub live_fold: Option<i32>,
    /// The verdict.
    pub verdict: Verdict,
    /// What became of the rebuilt generation.
    pub fate: Fate,
    /// Events that both had folded when they were compared, all shards together.
    pub compared_at: i64,
    /// Events that both had folded when readers were switched, if they were.
    pub switched_at: Option<i64>,
    /// The streams whose rows do not show everything, because an event cannot be processed.
    pub parked: ParkedStreams,
    /// Every table, all shards together.
    pub tables: Vec<TableProof>,
    /// How many rows differ.
    pub different_rows: i64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Events folded by this run.
    pub folded: u64,
    /// Seconds it took, comparison included.
    pub seconds: f64,
    /// Events per second.
    pub rate: f64,
    /// Every shard.
    pub shards: Vec<ShardProof>,
}

impl Certificate {
    pub(super) fn new(pair: Pair, resumed: bool, live_fold: Option<i32>) -> Self {
        Self {
            projection: pair.projection.name(),
            live: pair.live,
            rebuilt: pair.next,
            resumed,
            fold: pair.projection.fold(),
            live_fold,
            verdict: Verdict::Equal,
            fate: Fate::Kept,
            compared_at: 0,
            switched_at: None,
            parked: ParkedStreams::default(),
            tables: Vec::new(),
            different_rows: 0,
            differences: Vec::new(),
            folded: 0,
            seconds: 0.0,
            rate: 0.0,
            shards: Vec::new(),
        }
    }

    /// What the shards compared so far say.
    pub(super) fn verdict(&self) -> Verdict {
        let mut tables = self.shards.iter().flat_map(|shard| &shard.tables);
        if tables.all(|table| table.live == table.rebuilt) {
            Verdict::Equal
        } else {
            Verdict::Different
        }
    }

    /// Fills in what follows from the shards and the time it took.
    pub(super) fn sum_up(&mut self, progress: Progress) {
        self.verdict = self.verdict();
        self.compared_at = self.shards.iter().map(|shard| shard.compared_at).sum();
        self.switched_at = self.shards.iter().map(|shard| shard.switched_at).sum();
        self.parked = ParkedStreams {
            live: self.shards.iter().map(|shard| shard.parked.live).sum(),
            rebuilt: self.shards.iter().map(|shard| shard.parked.rebuilt).sum(),
        };
        self.tables.clear();
        for compared in self.shards.iter().flat_map(|shard| &shard.tables) {
            let known = self.tables.iter().position(|it| it.table == compared.table);
            let index = known.unwrap_or_else(|| {
                self.tables.push(TableProof {
                    table: compared.table,
                    live: Digest::default(),
                    rebuilt: Digest::default(),
                    equal: true,
                });
                self.tables.len() - 1
            });
            let sum = &mut self.tables[index];
            sum.live.add(&compared.live);
            sum.rebuilt.add(&compared.rebuilt);
            // Shard by shard: two mistakes must not cancel each other out in a sum.
            sum.equal &= compared.live == compared.rebuilt;
        }
        self.folded = progress.folded;
        self.seconds = progress.elapsed.as_secs_f64();
        self.rate = self.folded as f64 / self.seconds.max(f64::EPSILON);
    }
}
