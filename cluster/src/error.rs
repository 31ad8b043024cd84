//! Why there is no database, in sentences for the person who typed `cargo run`.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No PostgreSQL on this machine, and none could be fetched.
    #[error(
        "PostgreSQL was not found: {advice}, or set DATABASE_URL to a server you have. ({tried})"
    )]
    NoBinaries {
        /// The one command that installs it here.
        advice: &'static str,
        /// What was tried.
        tried: String,
    },
    /// `HUB_PG_BIN` names a folder without a usable PostgreSQL.
    #[error("HUB_PG_BIN is {}, which has no usable initdb and postgres: {reason}.", dir.display())]
    BadBinaries {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The data was made by another major version.
    #[error(
        "{} was made by PostgreSQL {made_by}, and only {found} was found: set HUB_PG_BIN to the bin \
         folder of version {made_by}, or remove that folder to start empty.",
        data.display()
    )]
    OtherVersion {
        /// The data folder.
        data: PathBuf,
        /// Major version that made it.
        made_by: String,
        /// Version that is here.
        found: String,
    },
    /// The data belongs to somebody else.
    #[error(
        "{} belongs to another user: run as that user, or remove it to start empty.",
        path.display()
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// PostgreSQL refuses to run as root, and there is no user to run it as.
    #[error("PostgreSQL refuses to run as root and neither the user postgres nor nobody exists.")]
    NoUnprivilegedUser,
    /// Another process has been starting or stopping the same cluster for too long.
    #[error("{} has been locked by another process for too long.", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// A file or program could not be used.
    #[error("{doing}: {source}")]
    Io {
        /// What was attempted.
        doing: String,
        /// What happened.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb failed:\n{output}")]
    Initdb {
        /// What it printed.
        output: String,
    },
    /// The server did not come up, or did not go down.
    #[error("PostgreSQL {what}. The end of {}:\n{tail}", log.display())]
    Server {
        /// What it did not do.
        what: &'static str,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A statement of this crate failed.
    #[error("{doing}: {source}")]
    Sql {
        /// What was attempted.
        doing: String,
        /// What the database said.
        source: sqlx::Error,
    },
    /// The caller could not prepare its template database.
    #[error("preparing the template database failed: {0}")]
    Template(Box<dyn std::error::Error + Send + Sync>),
}

/// Adds what was attempted to an IO error.
pub(crate) fn io(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let doing = format!("{doing} {}", path.display());
    move |source| ClusterError::Io { doing, source }
}
