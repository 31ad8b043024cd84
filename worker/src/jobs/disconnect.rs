//! After an account was disconnected: take the platform's permission back, erase the tokens.

use std::time::Duration;

use hub_domain::event::AccountDisconnected;
use hub_domain::id::{AccountId, Shard, UserId};
use hub_domain::platform::telegram_user::is_session;
use hub_domain::platform::{Credentials, Platform};
use hub_store::Result;
use hub_store::account::Owner;
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::usage::Call;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Queue;
use crate::Context;
use crate::telegram_user::Server;

/// Revoking is a courtesy: the platform gets this long for each call.
const CALL_MAX: Duration = Duration::from_secs(5);

/// A session that is ended is held for as long as that may take.
const SESSION_LEASE: Duration = Duration::from_secs(30);

/// The queue of accounts to let go of.
#[derive(Clone)]
pub struct Disconnect {
    context: Context,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    user: UserId,
    account: AccountId,
}

/// The job that follows a disconnection.
pub fn job(shard: Shard, event: &AccountDisconnected) -> NewJob {
    NewJob {
        shard,
        queue: Disconnect::NAME,
        key: event.account.to_string(),
        payload: serde_json::json!(Payload {
            user: event.user,
            account: event.account,
        }),
        delay: Duration::ZERO,
    }
}

impl Disconnect {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

/// Takes the platform's permission for an account back, while its tokens are still there.
pub(super) async fn revoke(
    context: &Context,
    platform: Platform,
    owner: Owner,
    route: &str,
) -> Result<()> {
    let Some((adapter, app)) = context.platform(platform) else {
        return Ok(());
    };
    let Some(credentials) = context.store().credentials(owner, route).await? else {
        return Ok(());
    };
    if is_session(credentials.access_token.expose()) {
        return log_out(context, owner, &credentials).await;
    }
    let call = Call {
        platform,
        endpoint: "revoke",
        user: Some(owner.user),
        account: Some(owner.account),
    };
    for request in adapter.revoke(app, &credentials) {
        let call = context.call(call, request);
        if !matches!(tokio::time::timeout(CALL_MAX, call).await, Ok(Ok(answer)) if answer.is_success())
        {
            tracing::info!(%platform, "the platform did not confirm the revocation");
        }
    }
    Ok(())
}

/// Ends the session of a Telegram user account. Whoever holds it does so by themselves when its
/// tokens are gone; one that nobody holds is ended here.
async fn log_out(context: &Context, owner: Owner, credentials: &Credentials) -> Result<()> {
    let holder = Uuid::now_v7();
    let store = context.store();
    if !store.take_telegram(owner, holder, SESSION_LEASE).await? {
        return Ok(());
    }
    if let Some(server) = Server::of(context) {
        let ended = async {
            let session = credentials.access_token.expose();
            server.open(Some(session)).await?.log_out().await
        };
        if !matches!(tokio::time::timeout(CALL_MAX, ended).await, Ok(Ok(()))) {
            tracing::info!("Telegram did not confirm the end of a session");
        }
    }
    store.release_telegram(owner, holder).await
}

impl Queue for Disconnect {
    const NAME: &'static str = "disconnect";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let store = self.context.store();
        let Ok(Payload { user, account }) = serde_json::from_value(job.payload.clone()) else {
            return Ok(Outcome::Park {
                reason: "the payload is malformed".to_owned(),
            });
        };
        if let Some(later) = super::accounts_behind(&self.context, job.shard, account).await? {
            return Ok(later);
        }
        let owner = Owner { user, account };
        let row = store.account(user, account).await?;
        let Some(row) = row.filter(|row| !row.is_active) else {
            // Connected again in the meantime: there is nothing to let go of.
            return Ok(Outcome::Done);
        };
        if let Ok(platform) = row.platform.parse::<Platform>() {
            store.remove_owner(platform, &row.route, owner).await?;
            super::subscribe::end(&self.context, platform, owner, &row.route).await?;
            store.leave_subscriptions(platform, owner).await?;
            // Somebody else here may have connected the same page: it stays subscribed for them.
            if store.owners(platform, &row.route).await?.is_empty() {
                revoke(&self.context, platform, owner, &row.route).await?;
            }
        }
        store.erase_account_tokens(owner).await?;
        Ok(Outcome::Done)
    }
}
