//! Live changes on their way from the notifier to sockets.
//!
//! A change is small: who is concerned and what to look up. It is cheap to lose (clients catch up
//! by REST), so it travels by Redis pub/sub when configured and inside the process otherwise.
//!
//! Cheap is not free: a client that is connected sees nothing of what was lost until it loads again.
//! So a bus is there once it hears, and a connection to Redis that broke is made anew before a change
//! is given up. A change whose publishing ended unclear is published again: whoever receives it twice
//! drops the second one. While Redis stays away nobody waits for it.

mod changes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use hub_domain::id::{ConversationId, MessageId, Shard, UserId};
use hub_domain::secret::Secret;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::error::Result;

pub use changes::changes;

const CHANNEL: &str = "hub:changes";

/// Changes a receiver may be behind before it skips to the newest.
const BACKLOG: usize = 16_384;

/// How long changes wait for a Redis that was there a moment ago.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon it is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// What changed, in the words of the real-time contract.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A message arrived, or one of ours was made elsewhere.
    NewMessage {
        /// The message.
        message: MessageId,
    },
    /// A message's status moved.
    MessageStatus {
        /// The message.
        message: MessageId,
        /// `read` or `delivered`.
        status: String,
    },
    /// The platform reported on messages of ours, in its own words: which of the hub's messages
    /// that concerns is found out where somebody is watching.
    Receipts {
        /// The messages it names.
        platform_message_ids: Vec<String>,
        /// It covers every message of ours sent up to here.
        watermark: Option<DateTime<Utc>>,
        /// `read` or `delivered`.
        status: String,
        /// When, by the platform's clock.
        at: DateTime<Utc>,
    },
    /// Unread counts changed.
    UnreadCounts,
    /// A conversation was created or changed.
    Conversation,
    /// The user was erased: there is nobody left to tell anything.
    Farewell,
    /// Something went wrong that the user should know.
    Error {
        /// What to tell them.
        text: String,
        /// A code for programs.
        code: String,
    },
}

/// A change for one user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// The shard of the event it follows from.
    pub shard: Shard,
    /// Its position.
    pub position: i64,
    /// Whose sockets are concerned.
    pub user: UserId,
    /// The conversation, when there is one.
    pub conversation: Option<ConversationId>,
    /// What to tell, in this order.
    pub what: Vec<What>,
}

/// The bus. Clones share it.
#[derive(Clone)]
pub struct Bus {
    local: broadcast::Sender<Arc<Change>>,
    redis: Option<Redis>,
}

#[derive(Clone)]
struct Redis {
    connection: redis::aio::ConnectionManager,
    is_away: Arc<AtomicBool>,
}

impl Redis {
    /// Publishes a change, again and again until then; or once, while Redis is away.
    async fn publish(&self, change: &str, until: Instant) -> redis::RedisResult<()> {
        loop {
            let mut connection = self.connection.clone();
            let published = redis::cmd("PUBLISH")
                .arg(CHANNEL)
                .arg(change)
                .query_async::<i64>(&mut connection)
                .await;
            match published {
                Ok(_receivers) => {
                    self.is_away.store(false, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) if Instant::now() >= until || self.is_away.load(Ordering::Relaxed) => {
                    self.is_away.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

impl Bus {
    /// A bus inside this process, and between processes when Redis is named.
    pub async fn new(redis: Option<&Secret>) -> Result<Self> {
        let (local, _) = broadcast::channel(BACKLOG);
        let redis = match redis {
            Some(url) => {
                let client = redis::Client::open(url.expose())?;
                let connection = client.get_connection_manager().await?;
                let subscribed = subscription(&client).await?;
                tokio::spawn(hear(client, subscribed, local.clone()));
                Some(Redis {
                    connection,
                    is_away: Arc::default(),
                })
            }
            None => None,
        };
        Ok(Self { local, redis })
    }

    /// True when changes reach other processes.
    pub fn crosses_processes(&self) -> bool {
        self.redis.is_some()
    }

    /// True when Redis answers, `None` when none is configured.
    pub async fn is_redis_up(&self) -> Option<bool> {
        let mut connection = self.redis.clone()?.connection;
        let ping = async move {
            redis::cmd("PING")
                .query_async::<String>(&mut connection)
                .await
        };
        Some(matches!(
            tokio::time::timeout(Duration::from_secs(1), ping).await,
            Ok(Ok(_))
        ))
    }

    /// Publishes changes in order. Loss is harmless and only logged.
    pub async fn publish(&self, changes: Vec<Change>) {
        match &self.redis {
            // Our own subscription brings them back to this process.
            Some(redis) => {
                let until = Instant::now() + PATIENCE;
                for change in changes {
                    let Ok(text) = serde_json::to_string(&change) else {
                        continue;
                    };
                    if let Err(error) = redis.publish(&text, until).await {
                        metrics::counter!("hub_bus_lost_total").increment(1);
                        tracing::warn!(%error, "a live change was not published");
                        self.publish_locally(change);
                    }
                }
            }
            None => changes
                .into_iter()
                .for_each(|change| self.publish_locally(change)),
        }
    }

    /// Publishes a change to this process only.
    pub fn publish_locally(&self, change: Change) {
        // Nobody listening is fine.
        let _ = self.local.send(Arc::new(change));
    }

    /// Receives changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Change>> {
        self.local.subscribe()
    }
}

async fn subscription(client: &redis::Client) -> redis::RedisResult<redis::aio::PubSub> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(CHANNEL).await?;
    Ok(subscription)
}

/// Hears what others publish, for as long as this process lives.
async fn hear(
    client: redis::Client,
    mut subscribed: redis::aio::PubSub,
    local: broadcast::Sender<Arc<Change>>,
) {
    loop {
        let mut messages = subscribed.on_message();
        while let Some(message) = messages.next().await {
            if let Ok(text) = message.get_payload::<String>()
                && let Ok(change) = serde_json::from_str::<Change>(&text)
            {
                let _ = local.send(Arc::new(change));
            }
        }
        drop(messages);
        subscribed = subscribed_again(&client).await;
    }
}

/// After the connection has ended: at once, and then every second.
async fn subscribed_again(client: &redis::Client) -> redis::aio::PubSub {
    loop {
        match subscription(client).await {
            Ok(subscribed) => return subscribed,
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}
