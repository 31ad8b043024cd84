//! Fetching bytes from an address that came from outside.
//!
//! Whoever writes to us may make the hub ask for a URL, so it must not become a way into the network
//! the hub is in. Promises: only https on its own port, without a user's name in the URL; a name is
//! resolved once for each connection, and the connection goes to an address that resolution gave
//! and that is public ([`public`]), so that there is no moment between checking and connecting;
//! addresses written into the URL are checked the same way; no proxy of the environment takes over;
//! at most [`REDIRECTS_MAX`] redirects, each checked like the first URL; no header crosses to
//! another origin; no more bytes are read than the limit. Origins named in the settings (the sandbox,
//! a Bot API server of one's own) are exempt from all but the limits, and so is nobody they redirect
//! to. What is fetched is never interpreted here.

pub mod public;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use hub_config::{Settings, WorkerSettings};
use hub_domain::platform::http::HttpRequest;
use reqwest::dns::Resolve;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, Url};

use public::{NotPublic, PublicOnly, SystemResolver, is_public};

/// Redirects that are followed. Platforms use one, to their content networks.
pub const REDIRECTS_MAX: usize = 3;

/// The longest wait taken from an answer.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Why there are no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The address is none that the hub fetches from.
    Refused,
    /// There is more of it than the hub takes.
    TooBig,
    /// Whoever has it does not hand it out.
    Gone,
    /// It may work later, no earlier than after the wait that was asked for.
    Later {
        /// The wait, if one was asked for.
        wait: Option<Duration>,
        /// What happened; nothing of the URL, which may carry a token.
        reason: String,
    },
}

/// Fetches from public addresses and trusted origins.
pub struct Fetcher {
    /// Connects to public addresses only.
    public: Client,
    /// Connects anywhere.
    anywhere: Client,
    trusted: Vec<String>,
    bytes_max: usize,
}

impl Fetcher {
    /// A fetcher as the settings want it.
    pub fn new(settings: &Settings) -> Result<Self, reqwest::Error> {
        Self::with_resolver(settings, Arc::new(SystemResolver))
    }

    /// The same, with names resolved by somebody else.
    pub fn with_resolver(
        settings: &Settings,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            public: builder(&settings.worker)
                .https_only(true)
                .dns_resolver(Arc::new(PublicOnly::new(resolver)))
                .build()?,
            anywhere: builder(&settings.worker).build()?,
            trusted: settings.media.trusted_origins.clone(),
            bytes_max: settings.media.bytes_max,
        })
    }

    /// The body of the answer to a GET, within this time.
    pub async fn fetch(
        &self,
        request: &HttpRequest,
        within: Duration,
    ) -> Result<Vec<u8>, FetchError> {
        match tokio::time::timeout(within, self.follow(request)).await {
            Ok(done) => done,
            Err(_) => Err(later("it took too long")),
        }
    }

    async fn follow(&self, request: &HttpRequest) -> Result<Vec<u8>, FetchError> {
        let mut url = Url::parse(&request.url).map_err(|_| FetchError::Refused)?;
        let first = url.origin();
        for _ in 0..=REDIRECTS_MAX {
            let mut call = self.client_for(&url)?.get(url.clone());
            if url.origin() == first {
                for (name, value) in &request.headers {
                    call = call.header(name, value);
                }
            }
            let answer = call.send().await.map_err(|error| classify(&error))?;
            if !answer.status().is_redirection() {
                return self.body(answer).await;
            }
            let next = answer.headers().get(LOCATION);
            let next = next
                .and_then(|it| it.to_str().ok())
                .ok_or(FetchError::Gone)?;
            url = url.join(next).map_err(|_| FetchError::Refused)?;
        }
        Err(FetchError::Refused)
    }

    fn client_for(&self, url: &Url) -> Result<&Client, FetchError> {
        let origin = url.origin().ascii_serialization();
        if self.trusted.contains(&origin) {
            return Ok(&self.anywhere);
        }
        // Connectors ask no resolver about an address: it is checked here.
        let is_allowed = match url.host() {
            Some(url::Host::Ipv4(it)) => is_public(it.into()),
            Some(url::Host::Ipv6(it)) => is_public(it.into()),
            Some(url::Host::Domain(_)) => true,
            None => false,
        };
        let is_plain = url.scheme() == "https"
            && url.port_or_known_default() == Some(443)
            && url.username().is_empty()
            && url.password().is_none();
        if is_allowed && is_plain {
            Ok(&self.public)
        } else {
            Err(FetchError::Refused)
        }
    }

    async fn body(&self, answer: Response) -> Result<Vec<u8>, FetchError> {
        let status = answer.status().as_u16();
        match status {
            200..=299 => {}
            408 | 425 | 429 | 500..=599 => {
                return Err(FetchError::Later {
                    wait: asked_wait(answer.headers()),
                    reason: format!("HTTP {status}"),
                });
            }
            _ => return Err(FetchError::Gone),
        }
        if answer
            .content_length()
            .is_some_and(|it| it > self.bytes_max as u64)
        {
            return Err(FetchError::TooBig);
        }
        let mut bytes = Vec::new();
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| later("it broke off"))?;
            if bytes.len() + chunk.len() > self.bytes_max {
                return Err(FetchError::TooBig);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn builder(settings: &WorkerSettings) -> reqwest::ClientBuilder {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would resolve names itself.
        .no_proxy()
        .connect_timeout(settings.http_connect_timeout)
        .user_agent(concat!("hub/", env!("CARGO_PKG_VERSION")))
}

fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}

fn later(reason: &str) -> FetchError {
    FetchError::Later {
        wait: None,
        reason: reason.to_owned(),
    }
}

/// Whether a connection failed because no address was public, or for another reason.
fn classify(error: &reqwest::Error) -> FetchError {
    let mut cause = error.source();
    while let Some(it) = cause {
        if it.is::<NotPublic>() {
            return FetchError::Refused;
        }
        cause = it.source();
    }
    if error.is_builder() {
        return FetchError::Refused;
    }
    later(if error.is_connect() {
        "it could not be reached"
    } else {
        "there was no answer"
    })
}
