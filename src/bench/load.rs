//! Callers that do one thing after the other, as fast as they are answered, and note how long it
//! took.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

/// What came of a run.
pub struct Measured {
    /// Callers.
    pub clients: usize,
    /// Operations per second.
    pub per_s: f64,
    /// Sorted, in microseconds.
    micros: Vec<u32>,
}

impl Measured {
    /// From latencies in microseconds and the time it all took.
    pub fn of(clients: usize, mut micros: Vec<u32>, took: Duration) -> Self {
        micros.sort_unstable();
        Self {
            clients,
            per_s: micros.len() as f64 / took.as_secs_f64(),
            micros,
        }
    }

    /// From a count alone, where nobody looked how long each took.
    pub fn counted(clients: usize, count: u64, took: Duration) -> Self {
        Self {
            clients,
            per_s: count as f64 / took.as_secs_f64(),
            micros: Vec::new(),
        }
    }

    /// The latency that this part of all did not exceed, in milliseconds.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        let last = self.micros.len().saturating_sub(1);
        let index = (last as f64 * part).round() as usize;
        f64::from(self.micros.get(index).copied().unwrap_or(0)) / 1_000.0
    }
}

/// Runs `clients` callers for this long, after a tenth of it to warm up. `each` is told which caller
/// it is and how many times it has been called by it.
pub async fn closed_loop<F, Fut>(clients: usize, time: Duration, each: F) -> Result<Measured>
where
    F: Fn(usize, u64) -> Fut + Sync,
    Fut: Future<Output = Result<()>> + Send,
{
    let began = Instant::now();
    let warm = began + time / 10;
    let end = warm + time;
    let callers = (0..clients).map(|client| {
        let each = &each;
        async move {
            let mut micros = Vec::new();
            let mut nth = 0;
            loop {
                let before = Instant::now();
                if before >= end {
                    return anyhow::Ok(micros);
                }
                each(client, nth).await?;
                nth += 1;
                if before >= warm {
                    micros.push(u32::try_from(before.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            }
        }
    });
    let micros = try_join_all(callers).await?;
    let took = Instant::now() - warm;
    Ok(Measured::of(clients, micros.concat(), took))
}
