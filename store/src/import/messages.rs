//! Messages: read in order, in batches; what is here already is found out before anything is sealed.

use std::collections::{HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use hub_domain::envelope::Append;
use hub_domain::event::{ConversationNoted, MessageImported, PlatformMessage, Thread};
use hub_domain::id::{AccountId, ConversationId, Key, MessageId, Shard, UserId, message_key};
use hub_domain::imported::{Origin, TWINS_WITHIN, media, message_type, origin};
use hub_domain::platform::Platform;
use hub_domain::retention;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::accounts::UNKNOWN;
use super::compare::Expected;
use super::plan::Plan;
use super::report::Numbers;
use super::source::MessageRow;
use super::value::{Form, OldKey};
use super::{Import, known_keys, meta};
use crate::Store;
use crate::error::{Error, Result};
use crate::vault::{DataKey, Sealer};

/// Messages of one batch: two of them are in memory at a time.
const AT_ONCE: usize = 2_000;

const TWIN: &str = "a send that Telegram told of under its real id";
const DOUBLE: &str = "it has no thread, and another conversation has it";
const LOST: &str = "it has no thread, and nobody knows whose it is";
const NEVER_SENT: &str = "never sent to the platform: kept in the log, shown to nobody";
const CLOCK: &str = "sent, under an id that was made up: the platform's is not known";
const UNOPENED: &str = "looks encrypted and does not open: taken as it is";
const TOO_OLD: &str = "older than content is kept: without its text";

/// Whose messages these are.
pub(super) struct Owned {
    pub(super) user: UserId,
    pub(super) shard: Shard,
    /// The stored account.
    pub(super) account: Uuid,
    pub(super) platform: Option<Platform>,
    /// The platform's id of our side.
    pub(super) own: String,
}

/// An account that clients see, and where its conversations go.
pub(super) struct Shown {
    pub(super) plan: Plan,
    pub(super) account: AccountId,
    pub(super) platform: Platform,
}

/// A message with the place it goes to: a target of the plan, or only the log.
struct Placed {
    row: MessageRow,
    target: Option<usize>,
    origin: Origin,
    key: Key,
}

/// Waits for the appends of a batch.
type Appending = (u64, JoinHandle<Result<u64>>);

impl Import<'_> {
    /// The messages of an account.
    pub(super) async fn messages(&mut self, owned: &Owned, shown: Option<Shown>) -> Result<()> {
        let mut dropped: HashMap<Uuid, &'static str> = HashMap::new();
        if owned.platform == Some(Platform::Telegram) {
            let twins = self.twins(owned).await?;
            dropped.extend(twins.into_iter().map(|id| (id, TWIN)));
        }
        if let Some(shown) = &shown {
            let scattered = shown.plan.scattered();
            if !scattered.is_empty() {
                let doubles = self.source.doubles(owned.account, &scattered).await?;
                dropped.extend(doubles.into_iter().map(|id| (id, DOUBLE)));
            }
        }
        let mut numbers: Vec<Expected> = shown.iter().flat_map(|it| expected(owned, it)).collect();
        let mut batches = Batches::new(self.store, &self.key, owned, self.options);
        let mut rows = self.source.messages(owned.account, None);
        let mut batch = Vec::with_capacity(AT_ONCE);
        let table = &mut self.report.messages;
        while let Some(row) = rows.try_next().await? {
            if let Some(reason) = dropped.get(&row.id) {
                table.skip(reason, 1);
                continue;
            }
            let target = match &shown {
                None => None,
                Some(shown) => match shown.plan.target(&row) {
                    Some(target) => Some(target),
                    None => {
                        table.skip(LOST, 1);
                        continue;
                    }
                },
            };
            let origin = origin(
                owned.platform,
                &row.sender_id,
                &row.platform_message_id,
                row.outgoing,
            );
            match (target, origin) {
                (None, _) => table.note(UNKNOWN),
                (Some(_), Origin::NeverSent) => table.note(NEVER_SENT),
                (Some(target), _) => {
                    if origin == Origin::Clock {
                        table.note(CLOCK);
                    }
                    if let Some(it) = numbers.get_mut(target) {
                        it.count(&row);
                    }
                }
            }
            let target_id = target
                .zip(shown.as_ref())
                .map(|(index, shown)| shown.plan.targets[index].conversation());
            let key = match target_id {
                Some(id) if origin != Origin::NeverSent => {
                    message_key(id, &row.platform_message_id)
                }
                _ => Key::of(&[b"imported message", row.id.as_bytes()]),
            };
            batch.push(Placed {
                row,
                target,
                origin,
                key,
            });
            if batch.len() == AT_ONCE {
                batches.take(&mut batch, shown.as_ref(), table).await?;
                (self.options.progress)(super::Progress {
                    stage: "messages",
                    done: table.read,
                    total: self.total,
                });
            }
        }
        batches.take(&mut batch, shown.as_ref(), table).await?;
        batches.finish(table).await?;
        drop(rows);
        if !self.options.dry_run {
            self.expected.append(&mut numbers);
        }
        Ok(())
    }

    /// Rows of sends to Telegram whose message is there a second time, as Telegram told it: under its
    /// real id, with the same text, at nearly the same time.
    async fn twins(&mut self, owned: &Owned) -> Result<HashSet<Uuid>> {
        let mut twins = HashSet::new();
        let mut window: VecDeque<(MessageRow, String, bool)> = VecDeque::new();
        let mut rows = self.source.messages(owned.account, Some(&owned.own));
        while let Some(row) = rows.try_next().await? {
            let is_made_up = origin(
                owned.platform,
                &row.sender_id,
                &row.platform_message_id,
                row.outgoing,
            ) == Origin::Clock;
            let text = self.key.read(&row.content).0;
            window.retain(|(old, _, _)| {
                old.conversation == row.conversation && row.sent_at - old.sent_at <= TWINS_WITHIN
            });
            let other = window
                .iter()
                .position(|(_, its, made_up)| *its == text && *made_up != is_made_up);
            match other.and_then(|index| window.remove(index)) {
                Some((old, _, _)) => {
                    twins.insert(if is_made_up { row.id } else { old.id });
                }
                None => window.push_back((row, text, is_made_up)),
            }
        }
        Ok(twins)
    }
}

fn expected(owned: &Owned, shown: &Shown) -> Vec<Expected> {
    let targets = shown.plan.targets.iter();
    targets
        .map(|it| Expected {
            shard: owned.shard,
            conversation: it.id,
            numbers: Numbers::default(),
            column: it.last_message_at,
            events: 1,
        })
        .collect()
}

/// Batches on their way into the log: one is appended while the next is read and sealed.
struct Batches<'a> {
    store: &'a Store,
    key: &'a OldKey,
    owned: &'a Owned,
    options: &'a super::Options<'a>,
    sealers: HashMap<chrono::NaiveDate, Sealer>,
    names: Option<DataKey>,
    appending: Option<Appending>,
}

impl<'a> Batches<'a> {
    fn new(
        store: &'a Store,
        key: &'a OldKey,
        owned: &'a Owned,
        options: &'a super::Options<'a>,
    ) -> Self {
        Self {
            store,
            key,
            owned,
            options,
            sealers: HashMap::new(),
            names: None,
            appending: None,
        }
    }

    /// Seals a batch, then hands it in when the one before it is in the log.
    async fn take(
        &mut self,
        batch: &mut Vec<Placed>,
        shown: Option<&Shown>,
        table: &mut super::Table,
    ) -> Result<()> {
        let keys: Vec<Key> = batch.iter().map(|it| it.key).collect();
        let known = known_keys(self.store.pool(), self.owned.shard, &keys).await?;
        let mut appends = Vec::with_capacity(batch.len());
        for it in batch.drain(..) {
            let is_new = !known.contains(&it.key);
            if !is_new || self.options.dry_run {
                table.take(is_new);
                continue;
            }
            appends.push(self.append(it, shown, table).await?);
        }
        self.finish(table).await?;
        if !appends.is_empty() {
            let store = self.store.clone();
            let handed_in = appends.len() as u64;
            let appending = tokio::spawn(async move { append(&store, appends).await });
            self.appending = Some((handed_in, appending));
        }
        Ok(())
    }

    /// Waits until everything handed in is in the log.
    async fn finish(&mut self, table: &mut super::Table) -> Result<()> {
        if let Some((handed_in, appending)) = self.appending.take() {
            let crashed = |_| Error::Unavailable(sqlx::Error::WorkerCrashed);
            table.appended(handed_in, appending.await.map_err(crashed)??);
        }
        Ok(())
    }

    async fn append(
        &mut self,
        it: Placed,
        shown: Option<&Shown>,
        table: &mut super::Table,
    ) -> Result<Append> {
        let Owned { user, shard, .. } = *self.owned;
        let names = match &self.names {
            Some(names) => names.clone(),
            None => {
                let names = self.store.vault().user(user).await?;
                self.names.insert(names).clone()
            }
        };
        let row = it.row;
        let content = self.sealer(row.sent_at).await?;
        if matches!(content, Sealer::Nothing) {
            table.note(TOO_OLD);
        }
        let (text, form) = self.key.read(&row.content);
        if form == Form::Unopened {
            table.note(UNOPENED);
        }
        let at = row.created_at.unwrap_or(row.sent_at);
        let shown = shown
            .zip(it.target)
            .filter(|_| it.origin != Origin::NeverSent);
        let Some((shown, target)) = shown else {
            let detail = json!({
                "id": row.id,
                "platformMessageId": row.platform_message_id,
                "senderId": row.sender_id,
                "senderName": row.sender_name,
                "content": text,
                "messageType": row.message_type,
                "mediaUrl": row.media_url,
                "isOutgoing": row.outgoing,
                "isRead": row.is_read,
                "sentAt": row.sent_at,
            });
            let fact = match it.origin {
                Origin::NeverSent => "message.never_sent",
                Origin::Platform | Origin::Clock => "message.imported",
            };
            let conversation = ConversationId(row.conversation);
            let event = ConversationNoted {
                user,
                conversation,
                fact: fact.to_owned(),
                detail: content.seal(&detail.to_string()),
            };
            let append = Append::one(shard, conversation, event).once(it.key);
            return Ok(append.because(meta(Some(at))));
        };
        let target = &shown.plan.targets[target];
        let message_type = message_type(row.message_type.as_deref());
        let stored = row.media_url.as_deref().filter(|it| !it.is_empty());
        let stored = stored.map(|it| self.key.read(it).0);
        let media = stored.map(|it| json!([media(&it, message_type)]));
        let mut detail = Map::new();
        if it.origin == Origin::Clock {
            detail.insert("madeUpId".to_owned(), Value::Bool(true));
        }
        if let Some(other) = row
            .message_type
            .filter(|stored| stored != message_type.name())
        {
            detail.insert("storedType".to_owned(), Value::String(other));
        }
        let name = row.sender_name.as_deref().filter(|it| !it.is_empty());
        let event = MessageImported {
            message: PlatformMessage {
                at: Thread {
                    user,
                    account: shown.account,
                    platform: shown.platform,
                    conversation: target.conversation(),
                    thread: target.thread.clone(),
                },
                message: MessageId(row.id),
                platform_message_id: row.platform_message_id,
                sender_id: row.sender_id,
                sender_name: name.map(|it| names.seal(&self.key.read(it).0)),
                thread_name: None,
                message_type,
                text: content.seal(&text),
                media: media.map(|it| content.seal(&it.to_string())),
                detail: (!detail.is_empty())
                    .then(|| content.seal(&Value::Object(detail).to_string())),
                sent_at: row.sent_at,
            },
            outgoing: row.outgoing,
            is_read: row.is_read,
            delivered_at: row.delivered_at,
        };
        let append = Append::one(shard, target.conversation(), event).once(it.key);
        Ok(append.because(meta(Some(at))))
    }

    async fn sealer(&mut self, at: DateTime<Utc>) -> Result<Sealer> {
        let day = retention::period(at, Utc::now());
        if let Some(sealer) = self.sealers.get(&day) {
            return Ok(sealer.clone());
        }
        let vault = self.store.vault();
        let sealer = vault.content(self.owned.user, at, self.options.kept_from);
        let sealer = sealer.await?;
        self.sealers.insert(day, sealer.clone());
        Ok(sealer)
    }
}

/// Appends these at once. Returns how many were not in the log.
pub(super) async fn append(store: &Store, appends: Vec<Append>) -> Result<u64> {
    let mut new = 0;
    let mut appends = appends.into_iter();
    loop {
        let part: Vec<Append> = appends.by_ref().take(AT_ONCE).collect();
        if part.is_empty() {
            return Ok(new);
        }
        let handed_in = part.into_iter().map(|append| store.append(append));
        for outcome in futures::future::join_all(handed_in).await {
            new += u64::from(outcome?.is_new());
        }
    }
}
