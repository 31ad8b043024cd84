//! The demo user: made once, with an account on every played platform.

use anyhow::{Context as _, Result};
use hub_api::password::Hasher;
use hub_config::Settings;
use hub_domain::envelope::Meta;
use hub_domain::id::{UserId, login_stream};
use hub_domain::platform::{Platform, adapter};
use hub_domain::secret::Secret;
use hub_store::oauth::Begun;
use hub_store::{Error, Store};
use uuid::Uuid;

/// The demo login.
pub const EMAIL: &str = "demo@hub.local";

/// Its password.
pub const PASSWORD: &str = "demo-demo";

/// Makes the demo user and connects what is not connected yet, by following the same pages a
/// person would be sent to.
pub async fn set_up(store: &Store, settings: &Settings, address: &str) -> Result<()> {
    let user = user(store).await?;
    let connected = store.accounts(user, true).await?;
    for platform in Platform::ALL {
        let app = settings.app(platform);
        let played = app.api_base == settings.sandbox.base_url();
        let known = connected
            .iter()
            .any(|account| account.platform == platform.name());
        if played && !known && adapter(platform).is_some() {
            connect_patiently(store, settings, user, platform, address)
                .await
                .with_context(|| format!("the demo's {platform} account was not connected"))?;
        }
    }
    Ok(())
}

async fn user(store: &Store) -> Result<UserId> {
    let stream = login_stream(EMAIL);
    if let Some(login) = store.login(stream).await? {
        return Ok(login.user);
    }
    let hash = Hasher::default()
        .hash(PASSWORD.to_owned())
        .await
        .context("hashing failed")?;
    let user = UserId(Uuid::now_v7());
    match store
        .register(stream, user, EMAIL, &hash, Meta::default())
        .await
    {
        Ok(login) => Ok(login.user),
        // Another process on the same database was faster.
        Err(Error::Conflict { .. }) => {
            let login = store.login(stream).await?;
            login
                .map(|login| login.user)
                .context("the demo user vanished")
        }
        Err(error) => Err(error.into()),
    }
}

/// Tries again once: everything has just started, and a person would press the button again too.
async fn connect_patiently(
    store: &Store,
    settings: &Settings,
    user: UserId,
    platform: Platform,
    address: &str,
) -> Result<()> {
    match connect(store, settings, user, platform, address).await {
        Ok(()) => Ok(()),
        Err(_) => connect(store, settings, user, platform, address).await,
    }
}

/// Goes to the platform's page and comes back, as a browser does.
async fn connect(
    store: &Store,
    settings: &Settings,
    user: UserId,
    platform: Platform,
    address: &str,
) -> Result<()> {
    let adapter = adapter(platform).context("no adapter")?;
    let random = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let state = random();
    let verifier = adapter.pkce().then(random);
    let begun = Begun {
        user,
        platform,
        verifier: verifier.clone(),
    };
    store.put_oauth_state(&state, &begun).await?;
    let mut page = adapter.authorize(
        &settings.app(platform),
        &state,
        verifier.map(Secret::new).as_ref(),
    )?;
    if let Some(choice) = hub_sandbox::demo_choice(platform.name()) {
        page.push('&');
        page.push_str(&choice);
    }
    if platform == Platform::Teams {
        page.push_str("&login_hint=");
        page.push_str(hub_sandbox::DEMO_TEAMS_PERSON);
    }
    let browser = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let back = location(&browser, &page).await?;
    // The public address may be one this machine cannot reach itself (a tunnel's).
    let back = back.replacen(&settings.server.public_url, address, 1);
    let end = location(&browser, &back).await?;
    anyhow::ensure!(end.contains("success=true"), "the hub answered {end}");
    Ok(())
}

async fn location(browser: &reqwest::Client, url: &str) -> Result<String> {
    let answer = browser.get(url).send().await?;
    let location = answer.headers().get("location");
    location
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
        .with_context(|| format!("expected a redirect, got {}", answer.status()))
}
