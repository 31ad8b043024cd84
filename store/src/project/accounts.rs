//! The accounts read model: loading and writing its rows.

use hub_domain::envelope::Recorded;
use hub_domain::event::Sealed;
use hub_domain::id::{AccountId, Epoch, Shard, UserId};
use hub_domain::projection::accounts::{AccountRow, Accounts, Needs, needs};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::error::{Error, Result};

pub(super) async fn apply(
    connection: &mut PgConnection,
    shard: Shard,
    generation: i16,
    events: &[Recorded],
) -> Result<()> {
    let (mut ids, mut users): (Vec<Uuid>, Vec<Uuid>) = Default::default();
    for need in events.iter().filter_map(|it| needs(&it.event)) {
        match need {
            Needs::Account(account) => ids.push(account.0),
            Needs::AccountsOf(user) => users.push(user.0),
        }
    }
    if ids.is_empty() && users.is_empty() {
        return Ok(());
    }
    if !users.is_empty() {
        ids.extend(ids_of(connection, shard, generation, &users).await?);
    }
    let mut model = load(connection, shard, generation, &ids).await?;
    for recorded in events {
        model.fold(recorded);
    }
    let rows: Vec<&AccountRow> = model.accounts.changed().collect();
    write(connection, shard, generation, &rows).await
}

async fn ids_of(
    connection: &mut PgConnection,
    shard: Shard,
    generation: i16,
    users: &[Uuid],
) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT id FROM read.accounts WHERE shard = $1 AND generation = $2 AND user_id = ANY ($3)",
    )
    .bind(shard.0)
    .bind(generation)
    .bind(users)
    .fetch_all(connection)
    .await?)
}

async fn load(
    connection: &mut PgConnection,
    shard: Shard,
    generation: i16,
    ids: &[Uuid],
) -> Result<Accounts> {
    let rows = sqlx::query(
        "SELECT id, user_id, platform, platform_user_id, username, route, is_active, \
         needs_reconnect, poll_cursor, epoch, created_at, updated_at FROM read.accounts \
         WHERE shard = $1 AND generation = $2 AND id = ANY ($3)",
    )
    .bind(shard.0)
    .bind(generation)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let mut model = Accounts::default();
    for row in rows {
        let id = AccountId(row.try_get(0)?);
        let platform: String = row.try_get(2)?;
        let cursor: Option<String> = row.try_get(8)?;
        model.accounts.load(
            id,
            AccountRow {
                id,
                user: UserId(row.try_get(1)?),
                platform: platform
                    .parse()
                    .map_err(|error| Error::Statement(sqlx::Error::Decode(Box::new(error))))?,
                platform_user_id: row.try_get(3)?,
                username: Sealed(row.try_get(4)?),
                route: row.try_get(5)?,
                is_active: row.try_get(6)?,
                needs_reconnect: row.try_get(7)?,
                cursor: cursor
                    .map(|text| serde_json::from_str(&text))
                    .transpose()
                    .map_err(|error| Error::Statement(sqlx::Error::Decode(Box::new(error))))?,
                epoch: Epoch(row.try_get(9)?),
                created_at: row.try_get(10)?,
                updated_at: row.try_get(11)?,
            },
        );
    }
    Ok(model)
}

async fn write(
    connection: &mut PgConnection,
    shard: Shard,
    generation: i16,
    rows: &[&AccountRow],
) -> Result<()> {
    sqlx::query(include_str!("../../sql/put_accounts.sql"))
        .bind(shard.0)
        .bind(generation)
        .bind(rows.iter().map(|row| row.id.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.user.0).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.platform.name())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.platform_user_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.username.0.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.route.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.is_active).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.needs_reconnect.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.cursor.as_ref().map(ToString::to_string))
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.epoch.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.created_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.updated_at).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}
