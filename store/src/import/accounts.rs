//! Connected accounts with their tokens, and the conversations below them.
//!
//! An account's tokens, its place in the directory, the aliases of all its conversations and its
//! event are one transaction: from the first webhook on, everything finds its way.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use hub_domain::envelope::{Append, Expected as Version};
use hub_domain::event::{
    AccountConnected, AccountDisconnected, AccountNeedsReconnect, AccountNoted,
    ConversationImported, ConversationNoted, Event, Thread,
};
use hub_domain::id::{AccountId, ConversationId, Key, UserId, account_id};
use hub_domain::imported::{Kind, is_phone_session, kind, route};
use hub_domain::platform::Platform;
use hub_domain::projection::accounts::{AccountRow as Account, Accounts};
use serde_json::json;
use uuid::Uuid;

use super::messages::{Owned, Shown};
use super::plan::{Plan, has_thread};
use super::source::{AccountRow, ConversationRow};
use super::value::Form;
use super::{Import, known_keys, known_streams, meta};
use crate::Store;
use crate::account::Owner;
use crate::aliases::Alias;
use crate::error::Result;
use crate::read;
use crate::vault::DataKey;

const COOKIES: &str = "facebook_cookie: a browser's cookies are not taken over";
pub(super) const UNKNOWN: &str =
    "of a platform nobody knows here: kept in the log, shown to nobody";
const RENAMED: &str = "known here already: goes on under the id it has here";
const BY_PHONE: &str = "Telegram by phone: to be signed in again";
const SESSION: &str = "Telegram by phone: goes on with its session";
/// What its owner is told. Who signs in again finds the account as it was.
const SIGN_IN: &str = "It was signed in by phone on the earlier server. Please sign in again.";
const NO_TOKEN: &str = "without a token that can be read: to be connected again";

/// An account with what the hub will do with it.
struct Connecting {
    owner: Owner,
    platform: Platform,
    route: String,
    tokens: Option<Tokens>,
    events: Vec<Event>,
    key: Key,
    at: Option<DateTime<Utc>>,
}

struct Tokens {
    access: String,
    refresh: Option<String>,
    expires_at: Option<DateTime<Utc>>,
}

impl Import<'_> {
    /// An account with everything below it.
    pub(super) async fn account(&mut self, user: UserId, row: &AccountRow) -> Result<()> {
        match kind(&row.platform) {
            Kind::Cookies => {
                let tallies = self.source.tallies(row.id).await?;
                let messages: i64 = tallies.values().map(|it| it.0).sum();
                let report = &mut self.report;
                report.connected_accounts.skip(COOKIES, 1);
                report.conversations.skip(COOKIES, tallies.len() as u64);
                report.messages.skip(COOKIES, messages.unsigned_abs());
                Ok(())
            }
            Kind::Unknown => self.unknown(user, row).await,
            Kind::Known(platform) => self.known(user, platform, row).await,
        }
    }

    async fn known(&mut self, user: UserId, platform: Platform, row: &AccountRow) -> Result<()> {
        let store = self.store;
        let shard = store.sharding().of_user(user);
        let derived = account_id(user, platform, &row.platform_user_id).0;
        let alias = store.aliases_of(user, &[derived]).await?.remove(&derived);
        let streams = known_streams(store.pool(), shard, &[row.id, derived]).await?;
        let account = AccountId(match alias {
            Some(alias) => alias,
            None if streams.contains(&derived) => derived,
            None => row.id,
        });
        let key = Key::of(&[b"imported account", account.0.as_bytes()]);
        let is_new = !streams.contains(&account.0)
            && known_keys(store.pool(), shard, &[key]).await?.is_empty();
        if account.0 != row.id {
            self.report.connected_accounts.note(RENAMED);
        }
        self.report.connected_accounts.take(is_new);

        let rows = self.source.conversations(row.id).await?;
        let mut plan = Plan::new(platform, &row.platform_user_id, account, &rows);
        let mut empty = Vec::new();
        for it in rows.iter().filter(|it| !has_thread(it)) {
            let writers = self.source.writers(it.id).await?;
            if !plan.scatter(it, writers) {
                empty.push(it.id);
            }
        }
        let (names, ids) = plan.candidates();
        let known = store.aliases_of(user, &names).await?;
        let streams = known_streams(store.pool(), shard, &ids).await?;
        let (mut aliases, renamed) = plan.settle(&known, &streams);
        for _ in 0..renamed {
            self.report.conversations.note(RENAMED);
        }
        if account.0 != derived {
            aliases.push(Alias {
                derived,
                id: account.0,
            });
        }
        let owner = Owner { user, account };
        if !self.options.dry_run {
            if is_new {
                let names = store.vault().user(user).await?;
                let connecting = self.connecting(owner, platform, row, key, &names);
                connect(store, user, &connecting, &aliases).await?;
            } else {
                let mut tx = crate::transaction::begin(store.pool()).await?;
                store.put_aliases(&mut tx, user, &aliases).await?;
                sqlx::query("UPDATE directory SET has_aliases = true WHERE user_id = $1")
                    .bind(user.0)
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
                self.resume(owner, platform, row).await?;
            }
        }
        let tallies = self.source.tallies(row.id).await?;
        let owned = Owned {
            user,
            shard,
            account: row.id,
            platform: Some(platform),
            own: row.platform_user_id.clone(),
        };
        let shown = Shown {
            plan,
            account,
            platform,
        };
        self.conversations(&owned, &shown, &rows, &empty, &tallies)
            .await?;
        self.messages(&owned, Some(shown)).await
    }

    fn connecting(
        &mut self,
        owner: Owner,
        platform: Platform,
        row: &AccountRow,
        key: Key,
        names: &DataKey,
    ) -> Connecting {
        let (access, form) = self.key.read(&row.access_token);
        let username = row.username.as_deref().filter(|it| !it.is_empty());
        let username = self.open(username);
        let (user, account) = (owner.user, owner.account);
        let route = route(platform, &row.platform_user_id, &access);
        let mut events: Vec<Event> = vec![
            AccountConnected {
                user,
                account,
                platform,
                platform_user_id: row.platform_user_id.clone(),
                username: names.seal(username.as_deref().unwrap_or(&row.platform_user_id)),
                route: route.clone(),
            }
            .into(),
        ];
        let table = &mut self.report.connected_accounts;
        let has_token = !access.is_empty() && form != Form::Unopened;
        let mut again = |note, reason: &str| {
            table.note(note);
            let reason = reason.to_owned();
            AccountNeedsReconnect {
                user,
                account,
                reason,
            }
        };
        if !row.is_active {
            events.push(AccountDisconnected { user, account }.into());
        } else if !has_token {
            let reason = "Its token could not be taken over";
            events.push(again(NO_TOKEN, reason).into());
        } else if is_phone_session(platform, &access) {
            if self.options.telegram_sessions {
                table.note(SESSION);
            } else {
                events.push(again(BY_PHONE, SIGN_IN).into());
            }
        }
        Connecting {
            owner,
            platform,
            route,
            tokens: (row.is_active && has_token).then(|| Tokens {
                access: names.seal(&access).0,
                refresh: self
                    .open(row.refresh_token.as_deref())
                    .map(|token| names.seal(&token).0),
                expires_at: row.token_expires_at,
            }),
            events,
            key,
            at: row.created_at,
        }
    }

    /// An account whose session was left alone by an import before goes on with it, unless somebody
    /// has done something about it since.
    async fn resume(&mut self, owner: Owner, platform: Platform, row: &AccountRow) -> Result<()> {
        let (access, form) = self.key.read(&row.access_token);
        let is_session = form != Form::Unopened && is_phone_session(platform, &access);
        if !self.options.telegram_sessions || !row.is_active || !is_session {
            return Ok(());
        }
        let store = self.store;
        let shard = store.sharding().of_user(owner.user);
        // By the log: the read model may be behind, and nobody may be folding it.
        let head = read::head(store.pool(), shard).await?;
        let stream = [owner.account.into()];
        let told = read::streams(store.pool(), shard, &stream, (0, i64::MAX), head).await?;
        let mut accounts = Accounts::default();
        told.iter().for_each(|it| accounts.fold(it));
        let account = accounts.accounts.get(owner.account);
        let waits = |it: &&Account| it.is_active && it.needs_reconnect.as_deref() == Some(SIGN_IN);
        let Some(account) = account.filter(waits) else {
            return Ok(());
        };
        let event = AccountConnected {
            user: owner.user,
            account: owner.account,
            platform,
            platform_user_id: account.platform_user_id.clone(),
            username: account.username.clone(),
            route: account.route.clone(),
        };
        let version = told.last().map_or(0, |it| it.version);
        let append = Append::one(shard, owner.account, event)
            .expecting(Version::Version(version))
            .once(Key::of(&[b"imported session", owner.account.0.as_bytes()]));
        store.append(append).await?;
        self.report.connected_accounts.note(SESSION);
        Ok(())
    }

    /// The conversations of an account that clients will see.
    async fn conversations(
        &mut self,
        owned: &Owned,
        shown: &Shown,
        rows: &[ConversationRow],
        empty: &[Uuid],
        tallies: &HashMap<Uuid, (i64, Option<String>)>,
    ) -> Result<()> {
        let targets = &shown.plan.targets;
        let key = |id: Uuid| Key::of(&[b"imported conversation", id.as_bytes()]);
        let keys: Vec<Key> = targets.iter().map(|it| key(it.id)).collect();
        let mut known = HashSet::new();
        for part in keys.chunks(10_000) {
            known.extend(known_keys(self.store.pool(), owned.shard, part).await?);
        }
        let mut appends = Vec::new();
        let names = match self.options.dry_run {
            true => None,
            false => Some(self.store.vault().user(owned.user).await?),
        };
        for (target, key) in targets.iter().zip(&keys) {
            let Some(names) = names.as_ref().filter(|_| !known.contains(key)) else {
                continue;
            };
            let tally = tallies.get(&target.row);
            let name = self.open(target.participant_name.as_deref());
            let name = name.or_else(|| tally.and_then(|it| it.1.clone()));
            let event = ConversationImported {
                at: Thread {
                    user: owned.user,
                    account: shown.account,
                    platform: shown.platform,
                    conversation: target.conversation(),
                    thread: target.thread.clone(),
                },
                participant_id: target.participant_id.clone().filter(|it| !it.is_empty()),
                participant_name: name.map(|name| names.seal(&name)),
                participant_avatar: self
                    .open(target.avatar.as_deref())
                    .map(|it| names.seal(&it)),
                last_message_at: target
                    .last_message_at
                    .filter(|_| tally.is_none_or(|it| it.0 == 0)),
            };
            let append = Append::one(owned.shard, target.conversation(), event)
                .once(*key)
                .because(meta(target.created_at.or(target.last_message_at)));
            appends.push(append);
        }
        super::messages::append(self.store, appends).await?;
        let table = &mut self.report.conversations;
        for row in rows {
            let own = targets.iter().zip(&keys).find(|it| it.0.row == row.id);
            match own {
                _ if empty.contains(&row.id) => table.skip("it has no thread and no messages", 1),
                None => table.skip("it has no thread: its messages went to their senders'", 1),
                Some((_, key)) => {
                    table.take(!known.contains(key));
                    if !has_thread(row) {
                        table.note("without a thread: divided by who wrote in it");
                    }
                }
            }
        }
        Ok(())
    }

    /// An account of a platform that no client may see: every row becomes a note in the log.
    async fn unknown(&mut self, user: UserId, row: &AccountRow) -> Result<()> {
        let store = self.store;
        let shard = store.sharding().of_user(user);
        let account = AccountId(row.id);
        let key = Key::of(&[b"imported account", row.id.as_bytes()]);
        let rows = self.source.conversations(row.id).await?;
        let conversation_key = |id: Uuid| Key::of(&[b"imported conversation", id.as_bytes()]);
        let mut keys: Vec<Key> = rows.iter().map(|it| conversation_key(it.id)).collect();
        keys.push(key);
        let known = known_keys(store.pool(), shard, &keys).await?;
        self.report.connected_accounts.take(!known.contains(&key));
        self.report.connected_accounts.note(UNKNOWN);
        for it in &rows {
            let is_new = !known.contains(&conversation_key(it.id));
            self.report.conversations.take(is_new);
            self.report.conversations.note(UNKNOWN);
        }
        if !self.options.dry_run {
            let names = store.vault().user(user).await?;
            let mut appends = Vec::new();
            if !known.contains(&key) {
                let detail = json!({
                    "platform": row.platform,
                    "platformUserId": row.platform_user_id,
                    "username": row.username,
                });
                let event = AccountNoted {
                    user,
                    account,
                    fact: "account.imported".to_owned(),
                    detail: names.seal(&detail.to_string()),
                };
                let append = Append::one(shard, account, event).once(key);
                appends.push(append.because(meta(row.created_at)));
            }
            for it in &rows {
                let key = conversation_key(it.id);
                if known.contains(&key) {
                    continue;
                }
                let detail = json!({
                    "account": row.id,
                    "platform": row.platform,
                    "thread": it.thread,
                    "participantId": it.participant_id,
                    "participantName": self.open(it.participant_name.as_deref()),
                });
                let event = ConversationNoted {
                    user,
                    conversation: ConversationId(it.id),
                    fact: "conversation.imported".to_owned(),
                    detail: names.seal(&detail.to_string()),
                };
                let append = Append::one(shard, ConversationId(it.id), event).once(key);
                appends.push(append.because(meta(it.created_at)));
            }
            super::messages::append(store, appends).await?;
        }
        let owned = Owned {
            user,
            shard,
            account: row.id,
            platform: None,
            own: row.platform_user_id.clone(),
        };
        self.messages(&owned, None).await
    }
}

/// Writes an account down: all of it or nothing, and nothing the second time.
async fn connect(store: &Store, user: UserId, it: &Connecting, aliases: &[Alias]) -> Result<()> {
    let shard = store.sharding().of_user(user);
    let mut tx = crate::transaction::begin(store.pool()).await?;
    store.put_aliases(&mut tx, user, aliases).await?;
    if let Some(tokens) = &it.tokens {
        sqlx::query(
            "INSERT INTO account_tokens (shard, account, access_token, refresh_token, expires_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(shard.0)
        .bind(it.owner.account.0)
        .bind(&tokens.access)
        .bind(&tokens.refresh)
        .bind(tokens.expires_at)
        .execute(&mut *tx)
        .await?;
    }
    let is_active = !matches!(it.events.last(), Some(Event::AccountDisconnected(_)));
    if is_active {
        sqlx::query(
            "INSERT INTO directory (shard, platform, route, account, user_id, has_aliases) \
             VALUES ($1, $2, $3, $4, $5, true) ON CONFLICT DO NOTHING",
        )
        .bind(store.sharding().of_route(it.platform, &it.route).0)
        .bind(it.platform.name())
        .bind(&it.route)
        .bind(it.owner.account.0)
        .bind(user.0)
        .execute(&mut *tx)
        .await?;
    }
    let append = Append {
        shard,
        stream: it.owner.account.into(),
        expected: Version::NoStream,
        events: it.events.clone(),
        keys: vec![it.key],
        meta: meta(it.at),
    };
    store.append_in(&mut tx, &append).await?;
    tx.commit().await?;
    store.appended();
    Ok(())
}
