//! The folders of one cluster, and who owns what in them.

use std::fs;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink,
};
use std::path::{Path, PathBuf};
use std::process::Command;

use uuid::Uuid;

use crate::account::{Account, current_uid};
use crate::error::{ClusterError, io};

/// Room for a unix socket's path in the kernel's structure, which is 104 to 108 bytes.
const SOCKET_PATH_BYTES_MAX: usize = 100;
const SOCKET_NAME: &str = ".s.PGSQL.5432";
const ROOT: u32 = 0;

/// The folders of one cluster, and who runs it.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    root: PathBuf,
    pub(crate) socket_dir: PathBuf,
    /// Whom to become; `None`: stay who we are.
    pub(crate) account: Option<Account>,
}

impl Site {
    /// Settles where the cluster of `dir` lives. That is `dir` itself, unless we are root and the
    /// user the server runs as cannot get there.
    pub(crate) fn settle(dir: &Path) -> Result<Self, ClusterError> {
        fs::create_dir_all(dir).map_err(io("creating", dir))?;
        let dir = fs::canonicalize(dir).map_err(io("reading", dir))?;
        let uid = current_uid()?;
        let (root, account) = if uid == ROOT {
            let account = Account::unprivileged()?;
            (reachable_root(&dir, account)?, Some(account))
        } else {
            (dir, None)
        };
        let mut site = Self {
            socket_dir: socket_dir(&root),
            root,
            account,
        };
        site.respect_owner(uid)?;
        let socket_dir = site.socket_dir.clone();
        site.private_dir(&socket_dir, uid)?;
        Ok(site)
    }

    /// Refuses a folder that somebody else made under our name.
    pub(crate) fn require_own(dir: &Path) -> Result<(), ClusterError> {
        let meta = fs::symlink_metadata(dir).map_err(io("reading", dir))?;
        if meta.is_dir() && meta.uid() == current_uid()? {
            return Ok(());
        }
        Err(ClusterError::NotOurs {
            path: dir.to_owned(),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The files of the database.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where `initdb` works before the result gets its name.
    pub(crate) fn data_unfinished(&self) -> PathBuf {
        self.root.join("data.unfinished")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }

    /// Held while the server is started or stopped.
    pub(crate) fn start_lock(&self) -> PathBuf {
        self.root.join("start.lock")
    }

    /// Held shared by every process that uses the server.
    pub(crate) fn users_lock(&self) -> PathBuf {
        self.root.join("users.lock")
    }

    /// A file of the cluster's keeper beside the others.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The major version that made the data, if there is data.
    pub(crate) fn made_by(&self) -> Option<String> {
        let text = fs::read_to_string(self.data().join("PG_VERSION")).ok()?;
        Some(text.trim().to_owned())
    }

    /// A program that runs as the cluster's user, in a folder that user may enter, without our
    /// PostgreSQL settings, and with messages in English.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(account) = self.account {
            account.run(&mut command);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").current_dir(&self.root);
        command
    }

    /// Creates a folder that only the cluster's user can enter.
    pub(crate) fn owned_dir(&self, path: &Path) -> Result<(), ClusterError> {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .map_err(io("creating", path))?;
        self.give(path)
    }

    fn give(&self, path: &Path) -> Result<(), ClusterError> {
        match self.account {
            Some(Account { uid, gid }) => {
                chown(path, Some(uid), Some(gid)).map_err(io("changing the owner of", path))
            }
            None => Ok(()),
        }
    }

    /// Existing data stays with the user it belongs to, even when we would choose another today.
    fn respect_owner(&mut self, uid: u32) -> Result<(), ClusterError> {
        let data = self.data();
        let Ok(meta) = fs::symlink_metadata(&data) else {
            return Ok(());
        };
        let foreign = || ClusterError::NotOurs { path: data.clone() };
        match &mut self.account {
            Some(_) if meta.uid() == ROOT => Err(foreign()),
            Some(account) => {
                *account = Account {
                    uid: meta.uid(),
                    gid: meta.gid(),
                };
                Ok(())
            }
            None if meta.uid() == uid => Ok(()),
            None => Err(foreign()),
        }
    }

    /// The folder of the socket keeps other users out: whoever reaches the socket is superuser.
    /// It may be in the temp folder, where somebody else may have taken the name.
    fn private_dir(&self, path: &Path, uid: u32) -> Result<(), ClusterError> {
        match self.owned_dir(path) {
            Err(ClusterError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
        let meta = fs::symlink_metadata(path).map_err(io("reading", path))?;
        let owner = self.account.map_or(uid, |account| account.uid);
        if !meta.is_dir() || (meta.uid() != owner && meta.uid() != uid) {
            return Err(ClusterError::NotOurs {
                path: path.to_owned(),
            });
        }
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(path, private).map_err(io("protecting", path))?;
        self.give(path)
    }
}

/// A folder for root's cluster that `account` can reach: `dir`, or one under `/var/lib` that a link
/// in `dir` points at.
fn reachable_root(dir: &Path, account: Account) -> Result<PathBuf, ClusterError> {
    let location = dir.join("location");
    if let Ok(root) = fs::canonicalize(&location)
        && account.can_search(&root)
    {
        return Ok(root);
    }
    if account.can_search(dir) {
        return Ok(dir.to_owned());
    }
    // A new name each time: who removes `dir` means to start empty.
    let shelf = Path::new("/var/lib/hub");
    let root = shelf.join(Uuid::now_v7().simple().to_string());
    for folder in [shelf, &root] {
        fs::create_dir_all(folder).map_err(io("creating", folder))?;
        let searchable = fs::Permissions::from_mode(0o711);
        fs::set_permissions(folder, searchable).map_err(io("opening", folder))?;
    }
    match symlink(&root, &location) {
        Ok(()) => {
            let (here, instead) = (dir.display(), root.display());
            tracing::info!("PostgreSQL's user cannot enter {here}; the database is in {instead}");
            Ok(root)
        }
        // Another first start was faster, and its folder is the one. (A link that leads nowhere
        // is told of by the error of this.)
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            fs::remove_dir(&root).map_err(io("removing", &root))?;
            fs::canonicalize(&location).map_err(io("following", &location))
        }
        Err(error) => Err(io("creating", &location)(error)),
    }
}

fn socket_dir(root: &Path) -> PathBuf {
    let beside = root.join("run");
    if beside.join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        beside
    } else {
        std::env::temp_dir().join(format!("hub-pg-{}", short_name(root)))
    }
}

/// The same few characters for the same path, in every build.
pub(crate) fn short_name(path: &Path) -> String {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, path.as_os_str().as_encoded_bytes());
    id.simple().to_string()[..10].to_owned()
}

#[cfg(test)]
mod tests {
    use super::{SOCKET_NAME, SOCKET_PATH_BYTES_MAX, socket_dir};
    use std::path::Path;

    #[test]
    fn a_long_path_moves_the_socket_to_a_short_one() {
        assert_eq!(socket_dir(Path::new("/x")), Path::new("/x/run"));
        let deep = format!("/{}", "deep/".repeat(30));
        let short = socket_dir(Path::new(&deep));
        assert!(short.join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
        assert_eq!(short, socket_dir(Path::new(&deep)));
    }
}
