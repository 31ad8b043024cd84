//! Media of somebody's Telegram: what only the session of the account can fetch.
//!
//! Promise: a medium is fetched by the process that holds the session, under its lease, and by no
//! other; another process puts the job back, which is no failed attempt. Which file of which message is
//! meant says the message's own row, so the job waits until that is shown. A message without a row
//! wants nothing: it was forgotten, or it is one of ours that Telegram has told us of, whose file is
//! here already.
//!
//! It fails like any medium: what is not there any more is lost at once; a session that is not
//! connected, or that Telegram wants patience of, is asked again; one that is over may be replaced by
//! its person while attempts last. An installation without a registration with Telegram has no
//! sessions: that is asked again too, and ends as unreachable.

use std::time::Duration;

use hub_domain::event::MediaLoss;
use hub_domain::id::{ConversationId, Shard};
use hub_domain::platform::Platform;
use hub_domain::platform::fact::Media as Medium;
use hub_domain::platform::telegram_user::Chat;
use hub_store::jobs::Outcome;
use hub_store::project::Projection;
use hub_store::{Result, parked};

use super::{Media, Missing, Source};
use crate::jobs::{CATCH_UP_MAX, HELD_LOOK};
use crate::telegram_user::{Failure, NotHad, Of, Server, session};

/// How soon a job that another process has to do is put before it again.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// Where the media of a message are that a session fetches.
pub(super) struct Place {
    chat: Chat,
    message: i64,
    /// Why the session is over, if it is.
    is_over: Option<String>,
    is_set_up: bool,
}

impl From<NotHad> for Missing {
    fn from(not_had: NotHad) -> Self {
        match not_had {
            NotHad::Gone | NotHad::Failed(Failure::Refused { .. }) => Self::Lost(MediaLoss::Gone),
            NotHad::TooBig => Self::Lost(MediaLoss::TooBig),
            NotHad::Failed(Failure::Wait { seconds, reason }) => {
                Self::Later(Some(Duration::from_secs(seconds)), reason)
            }
            NotHad::Failed(Failure::Revoked { reason }) => Self::Unknown(reason),
            NotHad::Failed(failure) => Self::Later(None, failure.reason().to_owned()),
        }
    }
}

impl Media {
    /// Where a session finds the media of a message; `None` for accounts without one. [`Outcome`]: what
    /// the job does instead of fetching.
    pub(super) async fn place(
        &self,
        source: &Source<'_>,
        route: &str,
        shard: Shard,
    ) -> Result<std::result::Result<Option<Place>, Outcome>> {
        let (store, owner) = (self.context.store(), source.owner());
        let is_telegram = source.platform() == Platform::Telegram;
        if !is_telegram || session(&self.context, owner, route).await?.is_none() {
            return Ok(Ok(None));
        }
        if let Some(behind) = self
            .inbox_behind(source.announced.conversation, shard)
            .await?
        {
            return Ok(Err(behind));
        }
        let found = store.message(owner.user, source.announced.message).await?;
        let place = found.and_then(|(row, conversation, account)| {
            Some(Place {
                chat: Chat::of_thread(&conversation.thread)?,
                message: row.platform_message_id?.parse().ok()?,
                is_over: account.needs_reconnect,
                is_set_up: Server::of(&self.context).is_some(),
            })
        });
        let Some(place) = place else {
            return Ok(Err(Outcome::Done));
        };
        let is_elsewhere = place.is_set_up
            && place.is_over.is_none()
            && !self.context.telegram().holds(owner.account);
        Ok(match is_elsewhere {
            true => Err(Outcome::Again(ELSEWHERE)),
            false => Ok(Some(place)),
        })
    }

    /// What a job does while the inbox does not show what the log has of a conversation.
    async fn inbox_behind(
        &self,
        conversation: ConversationId,
        shard: Shard,
    ) -> Result<Option<Outcome>> {
        let store = self.context.store();
        if !store.wait_for_projections(shard, CATCH_UP_MAX).await? {
            return Ok(Some(Outcome::Again(Duration::from_millis(200))));
        }
        let inbox = Projection::Inbox.name();
        let is_held = parked::is_held(store.pool(), inbox, shard, conversation.into()).await?;
        Ok(is_held.then_some(Outcome::Again(HELD_LOOK)))
    }

    /// A medium's bytes, through the session of the account.
    pub(super) async fn read(
        &self,
        source: &Source<'_>,
        place: &Place,
        medium: &Medium,
        within: Duration,
    ) -> Result<std::result::Result<Vec<u8>, Missing>> {
        if let Some(reason) = &place.is_over {
            return Ok(Err(Missing::Unknown(reason.clone())));
        }
        if !place.is_set_up {
            let reason = "Telegram is not set up for people's accounts".to_owned();
            return Ok(Err(Missing::Later(None, reason)));
        }
        let file = medium.file_id.clone();
        let Some(file) = file.filter(|_| medium.available != Some(false)) else {
            return Ok(Err(Missing::Lost(MediaLoss::Gone)));
        };
        let (platform, owner) = (source.platform(), source.owner());
        if let Some(not_now) = self.context.admit(platform, owner).await? {
            return Ok(Err(Missing::NotNow(not_now)));
        }
        let of = Of {
            chat: place.chat.clone(),
            message: place.message,
            file,
        };
        let bytes_max = self.context.media().bytes_max as u64;
        let sessions = self.context.telegram();
        let read = sessions.read(owner.account, &of, bytes_max, within).await;
        Ok(read.map_err(Missing::from))
    }
}
