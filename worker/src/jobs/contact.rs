//! Asking a platform for the name of somebody whose messages do not carry it.

use std::time::Duration;

use hub_domain::envelope::Append;
use hub_domain::event::{ContactNamed, PlatformMessage};
use hub_domain::id::{AccountId, ConversationId, Key, Shard, UserId};
use hub_domain::platform::Platform;
use hub_store::account::Owner;
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::usage::Call;
use hub_store::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::Context;

/// A name is a nicety: after this many tries the id is shown for good.
const TRIES_MAX: i32 = 3;

/// The queue of names to ask for.
#[derive(Clone)]
pub struct Contact {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    user: UserId,
    account: AccountId,
    platform: Platform,
    conversation: ConversationId,
    participant: String,
}

/// The job that asks who wrote this.
pub fn job(shard: Shard, message: &PlatformMessage) -> NewJob {
    NewJob {
        shard,
        queue: Contact::NAME,
        key: message.at.conversation.to_string(),
        payload: serde_json::json!(Payload {
            user: message.at.user,
            account: message.at.account,
            platform: message.at.platform,
            conversation: message.at.conversation,
            participant: message.sender_id.clone(),
        }),
        delay: Duration::ZERO,
    }
}

impl Contact {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

impl Queue for Contact {
    const NAME: &'static str = "contact";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let store = self.context.store();
        let Ok(it) = serde_json::from_value::<Payload>(job.payload.clone()) else {
            return Ok(Outcome::Park {
                reason: "the payload is malformed".to_owned(),
            });
        };
        let owner = Owner {
            user: it.user,
            account: it.account,
        };
        // Calls for a person's profile go by the token alone: the account's route is not needed.
        let credentials = store.credentials(owner, "").await?;
        let (Some((adapter, app)), Some(credentials)) =
            (self.context.platform(it.platform), credentials)
        else {
            return Ok(Outcome::Done);
        };
        let Some(request) = adapter.contact(app, &credentials, &it.participant) else {
            return Ok(Outcome::Done);
        };
        let call = Call {
            platform: it.platform,
            endpoint: "contact",
            user: Some(it.user),
            account: Some(it.account),
        };
        let answer = match self.context.call(call, request).await {
            Ok(answer) if answer.status < 500 => answer,
            _ if job.attempts < TRIES_MAX => {
                return Ok(super::again(job, "the profile was not answered".to_owned()));
            }
            _ => return Ok(Outcome::Done),
        };
        if let Some(name) = adapter.contact_name(&answer) {
            let own = match store.vault().user(it.user).await {
                Err(Error::Erased) => return Ok(Outcome::Done),
                own => own?,
            };
            let event = ContactNamed {
                user: it.user,
                conversation: it.conversation,
                name: own.seal(&name),
            };
            let key = Key::of(&[b"named", it.conversation.0.as_bytes(), name.as_bytes()]);
            let append = Append::one(job.shard, it.conversation, event).once(key);
            store.append(append).await?;
        }
        Ok(Outcome::Done)
    }
}
