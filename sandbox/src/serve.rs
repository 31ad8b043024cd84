//! The sandbox as a server: one address for all platforms and the controls.
//!
//! `/control/…` and `/` are ours; every other path belongs to the platform whose player claims it.
//! The accept loop is written out because one thing is missing from ready-made ones: closing a
//! connection without an answer, which is how a send whose outcome is unknown looks.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::Options;
use crate::call::{Call, Hangup};
use crate::platform::{self, Player};
use crate::world::World;
use crate::{control, customers};

/// How long open requests may take to finish once the sandbox stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// The pause after a failed accept: running out of file descriptors is not cured by spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A handle on one sandbox. Clones are the same sandbox.
#[derive(Clone)]
pub struct Sandbox {
    pub(crate) world: Arc<World>,
    pub(crate) players: Arc<[Arc<dyn Player>]>,
    customers: bool,
}

impl std::fmt::Debug for Sandbox {
    /// Names the hub's address only; the rest holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("hub_webhook_base", &self.hub_webhook_base())
            .finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Sets the platforms up; nothing runs yet.
    ///
    /// # Errors
    /// When the HTTP client for webhooks cannot be built (a broken TLS set-up).
    pub fn new(options: &Options) -> io::Result<Self> {
        let world = World::new(&options.hub_webhook_base).map_err(io::Error::other)?;
        let world = Arc::new(world);
        tracing::info!(seed = world.faults.seed(), "sandbox: seed of the faults");
        Ok(Self {
            players: platform::players(&world, options).into(),
            world,
            customers: options.customers,
        })
    }

    /// Where webhooks go.
    pub fn hub_webhook_base(&self) -> String {
        self.world.courier.base()
    }

    /// Sends webhooks elsewhere from now on; those still waiting are tried there at once.
    pub fn set_hub_webhook_base(&self, base: &str) {
        self.world.courier.set_base(base);
    }

    /// Every platform and the controls. [`Sandbox::serve`] is the better host for it: behind
    /// another accept loop an unanswered request stays open until its caller leaves.
    pub fn router(&self) -> Router {
        control::router()
            .fallback(platform_side)
            .with_state(self.clone())
            .merge(self.players.iter().fold(Router::new(), |router, player| {
                router.merge(Arc::clone(player).controls())
            }))
    }

    /// Serves on this listener, with customers when the options ask for them, until `shutdown`.
    ///
    /// # Errors
    /// None today; a failing accept is retried.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let stop = self.world.stop.clone();
        // Also when this future is dropped instead of finished.
        let _stops_everything = stop.clone().drop_guard();
        if let Ok(address) = listener.local_addr() {
            let _ = self.world.address.set(format!("http://{address}"));
        }
        if self.customers {
            tokio::spawn(customers::write_now_and_then(self.clone()));
        }
        let (router, connections) = (self.router(), TaskTracker::new());
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, router.clone(), stop.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
        stop.cancel();
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

/// Plays the platforms on this listener until `shutdown`.
///
/// # Errors
/// When the HTTP client for webhooks cannot be built.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    Sandbox::new(&options)?.serve(listener, shutdown).await
}

async fn converse(stream: TcpStream, router: Router, stop: CancellationToken) {
    let hangup = CancellationToken::new();
    let handle = Hangup(hangup.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(handle.clone());
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { answer.await.map_err(|never: Infallible| never) }
    });
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a connection ends is the caller's business; there is nobody to tell.
        _ = connection.as_mut() => {}
        () = hangup.cancelled() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(FAREWELL, connection).await;
        }
    }
}

async fn platform_side(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let call = match Call::read(request).await {
        Ok(call) => call,
        Err(refusal) => return refusal.into_response(),
    };
    let loggable = sandbox
        .players
        .iter()
        .fold(call.path.clone(), |path, player| player.loggable(&path));
    sandbox.world.ledger.note(call.method.as_str(), loggable);
    match sandbox.players.iter().find(|player| player.claims(&call)) {
        Some(player) => Arc::clone(player).answer(call).await,
        None => {
            let body = json!({"error": "no platform played here knows this path"});
            (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_call_left_unanswered_ends_without_a_byte() {
        let silent = |request: Request| async {
            let call = Call::read(request).await.expect("a readable call");
            call.leave_unanswered(Duration::from_millis(20)).await
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            converse(
                stream,
                Router::new().route("/", post(silent)),
                CancellationToken::new(),
            )
            .await;
        });
        let mut caller = TcpStream::connect(address).await.unwrap();
        let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
        caller.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let read = caller.read_to_end(&mut answer);
        let ended = tokio::time::timeout(Duration::from_secs(10), read).await;
        assert_eq!(ended.expect("the connection is closed").unwrap(), 0);
    }
}
