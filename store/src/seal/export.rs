//! Seals on their way out of the database, where nobody who can write it can reach them.
//!
//! One JSON object a line; docs/seals.md describes the fields. What is read back is not trusted to
//! be whole: a line that contradicts itself is refused.

use std::io::{BufRead, Write};

use chrono::{DateTime, Utc};
use hub_domain::id::{Place, Shard};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::Seal;
use super::format::{self, FORMAT};
use crate::error::{Error, Result};
use crate::schema::sharding;

/// A line of the file. Bytes are in hexadecimal.
#[derive(Serialize, Deserialize)]
struct Line {
    format: i16,
    shard: i16,
    after: i64,
    through: i64,
    previous: String,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaves: Option<String>,
    sealed_at: DateTime<Utc>,
}

/// A line that was read back.
pub(super) struct Exported {
    pub(super) seal: Named,
    pub(super) leaves: Option<Vec<u8>>,
}

/// What every line has.
pub(super) struct Named {
    pub(super) shard: Shard,
    pub(super) after: i64,
    pub(super) through: i64,
    pub(super) hash: Vec<u8>,
}

/// Writes every seal with its leaves, or only the newest of each shard without them. Returns how
/// many lines there are.
pub async fn export(pool: &PgPool, heads: bool, out: &mut (dyn Write + Send)) -> Result<u64> {
    let mut lines = 0;
    for shard in (0..sharding(pool).await?.count).map(Shard) {
        let newest: Option<i64> =
            sqlx::query_scalar("SELECT max(through) FROM seals WHERE shard = $1")
                .bind(shard.0)
                .fetch_one(pool)
                .await?;
        let Some(newest) = newest else {
            continue;
        };
        let mut position = if heads { newest - 1 } else { 0 };
        while let Some(seal) = Seal::next(pool, Place { shard, position }, newest).await? {
            position = seal.through;
            let line = Line {
                format: seal.format,
                shard: shard.0,
                after: seal.after,
                through: seal.through,
                previous: hex::encode(&seal.previous),
                hash: hex::encode(&seal.hash),
                leaves: (!heads).then(|| hex::encode(&seal.leaves)),
                sealed_at: seal.sealed_at,
            };
            let text = serde_json::to_string(&line).expect("a line is plain data");
            writeln!(out, "{text}")
                .map_err(|error| Error::Refused(format!("seals cannot be written: {error}")))?;
            lines += 1;
        }
    }
    out.flush()
        .map_err(|error| Error::Refused(format!("seals cannot be written: {error}")))?;
    Ok(lines)
}

/// Reads lines back, one at a time.
pub(super) fn read(lines: &mut (dyn BufRead + Send)) -> impl Iterator<Item = Result<Exported>> {
    lines.lines().enumerate().map(|(index, line)| {
        let line = line.map_err(|error| refused(format!("it cannot be read: {error}")))?;
        parse(&line).map_err(|what| refused(format!("line {}: {what}", index + 1)))
    })
}

fn parse(line: &str) -> std::result::Result<Exported, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if line.format != FORMAT {
        return Err(format!("format {} is unknown to this build", line.format));
    }
    let bytes = |text: &str| hex::decode(text).map_err(|error| error.to_string());
    let (previous, hash) = (bytes(&line.previous)?, bytes(&line.hash)?);
    let leaves = line.leaves.as_deref().map(bytes).transpose()?;
    let shard = Shard(line.shard);
    if let Some(leaves) = &leaves {
        let previous = previous.try_into().map_err(|_| "previous has 32 bytes")?;
        if !format::fits(line.after, line.through, leaves)
            || format::hash(&previous, shard, line.after, line.through, leaves) != *hash
        {
            return Err("its content is not what its hash says".to_owned());
        }
    }
    Ok(Exported {
        seal: Named {
            shard,
            after: line.after,
            through: line.through,
            hash,
        },
        leaves,
    })
}

/// Why a file of seals is of no use.
pub(super) fn refused(what: String) -> Error {
    Error::Refused(format!(
        "the exported seals cannot be compared with: {what}"
    ))
}
