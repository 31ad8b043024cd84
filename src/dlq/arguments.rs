//! What can be typed after `hub dlq`.

use clap::{Args, Subcommand};
use hub_store::dlq::Filter;
use uuid::Uuid;

/// What to do about what is parked.
#[derive(Subcommand)]
pub enum Dlq {
    /// List parked streams, commands and jobs, the oldest first.
    List {
        #[command(flatten)]
        which: Which,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show all there is to know about one; of contents only the shape.
    Show {
        /// As in the list: `inbox/3-1042`, `send/<conversation>`.
        id: String,
    },
    /// Try again, in order inside each stream, and wait for the outcome. Needs a running worker.
    Retry {
        #[command(flatten)]
        selection: Selection,
        /// Seconds to wait for the outcome.
        #[arg(long, default_value_t = 30)]
        wait: u64,
    },
    /// Give up on the first event of a stream, on a command or on a job, for good. What stands
    /// behind it goes on.
    Discard {
        #[command(flatten)]
        selection: Selection,
        /// The reason, which is kept with it.
        #[arg(long)]
        why: String,
    },
}

/// Which of what is parked.
#[derive(Args)]
pub struct Which {
    /// Parked by this reactor.
    #[arg(long, conflicts_with = "queue")]
    pub reactor: Option<String>,
    /// Jobs of this queue.
    #[arg(long)]
    pub queue: Option<String>,
    /// Of this stream, a conversation's sends included.
    #[arg(long)]
    pub stream: Option<Uuid>,
}

impl Which {
    /// The same for the store.
    pub fn filter(&self) -> Filter {
        Filter {
            reactor: self.reactor.clone(),
            queue: self.queue.clone(),
            stream: self.stream,
        }
    }

    /// True when nothing was said.
    pub fn is_everything(&self) -> bool {
        self.reactor.is_none() && self.queue.is_none() && self.stream.is_none()
    }
}

/// One of what is parked, or many.
#[derive(Args)]
pub struct Selection {
    /// As in the list: `inbox/3-1042`, `send/<conversation>`.
    #[arg(conflicts_with_all = ["all", "reactor", "queue", "stream"])]
    pub id: Option<String>,
    /// Everything.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub which: Which,
    /// Do it; without this, many are only counted.
    #[arg(long)]
    pub yes: bool,
}
