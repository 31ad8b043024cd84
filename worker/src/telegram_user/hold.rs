//! One account's session, held by this process.
//!
//! A single task owns it: it listens, answers calls, fetches what was missed, keeps the lease and
//! writes the session back. Everything it does to the account happens one after the other, and only
//! while the lease is known to be ours.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hub_domain::command::{Command, NewCommand};
use hub_domain::envelope::Append;
use hub_domain::event::AccountNeedsReconnect;
use hub_domain::id::{Epoch, Key};
use hub_domain::platform::Platform;
use hub_domain::platform::telegram_user::{Chat, Handed, Item, Message, Told};
use hub_store::account::Owner;
use hub_store::{Result, Store};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use uuid::Uuid;

use super::{Dialog, Failure, FilePart, Located, Me, Mtproto, Server, bounded};
use crate::Context;

/// A session is ours for this long after the last renewal.
pub(super) const LEASE: Duration = Duration::from_secs(45);

/// How often the lease is renewed and the session written back.
const RENEW_EVERY: Duration = Duration::from_secs(4);

/// Older than this, the lease is renewed before anything else is done under it: a call and what
/// follows it are over before it ends.
const FRESH: Duration = Duration::from_secs(10);

/// A look at everything, in case an update was lost.
const SYNC_EVERY: Duration = Duration::from_secs(300);

/// Dialogs a look goes through, and messages of each.
const DIALOGS_MAX: usize = 50;
const HISTORY_MAX: usize = 20;

/// Items of one piece of raw input.
const ITEMS_MAX: usize = 100;

/// Longest pause before a broken session is opened again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What somebody wants of a session.
#[derive(Debug)]
pub enum Ask {
    /// The newest dialogs.
    Dialogs(usize),
    /// The newest messages of a chat.
    Messages(Chat, usize),
    /// To send a text under this number, beside a file that was handed over.
    Send(Chat, String, Option<Handed>, i64),
    /// To hand over a part of a file.
    SavePart(FilePart),
    /// Where the file of a message is.
    Locate(Chat, i64),
    /// A piece of a file, from here on.
    Read(Located, u64),
    /// A look at everything that changed, and in a new epoch of the account at everything.
    Sync,
    /// The end of the session.
    LogOut,
}

/// What they get.
#[derive(Debug)]
pub enum Got {
    /// Dialogs.
    Dialogs(Vec<Dialog>),
    /// Messages, and whose session it is.
    Messages(Vec<Message>, i64),
    /// The message's number.
    Sent(i64),
    /// Where the file is; `None` when there is none.
    Located(Option<Located>),
    /// A piece of a file.
    Piece(Vec<u8>),
    /// It is done, or goes on in the background.
    Done,
}

pub(super) struct Call {
    pub(super) ask: Ask,
    pub(super) answer: oneshot::Sender<std::result::Result<Got, Failure>>,
}

/// Why a session is no longer held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Somebody else may take it.
    Released,
    /// Nothing can be done with these credentials any more.
    Dead,
}

/// What is held.
pub(super) struct Hold {
    pub(super) context: Context,
    pub(super) server: Server,
    pub(super) owner: Owner,
    pub(super) version: i64,
    pub(super) holder: Uuid,
    pub(super) session: String,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) stop: watch::Receiver<bool>,
}

/// A session that is open.
struct Open {
    connection: Box<dyn Mtproto>,
    me: Me,
}

/// What is still to be fetched.
#[derive(Default)]
struct Backlog {
    dialogs: VecDeque<Dialog>,
    /// Newest message, read up to, read by them up to: nothing changed where these did not.
    known: HashMap<Thread, (i64, i64, i64)>,
    /// What counts of the account's history. In a new one nothing is known.
    epoch: Epoch,
    due: Option<Instant>,
    /// Until then Telegram wants no calls about files.
    files_from: Option<Instant>,
}

/// The thread of a chat.
type Thread = String;

impl Hold {
    /// Holds the session until it ends.
    pub(super) async fn run(mut self) -> Ended {
        let ended = match self.hold().await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(account = %self.owner.account, %error, "a session is let go of");
                Ended::Released
            }
        };
        let store = self.context.store();
        if let Err(error) = store.release_telegram(self.owner, self.holder).await {
            tracing::warn!(account = %self.owner.account, %error, "a lease was left to expire");
        }
        ended
    }

    async fn hold(&mut self) -> Result<Ended> {
        let mut open: Option<Open> = None;
        let mut open_at = Instant::now();
        let mut pause = Duration::from_secs(1);
        let mut renewed = Instant::now();
        let mut backlog = Backlog {
            due: Some(Instant::now()),
            ..Backlog::default()
        };
        let mut renew = interval(RENEW_EVERY);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if open.is_none() && Instant::now() >= open_at {
                match self.open().await {
                    Ok(opened) => {
                        open = Some(opened);
                        pause = Duration::from_secs(1);
                        self.read_epoch(&mut backlog).await?;
                        backlog.due = Some(Instant::now());
                    }
                    Err(Failure::Revoked { reason }) => return self.revoked(reason).await,
                    Err(failure) => {
                        tracing::info!(reason = failure.reason(), "a session did not open");
                        open_at = Instant::now() + wait_of(&failure).unwrap_or(pause);
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
            let next = tokio::select! {
                heard = heard(open.as_ref()) => Next::Heard(heard),
                Some(call) = self.calls.recv() => Next::Call(call),
                _ = renew.tick() => Next::Renew,
                () = at(backlog.due) , if open.is_some() => Next::Look,
                () = sleep_until(open_at), if open.is_none() => continue,
                _ = self.stop.changed() => Next::Stop,
            };
            let is_due = matches!(next, Next::Renew) || renewed.elapsed() > FRESH;
            if is_due {
                if !self.renew().await? {
                    return self.let_go(open).await;
                }
                renewed = Instant::now();
                self.save(open.as_ref()).await?;
            }
            let failed = match next {
                Next::Renew => None,
                Next::Stop => {
                    self.save(open.as_ref()).await?;
                    return Ok(Ended::Released);
                }
                Next::Heard(Err(failure)) => Some(failure),
                Next::Heard(Ok(items)) => {
                    if let Some(open) = &open {
                        self.record(&open.me, items, (backlog.epoch, false)).await?;
                        open.connection.kept().await;
                    }
                    None
                }
                Next::Look => match &open {
                    Some(open) => self.look(open, &mut backlog).await?,
                    None => None,
                },
                Next::Call(call) => match &open {
                    Some(open) => match self.answer(open, call, &mut backlog).await? {
                        Answering::Ended => return Ok(Ended::Dead),
                        Answering::Failed(failure) => failure,
                    },
                    None => {
                        let reason = "the session is not connected".to_owned();
                        let _gone = call.answer.send(Err(Failure::NotSent { reason }));
                        None
                    }
                },
            };
            match failed {
                None => {}
                Some(Failure::Revoked { reason }) => return self.revoked(reason).await,
                Some(Failure::Wait { seconds, .. }) => {
                    backlog.due = Some(Instant::now() + Duration::from_secs(seconds));
                }
                Some(failure) => {
                    tracing::info!(reason = failure.reason(), "a session broke off");
                    self.save(open.as_ref()).await?;
                    open = None;
                    open_at = Instant::now() + pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn open(&self) -> std::result::Result<Open, Failure> {
        let connection = self.server.open(Some(&self.session)).await?;
        let me = bounded(connection.me()).await?;
        Ok(Open { connection, me })
    }

    fn store(&self) -> &Store {
        self.context.store()
    }

    async fn renew(&self) -> Result<bool> {
        self.store()
            .renew_telegram(self.owner, self.holder, self.version, LEASE)
            .await
    }

    /// Writes the session back when it changed. Without it being ours nothing is written.
    async fn save(&mut self, open: Option<&Open>) -> Result<()> {
        let Some(open) = open else { return Ok(()) };
        let session = open.connection.session();
        if session != self.session
            && self
                .store()
                .save_telegram(self.owner, self.holder, self.version, &session)
                .await?
        {
            self.session = session;
        }
        Ok(())
    }

    /// The lease is somebody else's, or the credentials are: of those that were replaced or erased
    /// nobody takes leave but us.
    async fn let_go(&self, open: Option<Open>) -> Result<Ended> {
        let state = self.store().token_state(self.owner).await?;
        let version = state.map(|state| state.version);
        if version != Some(self.version)
            && let Some(open) = open
            && let Err(failure) = bounded(open.connection.log_out()).await
        {
            tracing::info!(
                reason = failure.reason(),
                "Telegram did not confirm the end"
            );
        }
        Ok(Ended::Released)
    }

    async fn revoked(&self, reason: String) -> Result<Ended> {
        let Owner { user, account } = self.owner;
        let event = AccountNeedsReconnect {
            user,
            account,
            reason,
        };
        let version = self.version.to_be_bytes();
        let key = Key::of(&[b"telegram revoked", account.0.as_bytes(), &version]);
        let shard = self.store().sharding().of_user(user);
        let append = Append::one(shard, account, event).once(key);
        self.store().append(append).await?;
        Ok(Ended::Dead)
    }

    /// Writes down what was heard, as raw input of the account: in which epoch, and whether it was
    /// asked for.
    async fn record(
        &self,
        me: &Me,
        items: Vec<Item>,
        (epoch, history): (Epoch, bool),
    ) -> Result<()> {
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Ignored { .. } | Item::Typing { .. } => {}
                Item::Deleted { chat: None, ids } => kept.extend(self.located(ids).await?),
                Item::ReadByThem {
                    chat,
                    max_id,
                    until_ms,
                } => {
                    let thread = chat.thread();
                    let conversation = self.store().conversation_named(self.owner, &thread);
                    let conversation = conversation.await?;
                    let id = max_id.to_string();
                    let written = self.store().written_at(self.owner.user, conversation, &id);
                    let written = written.await?.map(|at| at.timestamp_millis());
                    let until_ms = written.or(until_ms);
                    kept.push(Item::ReadByThem {
                        chat,
                        max_id,
                        until_ms,
                    });
                }
                item => kept.push(item),
            }
        }
        let routes = vec![me.id.to_string()];
        let platform = Platform::Telegram;
        for items in kept.chunks(ITEMS_MAX) {
            let told = Told {
                epoch,
                history,
                ..Told::new(&routes[0], items)
            };
            let raw = serde_json::to_vec(&told)
                .map_err(|_| hub_store::Error::Sealed("what was told is plain data"))?;
            let sealed_at = Utc::now();
            let vault = self.store().vault();
            let body = vault
                .seal_raw(platform, &routes, sealed_at, &STANDARD.encode(raw))
                .await?;
            let command = NewCommand {
                shard: self.store().sharding().of_route(platform, &routes[0]),
                command: Command::Webhook {
                    platform,
                    body,
                    sealed_at,
                    routes: routes.clone(),
                },
                request: None,
            };
            self.store().accept(command).await?;
        }
        Ok(())
    }

    /// Deletions outside of channels do not say where they happened; the hub knows.
    async fn located(&self, ids: Vec<i64>) -> Result<Vec<Item>> {
        let texts: Vec<String> = ids.iter().map(i64::to_string).collect();
        let found = self.store().threads_of_messages(self.owner, &texts).await?;
        let located = found.into_iter().filter_map(|(thread, id)| {
            Some(Item::Deleted {
                chat: Some(Chat::of_thread(&thread)?),
                ids: vec![id.parse().ok()?],
            })
        });
        Ok(located.collect())
    }

    /// The next step of a look at everything: the dialogs, then one history after the other.
    async fn look(&self, open: &Open, backlog: &mut Backlog) -> Result<Option<Failure>> {
        let failed = match backlog.dialogs.pop_front() {
            None => self.begin_look(open, backlog).await?,
            Some(dialog) => {
                let history = bounded(open.connection.history(&dialog.chat, HISTORY_MAX)).await;
                match history {
                    Ok(messages) => {
                        let items = items_of(&dialog, messages);
                        self.record(&open.me, items, (backlog.epoch, true)).await?;
                        let seen = (dialog.top, dialog.read_in, dialog.read_out);
                        backlog.known.insert(dialog.chat.thread(), seen);
                        None
                    }
                    // A chat nobody may read any more holds up none of the others.
                    Err(Failure::Refused { .. }) => None,
                    Err(failure) => {
                        backlog.dialogs.push_front(dialog);
                        Some(failure)
                    }
                }
            }
        };
        let pause = if backlog.dialogs.is_empty() {
            SYNC_EVERY
        } else {
            open.connection.pace()
        };
        backlog.due = Some(Instant::now() + pause);
        Ok(failed)
    }

    /// What the account has forgotten is neither known nor on its way any more.
    async fn read_epoch(&self, backlog: &mut Backlog) -> Result<()> {
        let row = self.store().account(self.owner.user, self.owner.account);
        let epoch = row.await?.map_or(backlog.epoch, |row| Epoch(row.epoch));
        if epoch != backlog.epoch {
            backlog.epoch = epoch;
            backlog.known.clear();
            backlog.dialogs.clear();
        }
        Ok(())
    }

    async fn begin_look(&self, open: &Open, backlog: &mut Backlog) -> Result<Option<Failure>> {
        self.read_epoch(backlog).await?;
        match bounded(open.connection.dialogs(DIALOGS_MAX)).await {
            Ok(dialogs) => {
                let changed = dialogs.into_iter().filter(|it| {
                    let seen = (it.top, it.read_in, it.read_out);
                    backlog.known.get(&it.chat.thread()) != Some(&seen)
                });
                backlog.dialogs = changed.collect();
                Ok(None)
            }
            Err(Failure::Refused { .. }) => Ok(None),
            Err(failure) => Ok(Some(failure)),
        }
    }

    /// Does what somebody asks for. A failure is theirs; one of the session is ours as well.
    async fn answer(&self, open: &Open, call: Call, backlog: &mut Backlog) -> Result<Answering> {
        let connection = &open.connection;
        let mut is_end = false;
        let outcome = match call.ask {
            Ask::Dialogs(limit) => bounded(connection.dialogs(limit)).await.map(Got::Dialogs),
            Ask::Messages(chat, limit) => bounded(connection.history(&chat, limit))
                .await
                .map(|messages| Got::Messages(messages, open.me.id)),
            Ask::Send(chat, text, file, random_id) => {
                let file = file.as_ref();
                let sent = send(&**connection, (&chat, &text, file), random_id);
                sent.await.map(Got::Sent)
            }
            ask @ (Ask::SavePart(_) | Ask::Locate(..) | Ask::Read(..)) => {
                of_files(&**connection, ask, &mut backlog.files_from).await
            }
            Ask::Sync => {
                self.read_epoch(backlog).await?;
                let failed = if backlog.dialogs.is_empty() {
                    self.begin_look(open, backlog).await?
                } else {
                    None
                };
                backlog.due = Some(Instant::now());
                failed.map_or(Ok(Got::Done), Err)
            }
            Ask::LogOut => {
                is_end = true;
                bounded(connection.log_out()).await.map(|()| Got::Done)
            }
        };
        let failure = match &outcome {
            Err(failure @ (Failure::Revoked { .. } | Failure::Unclear { .. })) => {
                Some(failure.clone())
            }
            _ => None,
        };
        let _gone = call.answer.send(outcome);
        Ok(if is_end {
            Answering::Ended
        } else {
            Answering::Failed(failure)
        })
    }
}

enum Next {
    Heard(std::result::Result<Vec<Item>, Failure>),
    Call(Call),
    Renew,
    Look,
    Stop,
}

/// What became of a call, as far as the session is concerned.
enum Answering {
    Ended,
    Failed(Option<Failure>),
}

async fn heard(open: Option<&Open>) -> std::result::Result<Vec<Item>, Failure> {
    match open {
        Some(open) => open.connection.updates().await,
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn wait_of(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::Wait { seconds, .. } => Some(Duration::from_secs(*seconds)),
        _ => None,
    }
}

/// A send that was made before is found in the history: the number makes Telegram refuse a second.
async fn send(
    connection: &dyn Mtproto,
    (chat, text, file): (&Chat, &str, Option<&Handed>),
    random_id: i64,
) -> std::result::Result<i64, Failure> {
    match bounded(connection.send(chat, text, file, random_id)).await {
        Err(Failure::Repeated) => {
            let history = bounded(connection.history(chat, HISTORY_MAX)).await?;
            let same = history
                .iter()
                .find(|it| it.out && it.text == text && it.media.is_some() == file.is_some());
            same.map(|it| it.id).ok_or(Failure::Repeated)
        }
        outcome => outcome,
    }
}

/// A call about files. Telegram counts them by themselves: while it wants patience with one, none is
/// made, whoever asks, and messages go on.
async fn of_files(
    connection: &dyn Mtproto,
    ask: Ask,
    from: &mut Option<Instant>,
) -> std::result::Result<Got, Failure> {
    let left = from.map(|from| from.saturating_duration_since(Instant::now()));
    if let Some(left) = left.filter(|left| !left.is_zero()) {
        return Err(Failure::Wait {
            seconds: left.as_secs() + 1,
            reason: "Telegram asked for a pause with files".to_owned(),
        });
    }
    let outcome = match &ask {
        Ask::SavePart(part) => bounded(connection.save_part(part))
            .await
            .map(|()| Got::Done),
        Ask::Locate(chat, id) => bounded(connection.locate(chat, *id))
            .await
            .map(Got::Located),
        Ask::Read(file, offset) => bounded(connection.read(file, *offset))
            .await
            .map(Got::Piece),
        Ask::Dialogs(_) | Ask::Messages(..) | Ask::Send(..) | Ask::Sync | Ask::LogOut => {
            let reason = "no call about files".to_owned();
            Err(Failure::NotSent { reason })
        }
    };
    if let Err(Failure::Wait { seconds, .. }) = &outcome {
        *from = Some(Instant::now() + Duration::from_secs(*seconds));
    }
    outcome
}

/// What a history says, the oldest first, so that it is told in the order in which it happened.
fn items_of(dialog: &Dialog, messages: Vec<Message>) -> Vec<Item> {
    let read = messages
        .iter()
        .filter(|it| it.out && it.id <= dialog.read_out);
    let until_ms = read.map(|it| it.date.saturating_mul(1000)).max();
    let mut items: Vec<Item> = messages
        .into_iter()
        .rev()
        .map(|mut message| {
            message.is_read = !message.out && message.id <= dialog.read_in;
            if message.chat.name.is_none() {
                message.chat.name.clone_from(&dialog.chat.name);
            }
            Item::Message(message)
        })
        .collect();
    if dialog.read_out > 0 {
        items.push(Item::ReadByThem {
            chat: dialog.chat.clone(),
            max_id: dialog.read_out,
            until_ms,
        });
    }
    items
}
