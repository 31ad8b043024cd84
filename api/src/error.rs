//! What goes wrong, as clients see it: the only place that makes error envelopes (contract 1.10).
//!
//! A handler returns a [`Problem`]; it is answered in the structured form, and [`shaped`] turns it
//! into the flat one on the routes where a client puts `error` itself on the screen (an object
//! there blanks the page). Nothing internal gets into a message: failures are logged here, once,
//! with their chain, and answered with the route's own words.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::auth::TokenError;

/// Something a client did wrong or the hub could not do.
#[derive(Clone, Debug)]
pub struct Problem(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    retryable: bool,
    details: Option<Value>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
}

impl Problem {
    /// A problem that trying again does not solve.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Arc::new(Inner {
            status,
            code,
            message: message.into(),
            retryable: false,
            details: None,
            retry_after: None,
            allow: None,
        }))
    }

    /// Bad input.
    pub fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    }

    /// Bad input in one field or parameter.
    pub fn field(field: &str, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        let details = json!([{ "field": field, "message": message }]);
        Self::validation(message).with_details(details)
    }

    /// An id of nothing, or of something that is somebody else's.
    pub fn not_found(code: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// An address of nothing.
    pub fn nowhere() -> Self {
        Self::not_found("NOT_FOUND", "There is nothing at this address")
    }

    /// Something that cannot happen, did.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL_ERROR",
            "Internal server error",
        )
    }

    /// The same, and trying again may help.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        Arc::make_mut(&mut self.0).retryable = true;
        self
    }

    /// The same, with details for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        Arc::make_mut(&mut self.0).details = Some(details);
        self
    }

    /// The same, and trying again helps after so many seconds.
    #[must_use]
    pub fn after(self, seconds: u64) -> Self {
        let mut problem = self.retryable();
        Arc::make_mut(&mut problem.0).retry_after = Some(seconds);
        problem
    }

    /// The same, with the methods that the address does take.
    #[must_use]
    pub fn allowing(mut self, methods: &'static str) -> Self {
        Arc::make_mut(&mut self.0).allow = Some(methods);
        self
    }

    /// Its code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What to tell the person.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    fn body(&self, shape: Shape) -> Value {
        let Inner {
            code,
            message,
            retryable,
            details,
            ..
        } = &*self.0;
        let mut error = Map::new();
        error.insert("code".to_owned(), json!(code));
        error.insert("message".to_owned(), json!(message));
        if let Some(details) = details {
            error.insert("details".to_owned(), details.clone());
        }
        error.insert("retryable".to_owned(), json!(retryable));
        match shape {
            Shape::Structured => json!({ "error": error }),
            Shape::StructuredWithMessage => json!({ "error": error, "message": message }),
            Shape::Flat => {
                error.insert("error".to_owned(), json!(message));
                Value::Object(error)
            }
        }
    }

    fn respond(&self, shape: Shape) -> Response {
        let mut response = (self.0.status, Json(self.body(shape))).into_response();
        let headers = response.headers_mut();
        match self.0.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        if let Some(seconds) = self.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.0.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.respond(Shape::Structured)
    }
}

/// An address that does not take the method.
pub(crate) fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        "This address does not take that method",
    )
}

/// What a route answers when the store fails it.
#[derive(Clone, Copy, Debug)]
pub struct Failing {
    code: &'static str,
    message: &'static str,
    retryable: bool,
}

impl Failing {
    /// A failure that trying again may solve.
    pub const fn retryable(code: &'static str, message: &'static str) -> Self {
        Self {
            code,
            message,
            retryable: true,
        }
    }

    /// A failure that trying again does not solve.
    pub const fn for_good(code: &'static str, message: &'static str) -> Self {
        Self {
            code,
            message,
            retryable: false,
        }
    }

    /// The problem a store error becomes: 503 when the same call may work in a moment, 422 when it
    /// asks for more than one call may.
    pub fn because(self, error: hub_store::Error) -> Problem {
        if let hub_store::Error::TooMuch(most) = error {
            let message = format!(
                "This past takes more than {most} events to work out; an operator can build it \
                 with `hub replay inbox --until`"
            );
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Problem::new(status, "PAST_TOO_LONG", message);
        }
        if matches!(error, hub_store::Error::Erased) {
            // Erased while this request was on its way.
            return TokenError::Invalid.into();
        }
        if error.is_temporary() {
            tracing::warn!(
                error = chain(&error),
                code = self.code,
                "the store is not available"
            );
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Problem::new(status, self.code, self.message).retryable();
        }
        tracing::error!(error = chain(&error), code = self.code, "a request failed");
        self.problem()
    }

    /// The problem itself, when its cause is logged already.
    pub fn problem(self) -> Problem {
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, self.code, self.message);
        if self.retryable {
            problem.retryable()
        } else {
            problem
        }
    }
}

/// An error with everything that caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Most of our errors already quote their cause.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// How an error is laid out in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `{"error":{code, message, …}}`.
    Structured,
    /// The same with the message beside it.
    StructuredWithMessage,
    /// `{"error":"message", code, …}`.
    Flat,
}

/// The name of the schema that describes a route's errors.
pub fn envelope(method: &Method, path: &str, status: StatusCode) -> &'static str {
    match shape(method, path, status) {
        Shape::Structured => "Problem",
        Shape::StructuredWithMessage => "ProblemWithMessage",
        Shape::Flat => "FlatProblem",
    }
}

/// Which shape a route's errors have (contract 1.10, one line per row that is not the default).
fn shape(method: &Method, path: &str, status: StatusCode) -> Shape {
    let own = !matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS
    );
    let known = !matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
    );
    match (method, path) {
        (_, path) if path.starts_with("/api/telegram/") => Shape::Flat,
        (&Method::GET, "/api/conversations") if own => Shape::Flat,
        (&Method::GET, "/api/oauth/accounts") if status.is_server_error() => Shape::Flat,
        (&Method::POST, "/api/auth/callback/telegram" | "/api/oauth/callback/telegram") => {
            Shape::StructuredWithMessage
        }
        (_, path) if path.starts_with("/api/webhooks/") && known => Shape::Flat,
        _ => Shape::Structured,
    }
}

/// Lays errors out the way the route's clients read them.
pub async fn shaped(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = match request.extensions().get::<MatchedPath>() {
        Some(matched) => matched.as_str().to_owned(),
        None => request.uri().path().to_owned(),
    };
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>() else {
        return response;
    };
    let shape = shape(&method, &path, response.status());
    if shape == Shape::Structured {
        return response;
    }
    let mut reshaped = problem.respond(shape);
    for (name, value) in response.headers() {
        if !reshaped.headers().contains_key(name) {
            reshaped.headers_mut().append(name, value.clone());
        }
    }
    reshaped
}

/// Answers a handler that panicked. The panic itself is logged by the process's hook.
pub fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("not text");
    tracing::error!(panic = what, "a handler panicked");
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_error_is_text_with_its_parts_beside_it() {
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "FETCH_FAILED", "Sorry");
        assert_eq!(
            problem.clone().retryable().body(Shape::Flat),
            json!({"error": "Sorry", "code": "FETCH_FAILED", "message": "Sorry", "retryable": true})
        );
        assert_eq!(
            problem.body(Shape::Structured),
            json!({"error": {"code": "FETCH_FAILED", "message": "Sorry", "retryable": false}})
        );
    }

    #[tokio::test]
    async fn a_panic_becomes_an_answer_that_says_nothing() {
        use tower::ServiceExt as _;
        use tower_http::catch_panic::CatchPanicLayer;

        async fn boom() {
            panic!("secret words");
        }
        let router = axum::Router::new()
            .route("/", axum::routing::get(boom))
            .layer(CatchPanicLayer::custom(panicked));
        let request = Request::new(axum::body::Body::empty());
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 1024)
            .await
            .unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "INTERNAL_ERROR");
        assert_eq!(body["error"]["message"], "Internal server error");
    }

    #[test]
    fn shapes_follow_the_contract() {
        let of = |method, path, status| shape(&method, path, StatusCode::from_u16(status).unwrap());
        assert_eq!(of(Method::GET, "/api/conversations", 400), Shape::Flat);
        assert_eq!(
            of(Method::GET, "/api/conversations", 401),
            Shape::Structured
        );
        assert_eq!(of(Method::GET, "/api/oauth/accounts", 503), Shape::Flat);
        assert_eq!(
            of(Method::GET, "/api/oauth/accounts", 400),
            Shape::Structured
        );
        assert_eq!(
            of(Method::POST, "/api/telegram/auth/phone", 404),
            Shape::Flat
        );
        assert_eq!(
            of(Method::POST, "/api/webhooks/{platform}", 413),
            Shape::Flat
        );
        assert_eq!(
            of(Method::PUT, "/api/webhooks/{platform}", 405),
            Shape::Structured
        );
        let callback = "/api/auth/callback/telegram";
        assert_eq!(
            of(Method::POST, callback, 400),
            Shape::StructuredWithMessage
        );
        assert_eq!(of(Method::GET, callback, 400), Shape::Structured);
    }
}
