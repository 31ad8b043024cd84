//! Media: finding out where the bytes of one are, and handing ours over ([`upload`]).

pub mod upload;

use super::call::CallFailure;
use super::fact::Media;
use super::http::{HttpRequest, HttpResponse, TransportError};

/// The next move of finding out where a medium is.
#[derive(Debug)]
pub enum MediaStep {
    /// Make this call to the platform and come back with its answer.
    Call(HttpRequest),
    /// The bytes are the body of the answer to this GET. Where it goes may come from outside, so it
    /// is not trusted; its headers go to the origin it names and to no other.
    Fetch(HttpRequest),
    /// The platform does not hand it out, or no longer.
    Gone,
    /// It did not work.
    Failed(CallFailure),
}

/// A conversation with the platform that ends with where a medium is. Bounded: it ends after a few
/// calls.
pub trait MediaFlow: Send {
    /// The next step. The first call gets `None`, each further one the answer to the last request.
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> MediaStep;
}

/// For platforms that give an address with the message: nothing has to be asked.
pub struct Direct {
    url: Option<String>,
}

impl Direct {
    /// The address that came with the medium.
    pub fn new(medium: &Media) -> Self {
        let url = medium.url.clone();
        Self {
            url: url.filter(|_| medium.available != Some(false)),
        }
    }
}

impl MediaFlow for Direct {
    fn next(&mut self, _answer: Option<Result<HttpResponse, TransportError>>) -> MediaStep {
        match self.url.take() {
            Some(url) => MediaStep::Fetch(HttpRequest::get(url)),
            None => MediaStep::Gone,
        }
    }
}
