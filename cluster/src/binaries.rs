//! Where PostgreSQL's programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::ClusterError;
use crate::fetch;

/// Older servers lack `DROP DATABASE … WITH (FORCE)` or are no longer maintained.
const MAJOR_MIN: u32 = 14;

/// A usable PostgreSQL installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The folder of `initdb` and `postgres`.
    pub dir: PathBuf,
    /// The version as the server reports it, such as `15.18`.
    pub version: String,
}

impl Binaries {
    /// Finds PostgreSQL: `HUB_PG_BIN`, then `PATH`, then the folders of Debian, Red Hat, Alpine,
    /// Homebrew and Postgres.app (newest first). Failing those, fetches a package with the `npm`
    /// client into `fetch_dir`, once.
    ///
    /// Blocks: it runs each candidate to learn its version.
    pub fn find(fetch_dir: &Path) -> Result<Self, ClusterError> {
        Self::find_for(fetch_dir, None)
    }

    /// The same, preferring the major version that made existing data.
    pub(crate) fn find_for(fetch_dir: &Path, made_by: Option<&str>) -> Result<Self, ClusterError> {
        if let Some(dir) = env::var_os("HUB_PG_BIN").filter(|dir| !dir.is_empty()) {
            let dir = PathBuf::from(dir);
            return Self::at(&dir).map_err(|reason| ClusterError::BadBinaries { dir, reason });
        }
        let mut first = None;
        for dir in candidates().into_iter().chain(fetch::fetched(fetch_dir)) {
            let Ok(found) = Self::at(&dir) else { continue };
            if made_by.is_none_or(|major| major == found.major()) {
                return Ok(found);
            }
            first.get_or_insert(found);
        }
        if let Some(other_version) = first {
            return Ok(other_version);
        }
        fetch::fetch(fetch_dir)
            .and_then(|dir| Self::at(&dir))
            .map_err(|tried| ClusterError::NoBinaries {
                advice: install_advice(),
                tried,
            })
    }

    /// The major version, such as `15`.
    pub fn major(&self) -> &str {
        let digits = self.version.bytes().take_while(u8::is_ascii_digit).count();
        &self.version[..digits]
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Checks a folder by asking its server for the version.
    fn at(dir: &Path) -> Result<Self, String> {
        if !dir.join("initdb").is_file() {
            return Err("initdb is not in it".to_owned());
        }
        let output = Command::new(dir.join("postgres"))
            .arg("--version")
            .output()
            .map_err(|error| format!("postgres does not run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        let version = text
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            .ok_or_else(|| "postgres --version printed no version".to_owned())?;
        let found = Self {
            dir: dir.to_owned(),
            version: version.to_owned(),
        };
        match found.major().parse::<u32>() {
            Ok(major) if major >= MAJOR_MIN => Ok(found),
            _ => Err(format!("version {version} is older than {MAJOR_MIN}")),
        }
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    if let Some(path) = env::var_os("PATH") {
        // Links are followed: some systems link single programs, and not all of them.
        let linked = env::split_paths(&path)
            .filter_map(|dir| fs::canonicalize(dir.join("postgres")).ok())
            .filter_map(|program| program.parent().map(Path::to_owned));
        dirs.extend(linked);
    }
    for (parent, prefix, rest) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/libexec", "postgresql", ""),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        dirs.extend(versions(Path::new(parent), prefix, rest));
    }
    dirs.dedup();
    dirs
}

/// The folders `parent/<prefix><version>/rest`, newest version first.
fn versions(parent: &Path, prefix: &str, rest: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join(rest)))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn install_advice() -> &'static str {
    let systems = [
        (
            "/etc/debian_version",
            "run `sudo apt-get install postgresql`",
        ),
        (
            "/etc/redhat-release",
            "run `sudo dnf install postgresql-server`",
        ),
        ("/etc/arch-release", "run `sudo pacman -S postgresql`"),
        ("/etc/alpine-release", "run `apk add postgresql`"),
        ("/opt/homebrew", "run `brew install postgresql@18`"),
        ("/Applications", "run `brew install postgresql@18`"),
    ];
    systems
        .iter()
        .find(|(mark, _)| Path::new(mark).exists())
        .map_or("install PostgreSQL 14 or newer", |(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::{Binaries, versions};
    use std::fs;

    #[test]
    fn newest_version_comes_first_by_number_not_by_letter() {
        let dir = std::env::temp_dir().join(format!("hub-versions-{}", uuid::Uuid::now_v7()));
        for name in ["pg-9", "pg-15", "pg-x", "other"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let found = versions(&dir, "pg-", "bin");
        assert_eq!(found, [dir.join("pg-15/bin"), dir.join("pg-9/bin")]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn major_is_the_leading_number() {
        for (version, major) in [("15.18", "15"), ("18beta1", "18"), ("17", "17")] {
            let binaries = Binaries {
                dir: "/x".into(),
                version: version.to_owned(),
            };
            assert_eq!(binaries.major(), major);
        }
    }
}
