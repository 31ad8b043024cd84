//! The translator: raw input becomes events.
//!
//! It appends to other shards than it reads: append first, then the checkpoint. Every event carries
//! keys made of the platform's own ids, so that redelivery, re-translation and a crash in between
//! change nothing. A body nobody can read is parked, alone: commands have no stream. A body for
//! nobody is counted.

mod events;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use hub_domain::command::Command;
use hub_domain::envelope::{Append, Meta};
use hub_domain::event::Sealed;
use hub_domain::id::{Place, Shard, conversation_id};
use hub_domain::limits::REACTOR_BATCH_MAX;
use hub_domain::platform::Platform;
use hub_domain::platform::fact::FactKind;
use hub_domain::retention;
use hub_store::account::{Owner, Routed};
use hub_store::checkpoint::{self, Reactor as Name, Turn};
use hub_store::commands::{self, Received};
use hub_store::jobs;
use hub_store::parked::{Class, Parking};
use hub_store::signal::Topic;
use hub_store::vault::{DataKey, Opened, Sealer};
use hub_store::{Error, Result, Store};

use crate::Context;
use crate::jobs::connect;
use crate::reactor::Reactor;

pub(crate) const NAME: Name = Name {
    name: "translate",
    generation: 0,
};

/// Appends handed in at the same time.
const APPENDS_AT_ONCE: usize = 1_000;

/// The translator.
#[derive(Clone)]
pub struct Translate {
    context: Context,
}

/// Owners found in this batch, by platform and route.
type Directory = HashMap<(Platform, String), Vec<Routed>>;

impl Translate {
    /// The translator of this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// Processes commands: appends what they mean, enqueues what they ask for. Returns those that
    /// cannot be processed, with the reason.
    async fn process(&self, turn: &mut Turn, received: &[Received]) -> Result<Vec<Parking>> {
        let mut directory = Directory::new();
        let mut appends: Vec<(&Received, Append)> = Vec::new();
        let mut aside: BTreeMap<i64, Parking> = BTreeMap::new();
        for it in received {
            match self.decide(turn, it, &mut directory).await? {
                Ok(found) => appends.extend(found.into_iter().map(|append| (it, append))),
                Err((class, reason)) => {
                    aside.insert(it.place.position, parking(it, class, reason));
                }
            }
        }
        for chunk in appends.chunks(APPENDS_AT_ONCE) {
            let handed_in = chunk
                .iter()
                .map(|(_, append)| self.store().append(append.clone()));
            let outcomes = futures::future::join_all(handed_in).await;
            for ((it, _), outcome) in chunk.iter().zip(outcomes) {
                match outcome {
                    Err(error) if error.is_poison() => {
                        let failed = parking(it, Class::Failed, error.reason());
                        aside.insert(it.place.position, failed);
                    }
                    outcome => {
                        outcome?;
                    }
                }
            }
        }
        Ok(aside.into_values().collect())
    }

    /// What a command asks for; the inner error says why it cannot be processed.
    async fn decide(
        &self,
        turn: &mut Turn,
        it: &Received,
        directory: &mut Directory,
    ) -> Result<std::result::Result<Vec<Append>, (Class, String)>> {
        match &it.command {
            Ok(Command::Webhook {
                platform,
                body,
                sealed_at,
                routes,
            }) => {
                let webhook = Webhook {
                    platform: *platform,
                    routes,
                    sealed_at: *sealed_at,
                    body,
                };
                // Adapters are pure: one that panics over a body has only that body to blame.
                let translated = AssertUnwindSafe(self.webhook(it, webhook, directory));
                match translated.catch_unwind().await {
                    Ok(Ok(outcome)) => Ok(outcome.map_err(|reason| (Class::Failed, reason))),
                    Ok(Err(error)) if error.is_poison() => Ok(Err((Class::Failed, error.reason()))),
                    Ok(Err(error)) => Err(error),
                    Err(_) => Ok(Err((Class::Failed, "the translation panicked".to_owned()))),
                }
            }
            Ok(Command::Connect { .. }) => {
                jobs::enqueue(&mut turn.tx, &connect::job(it.place)).await?;
                Ok(Ok(Vec::new()))
            }
            Err(reason) => {
                let class = if Command::KINDS.contains(&it.kind.as_str()) {
                    Class::Unreadable
                } else {
                    Class::NeedsNewerCode
                };
                Ok(Err((class, reason.clone())))
            }
        }
    }

    /// Translates a parked command again.
    pub(crate) async fn retry(&self, place: Place) -> Result<()> {
        let store = self.store();
        let Some(mut turn) = checkpoint::hold(store.pool(), NAME, place.shard).await? else {
            return Ok(());
        };
        let failed = match commands::at(&mut *turn.tx, place).await? {
            Some(received) => self.process(&mut turn, &[received]).await?.pop(),
            None => Some(forgotten(place)),
        };
        match &failed {
            Some(head) => turn.tried(head).await?,
            None => turn.release(&[place.position]).await?,
        }
        let from = turn.from.position;
        turn.finish(from).await?;
        store.signals().raise(Topic::Jobs);
        let failed = failed.map(|head| head.reason);
        tracing::info!(%place, failed, "parked command tried again");
        Ok(())
    }

    /// What a webhook's raw body means for everybody who owns an account it is about.
    async fn webhook(
        &self,
        received: &Received,
        webhook: Webhook<'_>,
        directory: &mut Directory,
    ) -> Result<std::result::Result<Vec<Append>, String>> {
        let store = self.store();
        let platform = webhook.platform;
        let Some((adapter, app)) = self.context.platform(platform) else {
            return Ok(Err(format!("no adapter for {platform}")));
        };
        let raw = match webhook.open(store).await {
            Ok(Opened::Text(text)) => STANDARD.decode(text).map_err(|error| error.to_string()),
            // Whoever it was for was erased before anybody read it.
            Ok(Opened::Erased) => return Ok(Ok(Vec::new())),
            Err(error) if error.is_temporary() => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        let facts = match raw.and_then(|raw| {
            adapter
                .translate(app, None, &raw)
                .map_err(|error| error.to_string())
        }) {
            Ok(facts) => facts,
            Err(reason) => return Ok(Err(reason)),
        };
        let meta = Meta {
            causation: Some(format!("c:{}", received.place)),
            request: received.request.clone(),
            ..Meta::default()
        };
        let mut appends = Vec::new();
        for fact in &facts {
            count(platform, fact.kind);
            let Some(route) = &fact.account else { continue };
            let owners = owners(store, platform, route, directory).await?;
            if owners.is_empty() {
                metrics::counter!("hub_unrouted_total", "platform" => platform.name()).increment(1);
            }
            for Routed { owner, has_aliases } in owners {
                let at = events::at(fact, received.received_at);
                let Some((names, content)) = self.keys(owner, at).await? else {
                    continue;
                };
                let translation = events::Translation {
                    owner,
                    platform,
                    shard: store.sharding().of_user(owner.user),
                    names: &names,
                    content: &content,
                    references: self.context.references(),
                    conversation: match &fact.thread {
                        Some(thread) if has_aliases => {
                            Some(store.conversation_named(owner, thread).await?)
                        }
                        thread => thread
                            .as_ref()
                            .map(|thread| conversation_id(owner.account, thread)),
                    },
                    at,
                };
                if let Some(append) = translation.append(fact) {
                    appends.push(append.because(meta.clone()));
                }
            }
        }
        Ok(Ok(appends))
    }

    /// What seals names and what seals content of that moment; `None` when the owner was erased.
    async fn keys(&self, owner: Owner, at: DateTime<Utc>) -> Result<Option<(DataKey, Sealer)>> {
        let days = self.context.settings().message_retention_days;
        let kept_from = retention::kept_from(Utc::now(), days);
        let vault = self.store().vault();
        let names = vault.user(owner.user).await;
        let content = vault.content(owner.user, at, kept_from).await;
        match (names, content) {
            (Err(Error::Erased), _) | (_, Err(Error::Erased)) => Ok(None),
            (names, content) => Ok(Some((names?, content?))),
        }
    }
}

/// A webhook as the command log has it.
struct Webhook<'a> {
    platform: Platform,
    routes: &'a [String],
    sealed_at: DateTime<Utc>,
    body: &'a Sealed,
}

impl Webhook<'_> {
    async fn open(&self, store: &Store) -> Result<Opened> {
        let vault = store.vault();
        vault
            .open_raw(self.platform, self.routes, self.sealed_at, self.body)
            .await
    }
}

fn wants_job(it: &Received) -> bool {
    matches!(it.command, Ok(Command::Connect { .. }))
}

fn parking(it: &Received, class: Class, reason: String) -> Parking {
    Parking {
        position: it.place.position,
        stream: None,
        kind: it.kind.clone(),
        schema: 0,
        class,
        reason,
    }
}

fn forgotten(place: Place) -> Parking {
    Parking {
        position: place.position,
        stream: None,
        kind: String::new(),
        schema: 0,
        class: Class::Failed,
        reason: "its raw input was forgotten by time".to_owned(),
    }
}

fn count(platform: Platform, kind: FactKind) {
    metrics::counter!("hub_facts_total", "platform" => platform.name(), "kind" => kind.name())
        .increment(1);
    if kind == FactKind::Unknown {
        metrics::counter!("hub_unrecognised_total", "platform" => platform.name()).increment(1);
    }
}

async fn owners(
    store: &Store,
    platform: Platform,
    route: &str,
    directory: &mut Directory,
) -> Result<Vec<Routed>> {
    let name = (platform, route.to_owned());
    if let Some(known) = directory.get(&name) {
        return Ok(known.clone());
    }
    let owners = store.routed(platform, route).await?;
    directory.insert(name, owners.clone());
    Ok(owners)
}

impl Reactor for Translate {
    fn name(&self) -> &'static str {
        NAME.name
    }

    fn store(&self) -> &Store {
        self.context.store()
    }

    fn wakes_on(&self) -> Topic {
        Topic::Commands
    }

    /// A turn needs further connections while it holds one (the directory, keys): so few at a time
    /// that they cannot take all and wait for each other, and no fewer, because they share commits.
    fn shards_at_once(&self) -> usize {
        let connections = self.store().pool().options().get_max_connections();
        (connections as usize / 4).clamp(2, 8)
    }

    async fn behind(&self) -> Result<Vec<Shard>> {
        checkpoint::behind(self.store().pool(), NAME).await
    }

    async fn turn(&self, shard: Shard) -> Result<bool> {
        let store = self.store();
        let Some(mut turn) = checkpoint::begin(store.pool(), NAME, shard).await? else {
            return Ok(false);
        };
        let received = commands::after(&mut *turn.tx, turn.from, REACTOR_BATCH_MAX).await?;
        let Some(to) = received.last().map(|last| last.place.position) else {
            turn.leave().await?;
            return Ok(false);
        };
        for parking in self.process(&mut turn, &received).await? {
            turn.park(parking);
        }
        match turn.finish(to).await {
            Err(Error::Fenced) => Ok(false),
            outcome => {
                outcome?;
                if received.iter().any(wants_job) {
                    store.signals().raise(Topic::Jobs);
                }
                Ok(true)
            }
        }
    }
}
