//! `hub replay`: rebuilding read models, or folding them up to a past moment, and saying what came of
//! it. `hub verify` does the first and keeps nothing.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use chrono::SecondsFormat;
use hub_config::Role;
use hub_store::PgPool;
use hub_store::generation::{
    self, Certificate, End, Fate, Progress, Reconstruction, Until, Verdict,
};
use hub_store::project::Projection;

use crate::cli::{Which, Wishes};
use crate::roles;

/// One that is claimed, one that holds the live fold, one that folds for each lane.
const CONNECTIONS: u32 = 4;

/// The bar is drawn again after this long.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Characters of the bar.
const BAR: usize = 24;

/// `hub replay`
pub fn run(which: Which, wishes: &Wishes) -> Result<()> {
    if wishes.discard || wishes.drop_old {
        return tidy(which, wishes);
    }
    if let Some(until) = wishes.until {
        return reconstruct(which, until, wishes.json);
    }
    let end = if wishes.dry_run {
        End::Keep
    } else if wishes.accept_differences {
        End::SwitchDespiteDifferences
    } else {
        End::Switch
    };
    let settings = roles::load(Role::Migrate)?;
    roles::runtime()?.block_on(async {
        let pool = connect(&settings).await?;
        let how = if wishes.back { How::Back } else { How::Again };
        let different = rebuild(&pool, &projections(which), how, end, wishes.json).await?;
        if !different.is_empty() && end != End::SwitchDespiteDifferences {
            bail!("{}", differs(&different));
        }
        Ok(())
    })
}

fn projections(which: Which) -> Vec<Projection> {
    match which {
        Which::Accounts => vec![Projection::Accounts],
        Which::Inbox => vec![Projection::Inbox],
        Which::All => Projection::ALL.to_vec(),
    }
}

/// Connections for rebuilding.
pub async fn connect(settings: &hub_config::Settings) -> Result<PgPool> {
    let url = settings.database.url.clone();
    let url = url.context("DATABASE_URL is not set")?;
    Ok(hub_store::connect(&url, CONNECTIONS).await?)
}

/// Where the generation comes from that the live one is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is folded again from the log.
    Again,
    /// It was live before.
    Back,
}

/// Rebuilds these one after the other and prints their certificates. Returns those that differ.
pub async fn rebuild(
    pool: &PgPool,
    projections: &[Projection],
    how: How,
    end: End,
    json: bool,
) -> Result<Vec<&'static str>> {
    let mut different = Vec::new();
    for projection in projections {
        let bar = Bar::new(projection.name());
        let draw = |progress| bar.draw(progress);
        let outcome = match how {
            How::Again => generation::rebuild(pool, *projection, end, &draw).await,
            How::Back => generation::back(pool, *projection, end, &draw).await,
        };
        bar.clear();
        let certificate = outcome?;
        if json {
            println!("{}", serde_json::to_string(&certificate)?);
        } else {
            print!("{}", text(&certificate));
        }
        if certificate.verdict == Verdict::Different {
            different.push(certificate.projection);
        }
    }
    Ok(different)
}

/// The sentence about read models that differ.
pub fn differs(different: &[&str]) -> String {
    format!(
        "what was rebuilt differs from what is live: {}",
        different.join(", ")
    )
}

fn reconstruct(which: Which, until: Until, json: bool) -> Result<()> {
    let settings = roles::load(Role::Migrate)?;
    roles::runtime()?.block_on(async {
        let pool = connect(&settings).await?;
        for projection in projections(which) {
            let bar = Bar::new(projection.name());
            let draw = |progress| bar.draw(progress);
            let outcome = generation::reconstruct(&pool, projection, until, &draw).await;
            bar.clear();
            let past = outcome?;
            if json {
                println!("{}", serde_json::to_string(&past)?);
            } else {
                print!("{}", past_text(&past));
            }
        }
        Ok(())
    })
}

fn tidy(which: Which, wishes: &Wishes) -> Result<()> {
    let settings = roles::load(Role::Migrate)?;
    roles::runtime()?.block_on(async {
        let pool = connect(&settings).await?;
        for projection in projections(which) {
            let dropped = if wishes.discard {
                generation::discard(&pool, projection).await?
            } else {
                generation::drop_old(&pool, projection).await?
            };
            if wishes.json {
                let line =
                    serde_json::json!({ "projection": projection.name(), "dropped": dropped });
                println!("{line}");
            } else if dropped.is_empty() {
                println!("{}: nothing to drop", projection.name());
            } else {
                let dropped: Vec<String> = dropped.iter().map(i16::to_string).collect();
                println!(
                    "{}: dropped generation {}",
                    projection.name(),
                    dropped.join(", ")
                );
            }
        }
        Ok(())
    })
}

/// The certificate for people.
fn text(it: &Certificate) -> String {
    let back = it.rebuilt < it.live;
    let mut lines = vec![match (back, it.resumed) {
        (true, _) => format!(
            "{}: generation {}, live before {}, brought to the same place",
            it.projection, it.rebuilt, it.live
        ),
        (false, resumed) => format!(
            "{}: generation {} rebuilt beside {}{}",
            it.projection,
            it.rebuilt,
            it.live,
            if resumed {
                ", going on with an earlier run"
            } else {
                ""
            }
        ),
    }];
    for table in &it.tables {
        lines.push(format!(
            "  {:14} live    {:>10} rows  {}",
            table.table,
            table.live.rows,
            table.live.hex()
        ));
        lines.push(format!(
            "  {:14} rebuilt {:>10} rows  {}  {}",
            "",
            table.rebuilt.rows,
            table.rebuilt.hex(),
            if table.equal { "equal" } else { "DIFFERENT" }
        ));
    }
    lines.push(format!(
        "  compared at    {} events in {} shards, each at one position",
        it.compared_at,
        it.shards.len()
    ));
    if let Some(switched_at) = it.switched_at {
        lines.push(format!("  switched at    {switched_at} events"));
    }
    if it.live_fold.is_some_and(|live| live != it.fold) {
        let live = match it.live_fold {
            None | Some(0) => "several versions, or one that nobody knows".to_owned(),
            Some(version) => format!("version {version}"),
        };
        lines.push(format!(
            "  folded by      version {} here; live: {live}",
            it.fold
        ));
    }
    let parked = it.parked;
    if parked != Default::default() {
        lines.push(format!(
            "  parked         {} streams live, {} rebuilt: see `hub dlq list`",
            parked.live, parked.rebuilt
        ));
    }
    lines.push(format!(
        "  folded         {} events in {:.1} s, {:.0} a second",
        it.folded, it.seconds, it.rate
    ));
    for row in &it.differences {
        lines.push(match row.found_in.as_str() {
            "both" => format!(
                "  differs        {} {}: {}",
                row.table,
                row.id,
                row.columns.join(", ")
            ),
            only => format!("  differs        {} {}: only {only}", row.table, row.id),
        });
    }
    let unnamed = it.different_rows - it.differences.len() as i64;
    if unnamed > 0 {
        lines.push(format!("  differs        and {unnamed} more"));
    }
    let verdict = match it.verdict {
        Verdict::Equal => "equal",
        Verdict::Different => "DIFFERENT",
    };
    let (older, newer) = ("--drop-old", "--discard");
    let fate = match it.fate {
        Fate::Live => format!(
            "generation {} is live; {} is kept until {}",
            it.rebuilt,
            it.live,
            if back { newer } else { older }
        ),
        Fate::Kept => format!(
            "generation {} stays live; {} is kept until {}",
            it.live,
            it.rebuilt,
            if back { older } else { newer }
        ),
        Fate::Dropped => format!("generation {} stays live; {} is gone", it.live, it.rebuilt),
    };
    lines.push(format!("  verdict        {verdict}; {fate}"));
    lines.join("\n") + "\n"
}

/// A reconstruction for people.
fn past_text(it: &Reconstruction) -> String {
    let mut lines = vec![format!(
        "{}: generation {} folded up to {}{}",
        it.projection,
        it.generation,
        it.until.to_rfc3339_opts(SecondsFormat::Micros, true),
        if it.resumed {
            ", going on with an earlier run"
        } else {
            ""
        }
    )];
    for table in &it.tables {
        lines.push(format!(
            "  {:14} {:>10} rows  {}  {}",
            table.table,
            table.digest.rows,
            table.digest.hex(),
            table.partition
        ));
    }
    lines.push(format!(
        "  reaches        {} events in {} shards",
        it.reaches,
        it.places.len()
    ));
    lines.push(format!(
        "  folded         {} events in {:.1} s",
        it.folded, it.seconds
    ));
    lines.push(format!(
        "  fate           generation {} stays live; {} is kept until --discard",
        it.live, it.generation
    ));
    lines.join("\n") + "\n"
}

/// How far it is, on the terminal's last line; nothing where there is no terminal.
pub struct Bar {
    name: &'static str,
    drawn: Option<Mutex<Instant>>,
}

impl Bar {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            drawn: std::io::stderr()
                .is_terminal()
                .then(|| Mutex::new(Instant::now())),
        }
    }

    pub fn draw(&self, progress: Progress) {
        // Whoever does not get the lock is drawn over in a moment anyway.
        let Some(Ok(mut drawn)) = self.drawn.as_ref().map(Mutex::try_lock) else {
            return;
        };
        if drawn.elapsed() >= DRAW_EVERY {
            *drawn = Instant::now();
            eprint!("\r\x1b[K{}", line(self.name, progress));
            let _ = std::io::stderr().flush();
        }
    }

    pub fn clear(&self) {
        if self.drawn.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(name: &str, progress: Progress) -> String {
    let Progress {
        folded,
        total,
        elapsed,
    } = progress;
    let rate = folded as f64 / elapsed.as_secs_f64().max(0.001);
    let left = (total - folded) as f64 / rate.max(1.0);
    let full = usize::try_from(folded * BAR as u64 / total.max(1)).map_or(BAR, |it| it.min(BAR));
    format!(
        "{name} [{}{}] {folded} of {total} events, {rate:.0} a second, {left:.0} s left",
        "=".repeat(full),
        " ".repeat(BAR - full),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_rate_and_time_left() {
        let half = Progress {
            folded: 5_000,
            total: 10_000,
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(
            line("inbox", half),
            "inbox [============            ] 5000 of 10000 events, 2500 a second, 2 s left"
        );
        let nothing = Progress {
            folded: 0,
            total: 0,
            elapsed: Duration::ZERO,
        };
        assert!(line("inbox", nothing).contains("0 of 0 events, 0 a second, 0 s left"));
    }
}
