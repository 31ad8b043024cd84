//! The API described in OpenAPI 3.1, made from the code.
//!
//! A route and its description are registered together (`utoipa-axum`), so there is one list. What
//! holds for many routes is written here once and added to each: the errors of a missing token, of
//! an unreadable body, of a store that does not answer, and the envelope each error has, which
//! [`crate::error`] decides. What a description says is held against real answers by the tests of
//! the surface: every answer of every one of them.
//!
//! It fails when it says something else than the code does; nothing reads it at run time but people
//! and their tools.

pub mod answer;
pub mod ask;
pub mod schema;

use std::sync::LazyLock;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Server};
use utoipa::{Modify, OpenApi};

use crate::error::envelope;
use crate::limit::is_counted;
use crate::routes::documented;

/// What is there before any route is.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hub",
        description = "One inbox over many platforms. Ids are UUIDs, times are RFC 3339 in UTC with \
            milliseconds, and every address may end in a slash. Fields a request has in excess are \
            ignored; answers may get new fields."
    ),
    components(schemas(
        schema::Problem,
        schema::ProblemDetail,
        schema::ProblemWithMessage,
        schema::FlatProblem,
        schema::DebugProblem
    )),
    modifiers(&Surroundings),
    tags(
        (name = "Sessions", description = "Registering, logging in, and who am I"),
        (name = "Accounts", description = "Connecting platforms, and what is connected"),
        (name = "Conversations", description = "The inbox"),
        (name = "Messages", description = "Reading and sending"),
        (name = "Telegram", description = "User accounts of Telegram"),
        (name = "Real time", description = "What happens, as it happens"),
        (name = "Webhooks", description = "What platforms push"),
        (name = "Operation", description = "For those who run a hub"),
    )
)]
pub struct Base;

struct Surroundings;

impl Modify for Surroundings {
    fn modify(&self, document: &mut Document) {
        // Wherever the document came from.
        document.servers = Some(vec![Server::new("/")]);
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("An access token of `POST /api/auth/login`."))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The document, as it is served.
pub fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let document = serde_json::to_value(documented().into_openapi());
        finished(document.expect("a document is plain data")).to_string()
    });
    &DOCUMENT
}

/// Adds to every route what holds for many.
fn finished(mut document: Value) -> Value {
    let Some(paths) = document["paths"].as_object_mut() else {
        return document;
    };
    for (path, item) in paths {
        let operations = item.as_object_mut().into_iter().flatten();
        for (method, operation) in operations.filter(|(_, it)| it.get("responses").is_some()) {
            operation["operationId"] = json!(operation_id(method, path));
            let method = method.to_uppercase().parse().unwrap_or(Method::GET);
            forbid_null_parameters(operation);
            add_common_errors(&method, path, operation);
            add_envelopes(&method, path, operation);
        }
    }
    document
}

/// Generators of clients make a function's name of it: `getMessagesById`.
fn operation_id(method: &str, path: &str) -> String {
    let parts = path
        .split(['/', '-', '.', '_'])
        .filter(|part| !part.is_empty() && *part != "api");
    parts.fold(method.to_owned(), |id, part| {
        match part.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            Some(parameter) => format!("{id}By{}", capitalised(parameter)),
            None => format!("{id}{}", capitalised(part)),
        }
    })
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    first.to_uppercase() + rest
}

/// A parameter is there or it is not; what may be left out is not null.
fn forbid_null_parameters(operation: &mut Value) {
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let kind = &mut parameter["schema"]["type"];
        if let Some(kinds) = kind.as_array_mut() {
            kinds.retain(|kind| kind != "null");
            *kind = kinds.remove(0);
        }
    }
}

fn add_common_errors(method: &Method, path: &str, operation: &mut Value) {
    let needs_token = operation.get("security").is_some();
    let has_body = operation.get("requestBody").is_some();
    let Some(responses) = operation["responses"].as_object_mut() else {
        return;
    };
    let mut add = |status: StatusCode, description: &str| {
        let response = responses.entry(status.as_str());
        response.or_insert_with(|| json!({ "description": description }));
    };
    if needs_token {
        add(
            StatusCode::UNAUTHORIZED,
            "`UNAUTHORIZED`, `INVALID_TOKEN_FORMAT`, `INVALID_TOKEN` or `TOKEN_EXPIRED`",
        );
        if is_counted(method, path) {
            add(
                StatusCode::TOO_MANY_REQUESTS,
                "`RATE_LIMIT_EXCEEDED`: wait as many seconds as `Retry-After` says",
            );
        }
    }
    if has_body {
        add(
            StatusCode::BAD_REQUEST,
            "`VALIDATION_ERROR`: the body is not what it should be",
        );
        add(
            StatusCode::REQUEST_TIMEOUT,
            "`VALIDATION_ERROR`: the body took too long to arrive",
        );
        add(
            StatusCode::PAYLOAD_TOO_LARGE,
            "`VALIDATION_ERROR`: the body is too large",
        );
    }
    add(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "`VALIDATION_ERROR`: the body is compressed",
    );
    // A route with a failure of its own asks the store.
    let asks_store = responses.get("500").cloned();
    if let Some(mut failing) = asks_store {
        let own = failing["description"].as_str().unwrap_or_default();
        failing["description"] = json!(format!("{own}; the same request may work in a moment"));
        failing["headers"] = json!({ "Retry-After": {
            "description": "Seconds to wait",
            "schema": { "type": "integer" },
        } });
        responses.entry("503").or_insert(failing);
    } else {
        let description = "`INTERNAL_ERROR`: something that cannot happen, did";
        responses.insert("500".to_owned(), json!({ "description": description }));
    }
}

/// Errors that say nothing about their body have the envelope of their route.
fn add_envelopes(method: &Method, path: &str, operation: &mut Value) {
    let responses = operation["responses"].as_object_mut();
    for (status, response) in responses.into_iter().flatten() {
        let Some(status) = status
            .parse()
            .ok()
            .and_then(|it| StatusCode::from_u16(it).ok())
        else {
            continue;
        };
        if status.as_u16() < 400 || response.get("content").is_some() {
            continue;
        }
        let schema = format!("#/components/schemas/{}", envelope(method, path, status));
        let content = json!({ "application/json": { "schema": { "$ref": schema } } });
        response["content"] = content;
    }
}
