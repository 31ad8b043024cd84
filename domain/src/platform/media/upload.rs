//! Handing our media over.
//!
//! Platforms take a medium in one of two ways: with the message that shows it, or before, for a
//! handle that the message names. An [`UploadFlow`] is the second way. What each takes at all is in
//! its capabilities ([`Takes`]), so that the API can refuse the rest before anything is queued.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::http::{HttpRequest, HttpResponse, TransportError};
use super::super::{Capabilities, SendOutcome};
use crate::event::MessageType;

/// A million bytes, as platforms count them when they are strict.
pub const MB: u64 = 1_000_000;

/// Media that a platform takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// What a client calls them.
    pub kind: MessageType,
    /// MIME types of the bytes; none for any.
    pub types: &'static [&'static str],
    /// Largest one, in bytes.
    pub bytes_max: u64,
    /// Longest text beside one, in the platform's unit; 0 when there is no room for any.
    pub caption_max: usize,
}

/// Why a platform does not take a medium, in words for the person who sends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It takes none of the kind, or none at all.
    #[error("media of this kind cannot be sent there")]
    Kind,
    /// It takes others.
    #[error("{content_type} cannot be sent there, but {expected}")]
    Type {
        /// What the bytes are.
        content_type: String,
        /// What they would have to be.
        expected: String,
    },
    /// It takes smaller ones.
    #[error("it has {size} bytes of at most {bytes_max}")]
    Size {
        /// How many bytes there are.
        size: u64,
        /// How many there may be.
        bytes_max: u64,
    },
    /// It takes it, but not with so much text.
    #[error("{}", no_room(*.length, *.caption_max))]
    Caption {
        /// How long the text is.
        length: usize,
        /// How long it may be.
        caption_max: usize,
    },
}

fn no_room(length: usize, caption_max: usize) -> String {
    match caption_max {
        0 => "there is no room for a text beside it: send the text as a message of its own".into(),
        most => format!("the text beside it is too long: {length} of at most {most}"),
    }
}

impl Capabilities {
    /// Whether the platform takes such a medium with a text of this length.
    pub fn take(
        &self,
        kind: MessageType,
        content_type: &str,
        size: u64,
        text_length: usize,
    ) -> Result<(), NotTaken> {
        let of_kind: Vec<&Takes> = self.media.iter().filter(|it| it.kind == kind).collect();
        if of_kind.is_empty() {
            return Err(NotTaken::Kind);
        }
        let fits = |it: &&&Takes| it.types.is_empty() || it.types.contains(&content_type);
        let of_type: Vec<_> = of_kind.iter().filter(fits).collect();
        if of_type.is_empty() {
            let expected: Vec<&str> = of_kind.iter().flat_map(|it| it.types).copied().collect();
            return Err(NotTaken::Type {
                content_type: content_type.to_owned(),
                expected: expected.join(", "),
            });
        }
        let bytes_max = of_type.iter().map(|it| it.bytes_max).max();
        let bytes_max = bytes_max.unwrap_or_default();
        if size > bytes_max {
            return Err(NotTaken::Size { size, bytes_max });
        }
        let of_size = of_type.iter().filter(|it| size <= it.bytes_max);
        let caption_max = of_size.map(|it| it.caption_max).max().unwrap_or_default();
        if text_length > caption_max {
            return Err(NotTaken::Caption {
                length: text_length,
                caption_max,
            });
        }
        Ok(())
    }
}

/// A medium to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Medium {
    /// What a client calls it.
    pub kind: MessageType,
    /// What the bytes are, by their content.
    pub content_type: String,
    /// What its owner called it.
    pub name: String,
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// Where a platform that loads files itself gets it, for a while.
    pub address: String,
    /// What the platform gave for it, once it was handed over.
    pub handle: Option<String>,
}

impl Medium {
    /// The first word of its type.
    pub fn family(&self) -> &str {
        self.content_type.split('/').next().unwrap_or_default()
    }
}

/// Without its bytes and its name.
impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.content_type, self.bytes.len())
    }
}

/// The next move of handing a medium over.
#[derive(Debug)]
pub enum UploadStep {
    /// Make this call and come back with its answer.
    Call(HttpRequest),
    /// The platform works on it: come back with `None` after this time.
    Wait(Duration),
    /// It is there, under this handle.
    Done(String),
    /// It did not work: what that means for the message. Never [`SendOutcome::Sent`]; where it says
    /// unclear, trying again is harmless.
    Failed(SendOutcome),
}

/// A conversation with the platform that hands a medium over. Bounded: it ends after the calls that
/// its size takes.
pub trait UploadFlow: Send {
    /// The next step. The first call gets `None`, as does one after [`UploadStep::Wait`]; each other
    /// one gets the answer to the last request.
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> UploadStep;
}

/// For platforms that take the whole medium in one call.
pub struct OneCall {
    request: Option<HttpRequest>,
    read: fn(&Result<HttpResponse, TransportError>) -> SendOutcome,
}

impl OneCall {
    /// This call; `read` says what its answer means, with the handle for a message id.
    pub fn new(
        request: HttpRequest,
        read: fn(&Result<HttpResponse, TransportError>) -> SendOutcome,
    ) -> Self {
        Self {
            request: Some(request),
            read,
        }
    }
}

impl UploadFlow for OneCall {
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> UploadStep {
        match (self.request.take(), answer) {
            (Some(request), _) => UploadStep::Call(request),
            (None, Some(answer)) => step((self.read)(&answer)),
            (None, None) => UploadStep::Failed(SendOutcome::Backoff {
                reason: "the upload had no answer".into(),
            }),
        }
    }
}

/// How an upload goes on whose last answer is read like that of a send.
pub fn step(outcome: SendOutcome) -> UploadStep {
    match outcome {
        SendOutcome::Sent {
            platform_message_id: handle,
        } => UploadStep::Done(handle),
        failed => UploadStep::Failed(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{Receipts, Reconcile, Tells, TextUnit};

    const CAN: Capabilities = Capabilities {
        text_max: 10,
        text_unit: TextUnit::CodePoints,
        media: &[
            Takes {
                kind: MessageType::Image,
                types: &["image/png", "image/jpeg"],
                bytes_max: 100,
                caption_max: 5,
            },
            Takes {
                kind: MessageType::File,
                types: &["audio/ogg"],
                bytes_max: 10,
                caption_max: 0,
            },
            Takes {
                kind: MessageType::File,
                types: &["audio/wav"],
                bytes_max: 10,
                caption_max: 9,
            },
            Takes {
                kind: MessageType::File,
                types: &[],
                bytes_max: 200,
                caption_max: 5,
            },
        ],
        reconcile: Reconcile::Never,
        budget: (1, Duration::from_secs(1)),
        tells: Tells {
            webhook: true,
            receipts: Receipts::None,
            edits: false,
            deletions: false,
            reactions: false,
            typing: false,
        },
        reply_window: None,
    };

    #[test]
    fn what_a_platform_takes() {
        use MessageType::{File, Image, Video};
        assert_eq!(CAN.take(Image, "image/png", 100, 5), Ok(()));
        assert_eq!(CAN.take(Video, "video/mp4", 1, 0), Err(NotTaken::Kind));
        let gif = CAN.take(Image, "image/gif", 1, 0).unwrap_err();
        assert_eq!(
            gif.to_string(),
            "image/gif cannot be sent there, but image/png, image/jpeg"
        );
        let big = CAN.take(Image, "image/png", 101, 0).unwrap_err();
        assert_eq!(big.to_string(), "it has 101 bytes of at most 100");
        let long = CAN.take(Image, "image/png", 1, 6).unwrap_err();
        assert_eq!(
            long,
            NotTaken::Caption {
                length: 6,
                caption_max: 5
            }
        );
        // The wider row counts where the narrow one has no room.
        assert_eq!(CAN.take(File, "audio/ogg", 11, 5), Ok(()));
        assert_eq!(CAN.take(File, "audio/ogg", 1, 5), Ok(()));
        // Words are for a row that has room for the file.
        assert_eq!(CAN.take(File, "audio/wav", 10, 9), Ok(()));
        let wordy = CAN.take(File, "audio/wav", 11, 9);
        assert!(matches!(
            wordy,
            Err(NotTaken::Caption { caption_max: 5, .. })
        ));
    }
}
