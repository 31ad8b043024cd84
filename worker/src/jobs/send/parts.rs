//! A file on its way to Telegram, by somebody's own session, before the message that shows it.
//!
//! Telegram takes a file in parts, under a number that we draw, and then a message that names the
//! number. Promise: a message is attempted only when Telegram has said of every part that it has it;
//! the file is read, opened and handed over part by part and is never in memory as a whole. Nobody sees
//! a part, so one whose end is unknown is handed over again, and a process that died leaves parts that
//! Telegram forgets: the next one begins with a number of its own. What a message became of is decided
//! by its own number alone (`worker/src/telegram_user/keeper.rs`).
//!
//! How far a file has got is remembered in this process, so that one which takes long goes on in the
//! next turn, with a lease of its own, and a message that has to be sent again does not hand it over
//! again. It is forgotten when Telegram says that parts are missing: then all of it is handed over anew.
//!
//! It fails like any upload (`super::upload`): as an attempt that failed, but for a message of which
//! nobody knows whether it was sent. That one only waits: for the next turn, or until it is uncertain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use hub_domain::event::{FailureClass, MessageType};
use hub_domain::platform::SendOutcome;
use hub_domain::platform::telegram_user::{Handed, PART_BYTES};
use hub_domain::projection::inbox::{State, StoredFile};
use hub_store::Result;
use hub_store::entity::message;
use hub_store::objects::{Object, Sought};
use hub_store::token::Held;
use uuid::Uuid;

use super::upload::{Ended, LONG, UPLOAD_MAX, stored};
use super::{Next, Turn};
use crate::telegram_user::{Ask, Failure, FilePart, outcome};

/// A pause this short is waited for between two parts.
const SHORT: Duration = Duration::from_secs(5);

/// How soon a message that may have been sent is looked at again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

impl Turn<'_> {
    /// The file that goes with a message, as Telegram has it. [`Next`]: the message cannot be sent now.
    pub(super) async fn handed_over(
        &self,
        row: &message::Model,
        held: &Held,
    ) -> Result<std::result::Result<Option<Handed>, Next>> {
        let Some(file) = stored(row) else {
            return Ok(Ok(None));
        };
        let begun = Instant::now();
        let (handles, account, object) = (self.context.handles(), self.owner.account, file.object);
        let known = handles.get(account, object);
        let known = known.and_then(|it| serde_json::from_str::<Handed>(&it).ok());
        if let Some(known) = known.clone().filter(Handed::is_whole) {
            return Ok(Ok(Some(known)));
        }
        let vault = self.context.store().vault();
        let sought = self.context.objects().seek(vault, self.user, object);
        let Sought::Object(found) = sought.await? else {
            let reason = "The file was erased before it was sent.";
            return self.not_handed(row, held, permanent(reason)).await.map(Err);
        };
        let begin = match known {
            Some(known) => Some(known),
            None => self.begin(row, &file).await?,
        };
        let Some(mut handed) = begin else {
            let reason = "Telegram takes no file of this size.";
            return self.not_handed(row, held, permanent(reason)).await.map(Err);
        };
        let ended = self.hand_parts_over(*found, &mut handed, begun).await?;
        let text = serde_json::to_string(&handed).unwrap_or_default();
        match ended {
            Ended::There(()) => {
                handles.keep(account, object, &text);
                Ok(match begun.elapsed() > LONG {
                    true => Err(Next::Pause(Duration::ZERO)),
                    false => Ok(Some(handed)),
                })
            }
            Ended::NotNow(after) => {
                handles.keep(account, object, &text);
                Ok(Err(Next::Pause(after)))
            }
            Ended::Failed(failure) => {
                match failure {
                    Failure::Incomplete { .. } => handles.forget(account, object),
                    _ => handles.keep(account, object, &text),
                }
                let next = self.not_handed(row, held, outcome(failure));
                next.await.map(Err)
            }
        }
    }

    /// What becomes of a message whose file Telegram does not have.
    async fn not_handed(
        &self,
        row: &message::Model,
        held: &Held,
        outcome: SendOutcome,
    ) -> Result<Next> {
        if may_be_sent(row) {
            return Ok(Next::Pause(AGAIN));
        }
        match outcome {
            SendOutcome::Permanent { reason } => {
                self.given_up(row, FailureClass::Permanent, reason).await
            }
            outcome => self.refused(row, held.state.version, outcome).await,
        }
    }

    /// A file of which Telegram has nothing yet. `None`: it is none that it takes.
    async fn begin(&self, row: &message::Model, file: &StoredFile) -> Result<Option<Handed>> {
        let (id, _) = Uuid::new_v4().as_u64_pair();
        let kind = MessageType::from_name(&row.message_type).unwrap_or(MessageType::File);
        let id = i64::from_ne_bytes(id.to_ne_bytes());
        let handed = Handed::new(id, kind, &file.content_type, file.size);
        Ok(match handed {
            Some(handed) => Some(Handed {
                name: self.name_of(row, &file.content_type).await?,
                ..handed
            }),
            None => None,
        })
    }

    /// Hands over what Telegram does not have yet, while there is time.
    async fn hand_parts_over(
        &self,
        object: Object,
        handed: &mut Handed,
        begun: Instant,
    ) -> Result<Ended<(), Failure>> {
        let platform = self.adapter.platform();
        if let Some(not_now) = self.context.admit(platform, self.owner).await? {
            return Ok(Ended::NotNow(not_now.come_back()));
        }
        let (sessions, account) = (self.context.telegram(), self.owner.account);
        let size = object.about().size;
        let mut pieces = object.bytes(handed.offset()..size);
        let mut waiting: Vec<u8> = Vec::new();
        while !handed.is_whole() {
            while waiting.len() < PART_BYTES
                && let Some(piece) = pieces.try_next().await?
            {
                waiting.extend(piece);
            }
            let rest = waiting.split_off(waiting.len().min(PART_BYTES));
            let bytes: Arc<[u8]> = std::mem::replace(&mut waiting, rest).into();
            let part = FilePart {
                file: handed.id,
                part: handed.done,
                parts: handed.parts,
                is_big: handed.is_big,
                bytes: Arc::clone(&bytes),
            };
            loop {
                if begun.elapsed() > UPLOAD_MAX {
                    return Ok(Ended::NotNow(Duration::ZERO));
                }
                match sessions.ask(account, Ask::SavePart(part.clone())).await {
                    Ok(_) => break,
                    Err(Failure::Wait { seconds, .. }) if Duration::from_secs(seconds) <= SHORT => {
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                    }
                    Err(failure) => return Ok(Ended::Failed(failure)),
                }
            }
            handed.took(&bytes);
        }
        Ok(Ended::There(()))
    }
}

/// Whether an attempt of which nobody knows the end may have sent the message.
pub(super) fn may_be_sent(row: &message::Model) -> bool {
    row.state == State::Sending.name()
}

fn permanent(reason: &str) -> SendOutcome {
    SendOutcome::Permanent {
        reason: reason.to_owned(),
    }
}
