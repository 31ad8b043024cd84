//! The driver between sans-IO adapters and the network. Addresses that came from outside are for
//! [`crate::fetch`].
//!
//! No redirects (a followed POST is a second send), separate limits for connecting and for the
//! whole call, answers read up to a bound. What matters is told apart: whether the request
//! certainly did not leave, or may have.

use futures::StreamExt as _;
use hub_config::WorkerSettings;
use hub_domain::limits::RESPONSE_BODY_BYTES_MAX;
use hub_domain::platform::http::{HttpRequest, HttpResponse, Method, TransportError};

/// Makes the calls that adapters describe.
pub struct Driver {
    client: reqwest::Client,
}

impl Driver {
    /// A driver with the configured time-outs.
    pub fn new(settings: &WorkerSettings) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.http_connect_timeout)
            .timeout(settings.http_timeout)
            .user_agent(concat!("hub/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client })
    }

    /// Makes one call. Nothing of it is logged: URLs and bodies carry tokens.
    pub async fn call(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
            Method::Patch => reqwest::Method::PATCH,
        };
        let mut builder = self.client.request(method, &request.url).body(request.body);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let response = builder.send().await.map_err(|error| classify(&error))?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect();
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            // A 2xx whose body broke off may still have had its effect.
            let chunk = chunk.map_err(|_| TransportError::Unclear)?;
            let room = RESPONSE_BODY_BYTES_MAX - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == RESPONSE_BODY_BYTES_MAX {
                break;
            }
        }
        Ok(HttpResponse {
            status,
            headers,
            body,
        })
    }
}

fn classify(error: &reqwest::Error) -> TransportError {
    if error.is_connect() || error.is_builder() {
        TransportError::NotSent
    } else {
        TransportError::Unclear
    }
}
