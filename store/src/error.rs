//! What can go wrong in the store, sorted by what the caller can do about it.

use hub_domain::envelope::Expected;
use hub_domain::event::ReadError;
use hub_domain::id::{Place, StreamId};

/// The store's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream is not at the version the writer expected: load again and decide again.
    #[error("stream {stream:?} is not at the expected version ({expected:?})")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// What the writer believed.
        expected: Expected,
    },
    /// The database cannot be reached or is too busy: nothing happened, come back later.
    #[error("the database is not available: {0}")]
    Unavailable(sqlx::Error),
    /// The connection broke during a commit: whether it happened is unknown.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(sqlx::Error),
    /// More is waiting than this process takes: nothing happened, come back later.
    #[error("too many writes are waiting")]
    Busy,
    /// The log contradicts its own invariants. Never skipped.
    #[error("the log is corrupt at {place}: {what}")]
    Corrupt {
        /// Where.
        place: Place,
        /// What contradicts what.
        what: String,
    },
    /// A stored event that this build cannot read.
    #[error("{place}: {source}")]
    Unreadable {
        /// Where.
        place: Place,
        /// Why.
        source: ReadError,
    },
    /// The database was not prepared for the hub.
    #[error("{0}")]
    NotInitialised(String),
    /// What was asked for cannot be done in this state; nothing happened.
    #[error("{0}")]
    Refused(String),
    /// Something that follows the log, or a queue, is too far behind to wait for: come back later.
    #[error("{0} is behind")]
    Behind(&'static str),
    /// The question takes more events than one question may; this many.
    #[error("this past takes more than {0} events to work out")]
    TooMuch(i64),
    /// Redis is configured and does not answer.
    #[error("Redis is not available: {0}")]
    Redis(#[from] redis::RedisError),
    /// The object store does not do what was asked of it; it may in a moment.
    #[error("the object store failed: {0}")]
    Objects(String),
    /// Something sealed cannot be opened: wrong key or altered content.
    #[error("sealed content cannot be opened: {0}")]
    Sealed(&'static str),
    /// The person this is about was erased: there is no key and never will be.
    #[error("the person was erased")]
    Erased,
    /// Another worker holds this now; whatever this one was about to write was not written.
    #[error("the lease is no longer ours")]
    Fenced,
    /// A statement failed that should not: a bug, or a schema that is not ours.
    #[error("the database refused a statement: {0}")]
    Statement(sqlx::Error),
}

impl Error {
    /// True when the same call may work in a moment.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Unknown(_)
                | Self::Busy
                | Self::Behind(_)
                | Self::Redis(_)
                | Self::Objects(_)
        )
    }

    /// True when what was being processed is to blame and not the database or its schema: the same
    /// content will fail again, and another content will not.
    pub fn is_poison(&self) -> bool {
        match self {
            Self::Sealed(_) => true,
            Self::Statement(sqlx::Error::Database(database)) => {
                database
                .code()
                .is_some_and(|code| POISON.iter().any(|class| code.starts_with(class)))
                // No constraint of ours: the partition of a generation is not there.
                && database.code().as_deref() != Some("23514")
            }
            Self::Statement(error) => matches!(
                error,
                sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_)
            ),
            _ => false,
        }
    }

    /// What went wrong, without the values that PostgreSQL and decoders quote: they are personal.
    pub fn reason(&self) -> String {
        match self {
            Self::Statement(sqlx::Error::Database(database)) => {
                let code = database.code().unwrap_or_default();
                let what = match code.get(..2) {
                    Some("22") => "a value that cannot be stored",
                    Some("23") => "a row that contradicts others",
                    Some("54") => "a value that is too large",
                    _ => "a statement",
                };
                let at = database.constraint().or(database.table());
                let at = at.map(|name| format!(", {name}")).unwrap_or_default();
                format!("the database refused {what} (SQLSTATE {code}{at})")
            }
            Self::Statement(sqlx::Error::ColumnDecode { index, .. }) => {
                format!("the stored column {index} cannot be read")
            }
            Self::Statement(_) => "a stored row cannot be read".to_owned(),
            other => other.to_string(),
        }
    }
}

/// Classes of SQLSTATEs that speak of data: exceptions in it, integrity, and limits of its size.
const POISON: [&str; 3] = ["22", "23", "54"];

/// SQLSTATEs of a server that is going away, coming up, or out of connections, and of transactions
/// that must be run again as a whole.
const TEMPORARY: [&str; 9] = [
    "57P01", "57P02", "57P03", "53300", "53100", "53200", "40001", "40P01", "08006",
];

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let temporary = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(database) => database
                .code()
                .is_some_and(|code| TEMPORARY.contains(&code.as_ref())),
            _ => false,
        };
        if temporary {
            Self::Unavailable(error)
        } else {
            Self::Statement(error)
        }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::Objects(error.to_string())
    }
}

impl From<sea_orm::DbErr> for Error {
    fn from(error: sea_orm::DbErr) -> Self {
        use sea_orm::{DbErr, RuntimeErr};
        match error {
            DbErr::Conn(RuntimeErr::SqlxError(error))
            | DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => match std::sync::Arc::try_unwrap(error)
            {
                Ok(error) => Self::from(error),
                Err(shared) => Self::Statement(sqlx::Error::Protocol(shared.to_string())),
            },
            DbErr::ConnectionAcquire(_) => Self::Unavailable(sqlx::Error::PoolTimedOut),
            other => Self::Statement(sqlx::Error::Protocol(other.to_string())),
        }
    }
}
