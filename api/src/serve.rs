//! The accept loop.
//!
//! axum's own has no timer, so that a client that sends its headers byte by byte would keep a
//! connection for ever. This one bounds the time for headers, their number and size, the number of
//! connections, and the time a shutdown may take.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hub_store::Store;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;

use crate::request::Peer;
use crate::{Api, observe, router};

/// Longest a request's headers may take to arrive, the pause between two requests included.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// Most headers of one request.
const HEADERS_MAX: usize = 100;

/// Largest block of headers; hyper answers 431 beyond it.
const HEADERS_BYTES_MAX: usize = 32 * 1024;

/// Connections served at a time. More wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 8_192;

/// How long requests that have begun may go on after a shutdown was asked for.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);

/// How long closing sockets may take to say goodbye.
const SOCKETS_WITHIN: Duration = Duration::from_secs(1);

/// How long writing the last counts of usage may take.
const USAGE_WITHIN: Duration = Duration::from_secs(1);

/// Pause after a failed accept: out of file descriptors, and looping would not bring any.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the API until `shutdown` resolves, then finishes what has begun, closes the sockets and
/// writes what was counted.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    accept(listener, router(api.clone()), shutdown).await;
    api.sockets().close_all();
    api.sockets().closed(SOCKETS_WITHIN).await;
    // What is lost of it is not worth a shutdown that hangs.
    let _written = timeout(USAGE_WITHIN, api.store().usage().write()).await;
    Ok(())
}

/// Serves `/metrics` and `/health` of a process without an API until `shutdown` resolves.
pub async fn serve_observed(
    listener: TcpListener,
    store: Store,
    metrics: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send,
) {
    accept(listener, observe::router(store, metrics), shutdown).await;
}

async fn accept(
    listener: TcpListener,
    app: axum::Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    let ending = CancellationToken::new();
    let connections = TaskTracker::new();
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&free).acquire_owned().await;
            listener
                .accept()
                .await
                .map(|(stream, peer)| (stream, peer, place))
        };
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = converse(stream, Peer(peer.ip()), app.clone(), ending.clone());
        connections.spawn(async move {
            let _place = place;
            connection.await;
        });
    }
    drop(listener);
    ending.cancel();
    connections.close();
    if timeout(SHUTDOWN_WITHIN, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests were still running when the shutdown's time was over"
        );
    }
}

async fn converse(stream: TcpStream, peer: Peer, app: axum::Router, ending: CancellationToken) {
    // Answers are written whole; waiting for more to send only adds delay.
    let _unsupported = stream.set_nodelay(true);
    let app = ServiceBuilder::new()
        .map_request(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request
        })
        .service(app);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADERS_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .with_upgrades();
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = ending.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}
