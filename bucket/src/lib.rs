//! A bucket of an S3-compatible service, for whoever keeps media (`hub_store::objects`).
//!
//! A crate of its own because it has an HTTP client, which neither the store nor the API is to have:
//! only the binary depends on it, opens the bucket and hands it over as a capability that can put, get,
//! list and delete objects of that bucket and nothing else. So the API still has no way to call
//! anybody.
//!
//! The client is the hub's one reqwest (rustls, HTTP/1.1) behind the seam of `object_store`, which
//! makes and signs the requests (AWS Signature 4) and tries those again that may be. Promises: no
//! redirect is followed, a call that stalls ends, and no error contains a secret. Plain http only where
//! the endpoint in the settings says so.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hub_config::BucketSettings;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientOptions, ObjectStore, RetryConfig};

/// A connection that was not made by then will not be.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Longest without a byte from the service.
const STALLED_AFTER: Duration = Duration::from_secs(20);

/// Tries again of what may be tried again.
const RETRIES_MAX: usize = 3;

/// All tries together begin within this time, which is shorter than a job's lease.
const RETRIES_WITHIN: Duration = Duration::from_secs(30);

/// Why a bucket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The settings do not name one.
    #[error("the bucket's settings: {0}")]
    Settings(#[from] object_store::Error),
    /// There is no HTTP client.
    #[error("an HTTP client for the bucket: {0}")]
    Client(#[from] reqwest::Error),
}

/// Opens the bucket. Nobody is asked whether it is there before it is used.
pub fn open(settings: &BucketSettings) -> Result<Arc<dyn ObjectStore>, BucketError> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(STALLED_AFTER)
        .user_agent(concat!("hub/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.name)
        .with_region(&settings.region)
        .with_access_key_id(&settings.access_key_id)
        .with_secret_access_key(settings.secret_access_key.expose())
        .with_retry(RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRIES_WITHIN,
            ..RetryConfig::default()
        })
        .with_http_connector(Service(client));
    if let Some(endpoint) = &settings.endpoint {
        builder = builder
            .with_allow_http(endpoint.starts_with("http://"))
            .with_endpoint(endpoint);
    }
    Ok(Arc::new(builder.build()?))
}

/// The client that requests are made with.
#[derive(Clone)]
struct Service(reqwest::Client);

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl HttpConnector for Service {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Service {
    fn call<'a, 'answer>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'answer>>
    where
        'a: 'answer,
        Self: 'answer,
    {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let answer = self
                .0
                .request(parts.method, parts.uri.to_string())
                .headers(parts.headers)
                .body(reqwest::Body::wrap(body))
                .send()
                .await
                .map_err(failed)?;
            let answer: http::Response<reqwest::Body> = answer.into();
            let (parts, body) = answer.into_parts();
            let body = HttpResponseBody::new(body.map_err(failed));
            Ok(HttpResponse::from_parts(parts, body))
        })
    }
}

/// How a call failed, in the words that decide whether it is tried again. The address is left out: it
/// says which person and object.
fn failed(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_request() || error.is_body() {
        // Every request is one that may be made twice.
        HttpErrorKind::Interrupted
    } else {
        HttpErrorKind::Unknown
    };
    HttpError::new(kind, error.without_url())
}
