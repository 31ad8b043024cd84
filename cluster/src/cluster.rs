//! A cluster that belongs to whoever started it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::binaries::Binaries;
use crate::error::{ClusterError, io};
use crate::server::{Server, Shutdown, initialise, lock, open_lock};
use crate::site::Site;
use crate::sql;

/// The first start of several waits for a download at most.
pub(crate) const START_WITHIN: Duration = Duration::from_secs(300);

/// What can be chosen about a cluster.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Server settings beyond this crate's own, which they override: name and value.
    pub settings: Vec<(String, String)>,
}

/// A running PostgreSQL on a folder of its own, reachable through a unix socket only.
///
/// Several processes may start the same folder: the first starts the server, the others join it,
/// and the last one to stop ends it. Dropping a cluster stops it too, and blocks for that moment.
#[derive(Debug)]
pub struct Cluster {
    site: Site,
    binaries: Binaries,
    options: Options,
    running: Option<Running>,
}

/// What must be given back when the cluster stops.
#[derive(Debug)]
struct Running {
    server: Server,
    /// Held shared while this process uses the server.
    users: File,
}

impl Cluster {
    /// Starts the cluster of a folder, making it first if there is none. A server that an earlier
    /// process left running is adopted.
    pub async fn start(dir: &Path, options: Options) -> Result<Self, ClusterError> {
        let dir = dir.to_owned();
        let (site, binaries, _starting) = blocking(move || prepare(&dir)).await?;
        let server = Server::start(&site, &binaries, &options).await?;
        let users_lock = site.users_lock();
        let users = open_lock(&users_lock)?;
        // Nobody holds it exclusively without the start lock, which is ours until we return.
        users.lock_shared().map_err(io("locking", &users_lock))?;
        Ok(Self {
            site,
            binaries,
            options,
            running: Some(Running { server, users }),
        })
    }

    /// The connection URL of a database, for sqlx and for psql.
    pub fn url(&self, database: &str) -> String {
        sql::url(&self.site.socket_dir, database)
    }

    /// The programs it runs on.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The server's log file.
    pub fn log_file(&self) -> PathBuf {
        self.site.log()
    }

    /// The folder of the database's files; elsewhere than the cluster's folder when we are root
    /// and the server's user cannot get there.
    pub fn data_dir(&self) -> PathBuf {
        self.site.data()
    }

    /// The process id of the server, for tests that kill it.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.server.pid())
    }

    /// Creates a database. It is an error when it exists.
    pub async fn create_database(&self, name: &str) -> Result<(), ClusterError> {
        let statement = format!("CREATE DATABASE {}", sql::quoted(name));
        sql::execute(&self.site.socket_dir, statement).await
    }

    /// Creates a database unless it exists; `true` when it is new.
    pub async fn ensure_database(&self, name: &str) -> Result<bool, ClusterError> {
        let names = sql::databases(&self.site.socket_dir, name).await?;
        if names.iter().any(|existing| existing == name) {
            return Ok(false);
        }
        self.create_database(name).await?;
        Ok(true)
    }

    /// Drops a database and cuts its connections. It is no error when it does not exist.
    pub async fn drop_database(&self, name: &str) -> Result<(), ClusterError> {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql::quoted(name));
        sql::execute(&self.site.socket_dir, statement).await
    }

    /// Cuts every connection to a database, as a failing network would; returns how many.
    pub async fn terminate_backends(&self, database: &str) -> Result<u64, ClusterError> {
        sql::terminate_backends(&self.site.socket_dir, database).await
    }

    /// Crashes the server and starts it again: everything committed is there, nothing else is.
    /// Also starts a server that was killed from outside.
    pub async fn restart_immediate(&mut self) -> Result<(), ClusterError> {
        let site = self.site.clone();
        let path = site.start_lock();
        let _starting = blocking(move || lock(&path, START_WITHIN)).await?;
        let Some(Running { server, users }) = self.running.take() else {
            return Ok(());
        };
        blocking(move || server.stop(&site, Shutdown::Immediate)).await?;
        let server = Server::start(&self.site, &self.binaries, &self.options).await?;
        self.running = Some(Running { server, users });
        Ok(())
    }

    /// Stops the server and waits for its clean end, unless another process still uses it.
    pub async fn stop(mut self) -> Result<(), ClusterError> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let site = self.site.clone();
        blocking(move || running.stop(&site)).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(running) = self.running.take()
            && let Err(error) = running.stop(&self.site)
        {
            tracing::warn!(%error, "stopping PostgreSQL");
        }
    }
}

impl Running {
    fn stop(self, site: &Site) -> Result<(), ClusterError> {
        let _stopping = lock(&site.start_lock(), START_WITHIN)?;
        let users_lock = site.users_lock();
        self.users.unlock().map_err(io("unlocking", &users_lock))?;
        match self.users.try_lock() {
            Ok(()) => self.server.stop(site, Shutdown::Fast),
            Err(TryLockError::WouldBlock) => {
                tracing::info!("PostgreSQL keeps running: another process uses it");
                self.server.release();
                Ok(())
            }
            Err(TryLockError::Error(source)) => Err(io("locking", &users_lock)(source)),
        }
    }
}

/// Everything before the server's start; the returned lock is held until it has started.
pub(crate) fn prepare(dir: &Path) -> Result<(Site, Binaries, File), ClusterError> {
    let site = Site::settle(dir)?;
    let starting = lock(&site.start_lock(), START_WITHIN)?;
    let binaries = Binaries::find_for(&site.file("programs"), site.made_by().as_deref())?;
    initialise(&site, &binaries)?;
    Ok((site, binaries, starting))
}

/// Runs what blocks where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClusterError> + Send + 'static,
) -> Result<T, ClusterError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(ClusterError::Io {
            doing: "waiting for a thread".to_owned(),
            source: error.into(),
        }),
    }
}
