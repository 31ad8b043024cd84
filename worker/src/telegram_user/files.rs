//! Files of messages, read through the session that one process holds.
//!
//! Promise: what is returned is the whole file of that message, and no more than was allowed of it.
//! Where a file is, is asked anew each time, because Telegram's word for it is good for hours only;
//! when it expires in the middle it is asked for again, and reading goes on where it was: the same
//! number of a file stands for the same bytes. Each piece is a call of its own, so that what the
//! session hears and sends goes on in between.
//!
//! It fails by having nothing: a message or a file that is not there any more is gone, a pause that
//! Telegram asks for is waited for while there is time and then left to the caller.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_domain::id::AccountId;
use hub_domain::platform::telegram_user::{Chat, PART_BYTES};

use super::hold::{Ask, Got};
use super::keeper::{Sessions, other_answer};
use super::{CALL_MAX, Failure};

/// Times that one file's place is asked for: a place is good for hours.
const PLACES_MAX: usize = 3;

/// A part of a file of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct FilePart {
    /// The file's number.
    pub file: i64,
    /// Which one this is, from 0.
    pub part: i32,
    /// How many there are.
    pub parts: i32,
    /// Whether the file is handed over as a big one.
    pub is_big: bool,
    /// The bytes.
    pub bytes: Arc<[u8]>,
}

/// Without its bytes.
impl fmt::Debug for FilePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part {} of {}", self.part, self.parts)
    }
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Telegram's number of it. Another number is another file.
    pub id: String,
    /// How many bytes it has, where Telegram says so.
    pub size: Option<u64>,
    /// Where, in the session's own words.
    pub place: Vec<u8>,
}

/// A file, by the message it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Of {
    /// The chat.
    pub chat: Chat,
    /// The message.
    pub message: i64,
    /// The file's number, as it was when the message was told.
    pub file: String,
}

/// Why there are no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotHad {
    /// It is not there any more.
    Gone,
    /// There are more than was allowed.
    TooBig,
    /// A call failed.
    Failed(Failure),
}

impl From<Failure> for NotHad {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Sessions {
    /// The bytes of a file, at most so many, within this time and the one of a call.
    pub async fn read(
        &self,
        account: AccountId,
        of: &Of,
        bytes_max: u64,
        within: Duration,
    ) -> Result<Vec<u8>, NotHad> {
        let (begun, mut bytes) = (Instant::now(), Vec::new());
        let mut place: Option<Located> = None;
        let mut places = 0;
        loop {
            let left = within.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let reason = "the file did not come in time".to_owned();
                return Err(Failure::NotSent { reason }.into());
            }
            let failure = match &place {
                None if places == PLACES_MAX => {
                    let reason = "the place of the file does not stay".to_owned();
                    return Err(Failure::NotSent { reason }.into());
                }
                None => match self.locate(account, of).await {
                    Ok(found) => {
                        place = Some(found.ok_or(NotHad::Gone)?);
                        places += 1;
                        continue;
                    }
                    Err(failure) => failure,
                },
                Some(file) if file.size.is_some_and(|size| size > bytes_max) => {
                    return Err(NotHad::TooBig);
                }
                Some(file) => {
                    let piece = self.piece(account, file, bytes.len() as u64).await;
                    match piece {
                        Ok(piece) => {
                            bytes.extend_from_slice(&piece);
                            if bytes.len() as u64 > bytes_max {
                                return Err(NotHad::TooBig);
                            }
                            let had = bytes.len() as u64;
                            match file.size {
                                Some(size) if size <= had => return Ok(bytes),
                                None if piece.len() < PART_BYTES => return Ok(bytes),
                                Some(_) if piece.len() < PART_BYTES => {
                                    let reason = "the file ended too early".to_owned();
                                    return Err(Failure::NotSent { reason }.into());
                                }
                                _ => continue,
                            }
                        }
                        Err(failure) => failure,
                    }
                }
            };
            match failure {
                Failure::Moved { .. } => place = None,
                Failure::Wait { seconds, .. } if Duration::from_secs(seconds) + CALL_MAX < left => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                failure => return Err(failure.into()),
            }
        }
    }

    /// Where the file is, unless the message has another one by now.
    async fn locate(&self, account: AccountId, of: &Of) -> Result<Option<Located>, Failure> {
        let ask = Ask::Locate(of.chat.clone(), of.message);
        match self.ask(account, ask).await? {
            Got::Located(found) => Ok(found.filter(|it| it.id == of.file)),
            _ => Err(other_answer()),
        }
    }

    async fn piece(
        &self,
        account: AccountId,
        file: &Located,
        offset: u64,
    ) -> Result<Vec<u8>, Failure> {
        match self.ask(account, Ask::Read(file.clone(), offset)).await? {
            Got::Piece(bytes) => Ok(bytes),
            _ => Err(other_answer()),
        }
    }
}
