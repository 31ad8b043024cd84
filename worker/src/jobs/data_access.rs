//! Accounts about whose people the platform stops telling, although their tokens are good (Meta: 90
//! days after the last login). Nobody can renew that but the person who connected the account, so the
//! owner is told two weeks ahead, once for each such time: a fact of the account, which sockets are
//! told too. Sending goes on, and nothing ends by it.

use std::time::Duration;

use hub_domain::envelope::Append;
use hub_domain::event::{AccountNoted, DATA_ACCESS_ENDS};
use hub_domain::id::Key;
use hub_store::agreements::Ending;
use hub_store::{Error, Result};
use serde_json::json;

use crate::Context;

/// How long ahead.
const AHEAD: Duration = Duration::from_secs(14 * 24 * 3600);

/// Accounts that a turn of the schedule takes.
const ACCOUNTS_MAX: i64 = 5_000;

/// Warns whoever has not been warned. Returns how many that were.
pub(super) async fn warn(context: &Context) -> Result<u64> {
    let ending = context.store().data_access_ending(AHEAD, ACCOUNTS_MAX);
    let mut warned = 0;
    for it in ending.await? {
        match warn_of(context, it).await {
            Ok(is_new) => warned += u64::from(is_new),
            // Erased in this moment: nobody is there to be told.
            Err(Error::Erased) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(warned)
}

async fn warn_of(context: &Context, Ending { owner, until }: Ending) -> Result<bool> {
    let store = context.store();
    let detail = json!({ "until": until });
    let event = AccountNoted {
        user: owner.user,
        account: owner.account,
        fact: DATA_ACCESS_ENDS.to_owned(),
        detail: store
            .vault()
            .user(owner.user)
            .await?
            .seal(&detail.to_string()),
    };
    let key = Key::of(&[
        b"data access ends",
        owner.account.0.as_bytes(),
        &until.timestamp().to_be_bytes(),
    ]);
    let shard = store.sharding().of_user(owner.user);
    let append = Append::one(shard, owner.account, event).once(key);
    let is_new = store.append(append).await?.is_new();
    if is_new {
        let account = owner.account;
        tracing::warn!(%account, %until, "an account must be connected again before this");
    }
    Ok(is_new)
}
