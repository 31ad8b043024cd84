//! Media: finding out where the bytes of one are, and handing ours over ([`upload`]).

pub mod upload;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::call::CallFailure;
use super::fact::Media;
use super::http::{HttpRequest, HttpResponse, TransportError};

/// The next move of finding out where a medium is.
#[derive(Debug)]
pub enum MediaStep {
    /// Make this call to the platform and come back with its answer.
    Call(HttpRequest),
    /// The bytes are there.
    Fetch(Download),
    /// The platform does not hand it out, or no longer.
    Gone,
    /// It did not work.
    Failed(CallFailure),
}

/// Bytes to get.
#[derive(Debug)]
pub struct Download {
    /// They are the body of the answer to this GET. Where it goes may come from outside, so it is
    /// not trusted; its headers go to the origin it names and to no other.
    pub request: HttpRequest,
    /// Their SHA-256, where the platform tells it: other bytes are not the medium.
    pub sha256: Option<[u8; 32]>,
}

impl From<HttpRequest> for Download {
    fn from(request: HttpRequest) -> Self {
        Self {
            request,
            sha256: None,
        }
    }
}

/// A conversation with the platform that ends with where a medium is. Bounded: it ends after a few
/// calls.
pub trait MediaFlow: Send {
    /// The next step. The first call gets `None`, each further one the answer to the last request.
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> MediaStep;

    /// The step after whoever has the bytes did not hand them out.
    fn refused(&mut self) -> MediaStep {
        MediaStep::Gone
    }
}

/// Where nothing has to be asked.
pub struct Direct {
    request: Option<HttpRequest>,
}

impl Direct {
    /// The address that came with the medium, asked without any token.
    pub fn new(medium: &Media) -> Self {
        let url = medium.url.as_deref();
        Self {
            request: url
                .filter(|_| medium.available != Some(false))
                .map(HttpRequest::get),
        }
    }

    /// This request.
    pub fn by(request: HttpRequest) -> Self {
        Self {
            request: Some(request),
        }
    }
}

impl MediaFlow for Direct {
    fn next(&mut self, _answer: Option<Result<HttpResponse, TransportError>>) -> MediaStep {
        match self.request.take() {
            Some(request) => MediaStep::Fetch(request.into()),
            None => MediaStep::Gone,
        }
    }
}

/// Whether two addresses are of one origin: what may be told to the one may be told to the other.
pub fn is_same_origin(one: &str, other: &str) -> bool {
    let origin = |text: &str| url::Url::parse(text).ok().map(|it| it.origin());
    let one = origin(one).filter(url::Origin::is_tuple);
    one.is_some() && one == origin(other)
}

/// A SHA-256 as platforms write one: in hex or in base64.
pub fn sha256(text: &str) -> Option<[u8; 32]> {
    let hex = hex::decode(text).ok();
    let bytes = hex.filter(|it| it.len() == 32);
    let bytes = bytes.or_else(|| STANDARD.decode(text).ok())?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let ours = "https://graph.example/v1.0";
        assert!(is_same_origin("https://graph.example:443/x?y=1", ours));
        for elsewhere in [
            "https://graph.example.evil.example/v1.0",
            "http://graph.example/v1.0",
            "https://graph.example:8443/v1.0",
            "https://x@evil.example/graph.example",
            "data:text/plain,x",
            "/v1.0/me",
            "",
        ] {
            assert!(!is_same_origin(elsewhere, ours), "{elsewhere}");
            assert!(!is_same_origin(elsewhere, elsewhere) || elsewhere.contains("//"));
        }
    }

    #[test]
    fn a_digest_in_either_spelling() {
        let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let base64 = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";
        assert_eq!(sha256(hex).unwrap()[..2], [0x9f, 0x86]);
        assert_eq!(sha256(hex), sha256(base64));
        for none in ["", "9f86", "not one", &hex[2..]] {
            assert_eq!(sha256(none), None, "{none}");
        }
    }
}
