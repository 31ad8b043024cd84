//! One running server: starting it, waiting for it, stopping it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::binaries::Binaries;
use crate::cluster::Options;
use crate::error::{ClusterError, io};
use crate::site::Site;
use crate::sql;

const POLL: Duration = Duration::from_millis(10);
/// Recovery after a crash may have to read a gigabyte of log.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
/// How long the processes of a killed server may take to leave its shared memory.
const LEFTOVERS_GONE_WITHIN: Duration = Duration::from_secs(10);
const LOG_BYTES_MAX: u64 = 16 << 20;
const LOG_TAIL_BYTES: u64 = 4096;

/// Settings of every server. What is durable in production is durable here: a test that passes
/// without fsync proves little.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    ("port", "5432"),
    ("unix_socket_permissions", "0700"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("max_connections", "200"),
    ("shared_buffers", "192MB"),
    ("max_wal_size", "2GB"),
    // Compiling a statement costs more than the small ones of development take.
    ("jit", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_checkpoints", "off"),
    ("logging_collector", "off"),
];

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    /// `None` when it was found running.
    child: Option<Child>,
    pid: u32,
}

/// How a server is told to end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shutdown {
    /// Finish nothing, lose nothing, write a checkpoint.
    Fast,
    /// Like a crash: the next start recovers.
    Immediate,
}

impl Server {
    /// Adopts the server that runs on this site, or starts one. The start lock must be held.
    pub(crate) async fn start(
        site: &Site,
        binaries: &Binaries,
        options: &Options,
    ) -> Result<Self, ClusterError> {
        let found = pid_in(&site.pid_file()).filter(|pid| is_postgres(*pid, &site.data()));
        if let Some(pid) = found {
            let mut server = Self { child: None, pid };
            if server.wait_ready(site).await? {
                tracing::info!(pid, "adopted the PostgreSQL that an earlier process left");
                return Ok(server);
            }
        }
        let leftovers = site.pid_file().exists();
        if leftovers && found.is_none() {
            // PostgreSQL itself ignores the file of a dead process, but not one whose number now
            // belongs to something else of the same user.
            let path = site.pid_file();
            fs::remove_file(&path).map_err(io("removing", &path))?;
        }
        let deadline = Instant::now() + LEFTOVERS_GONE_WITHIN;
        loop {
            let mut server = Self::spawn(site, binaries, options)?;
            if server.wait_ready(site).await? {
                return Ok(server);
            }
            if !leftovers || Instant::now() > deadline {
                return Err(log_error(site, "ended while starting"));
            }
            tokio::time::sleep(POLL * 5).await;
        }
    }

    fn spawn(site: &Site, binaries: &Binaries, options: &Options) -> Result<Self, ClusterError> {
        let path = site.log();
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
            fs::remove_file(&path).map_err(io("removing", &path))?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(io("opening", &path))?;
        let program = binaries.program("postgres");
        let mut command = site.command(&program);
        command.arg("-D").arg(site.data());
        // The setting is a list; quotes keep a comma in the path from splitting it.
        let sockets = format!("unix_socket_directories=\"{}\"", site.socket_dir.display());
        command.arg("-c").arg(sockets);
        let chosen = options
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in SETTINGS.iter().copied().chain(chosen) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(io("opening", &path))?)
            .stderr(log)
            .spawn()
            .map_err(io("running", &program))?;
        Ok(Self {
            pid: child.id(),
            child: Some(child),
        })
    }

    /// Waits until the server answers. `false`: it ended instead.
    async fn wait_ready(&mut self, site: &Site) -> Result<bool, ClusterError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(connection) = sql::connect(&site.socket_dir).await {
                // Answered, so the connection's own end is of no interest.
                let _closed = sqlx::Connection::close(connection).await;
                return Ok(true);
            }
            if self.has_ended(site) {
                return Ok(false);
            }
            if Instant::now() > deadline {
                return Err(log_error(site, "did not become ready"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it was started here, and not found running.
    pub(crate) fn is_new(&self) -> bool {
        self.child.is_some()
    }

    /// Forgets that the server is our child: it outlives this process.
    pub(crate) fn release(self) {
        drop(self.child);
    }

    /// Stops the server and waits for its end. Blocks.
    pub(crate) fn stop(mut self, site: &Site, how: Shutdown) -> Result<(), ClusterError> {
        let deadline = Instant::now() + STOPPED_WITHIN;
        signal(
            self.pid,
            match how {
                Shutdown::Fast => "INT",
                Shutdown::Immediate => "QUIT",
            },
        );
        while !self.has_ended(site) {
            if Instant::now() > deadline {
                signal(self.pid, "QUIT");
                return Err(log_error(site, "did not stop in time and was stopped hard"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn has_ended(&mut self, site: &Site) -> bool {
        match &mut self.child {
            // An error means that it is no longer our child to wait for.
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => !is_postgres(self.pid, &site.data()),
        }
    }
}

/// Takes a lock that is held for moments only. Blocks.
pub(crate) fn lock(path: &Path, within: Duration) -> Result<File, ClusterError> {
    let file = open_lock(path)?;
    let deadline = Instant::now() + within;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(io("locking", path)(source)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(ClusterError::Busy {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::WouldBlock) => thread::sleep(POLL),
        }
    }
}

pub(crate) fn open_lock(path: &Path) -> Result<File, ClusterError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(io("opening", path))
}

/// Makes the data folder if there is none. Blocks; the start lock must be held.
pub(crate) fn initialise(site: &Site, binaries: &Binaries) -> Result<(), ClusterError> {
    if let Some(made_by) = site.made_by() {
        return if made_by == binaries.major() {
            Ok(())
        } else {
            Err(ClusterError::OtherVersion {
                data: site.data(),
                made_by,
                found: binaries.version.clone(),
            })
        };
    }
    let unfinished = site.data_unfinished();
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io("removing", &unfinished)(error));
        }
        _ => {}
    }
    site.owned_dir(&unfinished)?;
    let program = binaries.program("initdb");
    let output = site
        .command(&program)
        .arg("-D")
        .arg(&unfinished)
        .args(["-U", sql::USER, "-E", "UTF8", "--locale=C", "--auth=trust"])
        .stdin(Stdio::null())
        .output()
        .map_err(io("running", &program))?;
    if !output.status.success() {
        return Err(ClusterError::Initdb {
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let data = site.data();
    fs::rename(&unfinished, &data).map_err(io("creating", &data))
}

/// An error with the end of the log, where the server says why.
fn log_error(site: &Site, what: &'static str) -> ClusterError {
    let log = site.log();
    let tail = tail(&log).unwrap_or_else(|error| format!("(unreadable: {error})"));
    ClusterError::Server { what, log, tail }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn pid_in(pid_file: &Path) -> Option<u32> {
    let text = fs::read_to_string(pid_file).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// Whether this process is the server of this data folder, and not one that got its number later.
fn is_postgres(pid: u32, data: &Path) -> bool {
    let command_line = if Path::new("/proc/self/cmdline").exists() {
        fs::read(format!("/proc/{pid}/cmdline")).ok()
    } else {
        Command::new("ps")
            .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
            .output()
            .ok()
            .map(|output| output.stdout)
    };
    // The command line of a zombie is empty.
    command_line.is_some_and(|bytes| {
        String::from_utf8_lossy(&bytes).contains(data.to_string_lossy().as_ref())
    })
}

/// Sends a signal with the shell's own `kill`: the program of that name is not everywhere. That
/// the process is gone already is as good as any other outcome.
fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot run sh to stop PostgreSQL");
    }
}
