//! What can be typed after `hub`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hub_domain::platform::Platform;

use crate::dlq::Dlq;

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
    /// Rebuild a read model from the log beside the live one, prove that both are equal, and switch.
    ///
    /// Events keep coming and readers keep reading meanwhile. Stopped half-way it changes nothing,
    /// and the next run goes on where it was. Only folds: calls no platform, starts no job. Needs
    /// DATABASE_URL and nothing else.
    #[command(after_help = PRIVATE_DATABASE)]
    Replay {
        /// Which read model.
        which: Which,
        #[command(flatten)]
        wishes: Wishes,
    },
    /// Rebuild a read model beside the live one, compare, name the rows that differ, and drop it.
    ///
    /// Changes nothing that anybody sees. Ends with 1 when something differs. Needs DATABASE_URL
    /// and nothing else.
    #[command(after_help = PRIVATE_DATABASE)]
    Verify {
        /// Which read model.
        which: Which,
        /// Print the certificate as JSON, one line for each read model.
        #[arg(long)]
        json: bool,
    },
    /// List, show, retry or discard what is parked: streams, commands and jobs that need somebody.
    ///
    /// Needs DATABASE_URL and nothing else; retrying needs a running worker.
    #[command(after_help = PRIVATE_DATABASE)]
    Dlq {
        /// What to do.
        #[command(subcommand)]
        what: Dlq,
    },
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

/// Where the database of `cargo run` is, for verbs that are useful there too.
const PRIVATE_DATABASE: &str = "\
The private database of `cargo run` has its socket in the data folder, as long as that runs:
  DATABASE_URL=\"postgres://hub@localhost/hub?host=$PWD/.hub/pg/run\" hub verify all";

/// A read model, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Connected accounts.
    Accounts,
    /// Conversations, messages and unread counts.
    Inbox,
    /// All of them, one after the other.
    All,
}

/// What `hub replay` does besides, or instead.
#[derive(Args)]
pub struct Wishes {
    /// Build and compare, but do not switch; what was built is kept for the next run.
    #[arg(long, group = "instead")]
    pub dry_run: bool,
    /// Switch although rows differ: the fold changed on purpose, or live rows are damaged.
    #[arg(long, group = "instead")]
    pub accept_differences: bool,
    /// Drop what runs that did not switch have built, and do nothing else.
    #[arg(long, group = "instead")]
    pub discard: bool,
    /// Drop the generations that were live before, and do nothing else.
    #[arg(long, group = "instead")]
    pub drop_old: bool,
    /// Print the certificate as JSON, one line for each read model.
    #[arg(long)]
    pub json: bool,
}
