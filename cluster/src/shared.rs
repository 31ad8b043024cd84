//! One server for all tests of a workspace, one database for each test.
//!
//! A test runner may start a process per test, so the server outlives the process that started it.
//! It ends by itself: users renew a lease, and a small shell script beside the server stops it when
//! the lease is no longer renewed (`watchdog.sh`).

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::account::current_uid;
use crate::cluster::{Options, START_WITHIN, blocking, prepare};
use crate::error::{ClusterError, io};
use crate::server::{Server, lock};
use crate::site::{Site, short_name};
use crate::sql;

const WATCHDOG: &str = include_str!("watchdog.sh");
/// Longer than any pause between two tests, shorter than anybody's patience with leftovers.
const IDLE: Idle = Idle {
    look_every_s: 5,
    looks: 24,
};
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How long a server may take to stop after its watchdog decided to.
const STOPPING_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

const TEMPLATE: &str = "template_";
const UNFINISHED: &str = "unfinished_";
const TEST: &str = "test_";

/// When a server counts as unused.
#[derive(Clone, Copy, Debug)]
struct Idle {
    look_every_s: u32,
    looks: u32,
}

/// The server that all tests of this workspace share.
#[derive(Clone, Debug)]
pub struct SharedCluster {
    site: Site,
}

/// The server that all tests of this workspace share. Starts it when no other test has; takes a
/// few milliseconds when one has.
pub async fn shared_for_tests() -> Result<SharedCluster, ClusterError> {
    static SHARED: OnceCell<SharedCluster> = OnceCell::const_new();
    let shared = SHARED.get_or_try_init(|| async {
        let name = format!(
            "hub-test-pg-{}-{}",
            current_uid()?,
            short_name(&workspace())
        );
        SharedCluster::join(&env::temp_dir().join(name), IDLE).await
    });
    shared.await.cloned()
}

impl SharedCluster {
    /// The connection URL of a database.
    pub fn url(&self, database: &str) -> String {
        sql::url(&self.site.socket_dir, database)
    }

    /// Cuts every connection to a database, as a failing network would; returns how many.
    pub async fn terminate_backends(&self, database: &str) -> Result<u64, ClusterError> {
        sql::terminate_backends(&self.site.socket_dir, database).await
    }

    /// A database of the test's own, copied from a template.
    ///
    /// `fingerprint` stands for what `prepare` makes (a digest of the migrations, say): the first
    /// caller with it, of all processes, gets an empty database's URL in `prepare`, and everybody
    /// gets copies of the result. Connections `prepare` leaves open are cut.
    pub async fn database<P, F, E>(
        &self,
        fingerprint: &str,
        prepare: P,
    ) -> Result<TestDatabase, ClusterError>
    where
        P: FnOnce(String) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let key = short_name(Path::new(fingerprint));
        let template = format!("{TEMPLATE}{key}");
        if !self.exists(&template).await? {
            let path = self.site.file(&format!("{template}.lock"));
            let _preparing = blocking(move || lock(&path, START_WITHIN)).await?;
            if !self.exists(&template).await? {
                self.build(&key, &template, prepare).await?;
            }
        }
        self.copy(&template).await
    }

    /// A database of the test's own with nothing in it.
    pub async fn empty_database(&self) -> Result<TestDatabase, ClusterError> {
        self.copy("template0").await
    }

    async fn build<P, F, E>(
        &self,
        key: &str,
        template: &str,
        prepare: P,
    ) -> Result<(), ClusterError>
    where
        P: FnOnce(String) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let unfinished = format!("{UNFINISHED}{key}");
        let name = sql::quoted(&unfinished);
        self.execute(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await?;
        self.execute(format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await?;
        prepare(self.url(&unfinished))
            .await
            .map_err(|error| ClusterError::Template(error.into()))?;
        // Copying needs a source nobody is connected to, now and later.
        self.execute(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            .await?;
        self.terminate_backends(&unfinished).await?;
        // The name appears last: who finds it finds it finished.
        let finished = sql::quoted(template);
        self.execute(format!("ALTER DATABASE {name} RENAME TO {finished}"))
            .await
    }

    async fn copy(&self, template: &str) -> Result<TestDatabase, ClusterError> {
        let name = format!("{TEST}{}", Uuid::now_v7().simple());
        let (new, old) = (sql::quoted(&name), sql::quoted(template));
        self.execute(format!("CREATE DATABASE {new} TEMPLATE {old}"))
            .await?;
        Ok(TestDatabase {
            url: self.url(&name),
            socket_dir: self.site.socket_dir.clone(),
            name,
            kept: false,
        })
    }

    async fn exists(&self, database: &str) -> Result<bool, ClusterError> {
        let names = sql::databases(&self.site.socket_dir, database).await?;
        Ok(names.iter().any(|name| name == database))
    }

    async fn execute(&self, statement: String) -> Result<(), ClusterError> {
        sql::execute(&self.site.socket_dir, statement).await
    }

    /// Takes a lease, then joins the running server or starts it.
    async fn join(dir: &Path, idle: Idle) -> Result<Self, ClusterError> {
        let folder = dir.to_owned();
        let site = blocking(move || {
            open_folder(&folder)?;
            let site = Site::settle(&folder)?;
            take_lease(&site)?;
            Ok(site)
        })
        .await?;
        if !watched(&site, idle) || sql::connect(&site.socket_dir).await.is_err() {
            start(dir, idle).await?;
        }
        Ok(Self { site })
    }
}

async fn start(dir: &Path, idle: Idle) -> Result<(), ClusterError> {
    let dir = dir.to_owned();
    let (site, binaries, _starting) = blocking(move || prepare(&dir)).await?;
    let server = Server::start(&site, &binaries, &Options::default()).await?;
    if server.is_new() {
        drop_old_databases(&site).await?;
    }
    // It outlives this process, by design.
    server.release();
    if !watched(&site, idle) {
        watch(&site, idle)?;
    }
    Ok(())
}

/// The folder is in the temp folder under a name anybody can guess, so it must be ours. Its inner
/// folders are private to the server's user.
fn open_folder(dir: &Path) -> Result<(), ClusterError> {
    match fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(io("creating", dir)(error))
        }
        _ => Site::require_own(dir),
    }
}

/// Renews the lease for as long as this process lives, and lets a server finish that was stopping
/// when the lease was taken.
fn take_lease(site: &Site) -> Result<(), ClusterError> {
    let path = site.file("lease");
    let lease = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io("opening", &path))?;
    lease
        .set_modified(SystemTime::now())
        .map_err(io("touching", &path))?;
    thread::spawn(move || {
        loop {
            thread::sleep(RENEW_EVERY);
            if lease.set_modified(SystemTime::now()).is_err() {
                return;
            }
        }
    });
    let stopping = site.file("stopping");
    let deadline = Instant::now() + STOPPING_WITHIN;
    while stopping.exists() {
        if Instant::now() > deadline {
            // The watchdog was killed in the middle.
            return fs::remove_file(&stopping).map_err(io("removing", &stopping));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Whether a watchdog has shown itself lately.
fn watched(site: &Site, idle: Idle) -> bool {
    let lately = Duration::from_secs(u64::from(idle.look_every_s) * 3);
    fs::metadata(site.file("watchdog"))
        .and_then(|meta| meta.modified())
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < lately))
}

fn watch(site: &Site, idle: Idle) -> Result<(), ClusterError> {
    let sh = Path::new("/bin/sh");
    // Not through the site's user: the folder belongs to us, and so does the right to signal.
    let spawned = Command::new(sh)
        .args(["-c", WATCHDOG, "hub-test-watchdog"])
        .arg(site.root())
        .args([idle.look_every_s.to_string(), idle.looks.to_string()])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    spawned.map(drop).map_err(io("running", sh))
}

/// Databases of tests that failed or were killed are kept for a day.
async fn drop_old_databases(site: &Site) -> Result<(), ClusterError> {
    for name in
        sql::databases_older_than_a_day(&site.socket_dir, &[TEMPLATE, UNFINISHED, TEST]).await?
    {
        let statement = format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            sql::quoted(&name)
        );
        sql::execute(&site.socket_dir, statement).await?;
    }
    Ok(())
}

/// The folder that stands for this checkout: the one with the lock file, above the package that
/// cargo runs.
fn workspace() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = here.or_else(|| env::current_dir().ok()).unwrap_or_default();
    here.ancestors()
        .find(|dir| dir.join("Cargo.lock").exists())
        .unwrap_or(&here)
        .to_owned()
}

/// A database for one test: dropped when the test succeeds, kept when it panics.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
    socket_dir: PathBuf,
    kept: bool,
}

impl TestDatabase {
    /// Its name, unique on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its connection URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Keeps it after the test, as a panic does.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Cuts every connection to it, as a failing network would; returns how many.
    pub async fn terminate_backends(&self) -> Result<u64, ClusterError> {
        sql::terminate_backends(&self.socket_dir, &self.name).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if self.kept || thread::panicking() {
            eprintln!("kept the database of this test: psql '{}'", self.url);
            return;
        }
        let statement = format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            sql::quoted(&self.name)
        );
        let socket_dir = self.socket_dir.clone();
        // The test's own runtime may be the one that is dropping us; it cannot be waited on.
        let dropping = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map(|runtime| runtime.block_on(sql::execute(&socket_dir, statement)))
        });
        if !matches!(dropping.join(), Ok(Ok(Ok(())))) {
            eprintln!("could not drop the database {} of this test", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unused_server_stops_by_itself_and_a_new_user_starts_it_again() {
        let dir = env::temp_dir().join(format!("hub-idle-{}", Uuid::now_v7().simple()));
        let idle = Idle {
            look_every_s: 1,
            looks: 2,
        };
        let shared = SharedCluster::join(&dir, idle).await.unwrap();
        let lease = shared.site.file("lease");
        let pid_file = shared.site.pid_file();
        assert!(pid_file.exists());
        // This process goes on renewing its lease on the open file; a new file has no user.
        fs::remove_file(&lease).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while pid_file.exists() || shared.site.file("stopping").exists() {
            assert!(Instant::now() < deadline, "still running");
            tokio::time::sleep(POLL).await;
        }
        let again = SharedCluster::join(&dir, idle).await.unwrap();
        let database = again.empty_database().await.unwrap();
        drop(database);
        assert!(pid_file.exists());
        fs::remove_file(&lease).unwrap();
        while pid_file.exists() {
            assert!(Instant::now() < deadline + Duration::from_secs(20));
            tokio::time::sleep(POLL).await;
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
