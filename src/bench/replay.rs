//! `hub bench replay`: folding a long history into all read models from nothing, next to reading
//! the same rows raw.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use hub_domain::id::Shard;
use hub_store::checkpoint::live_generation;
use hub_store::generation::{self, End, Verdict};
use hub_store::project::{Projection, step};
use hub_store::{Store, peer};

use super::ground::{self, Ground};
use super::{Report, Row, history};
use crate::cli::BenchWishes;
use crate::replay::Bar;

/// Users of the history.
const PEOPLE: u64 = 200;

/// Shards the live fold works on at the same time, as in a worker.
const LANES: usize = 4;

/// Events of a conversation.
const LENGTH: u64 = 20;

pub async fn run(ground: &Ground, wishes: &BenchWishes, report: &mut Report) -> Result<()> {
    let url = ground.database().await?;
    let store = ground::open(&url, 10).await?;
    let began = Instant::now();
    let events = history::write(&store, wishes.events, PEOPLE, LENGTH).await?;
    report.note(&format!(
        "{events} events written in {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    let pool = store.pool();
    // Somebody who has just written a table reads it slower once: not what is measured.
    peer::copy_out(pool).await?;
    let began = Instant::now();
    let bytes = peer::copy_out(pool).await?;
    let raw = began.elapsed();
    report.note(&format!(
        "reading them raw: {} MB in {:.2} s",
        bytes / 1_000_000,
        raw.as_secs_f64()
    ));

    let began = Instant::now();
    for projection in Projection::ALL {
        catch_up(&store, projection).await?;
    }
    report.row(&row(
        "live fold, from nothing",
        events,
        began.elapsed(),
        raw,
    ))?;

    let (mut folding, mut all) = (Duration::ZERO, Duration::ZERO);
    for projection in Projection::ALL {
        let bar = Bar::new(projection.name());
        let last = Mutex::new(Duration::ZERO);
        let began = Instant::now();
        let certificate = generation::rebuild(pool, projection, End::Drop, &|progress| {
            bar.draw(progress);
            if let Ok(mut last) = last.lock() {
                *last = progress.elapsed;
            }
        })
        .await?;
        all += began.elapsed();
        bar.clear();
        ensure!(
            certificate.verdict == Verdict::Equal,
            "what was rebuilt differs from what is live"
        );
        let folded = last.into_inner().unwrap_or_default();
        folding += folded;
        report.row(&row(
            &format!("replay {}", projection.name()),
            events,
            folded,
            raw,
        ))?;
    }
    report.row(&row("replay all", events, folding, raw))?;
    report.row(&row("replay all, with proof", events, all, raw))?;
    if let Some(peak) = peak_memory_mb() {
        report.note(&format!("peak memory of this process {peak} MB"));
    }
    store.close().await;
    Ok(())
}

/// Folds the live generation to the head, as the worker does.
async fn catch_up(store: &Store, projection: Projection) -> Result<()> {
    let generation = live_generation(store.pool(), projection.name()).await?;
    let lanes = (0..LANES).map(|lane| async move {
        for shard in (0..store.sharding().count).skip(lane).step_by(LANES) {
            while step(store.pool(), projection, generation, Shard(shard)).await? > 0 {}
        }
        anyhow::Ok(())
    });
    try_join_all(lanes).await?;
    Ok(())
}

fn row(name: &str, events: u64, took: Duration, raw: Duration) -> Row {
    Row {
        name: name.to_owned(),
        clients: 1,
        per_s: events as f64 / took.as_secs_f64(),
        p50_ms: took.as_secs_f64() * 1_000.0,
        p99_ms: took.as_secs_f64() * 1_000.0,
        peer: "COPY of the same rows to us".to_owned(),
        peer_per_s: events as f64 / raw.as_secs_f64(),
        ratio: raw.as_secs_f64() / took.as_secs_f64(),
    }
}

/// The most memory this process ever had, where the system tells (Linux).
fn peak_memory_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1_000)
}
