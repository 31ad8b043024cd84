//! Who is connected, and the queue in front of each connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use hub_domain::id::{Shard, Sharding, UserId};
use hub_domain::limits::SOCKET_QUEUE_FRAMES_MAX;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Pace;
use super::frame::Frame;
use super::link::Reins;

/// Bytes a slow socket may be behind, whatever the number of frames. Frames are shared between the
/// sockets of a user, but a queue that stands still keeps its own alive.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// The live connections of this process. Clones share them.
#[derive(Clone, Default)]
pub struct Sockets {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    users: RwLock<HashMap<UserId, HashMap<u64, Outbox>>>,
    last_number: AtomicU64,
    open: TaskTracker,
    closing: CancellationToken,
    pace: RwLock<Pace>,
    started: AtomicBool,
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door {
    /// `/ws/messages/`.
    Plain,
    /// `/socket.io/`.
    SocketIo,
}

struct Outbox {
    door: Door,
    queue: mpsc::Sender<Utf8Bytes>,
    queued_bytes: Arc<AtomicUsize>,
    reins: Reins,
}

/// An authenticated connection's place in the registry, given up when dropped.
pub(super) struct Seat {
    sockets: Sockets,
    user: UserId,
    number: u64,
    queue: mpsc::Receiver<Utf8Bytes>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Sockets {
    /// Open connections, authenticated or not.
    pub fn connections(&self) -> usize {
        self.shared.open.len()
    }

    /// Users with at least one authenticated connection.
    pub fn users(&self) -> usize {
        let users = self.shared.users.read();
        users.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends every connection with close code 1001, and every later one at once. Ends the fan-out.
    /// Returns before they are gone; see [`Sockets::closed`].
    pub fn close_all(&self) {
        self.shared.closing.cancel();
        self.shared.open.close();
    }

    /// Waits after [`Sockets::close_all`] until every client has its close frame, at most this
    /// long. True when all have.
    pub async fn closed(&self, at_most: Duration) -> bool {
        let gone = self.shared.open.wait();
        tokio::time::timeout(at_most, gone).await.is_ok()
    }

    /// Changes how patient connections made from now on are.
    pub fn set_pace(&self, pace: Pace) {
        let mut slot = self
            .shared
            .pace
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *slot = pace;
    }

    pub(super) fn pace(&self) -> Pace {
        *self
            .shared
            .pace
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when the process shuts down.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.shared.closing
    }

    /// True for the first caller only.
    pub(super) fn is_first_start(&self) -> bool {
        !self.shared.started.swap(true, Ordering::AcqRel)
    }

    /// Counts a connection for as long as the token lives.
    pub(super) fn opened(&self) -> TaskTrackerToken {
        self.shared.open.token()
    }

    /// Begins to queue the user's frames for a connection, which `reins` end when it cannot keep up.
    pub(super) fn admit(&self, user: UserId, door: Door, reins: Reins) -> Seat {
        let number = self.shared.last_number.fetch_add(1, Ordering::Relaxed);
        let (sender, queue) = mpsc::channel(SOCKET_QUEUE_FRAMES_MAX);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let outbox = Outbox {
            door,
            queue: sender,
            queued_bytes: Arc::clone(&queued_bytes),
            reins,
        };
        let mut users = self
            .shared
            .users
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        users.entry(user).or_default().insert(number, outbox);
        drop(users);
        metrics::gauge!("hub_live_sockets").increment(1);
        Seat {
            sockets: self.clone(),
            user,
            number,
            queue,
            queued_bytes,
        }
    }

    /// Whether anybody here would hear a change of this user.
    pub(super) fn has(&self, user: UserId) -> bool {
        let users = self
            .shared
            .users
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        users.contains_key(&user)
    }

    /// Whether anybody here would hear a change in this shard.
    pub(super) fn has_in(&self, shard: Shard, sharding: Sharding) -> bool {
        let users = self
            .shared
            .users
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        users.keys().any(|user| sharding.of_user(*user) == shard)
    }

    /// Queues frames, in order, for each connection of a user. Never waits: a connection without
    /// room for all of them is told to end.
    pub(super) fn push(&self, user: UserId, frames: &[Frame]) {
        let users = self
            .shared
            .users
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for outbox in users.get(&user).into_iter().flat_map(HashMap::values) {
            if !frames.iter().all(|frame| outbox.put(frame)) {
                outbox.reins.overflow.cancel();
            }
        }
    }

    /// Ends every connection of a user who is gone.
    pub(super) fn dismiss(&self, user: UserId) {
        let users = self
            .shared
            .users
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for outbox in users.get(&user).into_iter().flat_map(HashMap::values) {
            outbox.reins.dismissal.cancel();
        }
    }
}

impl Outbox {
    /// False when there is no room. A frame that alone exceeds the byte limit passes when nothing
    /// else waits.
    fn put(&self, frame: &Frame) -> bool {
        if self.reins.overflow.is_cancelled() {
            return false;
        }
        let text = frame.text(self.door);
        let queued = self.queued_bytes.fetch_add(text.len(), Ordering::Relaxed);
        let fits = queued == 0 || queued + text.len() <= QUEUE_BYTES_MAX;
        fits && self.queue.try_send(text.clone()).is_ok()
    }
}

impl Seat {
    /// The next frame to send. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<Utf8Bytes> {
        let text = self.queue.recv().await?;
        self.queued_bytes.fetch_sub(text.len(), Ordering::Relaxed);
        Some(text)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let users = self.sockets.shared.users.write();
        let mut users = users.unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut own) = users.entry(self.user) {
            own.get_mut().remove(&self.number);
            if own.get().is_empty() {
                own.remove();
            }
        }
        metrics::gauge!("hub_live_sockets").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const USER: UserId = UserId(Uuid::from_u128(1));

    #[test]
    fn a_full_queue_ends_that_connection_only() {
        let sockets = Sockets::default();
        let (slow, quick) = (Reins::default(), Reins::default());
        let _slow = sockets.admit(USER, Door::Plain, slow.clone());
        let mut seat = sockets.admit(USER, Door::SocketIo, quick.clone());
        let frame = Frame::new("error", &json!({}));
        for _ in 0..=SOCKET_QUEUE_FRAMES_MAX {
            sockets.push(USER, std::slice::from_ref(&frame));
            assert!(seat.queue.try_recv().is_ok());
        }
        assert!(slow.overflow.is_cancelled());
        assert!(!quick.overflow.is_cancelled());
    }

    #[test]
    fn large_frames_fill_a_queue_before_their_number_does() {
        let sockets = Sockets::default();
        let reins = Reins::default();
        let _seat = sockets.admit(USER, Door::Plain, reins.clone());
        let frame = Frame::new("error", &json!({"error": "x".repeat(QUEUE_BYTES_MAX)}));
        sockets.push(USER, std::slice::from_ref(&frame));
        assert!(!reins.overflow.is_cancelled());
        sockets.push(USER, std::slice::from_ref(&frame));
        assert!(reins.overflow.is_cancelled());
    }

    #[test]
    fn dismissing_a_user_ends_their_connections_only() {
        let sockets = Sockets::default();
        let (own, other) = (Reins::default(), Reins::default());
        let _own = sockets.admit(USER, Door::Plain, own.clone());
        let _other = sockets.admit(UserId(Uuid::from_u128(2)), Door::Plain, other.clone());
        sockets.dismiss(USER);
        assert!(own.dismissal.is_cancelled());
        assert!(!other.dismissal.is_cancelled());
    }

    #[test]
    fn a_user_is_gone_with_the_last_seat() {
        let sockets = Sockets::default();
        let first = sockets.admit(USER, Door::Plain, Reins::default());
        let second = sockets.admit(USER, Door::Plain, Reins::default());
        drop(first);
        assert!(sockets.has(USER));
        drop(second);
        assert!(!sockets.has(USER));
        assert_eq!(sockets.users(), 0);
    }
}
