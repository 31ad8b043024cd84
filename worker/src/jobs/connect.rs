//! Connecting an account: a grant becomes tokens, a place in the directory, and an event.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_domain::command::{Command, ConnectAnswer, StoredGrant};
use hub_domain::envelope::{Append, Meta};
use hub_domain::event::{AccountConnected, ConnectFailed, Sealed};
use hub_domain::id::{Key, Place, UserId};
use hub_domain::platform::{ConnectStep, Connected, Grant, Grantor, Platform};
use hub_store::account::Owner;
use hub_store::commands;
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::usage::Call;
use hub_store::{Result, Store};
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::Context;

/// Calls one connect may take; paging through pages is bounded by the adapter.
const STEPS_MAX: usize = 30;

/// The queue of grants to redeem.
#[derive(Clone)]
pub struct Connect {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    position: i64,
}

/// The job of a connect command. The grant stays sealed in the command log.
pub fn job(place: Place) -> NewJob {
    NewJob {
        shard: place.shard,
        queue: Connect::NAME,
        key: place.to_string(),
        payload: serde_json::json!(Payload {
            position: place.position,
        }),
        delay: Duration::ZERO,
    }
}

/// A connect as the command asked for it.
struct Request {
    place: Place,
    request: Option<String>,
    user: UserId,
    platform: Platform,
    answer: Key,
}

impl Connect {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    fn store(&self) -> &Store {
        self.context.store()
    }

    /// Talks with the platform until it has said everything, or something went wrong that can be
    /// told to a person.
    async fn redeem(
        &self,
        user: UserId,
        platform: Platform,
        grant: Grant,
    ) -> std::result::Result<(Connected, Option<Grantor>), String> {
        let Some((adapter, app)) = self.context.platform(platform) else {
            return Err(format!("Connecting {platform} is not possible here."));
        };
        let call = Call {
            platform,
            endpoint: "connect",
            user: Some(user),
            account: None,
        };
        let mut flow = adapter.connect(app, grant);
        let mut answer = None;
        for _ in 0..STEPS_MAX {
            match flow.next(answer.take()) {
                ConnectStep::Call(request) => {
                    answer = Some(self.context.call(call, request).await);
                }
                ConnectStep::Done(connected) => return Ok((connected, flow.grantor().cloned())),
                ConnectStep::Failed(error) => return Err(error.to_string()),
            }
        }
        Err("The platform kept asking for more; please try again.".to_owned())
    }

    async fn connected(
        &self,
        request: &Request,
        connected: Connected,
        grantor: Option<Grantor>,
    ) -> Result<ConnectAnswer> {
        let store = self.store();
        let (user, platform) = (request.user, request.platform);
        let username = store.vault().user(user).await?.seal(&connected.username);
        let account = store
            .account_named(user, platform, &connected.platform_user_id)
            .await?;
        let owner = Owner { user, account };
        let expires_at = connected
            .expires_in_s
            .map(|seconds| Utc::now() + Duration::from_secs(seconds));
        store
            .put_account_tokens(owner, &connected, expires_at)
            .await?;
        if let Some(grantor) = grantor {
            let person = store.person(platform, &grantor.id);
            let until = grantor.data_access_until_s;
            let until = until.and_then(|until| DateTime::from_timestamp(until, 0));
            store.put_agreement(owner, person, until).await?;
        }
        // In the directory before the log: from the first webhook on, the owner is known.
        store.put_owner(platform, &connected.route, owner).await?;
        let event = AccountConnected {
            user,
            account,
            platform,
            platform_user_id: connected.platform_user_id,
            username: username.clone(),
            route: connected.route,
        };
        let append = Append::one(store.sharding().of_user(user), account, event)
            .once(Key::of(&[b"connect", &request.answer.0]))
            .because(meta(request));
        store.append(append).await?;
        Ok(ConnectAnswer::Connected { account, username })
    }

    async fn failed(&self, request: &Request, message: String) -> Result<ConnectAnswer> {
        let store = self.store();
        let event = ConnectFailed {
            user: request.user,
            platform: request.platform,
            message: message.clone(),
        };
        let append = Append::one(store.sharding().of_user(request.user), request.user, event)
            .once(Key::of(&[b"connect", &request.answer.0]))
            .because(meta(request));
        store.append(append).await?;
        Ok(ConnectAnswer::Failed { message })
    }
}

fn meta(request: &Request) -> Meta {
    Meta {
        actor: Some(request.user.0),
        causation: Some(format!("c:{}", request.place)),
        request: request.request.clone(),
        ..Meta::default()
    }
}

impl Queue for Connect {
    const NAME: &'static str = "connect";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let store = self.store();
        let Ok(Payload { position }) = serde_json::from_value(job.payload.clone()) else {
            return Ok(Outcome::Park {
                reason: "the payload is malformed".to_owned(),
            });
        };
        let place = Place {
            shard: job.shard,
            position,
        };
        let before = Place {
            position: position - 1,
            ..place
        };
        let received = commands::after(store.pool(), before, 1).await?.pop();
        let Some((command, request)) = received.map(|it| (it.command, it.request)) else {
            return Ok(Outcome::Done);
        };
        let Ok(Command::Connect {
            user,
            platform,
            grant,
            answer,
        }) = command
        else {
            return Ok(Outcome::Park {
                reason: format!("{place} is not a connect command"),
            });
        };
        let request = Request {
            place,
            request,
            user,
            platform,
            answer,
        };
        // Asked of the database: a key in memory must not connect anything for nobody.
        if store.vault().is_erased_now(user).await? {
            return Ok(Outcome::Done);
        }
        let grant = open(store, user, &grant).await?;
        let outcome = match self.redeem(user, platform, grant.into()).await {
            Ok(_) if store.vault().is_erased_now(user).await? => return Ok(Outcome::Done),
            Ok((connected, grantor)) => self.connected(&request, connected, grantor).await?,
            Err(message) => self.failed(&request, message).await?,
        };
        let shard = store.sharding().of_user(user);
        store.put_answer(shard, answer, &outcome).await?;
        Ok(Outcome::Done)
    }
}

async fn open(store: &Store, user: UserId, grant: &Sealed) -> Result<StoredGrant> {
    let text = store.vault().user(user).await?.open(grant)?;
    serde_json::from_str(&text).map_err(|_| hub_store::Error::Sealed("the grant is malformed"))
}
