//! `hub events`: looking into the log.

use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use hub_config::{Role, Settings};
use hub_domain::event::Event;
use hub_domain::id::Place;
use hub_domain::limits::REBUILD_BATCH_MAX;
use hub_store::generation::Until;
use hub_store::inspect::{self, Opener, Stored};
use hub_store::{PgPool, read, schema};
use serde_json::Value;

use crate::cli::{Look, Shown};
use crate::roles;

/// Somebody who follows looks this often.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// `hub events`
pub fn run(look: Look) -> Result<()> {
    let settings = roles::load(Role::Migrate)?;
    let outcome = roles::runtime()?.block_on(async {
        let pool = connect(&settings).await?;
        match look {
            Look::Show { place, shown } => show(&pool, &settings, place, shown).await,
            Look::Stream { id, shown } => stream(&pool, &settings, &id, shown).await,
            Look::Tail {
                shard,
                kind,
                since,
                follow,
                n,
                shown,
            } => {
                let mut tail = Tail {
                    printer: Printer::new(&pool, &settings, shown).await?,
                    at: inspect::heads(&pool).await?,
                    pool,
                    kind,
                };
                tail.narrow(shard)?;
                tail.newest(since, i64::from(n)).await?;
                if follow {
                    tail.follow().await?;
                }
                Ok(())
            }
        }
    });
    silent_when_cut_off(outcome)
}

/// Whoever reads our output may stop, as `head` does.
pub fn silent_when_cut_off(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error)
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}

/// The database of DATABASE_URL.
pub async fn connect(settings: &Settings) -> Result<PgPool> {
    let url = settings.database.url.clone();
    let url = url.context("DATABASE_URL is not set")?;
    Ok(hub_store::connect(&url, 2).await?)
}

/// What opens sealed content, if that is wished for.
pub async fn opener(pool: &PgPool, settings: &Settings, wished: bool) -> Result<Option<Opener>> {
    if !wished {
        return Ok(None);
    }
    let key = &settings.auth.encryption_key;
    if key.is_empty() {
        bail!("ENCRYPTION_KEY is not set: --open needs the key of this installation");
    }
    Ok(Some(Opener::new(pool, key).await?))
}

/// A time as it is shown: to the microsecond, as it is stored.
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

async fn show(pool: &PgPool, settings: &Settings, place: Place, shown: Shown) -> Result<()> {
    let mut printer = Printer::new(pool, settings, shown).await?;
    schema::sharding(pool).await?;
    let Some(event) = inspect::event(pool, place).await? else {
        bail!("there is no event {place}");
    };
    if shown.json {
        return printer.line(event).await;
    }
    let event = printer.prepared(event).await?;
    let mut out = std::io::stdout().lock();
    for (name, value) in [
        ("place", event.place.to_string()),
        ("recorded at", time(event.recorded_at)),
        ("stream", event.stream.to_string()),
        ("version", event.version.to_string()),
        ("kind", format!("{}, schema {}", event.kind, event.schema)),
        ("meta", serde_json::to_string_pretty(&event.meta)?),
        ("payload", serde_json::to_string_pretty(&event.payload)?),
    ] {
        writeln!(out, "{name:12} {value}")?;
    }
    Ok(())
}

async fn stream(pool: &PgPool, settings: &Settings, id: &str, shown: Shown) -> Result<()> {
    let mut printer = Printer::new(pool, settings, shown).await?;
    let sharding = schema::sharding(pool).await?;
    for found in inspect::find(pool, sharding, id).await? {
        if !shown.json {
            let of = match found.what {
                "message" => ", the conversation of that message",
                "login" => ", the login of that user",
                _ => "",
            };
            let mut out = std::io::stdout().lock();
            writeln!(out, "stream {} in shard {}{of}", found.stream, found.shard)?;
        }
        let mut version = 0;
        loop {
            let (shard, id) = (found.shard, found.stream);
            let page = inspect::of_stream(pool, shard, id, version, REBUILD_BATCH_MAX).await?;
            let Some(last) = page.last() else { break };
            version = last.version;
            for event in page {
                printer.line(event).await?;
            }
        }
    }
    Ok(())
}

/// Newest events, and what comes after them.
struct Tail {
    pool: PgPool,
    printer: Printer,
    kind: Option<String>,
    /// Everything up to here was looked at.
    at: Vec<Place>,
}

impl Tail {
    /// Refuses what there is not; keeps to one shard if one is named.
    fn narrow(&mut self, shard: Option<i16>) -> Result<()> {
        if let Some(kind) = &self.kind {
            let kinds: Vec<&str> = Event::KINDS.iter().map(|(name, _)| *name).collect();
            if !kinds.contains(&kind.as_str()) {
                bail!("there is no kind {kind:?}: one of {}", kinds.join(", "));
            }
        }
        let Some(shard) = shard else { return Ok(()) };
        let count = self.at.len();
        self.at.retain(|head| head.shard.0 == shard);
        if self.at.is_empty() {
            bail!("there is no shard {shard}: they are 0 to {}", count - 1);
        }
        Ok(())
    }

    async fn newest(&mut self, since: Option<Until>, n: i64) -> Result<()> {
        let mut events = Vec::new();
        for head in self.at.clone() {
            let after = Place {
                position: self.after(since, head).await?,
                ..head
            };
            let kind = self.kind.as_deref();
            events.extend(inspect::newest(&self.pool, after, head.position, kind, n).await?);
        }
        events.sort_by_key(|event| (event.recorded_at, event.place));
        let older = events.len().saturating_sub(usize::try_from(n)?);
        for event in events.into_iter().skip(older) {
            self.printer.line(event).await?;
        }
        Ok(())
    }

    /// The position of a shard that is that moment.
    async fn after(&self, since: Option<Until>, head: Place) -> Result<i64> {
        let time = match since {
            None => return Ok(0),
            Some(Until::Place(place)) if place.shard == head.shard => return Ok(place.position),
            Some(Until::Place(place)) => match inspect::event(&self.pool, place).await? {
                Some(event) => event.recorded_at,
                None => bail!("there is no event {place}"),
            },
            Some(Until::Time(time)) => time,
        };
        Ok(read::position_at(&self.pool, head.shard, time).await?)
    }

    /// Goes on until stopped.
    async fn follow(&mut self) -> Result<()> {
        loop {
            tokio::time::sleep(FOLLOW_EVERY).await;
            self.more().await?;
        }
    }

    /// Prints what has come since the last look.
    async fn more(&mut self) -> Result<()> {
        let heads = inspect::heads(&self.pool).await?;
        let mut events = Vec::new();
        for at in &mut self.at {
            let Some(head) = heads.iter().find(|head| head.shard == at.shard) else {
                continue;
            };
            if head.position > at.position {
                let kind = self.kind.as_deref();
                let all = head.position - at.position;
                events.extend(inspect::newest(&self.pool, *at, head.position, kind, all).await?);
                *at = *head;
            }
        }
        events.sort_by_key(|event| (event.recorded_at, event.place));
        for event in events {
            self.printer.line(event).await?;
        }
        Ok(())
    }
}

/// Prints events, sealed content hidden or opened.
struct Printer {
    opener: Option<Opener>,
    shown: Shown,
}

impl Printer {
    async fn new(pool: &PgPool, settings: &Settings, shown: Shown) -> Result<Self> {
        let opener = opener(pool, settings, shown.open).await?;
        Ok(Self { opener, shown })
    }

    async fn prepared(&mut self, mut event: Stored) -> Result<Stored> {
        match &mut self.opener {
            Some(opener) => opener.event(&mut event).await?,
            None => inspect::hide(&mut event.payload),
        }
        Ok(event)
    }

    async fn line(&mut self, event: Stored) -> Result<()> {
        let event = self.prepared(event).await?;
        let line = if self.shown.json {
            serde_json::to_string(&event)?
        } else {
            text(&event)
        };
        writeln!(std::io::stdout().lock(), "{line}")?;
        Ok(())
    }
}

/// An event on a line.
fn text(event: &Stored) -> String {
    let because = match event.meta.get("causation").and_then(Value::as_str) {
        Some(cause) => format!("  because {cause}"),
        None => String::new(),
    };
    format!(
        "{}  {:10} {:21} {} v{}{because}  {}",
        time(event.recorded_at),
        event.place.to_string(),
        event.kind,
        event.stream,
        event.version,
        event.payload
    )
}
