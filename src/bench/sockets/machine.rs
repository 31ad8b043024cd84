//! What the operating system says and allows.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Files a process has open besides its sockets.
const BESIDE: usize = 200;

/// Makes sure that this process may hold so many sockets. A process cannot raise its soft limit
/// without unsafe code; a shell can, and then becomes this program again.
pub fn raise_open_files(sockets: usize) -> Result<()> {
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else {
        // Not Linux: whoever needs more has to say so beforehand.
        return Ok(());
    };
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut values = line
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|word| match word {
            "unlimited" => Some(usize::MAX),
            word => word.parse().ok(),
        });
    let (Some(soft), Some(hard)) = (values.next(), values.next()) else {
        return Ok(());
    };
    let needed = sockets + BESIDE;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        bail!("{needed} open files are needed and {hard} are allowed: raise `ulimit -Hn`");
    }
    let this = std::env::current_exe().context("this program is not found")?;
    let failed = Command::new("sh")
        .args(["-c", "ulimit -Sn \"$1\" && shift && exec \"$@\"", "sh"])
        .arg(needed.to_string())
        .arg(this)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(failed).context("the limit of open files could not be raised")
}

/// The memory of a process that is in use.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
