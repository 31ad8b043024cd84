//! What can be typed after `hub`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hub_domain::id::Place;
use hub_domain::platform::Platform;
use hub_store::generation::Until;
use uuid::Uuid;

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
    /// List the schedules the worker runs: when, what for, and how they went last.
    ///
    /// Changes nothing. Without DATABASE_URL it knows of no last run.
    #[command(after_help = PRIVATE_DATABASE)]
    Schedules {
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Report what was used on each of the last 30 days, by platform, and by how many people.
    ///
    /// Changes nothing. A process writes what it counted every few seconds. Needs DATABASE_URL and
    /// nothing else.
    #[command(after_help = PRIVATE_DATABASE)]
    Usage {
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
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
    /// Check read models against the log, or the log against its seals; name what differs.
    ///
    /// A read model is built again beside the live one, compared and dropped. The log is compared
    /// with the hashes it was sealed with: what was altered, removed or moved is named. Changes
    /// nothing that anybody sees. Ends with 1 when something differs. Needs DATABASE_URL; with
    /// ENCRYPTION_KEY it is also checked that this installation has made the seals.
    #[command(after_help = PRIVATE_DATABASE)]
    Verify {
        /// What to check.
        what: What,
        /// With `log` or `all`: compare with seals that `hub seals export` wrote, too.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// Print what was found as JSON, one line for each read model and one for the log.
        #[arg(long)]
        json: bool,
    },
    /// Measure how fast the hub is on this machine, next to a peer anybody can judge.
    ///
    /// Starts a PostgreSQL of its own with the settings of `cargo run` and removes it afterwards.
    /// Use a release build: `cargo run --release -- bench append`.
    Bench {
        /// What to measure.
        which: Bench,
        #[command(flatten)]
        wishes: BenchWishes,
    },
    /// Take seals of the log out of the database, to be kept where nobody can change them.
    #[command(subcommand)]
    Seals(Seals),
    /// Look into the log: newest events, one event, or a stream. Changes nothing.
    #[command(subcommand, after_help = PRIVATE_DATABASE)]
    Events(Look),
    /// Tell everything that is known about one message, from raw input to socket frame.
    #[command(after_help = PRIVATE_DATABASE)]
    Explain {
        /// The message's id, as the API shows it.
        message: Uuid,
        #[command(flatten)]
        shown: Shown,
    },
    /// Take over an earlier installation: users, sessions, accounts, conversations, messages.
    ///
    /// Reads its database and never writes to it. Ids and times stay; what is here already is left
    /// as it is, so it may be run again at any time: after it was stopped, and once more when the
    /// earlier installation has ended. Ends with a comparison of every conversation, and with 1 when
    /// one differs. Needs DATABASE_URL, prepared by `hub migrate`, and ENCRYPTION_KEY; with the old
    /// JWT_REFRESH_SECRET people stay logged in.
    #[command(after_help = PRIVATE_DATABASE)]
    Import(Import),
    /// Make what the hub knows of a person unreadable, for good.
    Erase {
        #[command(subcommand)]
        what: Erase,
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

/// What `hub import` takes over, and how.
#[derive(Args)]
pub struct Import {
    /// The earlier installation's database: postgres://user:password@host:5432/messaging_hub
    #[arg(
        long,
        value_name = "URL",
        env = "HUB_IMPORT_FROM",
        hide_env_values = true
    )]
    pub from: String,
    /// Its ENCRYPTION_KEY. Leave it out only if it had none.
    #[arg(
        long,
        value_name = "KEY",
        env = "HUB_IMPORT_KEY",
        hide_env_values = true
    )]
    pub key: Option<String>,
    /// The time zone of times that are stored without one, as Europe/Berlin.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub timezone: String,
    /// The earlier server has stopped for good: go on with the sessions of people who signed in to
    /// Telegram by phone. Telegram ends a session for good that two servers use at once.
    #[arg(long)]
    pub telegram_sessions: bool,
    /// Read and count everything, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as JSON, one object.
    #[arg(long)]
    pub json: bool,
}

/// What can be erased.
#[derive(Subcommand)]
pub enum Erase {
    /// A user: their content, names, tokens, sessions and login.
    ///
    /// Without --yes it shows what there is and erases nothing. A worker that runs takes the
    /// platforms' permissions back first; without one, that is left out. The log itself does not
    /// change: the keys to it go. Backups made before still hold the keys. Needs DATABASE_URL, and
    /// REDIS_URL where the other processes have it.
    #[command(after_help = PRIVATE_DATABASE)]
    User {
        /// The e-mail address they log in with, or the id that the log and `hub dlq` name them by.
        #[arg(value_name = "EMAIL|ID")]
        who: String,
        /// Do it.
        #[arg(long)]
        yes: bool,
        /// Print JSON, one object.
        #[arg(long)]
        json: bool,
    },
}

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

/// What can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Connected accounts.
    Accounts,
    /// Conversations, messages and unread counts.
    Inbox,
    /// The event log itself.
    Log,
    /// The read models and the log, one after the other.
    All,
}

/// What can be done with seals.
#[derive(Subcommand)]
pub enum Seals {
    /// Write seals as JSON, one a line. Needs DATABASE_URL and nothing else.
    #[command(after_help = PRIVATE_DATABASE)]
    Export {
        /// Only the newest seal of each shard, without the leaves: enough to see that something
        /// was changed, small enough for a mail or a notary.
        #[arg(long)]
        heads: bool,
        /// Write to this file, which must not exist yet, instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
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
    /// Fold only up to a moment in the past, print what came of it, and keep it for a look by SQL: a
    /// time as 2026-01-31T09:30:00Z, or the place of an event as 3-1042 (itself included). Never
    /// switches; a later replay goes on from it.
    #[arg(long, group = "instead", value_name = "TIME|PLACE")]
    pub until: Option<Until>,
    /// Go back to the generation that was live before, instead of building one: it is brought to
    /// where the live one is and compared, and then switched to as a new one would be. The one that
    /// was live is kept until --discard, and a later replay goes on with it.
    #[arg(long, conflicts_with_all = ["until", "discard", "drop_old"])]
    pub back: bool,
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

/// What `hub bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// Events appended, next to plain inserts.
    Append,
    /// Signed webhooks over HTTP, and until they are seen in the inbox.
    Ingest,
    /// Messages from accepted to taken by a played platform, next to jobs that do nothing.
    Send,
    /// Read models folded from the log, next to reading it raw.
    Replay,
    /// The inbox read with few and with many conversations in it.
    Query,
    /// Open sockets on one API process: memory, connecting, fan-out, and one who never reads.
    Sockets,
}

/// How `hub bench` measures.
#[derive(Args, Clone)]
pub struct BenchWishes {
    /// Print one JSON object for each row.
    #[arg(long)]
    pub json: bool,
    /// Seconds for each row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Events, or conversations for `query`.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    pub events: u64,
    /// For `sockets`: those that hear nothing.
    #[arg(long, default_value_t = 5_000)]
    pub idle: usize,
    /// For `sockets`: those that hear of changes.
    #[arg(long, default_value_t = 500, value_parser = at_least_one)]
    pub busy: usize,
    /// For the second process of a measurement.
    #[arg(long, hide = true)]
    pub beside: Option<String>,
}

/// How something stored is shown.
#[derive(Args, Clone, Copy)]
pub struct Shown {
    /// Open what is sealed: texts, names, raw bodies. Needs ENCRYPTION_KEY.
    #[arg(long)]
    pub open: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub json: bool,
}

/// What `hub events` looks at.
#[derive(Subcommand)]
pub enum Look {
    /// One event with all that is stored of it.
    Show {
        /// Its place, as 3-1042.
        #[arg(value_parser = place)]
        place: Place,
        #[command(flatten)]
        shown: Shown,
    },
    /// The newest events of all shards, oldest first; between shards the order is that of time.
    Tail {
        /// Only of this shard.
        #[arg(long)]
        shard: Option<i16>,
        /// Only of this kind, as MessageReceived.
        #[arg(long)]
        kind: Option<String>,
        /// Only after this moment: a time as 2026-01-31T09:30:00Z, or the place of an event.
        #[arg(long, value_name = "TIME|PLACE")]
        since: Option<Until>,
        /// Go on with what comes, until stopped.
        #[arg(long, short)]
        follow: bool,
        /// How many.
        #[arg(short, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
        n: u16,
        #[command(flatten)]
        shown: Shown,
    },
    /// All events of a stream, in order.
    Stream {
        /// A conversation, an account, a session, a message, a user, or an e-mail address.
        id: String,
        #[command(flatten)]
        shown: Shown,
    },
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "not a number above 0".to_owned())
}

fn place(text: &str) -> Result<Place, String> {
    let unreadable = |()| "not a place like 3-1042".to_owned();
    text.parse().map_err(unreadable)
}
