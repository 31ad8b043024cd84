//! `hub import`: taking over an earlier installation, and saying what came of it.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use chrono::{SecondsFormat, Utc};
use hub_config::Role;
use hub_domain::retention;
use hub_domain::secret::Secret;
use hub_store::import::{self, Comparison, Numbers, Options, Progress, Report};

use crate::cli::Import;
use crate::roles;

/// The line is written again after this long; without a terminal much later.
const DRAW_EVERY: Duration = Duration::from_millis(200);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// `hub import`
pub fn run(wishes: &Import) -> Result<()> {
    let settings = roles::load(Role::Worker)?;
    let days = settings.worker.message_retention_days;
    roles::runtime()?.block_on(async {
        let store = roles::open(&settings).await?;
        let line = Line::new();
        let options = Options {
            source: Secret::new(&wishes.from),
            encryption_key: wishes.key.as_deref().map(Secret::new),
            timezone: &wishes.timezone,
            dry_run: wishes.dry_run,
            kept_from: retention::kept_from(Utc::now(), days),
            telegram_sessions: wishes.telegram_sessions,
            owner_of_token: &|token| {
                let claims = hub_api::auth::verify_refresh(&settings.auth, token);
                claims.ok().map(|claims| claims.user)
            },
            progress: &|progress| line.draw(progress),
        };
        let began = Instant::now();
        let outcome = import::run(&store, &options).await;
        line.clear();
        let report = outcome.context(
            "the import stopped; what it has written stays, and it goes \
                                      on from there when it is run again",
        )?;
        if wishes.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{}", text(&report, began.elapsed()));
        }
        if report.differs() {
            bail!("the inbox is not what the earlier installation had");
        }
        Ok(())
    })
}

/// The report for people.
fn text(it: &Report, took: Duration) -> String {
    let what = if it.dry_run { "would be" } else { "imported" };
    let mut lines = vec![format!(
        "an installation of {}{}",
        serde_json::to_value(it.generation)
            .ok()
            .and_then(|name| name.as_str().map(str::to_owned))
            .unwrap_or_default(),
        if it.dry_run {
            "; nothing was written"
        } else {
            ""
        }
    )];
    lines.push(format!(
        "  {:20} {:>10} {what:>10} {:>10} {:>10}",
        "", "read", "here", "left out"
    ));
    for (name, table) in it.tables() {
        let skipped: u64 = table.skipped.values().sum();
        lines.push(format!(
            "  {name:20} {:>10} {:>10} {:>10} {skipped:>10}",
            table.read, table.imported, table.already
        ));
        for (reason, rows) in &table.skipped {
            lines.push(format!("    left out {rows:>9}  {reason}"));
        }
        for (note, rows) in &table.notes {
            lines.push(format!("    of these {rows:>9}  {note}"));
        }
    }
    if let Some(comparison) = &it.comparison {
        compared(comparison, &mut lines);
    }
    let rate = it.messages.imported as f64 / took.as_secs_f64();
    lines.push(format!(
        "  took {:.1} s, {rate:.0} messages a second",
        took.as_secs_f64()
    ));
    lines.join("\n") + "\n"
}

fn compared(it: &Comparison, lines: &mut Vec<String>) {
    lines.push(format!(
        "  compared {} conversations with {} messages: {} equal, {} gone on since, {} DIFFERENT",
        it.conversations, it.messages, it.equal, it.gone_on, it.different
    ));
    for difference in &it.differences {
        let hub = difference.hub.as_ref().map(numbers);
        lines.push(format!(
            "    differs {}: there {}, here {}",
            difference.conversation,
            numbers(&difference.source),
            hub.as_deref().unwrap_or("nothing")
        ));
    }
}

fn numbers(it: &Numbers) -> String {
    let last = it.last_message_at;
    format!(
        "{} messages, {} unread, last {}",
        it.messages,
        it.unread,
        last.map_or("never".to_owned(), |at| {
            at.to_rfc3339_opts(SecondsFormat::Micros, true)
        })
    )
}

/// One line that says how far it is; on a terminal it is written over itself.
struct Line {
    on_terminal: bool,
    began: Instant,
    drawn: Mutex<Option<Instant>>,
}

impl Line {
    fn new() -> Self {
        Self {
            on_terminal: std::io::stderr().is_terminal(),
            began: Instant::now(),
            drawn: Mutex::new(None),
        }
    }

    fn draw(&self, it: Progress) {
        let Ok(mut drawn) = self.drawn.lock() else {
            return;
        };
        let every = if self.on_terminal {
            DRAW_EVERY
        } else {
            TELL_EVERY
        };
        if drawn.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        *drawn = Some(Instant::now());
        let Progress { stage, done, total } = it;
        let seconds = self.began.elapsed().as_secs();
        let text = format!("{done} of {total} {stage}, after {seconds} s");
        if self.on_terminal {
            eprint!("\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{text}");
        }
    }

    fn clear(&self) {
        if self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }
}
