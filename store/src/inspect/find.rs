//! From an id that somebody has to the streams it stands for.

use hub_domain::id::{Shard, Sharding, StreamId, login_stream};
use sqlx::PgPool;
use uuid::Uuid;

use super::{shards, subject};
use crate::error::{Error, Result};

/// A stream, and what the id has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the id is: `stream`, `login` or `message`.
    pub what: &'static str,
    /// The stream's shard.
    pub shard: Shard,
    /// The stream.
    pub stream: StreamId,
}

/// The streams that an id stands for: of a conversation, an account, a session or a user its own; of
/// a user or an e-mail address the login; of a message its conversation's, also of one that is in the
/// log only. Refuses what nothing is known of.
pub async fn find(pool: &PgPool, sharding: Sharding, text: &str) -> Result<Vec<Found>> {
    if text.contains('@') {
        let stream = login_stream(&text.trim().to_lowercase());
        let shard = sharding.of_login(stream);
        return known(text, streams(pool, &[shard.0], stream.0, "login").await?);
    }
    let id: Uuid = text.parse().map_err(|_| {
        Error::Refused(format!(
            "{text:?} is neither an id as the API shows it nor an e-mail address"
        ))
    })?;
    let shards = shards(sharding);
    let mut found = streams(pool, &shards, id, "stream").await?;
    found.extend(
        rows(
            pool,
            "SELECT shard, stream FROM logins WHERE shard = ANY ($1) AND user_id = $2",
            (&shards, id, "login"),
        )
        .await?,
    );
    found.extend(
        rows(
            pool,
            "SELECT m.shard, m.conversation_id FROM read.messages m \
             JOIN generations g ON g.shard = m.shard AND g.live = m.generation \
                 AND g.projection = 'inbox' \
             WHERE m.shard = ANY ($1) AND m.id = $2",
            (&shards, id, "message"),
        )
        .await?,
    );
    if found.is_empty()
        && let Some(subject) = subject::brought(pool, &shards, id).await?
    {
        found.push(Found {
            what: "message",
            shard: subject.shard,
            stream: subject.conversation.into(),
        });
    }
    known(text, found)
}

fn known(text: &str, found: Vec<Found>) -> Result<Vec<Found>> {
    if found.is_empty() {
        return Err(Error::Refused(format!(
            "nothing is known of {text}: it names no stream, no user and no message"
        )));
    }
    Ok(found)
}

async fn streams(
    pool: &PgPool,
    shards: &[i16],
    id: Uuid,
    what: &'static str,
) -> Result<Vec<Found>> {
    let query = "SELECT shard, stream FROM streams WHERE shard = ANY ($1) AND stream = $2";
    rows(pool, query, (shards, id, what)).await
}

async fn rows(
    pool: &PgPool,
    query: &'static str,
    (shards, id, what): (&[i16], Uuid, &'static str),
) -> Result<Vec<Found>> {
    let rows: Vec<(i16, Uuid)> = sqlx::query_as(query)
        .bind(shards)
        .bind(id)
        .fetch_all(pool)
        .await?;
    let found = rows.into_iter().map(|(shard, stream)| Found {
        what,
        shard: Shard(shard),
        stream: StreamId(stream),
    });
    Ok(found.collect())
}
