//! What can be typed after `hub`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use hub_domain::platform::Platform;

/// An event-sourced message hub: every platform in one log, one inbox, one API.
#[derive(Parser)]
#[command(name = "hub", version, about)]
pub struct Cli {
    /// What to do; `dev` when nothing is said.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// The verbs.
#[derive(Subcommand)]
pub enum Verb {
    /// Run everything on this machine: private PostgreSQL, API, worker, played platforms, demo data.
    Dev,
    /// Serve REST, webhooks and sockets against DATABASE_URL. Any number may run.
    Api,
    /// Translate, fold, send and keep house against DATABASE_URL. Any number may run.
    Worker,
    /// Bring the schema of DATABASE_URL up to this version; divide a new database into shards.
    Migrate,
    /// Show the effective settings with their origin, secrets masked.
    Settings,
    /// List the schedules the worker runs.
    Schedules,
    /// Show what the hub makes of a platform's raw body, one JSON object per fact. Touches nothing.
    Translate {
        /// Whose body it is.
        platform: Platform,
        /// The file, or `-` for standard input.
        file: PathBuf,
        /// Our account on the platform, where the body does not say (a Telegram bot's id).
        #[arg(long)]
        account: Option<String>,
    },
}
