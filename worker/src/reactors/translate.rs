//! The translator: raw input becomes events.
//!
//! It appends to other shards than it reads: append first, then the checkpoint. Every event carries
//! keys made of the platform's own ids, so that redelivery, re-translation and a crash in between
//! change nothing. A body nobody can read is parked, alone: commands have no stream. A body for
//! nobody is counted.

mod events;
mod notices;
mod pages;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use hub_domain::command::Command;
use hub_domain::envelope::{Append, Meta};
use hub_domain::event::Sealed;
use hub_domain::id::{ConversationId, Place, Shard, conversation_id};
use hub_domain::limits::{REACTOR_BATCH_MAX, TOGETHER_EVENTS_MAX};
use hub_domain::platform::fact::{Fact, FactKind};
use hub_domain::platform::{Platform, adapter};
use hub_domain::retention;
use hub_store::account::{Owner, Routed};
use hub_store::checkpoint::{self, Reactor as Name};
use hub_store::commands::{self, Received};
use hub_store::jobs;
use hub_store::parked::{Class, Parking};
use hub_store::polls::{self, Wish};
use hub_store::signal::Topic;
use hub_store::vault::{DataKey, Opened, Sealer};
use hub_store::{Connection, Error, Result, Store};

use crate::Context;
use crate::jobs::{connect, departure, poll, tokens};
use crate::reactor::{Reactor, each};
use pages::Pages;

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
    async fn process<'a>(
        &self,
        connection: &mut Connection,
        received: impl IntoIterator<Item = &'a Received>,
    ) -> Result<BTreeMap<Place, Parking>> {
        let mut directory = Directory::new();
        let mut appends: Vec<(&Received, Append)> = Vec::new();
        let mut aside: BTreeMap<Place, Parking> = BTreeMap::new();
        let received: Vec<&Received> = received.into_iter().collect();
        let mut pages = Pages::of(&received);
        for it in received {
            match self.decide(connection, it, &mut directory).await? {
                Ok(found) => appends.extend(found.into_iter().map(|append| (it, append))),
                Err((class, reason)) => {
                    aside.insert(it.place, parking(it, class, reason));
                }
            }
        }
        for chunk in appends.chunks(APPENDS_AT_ONCE) {
            let handed_in = chunk
                .iter()
                .map(|(_, append)| self.store().append(append.clone()));
            let outcomes = futures::future::join_all(handed_in).await;
            for ((it, append), outcome) in chunk.iter().zip(outcomes) {
                match outcome {
                    Err(error) if error.is_poison() => {
                        let failed = parking(it, Class::Failed, error.reason());
                        aside.insert(it.place, failed);
                    }
                    outcome => {
                        if outcome?.is_new() {
                            pages.brought(it.place, append);
                        }
                    }
                }
            }
        }
        pages.tell(self.store()).await?;
        Ok(aside)
    }

    /// One turn of these shards; returns how many commands it passed.
    async fn together(&self, shards: &[Shard]) -> Result<usize> {
        let store = self.store();
        let mut turns = checkpoint::begin_all(store.pool(), NAME, shards).await?;
        let share = TOGETHER_EVENTS_MAX / turns.from.len().max(1) as i64;
        let limit = share.min(REACTOR_BATCH_MAX);
        let of_shards = commands::after_all(&mut *turns.tx, &turns.from, limit).await?;
        let spans: Vec<(Place, i64)> = turns
            .from
            .iter()
            .zip(&of_shards)
            .filter_map(|(from, received)| Some((*from, received.last()?.place.position)))
            .collect();
        if spans.is_empty() {
            turns.leave().await?;
            return Ok(0);
        }
        let received = || of_shards.iter().flatten();
        for (place, parking) in self.process(&mut turns.tx, received()).await? {
            turns.park(place.shard, parking);
        }
        match turns.finish(&spans).await {
            Err(Error::Fenced) => return Ok(0),
            outcome => outcome?,
        }
        if received().any(wants_job) {
            store.signals().raise(Topic::Jobs);
        }
        Ok(received().count())
    }

    /// What a command asks for; the inner error says why it cannot be processed.
    async fn decide(
        &self,
        connection: &mut Connection,
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
                let input = Input {
                    platform: *platform,
                    routes,
                    sealed_at: *sealed_at,
                    body,
                    only: None,
                };
                self.translate(connection, it, input, directory).await
            }
            Ok(Command::Page {
                platform,
                user,
                account,
                route,
                body,
                sealed_at,
                ..
            }) => {
                let input = Input {
                    platform: *platform,
                    routes: std::slice::from_ref(route),
                    sealed_at: *sealed_at,
                    body,
                    only: Some(Owner {
                        user: *user,
                        account: *account,
                    }),
                };
                self.translate(connection, it, input, directory).await
            }
            Ok(Command::PollAccount {
                user,
                account,
                since,
                answer,
            }) => {
                let (user, account) = (*user, *account);
                let wish = Wish {
                    answer: *answer,
                    since: *since,
                };
                let shard = it.place.shard;
                polls::wish(&mut *connection, shard, account, &wish).await?;
                let job = poll::job(shard, Owner { user, account }, Duration::ZERO);
                jobs::hasten(connection, &job).await?;
                Ok(Ok(Vec::new()))
            }
            Ok(Command::Connect { .. }) => {
                jobs::enqueue(connection, &connect::job(it.place)).await?;
                Ok(Ok(Vec::new()))
            }
            Ok(Command::Renew {
                user,
                account,
                platform,
                answer,
            }) => {
                let owner = Owner {
                    user: *user,
                    account: *account,
                };
                let job = tokens::wish(it.place, owner, *platform, *answer);
                jobs::enqueue(connection, &job).await?;
                Ok(Ok(Vec::new()))
            }
            Ok(Command::Departure {
                person,
                wish,
                request,
                ..
            }) => {
                let job = departure::job(it.place, *person, *wish, *request);
                jobs::enqueue(connection, &job).await?;
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
            Some(received) => {
                let aside = self.process(&mut turn.tx, [&received]).await?;
                aside.into_values().next()
            }
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

    /// What a body means; the inner error says why nobody can tell.
    async fn translate(
        &self,
        connection: &mut Connection,
        it: &Received,
        input: Input<'_>,
        directory: &mut Directory,
    ) -> Result<std::result::Result<Vec<Append>, (Class, String)>> {
        // Adapters are pure: one that panics over a body has only that body to blame.
        let translated = AssertUnwindSafe(self.body(connection, it, input, directory));
        match translated.catch_unwind().await {
            Ok(Ok(outcome)) => Ok(outcome.map_err(|reason| (Class::Failed, reason))),
            Ok(Err(error)) if error.is_poison() => Ok(Err((Class::Failed, error.reason()))),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(Err((Class::Failed, "the translation panicked".to_owned()))),
        }
    }

    /// What a raw body means for everybody it is for.
    async fn body(
        &self,
        connection: &mut Connection,
        received: &Received,
        input: Input<'_>,
        directory: &mut Directory,
    ) -> Result<std::result::Result<Vec<Append>, String>> {
        let store = self.store();
        let platform = input.platform;
        let Some((adapter, app)) = self.context.platform(platform) else {
            return Ok(Err(format!("no adapter for {platform}")));
        };
        let raw = match input.open(store).await {
            Ok(Opened::Text(text)) => STANDARD.decode(text).map_err(|error| error.to_string()),
            // Whoever it was for was erased before anybody read it.
            Ok(Opened::Erased) => return Ok(Ok(Vec::new())),
            Err(error) if error.is_temporary() => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        let facts = match raw.and_then(|raw| {
            adapter
                .translate(app, input.account(), &raw)
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
        let sent = self.sent_here(input.only, &facts).await?;
        let mut appends = Vec::new();
        for fact in &facts {
            count(platform, fact.kind);
            let Some(route) = fact.route() else { continue };
            let mut owners = owners(store, platform, route, directory).await?;
            owners.retain(|routed| input.is_for(routed.owner));
            if owners.is_empty() {
                metrics::counter!("hub_unrouted_total", "platform" => platform.name()).increment(1);
            }
            for Routed { owner, has_aliases } in owners {
                let threads = self.threads(owner, has_aliases, fact).await?;
                let threads = self.where_it_is(owner, has_aliases, fact, threads).await?;
                if echo(&threads, fact).is_some_and(|name| sent.contains(&name)) {
                    continue;
                }
                let at = events::at(fact, received.received_at);
                let Some((names, content)) = self.keys(owner, at).await? else {
                    continue;
                };
                notices::follow(connection, store, owner, fact).await?;
                if fact.kind == FactKind::ResourceChanged {
                    continue;
                }
                let translation = events::Translation {
                    owner,
                    platform,
                    shard: store.sharding().of_user(owner.user),
                    names: &names,
                    content: &content,
                    references: self.context.references(),
                    threads: &threads,
                    at,
                };
                let told = translation.appends(fact).into_iter();
                appends.extend(told.map(|append| append.because(meta.clone())));
            }
        }
        Ok(Ok(appends))
    }

    /// Which of these messages were sent through this hub. A page of history shows them without our
    /// reference, and they would look as if somebody had sent them elsewhere.
    async fn sent_here(
        &self,
        fetched_for: Option<Owner>,
        facts: &[Fact],
    ) -> Result<HashSet<(ConversationId, String)>> {
        let Some(owner) = fetched_for else {
            return Ok(HashSet::new());
        };
        let echoes = || facts.iter().filter(|it| it.kind == FactKind::MessageEchoed);
        if echoes().next().is_none() {
            return Ok(HashSet::new());
        }
        let has_aliases = self.store().has_aliases(owner.user).await?;
        let mut names = Vec::new();
        for fact in echoes() {
            let threads = self.threads(owner, has_aliases, fact).await?;
            names.extend(echo(&threads, fact));
        }
        self.store().sent_messages(owner.user, &names).await
    }

    /// The thread of a fact and its other names, with the conversation that each stands for.
    async fn threads(
        &self,
        owner: Owner,
        has_aliases: bool,
        fact: &Fact,
    ) -> Result<Vec<(String, ConversationId)>> {
        let mut threads = Vec::new();
        for thread in fact.thread.iter().chain(&fact.aliases) {
            let conversation = if has_aliases {
                self.store().conversation_named(owner, thread).await?
            } else {
                conversation_id(owner.account, thread)
            };
            threads.push((thread.clone(), conversation));
        }
        Ok(threads)
    }

    /// The same with the thread first in which the message is that the fact is about. A platform may
    /// name a thread by an id it had not told when the message was written, or not name it at all.
    async fn where_it_is(
        &self,
        owner: Owner,
        has_aliases: bool,
        fact: &Fact,
        mut threads: Vec<(String, ConversationId)>,
    ) -> Result<Vec<(String, ConversationId)>> {
        let Some(message) = about(fact) else {
            return Ok(threads);
        };
        if threads.is_empty() {
            let ids = std::slice::from_ref(message);
            let found = self.store().threads_of_messages(owner, ids).await?;
            // Two messages of one name, and nobody can tell which is meant.
            let [(thread, _)] = &found[..] else {
                return Ok(threads);
            };
            let mut named = Fact::new(fact.kind);
            named.thread = Some(thread.clone());
            return self.threads(owner, has_aliases, &named).await;
        }
        if threads.len() > 1 {
            let names: Vec<_> = threads
                .iter()
                .map(|(_, conversation)| (*conversation, message.clone()))
                .collect();
            let known = self.store().known_messages(owner.user, &names).await?;
            let holds = |name: &(ConversationId, String)| known.contains(name);
            if let Some(at) = names.iter().position(holds) {
                threads.swap(0, at);
            }
        }
        Ok(threads)
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

/// A raw body as the command log has it.
struct Input<'a> {
    platform: Platform,
    routes: &'a [String],
    sealed_at: DateTime<Utc>,
    body: &'a Sealed,
    /// The account it was fetched for. A webhook is for everybody who has connected what it names.
    only: Option<Owner>,
}

impl Input<'_> {
    fn account(&self) -> Option<&str> {
        let fetched = self.only.and(self.routes.first());
        fetched.map(String::as_str)
    }

    fn is_for(&self, owner: Owner) -> bool {
        self.only.is_none_or(|only| only == owner)
    }

    async fn open(&self, store: &Store) -> Result<Opened> {
        let vault = store.vault();
        vault
            .open_raw(self.platform, self.routes, self.sealed_at, self.body)
            .await
    }
}

/// The message a fact is about, when it is not the one that is told of.
fn about(fact: &Fact) -> Option<&String> {
    let is_about = matches!(
        fact.kind,
        FactKind::MessageEdited
            | FactKind::MessageDeleted
            | FactKind::ReactionAdded
            | FactKind::ReactionRemoved
            | FactKind::ReceiptDelivered
            | FactKind::ReceiptRead
            | FactKind::ReceiptFailed
    );
    fact.target.as_ref().filter(|_| is_about)
}

/// The conversation and the platform's id of a message of our side.
fn echo(threads: &[(String, ConversationId)], fact: &Fact) -> Option<(ConversationId, String)> {
    if fact.kind != FactKind::MessageEchoed {
        return None;
    }
    let (_, conversation) = threads.first()?;
    Some((*conversation, fact.message_id.clone()?))
}

fn wants_job(it: &Received) -> bool {
    match &it.command {
        Ok(
            Command::Connect { .. }
            | Command::PollAccount { .. }
            | Command::Renew { .. }
            | Command::Departure { .. },
        ) => true,
        Ok(Command::Webhook { platform, .. }) => {
            adapter(*platform).is_some_and(|adapter| adapter.subscribes())
        }
        _ => false,
    }
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
    fn turns_at_once(&self) -> usize {
        let connections = self.store().pool().options().get_max_connections();
        (connections as usize / 4).clamp(2, 8)
    }

    async fn behind(&self) -> Result<Vec<Shard>> {
        checkpoint::behind(self.store().pool(), NAME).await
    }

    async fn turns(&self, shards: &[Shard]) -> Result<bool> {
        match self.together(shards).await {
            // Whose log has the hole is found out one by one, and the others go on.
            Err(Error::Corrupt { .. }) if shards.len() > 1 => {
                each(shards, |shard| async move {
                    Ok(self.together(&[shard]).await? > 0)
                })
                .await
            }
            worked => Ok(worked? > 0),
        }
    }
}
