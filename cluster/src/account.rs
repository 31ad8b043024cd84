//! Who runs the server: the person themselves, or for root somebody unprivileged.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::error::{ClusterError, io};

const SEARCH_OWNER: u32 = 0o100;
const SEARCH_GROUP: u32 = 0o010;
const SEARCH_OTHERS: u32 = 0o001;

/// A user of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// PostgreSQL refuses to run as root; its own user is used, else the one that owns nothing.
    pub(crate) fn unprivileged() -> Result<Self, ClusterError> {
        let path = Path::new("/etc/passwd");
        let passwd = fs::read_to_string(path).map_err(io("reading", path))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| find(&passwd, name))
            .ok_or(ClusterError::NoUnprivilegedUser)
    }

    /// Whether this user may enter every folder on the way to `dir`, and `dir`.
    pub(crate) fn can_search(self, dir: &Path) -> bool {
        dir.ancestors().all(|folder| {
            fs::metadata(folder).is_ok_and(|meta| {
                let bit = if meta.uid() == self.uid {
                    SEARCH_OWNER
                } else if meta.gid() == self.gid {
                    SEARCH_GROUP
                } else {
                    SEARCH_OTHERS
                };
                meta.mode() & bit != 0
            })
        })
    }

    /// Makes a program run as this user.
    pub(crate) fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

/// The user this process runs as. The standard library offers no call for it without `unsafe`.
pub(crate) fn current_uid() -> Result<u32, ClusterError> {
    let program = Path::new("id");
    let output = Command::new(program)
        .arg("-u")
        .output()
        .map_err(io("running", program))?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| ClusterError::Io {
            doing: "reading the answer of id -u".to_owned(),
            source: std::io::ErrorKind::InvalidData.into(),
        })
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some(Account { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::{Account, find};

    #[test]
    fn finds_a_user_by_exact_name_and_never_root() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:101:104:a,b:/v:/b\n\
                      nobody:x:0:0::/:\nbroken";
        let postgres = Account { uid: 101, gid: 104 };
        assert_eq!(find(passwd, "postgres"), Some(postgres));
        assert_eq!(find(passwd, "nobody"), None);
        assert_eq!(find(passwd, "broken"), None);
    }
}
