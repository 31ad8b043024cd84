//! The routes, and what both doors ask before they open.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hub_domain::limits::SOCKET_FRAME_BYTES_MAX;
use serde::Deserialize;
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::fan_out::start;
use super::{plain, socket_io};
use crate::Api;
use crate::error::Problem;
use crate::openapi::schema;

/// `/ws/messages` and `/socket.io`; clients add a slash, which is gone before routing.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(open_plain))
        .routes(routes!(open_socket_io))
}

/// Read at a time. Clients say little, and each socket keeps as much for as long as it is open; the
/// library's 128 KiB were most of what an idle one cost.
const READ_BYTES: usize = 4 * 1024;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

#[derive(Default, Deserialize)]
struct PlainQuery {
    token: Option<String>,
}

#[utoipa::path(
    get,
    path = "/ws/messages",
    tag = "Real time",
    summary = "Open a plain WebSocket",
    description = "One JSON object per text frame: `{\"event\": name, \"data\": object}`. The \
        first one is `authenticated`, or the connection is closed with a code in the 4000s: the \
        upgrade itself is accepted without a good token.",
    params(("token" = inline(Option<String>), Query, description = "An access token")),
    responses(
        (status = 101, description = "It is a WebSocket now"),
        (status = 400, description = "`VALIDATION_ERROR`: the upgrade is malformed"),
        (status = 403, description = "`FORBIDDEN`: this origin may not"),
        (status = 426, description = "`VALIDATION_ERROR`: it is no upgrade"),
    ),
)]
async fn open_plain(
    State(api): State<Api>,
    headers: HeaderMap,
    query: Result<Query<PlainQuery>, QueryRejection>,
    upgrade: Upgrade,
) -> Response {
    if let Err(refusal) = check_origin(&api, &headers) {
        return refusal.into_response();
    }
    let token = query.ok().and_then(|Query(query)| query.token);
    match upgrade {
        Ok(upgrade) => accept(&api, upgrade, async move |api, socket| {
            plain::serve(api, socket, token).await;
        }),
        Err(rejection) => {
            let (status, text) = (rejection.status(), rejection.body_text());
            Problem::new(status, "VALIDATION_ERROR", text).into_response()
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SocketIoQuery {
    #[serde(rename = "EIO")]
    version: String,
    transport: String,
    sid: Option<String>,
}

#[utoipa::path(
    method(get, post),
    path = "/socket.io",
    tag = "Real time",
    summary = "Open a Socket.IO connection",
    description = "Engine.IO 4 over WebSocket; there is no polling, so every POST is refused. The \
        access token goes into the `auth` of the Socket.IO connect packet.",
    params(
        ("EIO" = inline(Option<String>), Query, description = "`4`"),
        ("transport" = inline(Option<String>), Query, description = "`websocket`"),
        ("sid" = inline(Option<String>), Query, description = "Not to be given"),
    ),
    responses(
        (status = 101, description = "It is a WebSocket now"),
        (status = 400, description = "Refused", body = schema::EngineIoRefusal),
        (status = 403, description = "`FORBIDDEN`: this origin may not"),
    ),
)]
async fn open_socket_io(
    State(api): State<Api>,
    headers: HeaderMap,
    query: Result<Query<SocketIoQuery>, QueryRejection>,
    upgrade: Upgrade,
) -> Response {
    if let Err(refusal) = check_origin(&api, &headers) {
        return refusal.into_response();
    }
    let Query(query) = query.unwrap_or_default();
    if query.transport != "websocket" {
        return refuse(0, "Transport unknown");
    }
    if query.version != "4" {
        return refuse(5, "Unsupported protocol version");
    }
    if query.sid.is_some() {
        // A session can only be continued from polling, which is not served.
        return refuse(1, "Session ID unknown");
    }
    match upgrade {
        Ok(upgrade) => accept(&api, upgrade, socket_io::serve),
        Err(_) => refuse(3, "Bad request"),
    }
}

/// An error in the words of Engine.IO.
fn refuse(code: u8, message: &str) -> Response {
    let body = Json(json!({"code": code, "message": message}));
    (StatusCode::BAD_REQUEST, body).into_response()
}

/// Browsers do not apply CORS to WebSockets: who may connect is ours to check. Programs send no
/// origin. A page that this very server handed out may always come back to it, by whatever name
/// it was reached.
fn check_origin(api: &Api, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let server = &api.settings().server;
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if server.allows_origin(origin) || (authority.is_some() && authority == host) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "FORBIDDEN",
        "This origin may not open live connections",
    ))
}

fn accept<S, F>(api: &Api, upgrade: WebSocketUpgrade, serve: S) -> Response
where
    S: FnOnce(Api, WebSocket) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    start(api);
    let api = api.clone();
    upgrade
        .read_buffer_size(READ_BYTES)
        .max_frame_size(SOCKET_FRAME_BYTES_MAX)
        .max_message_size(SOCKET_FRAME_BYTES_MAX)
        .on_upgrade(move |socket| serve(api, socket))
}
