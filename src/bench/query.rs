//! `hub bench query`: the inbox read with a thousand and with a million conversations in it.
//!
//! Two shapes: everything belongs to one user, and everything is spread over many of whom one is
//! asked. What is measured is the store's query, without HTTP.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use hub_store::checkpoint::live_generation;
use hub_store::project::{Projection, step};
use hub_store::{Store, peer};

use super::ground::{self, Ground};
use super::history::{Dice, Person};
use super::load::{Measured, closed_loop};
use super::{Report, Row};
use crate::cli::BenchWishes;

/// Conversations of the small inbox.
const FEW: u64 = 1_000;

/// Callers.
const CLIENTS: usize = 16;

/// Rows of a page.
const PAGE: i64 = 50;

pub async fn run(ground: &Ground, wishes: &BenchWishes, report: &mut Report) -> Result<()> {
    let small = Inbox::fill(ground, FEW, report).await?;
    let large = Inbox::fill(ground, wishes.events, report).await?;
    let time = Duration::from_secs(wishes.seconds);
    for what in [What::List, What::Deep, What::Thread, What::Unread] {
        let few = small.measure(what, time).await?;
        let many = large.measure(what, time).await?;
        report.row(&Row {
            name: format!("{} of {}", what.name(), large.conversations),
            clients: CLIENTS,
            per_s: many.per_s,
            p50_ms: many.quantile_ms(0.5),
            p99_ms: many.quantile_ms(0.99),
            peer: format!("of {FEW}: p99 {:.2} ms", few.quantile_ms(0.99)),
            peer_per_s: few.per_s,
            ratio: many.quantile_ms(0.99) / few.quantile_ms(0.99),
        })?;
    }
    small.store.close().await;
    large.store.close().await;
    Ok(())
}

#[derive(Clone, Copy)]
enum What {
    List,
    Deep,
    Thread,
    Unread,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::List => "first page",
            Self::Deep => "page 10",
            Self::Thread => "thread",
            Self::Unread => "unread counts",
        }
    }
}

/// One user's inbox.
struct Inbox {
    store: Store,
    person: Person,
    conversations: u64,
}

impl Inbox {
    /// Writes the log, folds it, and lets the server gather its statistics.
    async fn fill(ground: &Ground, conversations: u64, report: &Report) -> Result<Self> {
        let began = Instant::now();
        let url = ground.database().await?;
        let store = ground::open(&url, 20).await?;
        let person = Person::new(&store, 0).await?;
        let mut dice = Dice::new(1);
        let appends = (0..conversations).map(|number| {
            let nth = dice.below(1_000);
            store.append(person.arrival(number, nth, "Hi, is the blue teapot still in stock?"))
        });
        futures::stream::iter(appends)
            .buffer_unordered(2_000)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        let generation = live_generation(store.pool(), Projection::Inbox.name()).await?;
        for projection in Projection::ALL {
            while step(store.pool(), projection, generation, person.shard).await? > 0 {}
        }
        peer::analyze(store.pool()).await?;
        report.note(&format!(
            "{conversations} conversations written and folded in {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        Ok(Self {
            store,
            person,
            conversations,
        })
    }

    async fn measure(&self, what: What, time: Duration) -> Result<Measured> {
        closed_loop(CLIENTS, time, |client, nth| async move {
            let user = self.person.user;
            match what {
                What::List => drop(self.store.conversations(user, None, PAGE, 0).await?),
                What::Deep => drop(self.store.conversations(user, None, PAGE, 9 * PAGE).await?),
                What::Thread => {
                    let number = (client as u64 * 7_919 + nth * 104_729) % self.conversations;
                    let conversation = self.person.conversation(number);
                    drop(self.store.thread(user, conversation, PAGE, 0).await?);
                }
                What::Unread => drop(self.store.unread(user).await?),
            }
            Ok(())
        })
        .await
    }
}
