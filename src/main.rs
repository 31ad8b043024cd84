//! The `hub` binary: verbs, and nothing else.

mod cli;
mod demo;
mod dev;
mod dlq;
mod replay;
mod roles;
mod shutdown;
mod translate;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Verb};

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb.unwrap_or(Verb::Dev) {
        Verb::Dev => dev::run(),
        Verb::Api => roles::api(),
        Verb::Worker => roles::worker(),
        Verb::Migrate => roles::migrate(),
        Verb::Settings => roles::settings(),
        Verb::Schedules => roles::schedules(),
        Verb::Replay { which, wishes } => replay::run(which, &wishes),
        Verb::Verify { which, json } => replay::verify(which, json),
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
