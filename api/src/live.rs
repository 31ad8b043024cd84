//! The real-time doors: what happens, told to the clients that are looking.
//!
//! Two doors carry the same events: a plain WebSocket at `/ws/messages/` and Socket.IO at
//! `/socket.io/` (contract 3). One task per process ([`start`]) takes changes from the store's bus,
//! looks the rows up once per change and hands finished frames to the sockets of the change's
//! owner. It never waits for a client: each connection has a bounded queue, and one that is full
//! ends that connection and no other. What a client missed it gets by REST, so everything here is
//! cheap to lose and nothing here is stored.

mod door;
mod fan_out;
mod frame;
mod link;
mod lookup;
mod plain;
mod seen;
mod socket_io;
mod sockets;
mod tail;

use std::time::Duration;

use hub_domain::limits::SOCKET_AUTH_DEADLINE;

pub use door::routes;
pub use fan_out::start;
pub use sockets::Sockets;
pub use tail::tail;

/// How patient the doors are. Installations use the default; tests have less time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time a Socket.IO client has to authenticate.
    pub authenticate_within: Duration,
    /// A ping goes out this often, on both doors.
    pub ping_every: Duration,
    /// Time a Socket.IO client has to answer a ping.
    pub answer_within: Duration,
    /// A plain client that says nothing for so long, pongs included, is dropped.
    pub silence_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            authenticate_within: SOCKET_AUTH_DEADLINE,
            ping_every: Duration::from_secs(25),
            answer_within: Duration::from_secs(20),
            silence_max: Duration::from_secs(60),
        }
    }
}
