//! `hub dlq`: what is parked, trying it again, giving up on it.
//!
//! What a reactor has parked is tried again by a worker, because it may need adapters and keys; this
//! verb asks, waits a while, and says what came of it. Bulk wishes say first how much they would
//! touch and change nothing without `--yes`.

mod arguments;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, Utc};
use hub_config::Role;
use hub_store::PgPool;
use hub_store::dlq::{self, DeadJob, Outcome, Parked};

use crate::roles;
pub use arguments::Dlq;
use arguments::{Selection, Which};

/// A list, a wish, and another connection for whoever locks.
const CONNECTIONS: u32 = 2;

/// How often the database is asked what came of a wish.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Something parked.
enum Dead {
    Parked(Parked),
    Job(DeadJob),
}

impl Dead {
    fn id(&self) -> &str {
        match self {
            Self::Parked(it) => &it.id,
            Self::Job(it) => &it.id,
        }
    }
}

/// `hub dlq`
pub fn run(what: &Dlq) -> Result<()> {
    let settings = roles::load(Role::Migrate)?;
    roles::runtime()?.block_on(async {
        let url = settings.database.url.clone();
        let url = url.context("DATABASE_URL is not set")?;
        let pool = hub_store::connect(&url, CONNECTIONS).await?;
        match what {
            Dlq::List { which, json } => list(&pool, which, *json).await,
            Dlq::Show { id } => show(&pool, id).await,
            Dlq::Retry { selection, wait } => {
                retry(&pool, selection, Duration::from_secs(*wait)).await
            }
            Dlq::Discard { selection, why } => discard(&pool, selection, why).await,
        }
    })
}

async fn all(pool: &PgPool, which: &Which) -> Result<Vec<Dead>> {
    let filter = which.filter();
    let parked = dlq::parked(pool, &filter).await?;
    let jobs = dlq::jobs(pool, &filter).await?;
    let parked = parked.into_iter().map(Dead::Parked);
    Ok(parked.chain(jobs.into_iter().map(Dead::Job)).collect())
}

async fn one(pool: &PgPool, id: &str) -> Result<Dead> {
    if let Some(it) = dlq::find(pool, id).await? {
        return Ok(Dead::Parked(it));
    }
    let job = dlq::find_job(pool, id).await?;
    Ok(Dead::Job(
        job.with_context(|| format!("nothing is parked as {id}"))?,
    ))
}

async fn list(pool: &PgPool, which: &Which, json: bool) -> Result<()> {
    let found = all(pool, which).await?;
    let now = dlq::now(pool).await?;
    for it in &found {
        match it {
            Dead::Parked(it) if json => println!("{}", serde_json::to_string(it)?),
            Dead::Job(it) if json => println!("{}", serde_json::to_string(it)?),
            Dead::Parked(it) => println!("{}", line(it, now)),
            Dead::Job(it) => println!("{}", job_line(it, now)),
        }
    }
    if !json {
        println!("{}", sum(&found));
    }
    Ok(())
}

async fn show(pool: &PgPool, id: &str) -> Result<()> {
    let detail = match one(pool, id).await? {
        Dead::Parked(it) => dlq::detail(pool, &it).await?,
        Dead::Job(it) => dlq::job_detail(pool, &it).await?,
    };
    println!("{}", serde_json::to_string_pretty(&detail)?);
    Ok(())
}

/// What a selection means; `None` when it was only counted.
async fn select(pool: &PgPool, selection: &Selection, verb: &str) -> Result<Option<Vec<Dead>>> {
    if let Some(id) = &selection.id {
        return Ok(Some(vec![one(pool, id).await?]));
    }
    if !selection.all && selection.which.is_everything() {
        bail!("say which: an id, --reactor, --queue, --stream, or --all");
    }
    let found = all(pool, &selection.which).await?;
    if selection.yes {
        return Ok(Some(found));
    }
    println!(
        "would {verb} {}; nothing was changed, say --yes to do it",
        sum(&found)
    );
    Ok(None)
}

async fn retry(pool: &PgPool, selection: &Selection, wait: Duration) -> Result<()> {
    let Some(chosen) = select(pool, selection, "retry").await? else {
        return Ok(());
    };
    let since = dlq::now(pool).await?;
    for it in &chosen {
        match it {
            Dead::Parked(it) => dlq::request_retry(pool, it).await?,
            Dead::Job(it) => {
                dlq::retry_job(pool, it).await?;
            }
        }
    }
    let deadline = Instant::now() + wait;
    let (mut left, mut failed) = (chosen, 0);
    loop {
        let mut waiting = Vec::new();
        for it in left {
            let outcome = match &it {
                Dead::Parked(it) => dlq::outcome(pool, it, since).await?,
                Dead::Job(it) => dlq::job_outcome(pool, it).await?,
            };
            match outcome {
                Outcome::Waiting => waiting.push(it),
                Outcome::Processed => println!("{}  done", it.id()),
                Outcome::Failed(reason) => {
                    failed += 1;
                    println!("{}  parked again: {reason}", it.id());
                }
            }
        }
        left = waiting;
        if left.is_empty() || Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    for it in &left {
        println!("{}  asked for, not done yet", it.id());
    }
    if failed > 0 {
        bail!("{failed} failed again");
    }
    if !left.is_empty() {
        bail!("{} not done yet: is a worker running?", left.len());
    }
    Ok(())
}

async fn discard(pool: &PgPool, selection: &Selection, why: &str) -> Result<()> {
    if why.trim().is_empty() {
        bail!("say why: it is written down with what is discarded");
    }
    let Some(chosen) = select(pool, selection, "discard").await? else {
        return Ok(());
    };
    let by = std::env::var("USER").unwrap_or_else(|_| "an operator".to_owned());
    for it in &chosen {
        let gone = match it {
            Dead::Parked(it) => {
                if let Some(asked) = selection.id.as_ref().filter(|asked| **asked != it.id) {
                    bail!("{asked} waits behind {}: retry or discard that one", it.id);
                }
                dlq::discard(pool, it, why, &by).await?
            }
            Dead::Job(it) => dlq::discard_job(pool, it, why, &by).await?,
        };
        println!("{}  {}", it.id(), fate(it, gone));
    }
    Ok(())
}

fn fate(it: &Dead, gone: bool) -> &'static str {
    match it {
        _ if !gone => "was not parked any more",
        Dead::Parked(it) if it.held > 0 => "discarded; a worker tries what stood behind it",
        Dead::Job(it) if it.waiting.is_some() => "a worker gives up on its messages",
        _ => "discarded",
    }
}

fn line(it: &Parked, now: DateTime<Utc>) -> String {
    let stream = it
        .stream
        .map_or("no stream".to_owned(), |stream| format!("stream {stream}"));
    format!(
        "{}  {} {}: {}; {} held behind it; {}; {stream}",
        it.id,
        it.kind,
        it.class.name(),
        it.reason,
        it.held,
        age(it.parked_at, now)
    )
}

fn job_line(it: &DeadJob, now: DateTime<Utc>) -> String {
    let waiting = it.waiting.map_or(String::new(), |waiting| {
        format!("{waiting} messages wait for it; ")
    });
    format!(
        "{}  job: {}; {waiting}{}",
        it.id,
        it.reason.as_deref().unwrap_or("no reason"),
        age(it.parked_at, now)
    )
}

fn age(since: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let minutes = (now - since).num_minutes().max(0);
    match minutes {
        0..=119 => format!("for {minutes} min"),
        120..=2_879 => format!("for {} h", minutes / 60),
        _ => format!("for {} days", minutes / 1_440),
    }
}

fn some(count: i64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// How much that is, in streams, commands, jobs and events.
fn sum(found: &[Dead]) -> String {
    let (mut streams, mut commands, mut jobs, mut held) = (0, 0, 0, 0);
    for it in found {
        match it {
            Dead::Parked(it) if it.stream.is_some() => {
                streams += 1;
                held += it.held;
            }
            Dead::Parked(_) => commands += 1,
            Dead::Job(_) => jobs += 1,
        }
    }
    let (streams, held) = (some(streams, "stream"), some(held, "held event"));
    let (commands, jobs) = (some(commands, "command"), some(jobs, "job"));
    format!("{streams} ({held}), {commands}, {jobs}")
}
