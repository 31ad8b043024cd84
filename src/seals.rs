//! `hub seals`: seals on their way to a place that nobody who can write the database can reach.

use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::path::Path;

use anyhow::{Context as _, Result};
use hub_config::Role;
use hub_store::seal;

use crate::{replay, roles};

/// `hub seals export`
pub fn export(heads: bool, out: Option<&Path>) -> Result<()> {
    let settings = roles::load(Role::Migrate)?;
    roles::runtime()?.block_on(async {
        let pool = replay::connect(&settings).await?;
        let mut out: Box<dyn Write + Send> = match out {
            Some(path) => Box::new(BufWriter::new(create(path)?)),
            None => Box::new(BufWriter::new(stdout())),
        };
        let lines = seal::export(&pool, heads, &mut *out).await?;
        if lines == 0 {
            eprintln!("Nothing is sealed yet: the worker seals what is older than ten seconds.");
        }
        Ok(())
    })
}

/// An earlier export is evidence: it is not overwritten.
fn create(path: &Path) -> Result<File> {
    File::create_new(path).with_context(|| format!("{} cannot be created", path.display()))
}
