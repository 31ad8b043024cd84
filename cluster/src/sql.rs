//! The few statements this crate needs, one connection each.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::error::ClusterError;

/// The superuser, and the only user there is.
pub(crate) const USER: &str = "hub";
/// A database that always exists, to say things about others from.
pub(crate) const HOME: &str = "postgres";

/// The URL of a database behind a socket. Port and sslmode are spelt out because `PGPORT` and
/// `PGSSLMODE` of whoever runs us would otherwise apply.
pub(crate) fn url(socket_dir: &Path, database: &str) -> String {
    format!(
        "postgres://{USER}@localhost:5432/{}?host={}&sslmode=disable",
        encode(database.as_bytes()),
        encode(socket_dir.as_os_str().as_bytes()),
    )
}

pub(crate) async fn connect(socket_dir: &Path) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect(&url(socket_dir, HOME)).await
}

/// Runs one statement that the extended protocol or a transaction would not allow.
pub(crate) async fn execute(socket_dir: &Path, statement: String) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::Sql {
        doing: statement.clone(),
        source,
    };
    let mut connection = connect(socket_dir).await.map_err(failed)?;
    sqlx::raw_sql(AssertSqlSafe(statement.clone()))
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)
}

/// Names of databases that start so.
pub(crate) async fn databases(
    socket_dir: &Path,
    prefix: &str,
) -> Result<Vec<String>, ClusterError> {
    let failed = |source| ClusterError::Sql {
        doing: "listing databases".to_owned(),
        source,
    };
    let mut connection = connect(socket_dir).await.map_err(failed)?;
    let names =
        sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)")
            .bind(prefix)
            .fetch_all(&mut connection)
            .await
            .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(names)
}

/// Databases made more than a day ago whose names start with one of these.
pub(crate) async fn databases_older_than_a_day(
    socket_dir: &Path,
    prefixes: &[&str],
) -> Result<Vec<String>, ClusterError> {
    let failed = |source| ClusterError::Sql {
        doing: "listing old databases".to_owned(),
        source,
    };
    let mut connection = connect(socket_dir).await.map_err(failed)?;
    // PostgreSQL does not note when a database was made; this file is written then and never again.
    let names = sqlx::query_scalar(
        "SELECT datname::text FROM pg_database \
         WHERE EXISTS (SELECT FROM unnest($1::text[]) prefix WHERE starts_with(datname, prefix)) \
         AND (pg_stat_file('base/' || oid || '/PG_VERSION', true)).modification \
             < now() - interval '1 day'",
    )
    .bind(prefixes)
    .fetch_all(&mut connection)
    .await
    .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(names)
}

/// Cuts every connection to a database; returns how many there were.
pub(crate) async fn terminate_backends(
    socket_dir: &Path,
    database: &str,
) -> Result<u64, ClusterError> {
    let failed = |source| ClusterError::Sql {
        doing: format!("cutting the connections to {database}"),
        source,
    };
    let mut connection = connect(socket_dir).await.map_err(failed)?;
    let cut: i64 = sqlx::query_scalar(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
         WHERE datname = $1 AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )
    .bind(database)
    .fetch_one(&mut connection)
    .await
    .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(cut.unsigned_abs())
}

/// A name as PostgreSQL reads it, whatever it contains.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                char::from(*byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{quoted, url};
    use std::path::Path;

    #[test]
    fn odd_names_survive_in_urls_and_statements() {
        assert_eq!(
            url(Path::new("/a b/ü"), "x&y"),
            "postgres://hub@localhost:5432/x%26y?host=/a%20b/%C3%BC&sslmode=disable"
        );
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
