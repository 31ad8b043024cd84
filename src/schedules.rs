//! `hub schedules`: what the worker does by the clock, and how it went.

use anyhow::Result;
use chrono::{DateTime, Utc};
use hub_config::Settings;
use hub_store::schedules::{Run, runs};
use hub_worker::jobs::Queue as _;
use hub_worker::jobs::maintenance::Maintenance;
use hub_worker::schedule::{SCHEDULES, Schedule};
use serde_json::json;

use crate::roles;

/// `hub schedules`
pub fn run(json: bool) -> Result<()> {
    let settings = Settings::for_inspection(|name| std::env::var(name).ok())?;
    let Some(url) = &settings.database.url else {
        list(&[], json);
        eprintln!("DATABASE_URL is not set: when they ran last is not known");
        return Ok(());
    };
    roles::runtime()?.block_on(async {
        let pool = hub_store::connect(url, 1).await?;
        list(&runs(&pool, Maintenance::NAME).await?, json);
        Ok(())
    })
}

fn list(runs: &[Run], json: bool) {
    let now = Utc::now();
    for schedule in SCHEDULES {
        let last = runs.iter().find(|run| run.schedule == schedule.name);
        if json {
            println!("{}", object(schedule, last, now));
        } else {
            print!("{}", text(schedule, last, now));
        }
    }
}

fn object(schedule: &Schedule, last: Option<&Run>, now: DateTime<Utc>) -> serde_json::Value {
    json!({
        "name": schedule.name,
        "cron": schedule.cron,
        "purpose": schedule.purpose,
        "lastRun": last.map(|run| run.tick),
        "lastEnd": last.and_then(|run| run.ended_at),
        "lastOutcome": last.map(|run| &run.outcome),
        "nextRun": schedule.next(now),
    })
}

fn text(schedule: &Schedule, last: Option<&Run>, now: DateTime<Utc>) -> String {
    let shown = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M:%SZ").to_string();
    let last = match last {
        Some(run) => format!("{}, {}", shown(run.tick), run.outcome),
        None => "never".to_owned(),
    };
    let next = schedule.next(now).map_or("never".to_owned(), shown);
    format!(
        "{:18} {:16} {}\n{:35} next {next}; last {last}\n",
        schedule.name, schedule.cron, schedule.purpose, ""
    )
}
