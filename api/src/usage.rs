//! Counts what authenticated people used (contract 5.5): every request with a token that was
//! answered with 2xx, by its route's template. A note in memory; no answer waits for it.

use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use hub_domain::id::UserId;

use crate::Api;

/// Where the extractor of callers leaves who they are.
type Slot = Arc<OnceLock<UserId>>;

/// Tells [`counted`] whose request this is.
pub(crate) fn is_of(parts: &Parts, user: UserId) {
    if let Some(slot) = parts.extensions.get::<Slot>() {
        let _told_before = slot.set(user);
    }
}

/// Counts a request once it has succeeded.
pub(crate) async fn counted(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let slot = Slot::default();
    request.extensions_mut().insert(Arc::clone(&slot));
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    if let (Some(user), Some(path)) = (slot.get(), path)
        && response.status().is_success()
    {
        let endpoint = format!("{method} {}", path.as_str());
        api.store().usage().request(*user, endpoint);
    }
    response
}
