//! What goes with a message, before its send is attempted.
//!
//! The file is opened, and handed over where the platform wants it before the message. An upload is
//! seen by nobody: one whose end is unknown is made again, and nothing waits for word of it. What the
//! platform gave for it is remembered in this process, so that a send that has to be tried again does
//! not upload again; a process that does not remember uploads.
//!
//! An upload that fails is an attempt that failed: it counts, it is in the log, and the next one is
//! later. Both events are one append, so that no crash makes an attempt of it that nobody knows the
//! end of. One that took long ends the turn, and the next one, with a lease of its own, sends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use hub_domain::envelope::{Append, Expected, Meta};
use hub_domain::event::{Event, FailureClass, MessageType, SendAttempted, SendDelayed, SendFailed};
use hub_domain::id::{AccountId, MessageId, ObjectId};
use hub_domain::media::file_name;
use hub_domain::platform::SendOutcome;
use hub_domain::platform::fact::Media;
use hub_domain::platform::media::upload::{Medium, UploadFlow, UploadStep};
use hub_domain::projection::inbox::{File, StoredFile};
use hub_domain::retry;
use hub_store::Result;
use hub_store::entity::message;
use hub_store::objects::Found;
use hub_store::token::Held;

use super::attempt::attempt_key;
use super::outcome::count;
use super::{Next, Turn, outcome_key};
use crate::call::Called;
use crate::jobs::entropy;
use crate::renewal::Access;

/// Steps of one upload: a hundred million bytes in pieces of four million, and some waiting.
const STEPS_MAX: usize = 100;

/// No upload begins another call after this time: its lease would end before it.
pub(super) const UPLOAD_MAX: Duration = Duration::from_secs(45);

/// After an upload that took longer than this, the send is for the next turn.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// How long a platform's handle is remembered; all of them live a day at least.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Most handles that are remembered.
const REMEMBERED_MAX: usize = 1_000;

/// What platforms gave for uploads, by account and file.
#[derive(Default)]
pub struct Handles {
    kept: Mutex<HashMap<(AccountId, ObjectId), (String, Instant)>>,
}

impl Handles {
    pub(super) fn get(&self, account: AccountId, object: ObjectId) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (handle, since) = kept.get(&(account, object))?;
        (since.elapsed() < REMEMBERED).then(|| handle.clone())
    }

    pub(super) fn forget(&self, account: AccountId, object: ObjectId) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&(account, object));
    }

    pub(super) fn keep(&self, account: AccountId, object: ObjectId, handle: &str) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= REMEMBERED_MAX {
            kept.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        }
        // Full of young ones: this one is uploaded again if need be.
        if kept.len() < REMEMBERED_MAX || kept.contains_key(&(account, object)) {
            let entry = (handle.to_owned(), Instant::now());
            kept.insert((account, object), entry);
        }
    }
}

/// How handing a file over ended.
pub(super) enum Ended<Handle, Failure> {
    /// The platform has it.
    There(Handle),
    /// It may not be called now.
    NotNow(Duration),
    /// It did not work.
    Failed(Failure),
}

/// The file that goes with a message.
pub(super) fn stored(row: &message::Model) -> Option<StoredFile> {
    let files: Vec<File> = serde_json::from_value(row.files.clone()).unwrap_or_default();
    files.into_iter().find_map(|file| file.stored)
}

impl Turn<'_> {
    /// What goes with a message, ready to be sent. [`Next`]: the message cannot be sent now.
    pub(super) async fn medium(
        &self,
        row: &message::Model,
        held: &Held,
    ) -> Result<std::result::Result<Option<Medium>, Next>> {
        let Some(file) = stored(row) else {
            return Ok(Ok(None));
        };
        let (begun, object) = (Instant::now(), file.object);
        let Some(mut medium) = self.open(row, file).await? else {
            let reason = "The file was erased before it was sent.".to_owned();
            let next = self.given_up(row, FailureClass::Permanent, reason);
            return Ok(Err(next.await?));
        };
        let upload = self
            .adapter
            .upload(self.app, &held.credentials, &self.thread, &medium);
        let Some(flow) = upload else {
            return Ok(Ok(Some(medium)));
        };
        let (handles, account) = (self.context.handles(), self.owner.account);
        medium.handle = handles.get(account, object);
        if medium.handle.is_some() {
            return Ok(Ok(Some(medium)));
        }
        match self.hand_over(flow, begun).await? {
            Ended::There(handle) => {
                handles.keep(account, object, &handle);
                medium.handle = Some(handle);
                Ok(match begun.elapsed() > LONG {
                    true => Err(Next::Pause(Duration::ZERO)),
                    false => Ok(Some(medium)),
                })
            }
            Ended::NotNow(after) => Ok(Err(Next::Pause(after))),
            Ended::Failed(outcome) => self
                .refused(row, held.state.version, outcome)
                .await
                .map(Err),
        }
    }

    /// The file with its name; `None` when it was erased.
    async fn open(&self, row: &message::Model, file: StoredFile) -> Result<Option<Medium>> {
        let vault = self.context.store().vault();
        let found = self.context.objects().get(vault, self.user, file.object);
        let Found::File(_, bytes) = found.await? else {
            return Ok(None);
        };
        let kind = MessageType::from_name(&row.message_type).unwrap_or(MessageType::File);
        Ok(Some(Medium {
            kind,
            name: self.name_of(row, &file.content_type).await?,
            content_type: file.content_type,
            bytes: Arc::from(bytes),
            address: self.context.links().url(self.user, file.object, Utc::now()),
            handle: None,
        }))
    }

    /// What the file that goes with a message is called.
    pub(super) async fn name_of(&self, row: &message::Model, content_type: &str) -> Result<String> {
        let vault = self.context.store().vault();
        let keys = vault.keyring(self.user, row.media.as_deref()).await?;
        let described = match row.media.as_deref() {
            Some(sealed) => keys.open(sealed)?.text(),
            None => None,
        };
        let described = described.and_then(|it| serde_json::from_str::<Vec<Media>>(&it).ok());
        let name = described.and_then(|media| media.into_iter().next()?.name);
        Ok(file_name(&name.unwrap_or_default(), content_type))
    }

    async fn hand_over(
        &self,
        mut flow: Box<dyn UploadFlow>,
        begun: Instant,
    ) -> Result<Ended<String, SendOutcome>> {
        let platform = self.adapter.platform();
        let mut answer = None;
        for _ in 0..STEPS_MAX {
            if begun.elapsed() > UPLOAD_MAX {
                break;
            }
            match flow.next(answer.take()) {
                UploadStep::Call(request) => {
                    let called = self
                        .context
                        .call_as(platform, self.owner, "upload", request);
                    match called.await? {
                        Called::Answered(it) => answer = Some(it),
                        Called::NotNow(not_now) => return Ok(Ended::NotNow(not_now.come_back())),
                    }
                }
                UploadStep::Wait(wait) => tokio::time::sleep(wait.min(LONG)).await,
                UploadStep::Done(handle) => return Ok(Ended::There(handle)),
                UploadStep::Failed(outcome) => return Ok(Ended::Failed(outcome)),
            }
        }
        let reason = "the file was not taken in time".to_owned();
        Ok(Ended::Failed(SendOutcome::Backoff { reason }))
    }

    /// What becomes of a message whose file the platform did not take.
    pub(super) async fn refused(
        &self,
        row: &message::Model,
        version: i64,
        outcome: SendOutcome,
    ) -> Result<Next> {
        count(self.adapter.platform(), &outcome);
        let attempt = row.attempts.unsigned_abs() + 1;
        let policy = self.context.settings().send_retry;
        let backoff = || retry::delay(policy, attempt, entropy());
        let (class, delay, reason) = match outcome {
            SendOutcome::RetryAfter { wait, reason } => {
                self.context.pause(self.owner, wait).await?;
                let delay = retry::delay_at_least(policy, attempt, wait, entropy());
                (FailureClass::RateLimited, delay, reason)
            }
            // Nobody has seen an upload: whether it happened does not matter.
            SendOutcome::Backoff { reason } | SendOutcome::Unclear { reason } => {
                (FailureClass::Temporary, backoff(), reason)
            }
            SendOutcome::Reconnect { reason } => {
                match self.renewal().after_refusal(version).await? {
                    Some(Access::Granted(_)) => return Ok(Next::Pause(Duration::ZERO)),
                    Some(Access::Wait { after, .. }) => return Ok(Next::Pause(after)),
                    Some(Access::Refused { .. } | Access::Gone) | None => {}
                }
                self.context.refuse(self.owner, version, &reason).await?;
                return self.given_up(row, FailureClass::Reconnect, reason).await;
            }
            SendOutcome::OutsideWindow { reason } => {
                return self
                    .given_up(row, FailureClass::OutsideWindow, reason)
                    .await;
            }
            SendOutcome::Permanent { reason } => {
                return self.given_up(row, FailureClass::Permanent, reason).await;
            }
            SendOutcome::Sent { .. } => {
                let reason = "the upload ended as no upload does".to_owned();
                return self.given_up(row, FailureClass::Permanent, reason).await;
            }
        };
        let Some(delay) = delay else {
            return self.given_up(row, FailureClass::Exhausted, reason).await;
        };
        let event = SendDelayed {
            user: self.user,
            conversation: self.conversation,
            message: MessageId(row.id),
            attempt,
            class,
            reason,
            retry_at: Utc::now() + delay,
        };
        self.attempted(row, event).await?;
        Ok(Next::Pause(delay))
    }

    /// The message will not be sent.
    pub(super) async fn given_up(
        &self,
        row: &message::Model,
        class: FailureClass,
        reason: String,
    ) -> Result<Next> {
        let event = SendFailed {
            user: self.user,
            conversation: self.conversation,
            message: MessageId(row.id),
            class,
            reason,
        };
        self.attempted(row, event).await?;
        Ok(Next::Message)
    }

    /// An attempt together with how it ended.
    async fn attempted(&self, row: &message::Model, ended: impl Into<Event>) -> Result<()> {
        let (message, attempt) = (MessageId(row.id), row.attempts.unsigned_abs() + 1);
        let began = SendAttempted {
            user: self.user,
            conversation: self.conversation,
            message,
            attempt,
        };
        let append = Append {
            shard: self.shard,
            stream: self.conversation.into(),
            expected: Expected::Any,
            events: vec![began.into(), ended.into()],
            keys: vec![attempt_key(message, attempt), outcome_key(message, attempt)],
            meta: Meta::default(),
        };
        self.context.store().append(append).await.map(|_| ())
    }
}
