//! `hub erase user`: forgetting a person by the operator's hand.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hub_config::Role;
use hub_domain::envelope::Meta;
use hub_domain::id::{UserId, login_stream};
use hub_store::Store;
use hub_store::erase::Estate;
use serde_json::json;

use crate::roles;

/// How long a worker may take over the platforms before we go on without it.
const FAREWELL_WITHIN: Duration = Duration::from_secs(30);

/// `hub erase user`
pub fn user(who: &str, yes: bool, json: bool) -> Result<()> {
    let settings = roles::load(Role::Migrate)?;
    roles::runtime()?.block_on(async {
        let store = roles::open(&settings).await?;
        let user = find(&store, who).await?;
        let found = store.estate(user).await?;
        if !yes {
            show(user, &found, None, json);
            bail!("nothing was erased yet; it cannot be undone: say --yes to do it");
        }
        let begun = store.begin_erasure(user, Meta::default()).await?;
        let told = store
            .wait_for_farewell(user, begun, FAREWELL_WITHIN)
            .await?;
        store.finish_erasure(user, begun).await?;
        show(user, &found, Some(told), json);
        Ok(())
    })
}

/// The user with this address or id. Whose erasure has begun has no login any more, but an id.
async fn find(store: &Store, who: &str) -> Result<UserId> {
    if let Ok(id) = who.trim().parse() {
        let user = UserId(id);
        let is_known = store.estate(user).await? != Estate::default();
        return is_known
            .then_some(user)
            .with_context(|| format!("there is nothing of a user {id}"));
    }
    let address = who.trim().to_lowercase();
    let login = store.stored_login(login_stream(&address)).await?;
    let login = login.with_context(|| format!("nobody is registered as {address}"))?;
    Ok(login.user)
}

fn show(user: UserId, found: &Estate, told: Option<bool>, json: bool) {
    if json {
        let line = json!({
            "user": user,
            "found": found,
            "erased": told.is_some(),
            "platformsTold": told,
        });
        println!("{line}");
        return;
    }
    println!("user {user}");
    for (what, count) in [
        ("accounts", found.accounts),
        ("conversations", found.conversations),
        ("messages", found.messages),
        ("unsent messages", found.unsent),
        ("refresh tokens", found.refresh_tokens),
        ("keys", found.keys),
        ("keys of raw input", found.raw_keys),
    ] {
        println!("  {what:18} {count:>8}");
    }
    let Some(told) = told else {
        return;
    };
    println!("all of it is erased, and the login");
    if told {
        println!("a worker took the platforms' permissions back, as far as they answered");
    } else {
        println!("no worker answered: platforms were not told; take their permissions back there");
    }
    println!("a process that runs forgets the keys it has in memory within a minute");
}
