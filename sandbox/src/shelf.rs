//! Files that customers attach, and how the platforms hand them out.
//!
//! `PUT /control/media/<name>` lays one down; a message that names it carries what its platform
//! carries: an address, or an id to ask with.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;

use crate::ledger::hold;

/// Whatever is handed out is called this: what a platform says of a file is not to be trusted.
const CLAIMED: &str = "image/jpeg";

/// The files.
#[derive(Default)]
pub(crate) struct Shelf {
    files: Mutex<HashMap<String, Bytes>>,
}

impl Shelf {
    /// Lays a file down, in the place of one of the same name.
    pub(crate) fn put(&self, name: &str, bytes: Bytes) {
        hold(&self.files).insert(name.to_owned(), bytes);
    }

    /// A file.
    pub(crate) fn get(&self, name: &str) -> Option<Bytes> {
        hold(&self.files).get(name).cloned()
    }

    /// Hands a file out; 404 when there is none.
    pub(crate) fn hand_out(&self, name: &str) -> Response {
        match self.get(name) {
            Some(bytes) => ([(header::CONTENT_TYPE, CLAIMED)], bytes).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }

    /// Promises a file and breaks off in the middle of it.
    pub(crate) fn break_off(&self, name: &str) -> Response {
        let Some(bytes) = self.get(name) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let half = bytes.slice(..bytes.len() / 2);
        let broken = Err(io::Error::other("a fault"));
        let body = Body::from_stream(stream::iter([Ok(half), broken]));
        let length = bytes.len().to_string();
        ([(header::CONTENT_LENGTH, length)], body).into_response()
    }
}
