//! Hints that something happened, so that nobody has to poll quickly.
//!
//! A signal is raised after a commit and may be lost: polling by position is the truth. Inside a
//! process it is a counter somebody waits on; between processes, when Redis is configured, a
//! published word, debounced.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use hub_domain::secret::Secret;
use tokio::sync::{Notify, watch};

use crate::error::Result;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Events were appended.
    Events,
    /// Commands were accepted.
    Commands,
    /// A projection moved.
    Projected,
    /// Jobs of any queue became due. Whoever knows which says [`Signals::raise_queue`].
    Jobs,
    /// An answer was left for a waiting request.
    Answers,
    /// Data keys were erased.
    Keys,
}

const TOPICS: [Topic; 6] = [
    Topic::Events,
    Topic::Commands,
    Topic::Projected,
    Topic::Jobs,
    Topic::Answers,
    Topic::Keys,
];

const CHANNEL: &str = "hub:signal";

/// Raised signals of one process travel to the others at most this often.
const DEBOUNCE: Duration = Duration::from_millis(5);

impl Topic {
    fn index(self) -> usize {
        self as usize
    }
}

struct Shared {
    counters: [watch::Sender<u64>; TOPICS.len()],
    /// Of each queue that somebody here listens for.
    queues: Mutex<HashMap<String, watch::Sender<u64>>>,
    outgoing: Notify,
    pending: Mutex<BTreeSet<String>>,
}

impl Shared {
    fn raise(&self, topic: Topic) {
        self.counters[topic.index()].send_modify(|count| *count += 1);
        if topic == Topic::Jobs
            && let Ok(queues) = self.queues.lock()
        {
            for queue in queues.values() {
                queue.send_modify(|count| *count += 1);
            }
        }
    }

    fn raise_queue(&self, name: &str) {
        if let Ok(queues) = self.queues.lock()
            && let Some(queue) = queues.get(name)
        {
            queue.send_modify(|count| *count += 1);
        }
    }

    /// What another process has published: the number of a topic, or the name of a queue.
    fn heard(&self, word: &str) {
        match word.parse::<usize>() {
            Ok(index) => TOPICS.get(index).into_iter().for_each(|it| self.raise(*it)),
            Err(_) => self.raise_queue(word),
        }
    }
}

/// The signals of this process.
#[derive(Clone)]
pub struct Signals {
    shared: Arc<Shared>,
    crosses_processes: bool,
}

/// Waits for signals of one topic. Made before looking for work, so that none is missed between.
pub struct Listener {
    receiver: watch::Receiver<u64>,
}

impl Listener {
    /// Returns when a signal was raised since the last call, or after `at_most`.
    pub async fn wait(&mut self, at_most: Duration) {
        let changed = self.receiver.changed();
        if let Ok(Err(_)) = tokio::time::timeout(at_most, changed).await {
            // The sender is gone only when the process ends.
            tokio::time::sleep(at_most).await;
        }
    }

    /// True when a signal was raised since the last call of this or [`Listener::wait`].
    pub fn take(&mut self) -> bool {
        let raised = self.receiver.has_changed().unwrap_or(false);
        self.receiver.mark_unchanged();
        raised
    }
}

impl Signals {
    /// Signals inside this process, and between processes when Redis is named.
    pub async fn new(redis: Option<&Secret>) -> Result<Self> {
        let shared = Arc::new(Shared {
            counters: std::array::from_fn(|_| watch::Sender::new(0)),
            outgoing: Notify::new(),
            queues: Mutex::default(),
            pending: Mutex::default(),
        });
        if let Some(url) = redis {
            let client = redis::Client::open(url.expose())?;
            let connection = client.get_connection_manager().await?;
            tokio::spawn(publish(connection, Arc::clone(&shared)));
            tokio::spawn(subscribe(client, Arc::clone(&shared)));
        }
        Ok(Self {
            shared,
            crosses_processes: redis.is_some(),
        })
    }

    /// Tells everybody who waits for this topic.
    pub fn raise(&self, topic: Topic) {
        self.shared.raise(topic);
        self.publish(|| topic.index().to_string());
    }

    /// Tells those who work on this queue that jobs became due.
    pub fn raise_queue(&self, queue: &str) {
        self.shared.raise_queue(queue);
        self.publish(|| queue.to_owned());
    }

    fn publish(&self, word: impl FnOnce() -> String) {
        if self.crosses_processes {
            if let Ok(mut pending) = self.shared.pending.lock() {
                pending.insert(word());
            }
            self.shared.outgoing.notify_one();
        }
    }

    /// How often this topic was raised, as far as this process has heard.
    pub fn count(&self, topic: Topic) -> u64 {
        *self.shared.counters[topic.index()].borrow()
    }

    /// A listener for a topic.
    pub fn listen(&self, topic: Topic) -> Listener {
        Listener {
            receiver: self.shared.counters[topic.index()].subscribe(),
        }
    }

    /// A listener for one queue's jobs, raised for it or for all queues.
    pub fn listen_queue(&self, queue: &str) -> Listener {
        let receiver = match self.shared.queues.lock() {
            Ok(mut queues) => queues.entry(queue.to_owned()).or_default().subscribe(),
            Err(_) => self.shared.counters[Topic::Jobs.index()].subscribe(),
        };
        Listener { receiver }
    }
}

async fn publish(mut connection: redis::aio::ConnectionManager, shared: Arc<Shared>) {
    loop {
        shared.outgoing.notified().await;
        let raised = match shared.pending.lock() {
            Ok(mut pending) => std::mem::take(&mut *pending),
            Err(_) => return,
        };
        for word in raised {
            let sent: redis::RedisResult<i64> = redis::cmd("PUBLISH")
                .arg(CHANNEL)
                .arg(word)
                .query_async(&mut connection)
                .await;
            if let Err(error) = sent {
                tracing::debug!(%error, "a hint was not published; others will notice by polling");
            }
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

async fn subscribe(client: redis::Client, shared: Arc<Shared>) {
    loop {
        if let Ok(mut subscription) = client.get_async_pubsub().await
            && subscription.subscribe(CHANNEL).await.is_ok()
        {
            let mut messages = subscription.on_message();
            while let Some(message) = messages.next().await {
                shared.heard(&message.get_payload::<String>().unwrap_or_default());
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
