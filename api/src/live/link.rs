//! One WebSocket, whatever is spoken over it: sending with a limit to our patience, and an end
//! that the client gets to know the reason of.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::sockets::Sockets;

/// How long a client has to take its close frame and close its side.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Why a conversation over a link ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The client closed, or the connection broke.
    Left,
    /// We close, with this code and reason.
    Close(u16, &'static str),
}

impl End {
    /// Nothing went wrong and nothing is left to say.
    pub(super) const DONE: Self = Self::Close(1000, "");
    const AWAY: Self = Self::Close(1001, "The server is shutting down");
    const UNREADABLE: Self = Self::Close(1002, "That frame cannot be read or is too large");
    /// No valid access token.
    pub(super) const fn unauthenticated(reason: &'static str) -> Self {
        Self::Close(4001, reason)
    }
    /// Nothing was heard for too long.
    pub(super) const SILENT: Self = Self::Close(4008, "No sign of life");
    const DISMISSED: Self = Self::unauthenticated("This user no longer exists");
    const SLOW: Self = Self::Close(4009, "Too slow: events were missed, reload and reconnect");
}

/// A WebSocket that can be told to end from outside.
pub(super) struct Link {
    socket: WebSocket,
    stop: Stop,
    patience: Duration,
    _counted: TaskTrackerToken,
}

struct Stop {
    closing: CancellationToken,
    reins: Reins,
}

/// How somebody else ends a link.
#[derive(Clone, Default)]
pub(super) struct Reins {
    /// Cancelled: the client is too slow.
    pub(super) overflow: CancellationToken,
    /// Cancelled: its user is gone.
    pub(super) dismissal: CancellationToken,
}

impl Stop {
    async fn wait(&self) -> End {
        tokio::select! {
            () = self.closing.cancelled() => End::AWAY,
            () = self.reins.dismissal.cancelled() => End::DISMISSED,
            () = self.reins.overflow.cancelled() => End::SLOW,
        }
    }
}

impl Link {
    pub(super) fn new(socket: WebSocket, sockets: &Sockets) -> Self {
        Self {
            socket,
            stop: Stop {
                closing: sockets.closing().clone(),
                reins: Reins::default(),
            },
            patience: sockets.pace().silence_max,
            _counted: sockets.opened(),
        }
    }

    /// What ends this link from outside.
    pub(super) fn reins(&self) -> Reins {
        self.stop.reins.clone()
    }

    /// The next message of the client, or why there will be none. Safe to cancel.
    pub(super) async fn receive(&mut self) -> Result<Message, End> {
        tokio::select! {
            biased;
            end = self.stop.wait() => Err(end),
            received = self.socket.recv() => match received {
                Some(Ok(Message::Close(_))) | None => Err(End::Left),
                Some(Ok(message)) => Ok(message),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a live connection broke");
                    Err(End::UNREADABLE)
                }
            },
        }
    }

    /// Sends a text. A client that does not take it holds up nobody else, and not for ever.
    pub(super) async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), End> {
        self.transmit(Message::Text(text.into())).await
    }

    /// Sends a ping of the WebSocket protocol.
    pub(super) async fn ping(&mut self) -> Result<(), End> {
        self.transmit(Message::Ping(Bytes::new())).await
    }

    async fn transmit(&mut self, message: Message) -> Result<(), End> {
        tokio::select! {
            biased;
            end = self.stop.wait() => Err(end),
            sent = tokio::time::timeout(self.patience, self.socket.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(End::Left),
                Err(_) => Err(End::SILENT),
            },
        }
    }

    /// Ends the link: says why, waits a moment for the client to have heard it.
    pub(super) async fn close(mut self, end: End) {
        if let End::Close(code, _) = end {
            metrics::counter!("hub_live_closed_total", "code" => code.to_string()).increment(1);
        }
        let farewell = async {
            if let End::Close(code, reason) = end {
                let reason = Utf8Bytes::from_static(reason);
                let frame = CloseFrame { code, reason };
                self.socket.send(Message::Close(Some(frame))).await?;
            }
            // Reading on is what completes the closing handshake, in either direction.
            while let Some(received) = self.socket.recv().await {
                received?;
            }
            Ok::<(), axum::Error>(())
        };
        // Whether the client heard it changes nothing for us.
        let _heard = tokio::time::timeout(CLOSE_WITHIN, farewell).await;
    }
}
