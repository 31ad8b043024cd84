//! Which version of its fold has made a generation.
//!
//! Promises: a generation that is built is built by one version ([`Projection::fold`]) from the first
//! event to the last. What another one has begun is not gone on with: it would be neither's, and a
//! certificate could not say whose. The live generation is folded by whatever workers run, so it may
//! be of several; the certificate says so.

use sqlx::PgPool;

use super::Pair;
use crate::error::{Error, Result};
use crate::project::Projection;

/// The version that has folded everything in this generation: 0 when there were several or nobody
/// knows, `None` when nothing is folded yet.
pub(super) async fn of(
    pool: &PgPool,
    projection: Projection,
    generation: i16,
) -> Result<Option<i32>> {
    let versions: Vec<i32> = sqlx::query_scalar(
        "SELECT DISTINCT fold FROM checkpoints \
         WHERE reactor = $1 AND generation = $2 AND position > 0",
    )
    .bind(projection.name())
    .bind(generation)
    .fetch_all(pool)
    .await?;
    Ok(match versions[..] {
        [] => None,
        [version] => Some(version),
        _ => Some(0),
    })
}

/// What to do about a generation that was begun elsewhere and never live.
pub(super) const BEGUN_ELSEWHERE: &str =
    "drop it with `hub replay <...> --discard`, or go on with the build that began it";

/// Fails, with a word about what to do, when what is there of a generation was not folded by this
/// build's fold.
pub(super) async fn expect_ours(pool: &PgPool, pair: Pair, instead: &str) -> Result<()> {
    let (projection, next) = (pair.projection, pair.next);
    match of(pool, projection, next).await? {
        Some(version) if version != projection.fold() => Err(Error::Refused(format!(
            "generation {next} of {} was folded by {}, and this build has version {}; what both had \
             a hand in would be neither's: {instead}",
            projection.name(),
            in_words(version),
            projection.fold()
        ))),
        _ => Ok(()),
    }
}

/// A version for people.
fn in_words(version: i32) -> String {
    match version {
        0 => "several versions of its fold, or by one that nobody knows".to_owned(),
        version => format!("version {version} of its fold"),
    }
}
