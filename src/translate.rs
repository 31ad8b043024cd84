//! `hub translate`: what the hub makes of a raw body, without touching anything.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use hub_config::Settings;
use hub_domain::platform::{Platform, adapter};

pub fn run(platform: Platform, file: &Path, account: Option<&str>) -> Result<()> {
    let settings = Settings::for_inspection(|name| std::env::var(name).ok())?;
    let adapter =
        adapter(platform).ok_or_else(|| anyhow!("there is no adapter for {platform} yet"))?;
    let raw = read(file)?;
    let facts = adapter.translate(&settings.app(platform), account, &raw)?;
    let mut out = std::io::stdout().lock();
    for fact in facts {
        writeln!(out, "{}", serde_json::to_string(&fact)?)?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut raw = Vec::new();
        std::io::stdin()
            .read_to_end(&mut raw)
            .context("standard input cannot be read")?;
        return Ok(raw);
    }
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}
