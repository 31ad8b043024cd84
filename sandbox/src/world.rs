//! What every player shares: the faults, the ledger, the way to the hub, and fresh ids.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

use crate::call::Call;
use crate::deliver::Courier;
use crate::faults::{Fault, Faults, Op};
use crate::ledger::Ledger;
use crate::shelf::Shelf;
use crate::upload::Uploads;

/// How long a hanging platform keeps the hub waiting.
const HANG: Duration = Duration::from_secs(60);

/// One running sandbox, behind all of its platforms.
pub(crate) struct World {
    pub(crate) faults: Faults,
    pub(crate) ledger: Ledger,
    pub(crate) courier: Courier,
    pub(crate) shelf: Shelf,
    pub(crate) uploads: Uploads,
    /// Cancelled when the sandbox stops; everything in the background listens.
    pub(crate) stop: CancellationToken,
    /// Where the sandbox itself is reached, for the URLs platforms hand out.
    pub(crate) address: OnceLock<String>,
    born_us: u64,
    made: AtomicU64,
    /// When somebody last used a control route, in milliseconds since 1970; 0 for never.
    driven_ms: AtomicI64,
}

/// How long somebody counts as driving the sandbox after they last used a control route.
const DRIVEN_MS: i64 = 10 * 60 * 1000;

impl World {
    /// A world that delivers webhooks to this base URL.
    pub(crate) fn new(hub_webhook_base: &str) -> reqwest::Result<Self> {
        let born_us = u64::try_from(chrono::Utc::now().timestamp_micros()).unwrap_or_default();
        Ok(Self {
            faults: Faults::new(born_us),
            ledger: Ledger::new(),
            courier: Courier::new(hub_webhook_base)?,
            shelf: Shelf::default(),
            uploads: Uploads::default(),
            stop: CancellationToken::new(),
            address: OnceLock::new(),
            born_us,
            made: AtomicU64::new(0),
            driven_ms: AtomicI64::new(0),
        })
    }

    /// A URL at the sandbox itself.
    pub(crate) fn url(&self, path: &str) -> String {
        let address = self
            .address
            .get()
            .map_or("http://127.0.0.1", String::as_str);
        format!("{address}{path}")
    }

    /// Notes that somebody drives the sandbox by hand or by script.
    pub(crate) fn drive(&self) {
        self.driven_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// True while somebody drives the sandbox.
    pub(crate) fn is_driven(&self) -> bool {
        now_ms() - self.driven_ms.load(Ordering::Relaxed) < DRIVEN_MS
    }

    /// Hands a file out, or suffers what handing files out has to suffer on this platform.
    pub(crate) async fn hand_out(&self, platform: &str, call: &Call, name: &str) -> Response {
        if self.faults.cuts_off(platform) {
            return self.shelf.break_off(name);
        }
        match self.faults.hit(platform, Op::Media) {
            Some(Fault::Status { status, .. }) => StatusCode::from_u16(status)
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
                .into_response(),
            Some(Fault::Hang | Fault::AcceptNoReply) => call.leave_unanswered(HANG).await,
            None => self.shelf.hand_out(name),
        }
    }

    /// Letters and digits no other call returns, not even after a restart: they hold the moment
    /// of the start in microseconds.
    pub(crate) fn unique(&self) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        format!("{:013x}{number:06x}", self.born_us)
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
