//! The `hub` binary: verbs, and nothing else.

mod bench;
mod cli;
mod demo;
mod dev;
mod dlq;
mod erase;
mod events;
mod explain;
mod import;
mod replay;
mod roles;
mod schedules;
mod seals;
mod shutdown;
mod translate;
mod usage;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Erase, Seals, Verb};
use mimalloc::MiMalloc;

/// A message is many small texts that live for one batch: a sixth of the hub's time was the system's
/// allocator (`hub bench append`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb.unwrap_or(Verb::Dev) {
        Verb::Dev => dev::run(),
        Verb::Api => roles::api(),
        Verb::Worker => roles::worker(),
        Verb::Migrate => roles::migrate(),
        Verb::Settings => roles::settings(),
        Verb::Schedules { json } => schedules::run(json),
        Verb::Usage { json } => usage::run(json),
        Verb::Replay { which, wishes } => replay::run(which, &wishes),
        Verb::Bench { which, wishes } => bench::run(which, &wishes),
        Verb::Verify {
            what,
            against,
            json,
        } => verify::run(what, against.as_deref(), json),
        Verb::Seals(Seals::Export { heads, out }) => seals::export(heads, out.as_deref()),
        Verb::Events(look) => events::run(look),
        Verb::Explain { message, shown } => explain::run(message, shown),
        Verb::Import(wishes) => import::run(&wishes),
        Verb::Erase {
            what: Erase::User { who, yes, json },
        } => erase::user(&who, yes, json),
        Verb::Dlq { what } => dlq::run(&what),
        Verb::Translate {
            platform,
            file,
            account,
        } => translate::run(platform, &file, account.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One sentence with its causes; a backtrace tells an operator nothing.
            eprintln!("hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}
