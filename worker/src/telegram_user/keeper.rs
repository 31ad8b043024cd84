//! Which sessions this process holds, and how work gets to them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hub_domain::id::{AccountId, MessageId};
use hub_domain::platform::telegram_user::{Chat, Handed, is_session};
use hub_store::Result;
use hub_store::account::Owner;
use hub_store::telegram::Candidate;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::hold::{Ask, Call, Ended, Got, Hold, LEASE};
use super::{Failure, Server};
use crate::Context;

/// How often a process looks for sessions that nobody holds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Calls that may wait for a session.
const CALLS_MAX: usize = 64;

/// A send whose answer was lost is repeated under its number for this long: Telegram remembers such
/// numbers for minutes, and the job that sends has a lease of its own.
const REPEAT_MAX: Duration = Duration::from_secs(40);

/// Pause before it is repeated.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// Time the sessions of a stopping process get to write themselves back.
const FAREWELL: Duration = Duration::from_secs(5);

/// The sessions of this process. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    held: Mutex<HashMap<AccountId, mpsc::Sender<Call>>>,
    look: Notify,
    stop: watch::Sender<bool>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                held: Mutex::default(),
                look: Notify::new(),
                stop: watch::Sender::new(false),
            }),
        }
    }
}

impl Sessions {
    fn held(&self) -> MutexGuard<'_, HashMap<AccountId, mpsc::Sender<Call>>> {
        let held = self.inner.held.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process holds the session of an account.
    pub fn holds(&self, account: AccountId) -> bool {
        self.held().contains_key(&account)
    }

    /// There may be a session to hold.
    pub fn look(&self) {
        self.inner.look.notify_one();
    }

    /// Asks the session of an account for something. Only the process that holds it can.
    pub async fn ask(&self, account: AccountId, ask: Ask) -> std::result::Result<Got, Failure> {
        let not_held = || Failure::NotSent {
            reason: "the session is held elsewhere".to_owned(),
        };
        let calls = self.held().get(&account).cloned();
        let (answer, answered) = oneshot::channel();
        let call = Call { ask, answer };
        let calls = calls.ok_or_else(not_held)?;
        calls.send(call).await.map_err(|_| not_held())?;
        // The session ended with the call in its hands.
        let lost = || Failure::Unclear {
            reason: "the session ended".to_owned(),
        };
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Sends a message once, under a number that follows from its id; returns Telegram's number of it.
    /// An answer that was lost is asked for again with the same number, which Telegram does not take
    /// twice.
    pub async fn send(
        &self,
        account: AccountId,
        thread: &str,
        (text, file): (&str, Option<&Handed>),
        message: MessageId,
    ) -> std::result::Result<i64, Failure> {
        let Some(chat) = Chat::of_thread(thread) else {
            let reason = "not a chat of Telegram".to_owned();
            return Err(Failure::Refused { reason });
        };
        let begun = Instant::now();
        let mut lost: Option<Failure> = None;
        loop {
            let number = random_id(message);
            let ask = Ask::Send(chat.clone(), text.to_owned(), file.cloned(), number);
            let failure = match self.ask(account, ask).await {
                Ok(Got::Sent(id)) => return Ok(id),
                Ok(_) => other_answer(),
                Err(failure) => failure,
            };
            if let Failure::Unclear { .. } = &failure {
                lost = Some(failure.clone());
            }
            // Once an answer was lost, a refusal says nothing about the first try.
            let Some(unclear) = &lost else {
                return Err(failure);
            };
            if begun.elapsed() >= REPEAT_MAX {
                return Err(unclear.clone());
            }
            tokio::time::sleep(REPEAT_AFTER).await;
        }
    }

    /// Lets go of everything; [`keep`] returns when that is done.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }
}

/// Cannot happen: an answer is of the kind that was asked for.
pub(super) fn other_answer() -> Failure {
    Failure::Unclear {
        reason: "another answer than asked for".to_owned(),
    }
}

/// The number a message is sent under: the same for every try, never zero.
pub(super) fn random_id(message: MessageId) -> i64 {
    let (high, low) = message.0.as_u64_pair();
    // Time-ordered ids share their beginning: both halves count.
    let mixed = (high.rotate_left(17) ^ low).max(1);
    i64::from_ne_bytes(mixed.to_ne_bytes())
}

/// Holds sessions until [`Sessions::stop`]: takes those that nobody holds, and again after a
/// process died.
pub async fn keep(context: Context) {
    let Some(server) = Server::of(&context) else {
        return;
    };
    let sessions = context.telegram().clone();
    let mut stop = sessions.inner.stop.subscribe();
    let mut holds: JoinSet<(Candidate, Ended)> = JoinSet::new();
    // Credentials that are no session, or one that is over.
    let mut passed: HashSet<(AccountId, i64)> = HashSet::new();
    while !*stop.borrow() {
        match candidates(&context, &passed).await {
            Ok(found) => {
                for candidate in found {
                    let taken = take(&context, &server, &candidate, &mut holds).await;
                    match taken {
                        Ok(true) => {}
                        Ok(false) => {
                            passed.insert((candidate.owner.account, candidate.version));
                        }
                        Err(error) => tracing::warn!(%error, "a session was not taken"),
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "sessions were not looked for"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = sessions.inner.look.notified() => {}
            _ = stop.changed() => {}
            Some(ended) = holds.join_next() => forget(&sessions, &mut passed, ended),
        }
        while let Some(ended) = holds.try_join_next() {
            forget(&sessions, &mut passed, ended);
        }
    }
    let _too_late = tokio::time::timeout(FAREWELL, holds.join_all()).await;
}

fn forget(
    sessions: &Sessions,
    passed: &mut HashSet<(AccountId, i64)>,
    ended: std::result::Result<(Candidate, Ended), tokio::task::JoinError>,
) {
    match ended {
        Ok((candidate, ended)) => {
            sessions.held().remove(&candidate.owner.account);
            if ended == Ended::Dead {
                passed.insert((candidate.owner.account, candidate.version));
            }
        }
        Err(error) => {
            tracing::error!(%error, "a session's task panicked");
            sessions.held().retain(|_, calls| !calls.is_closed());
        }
    }
}

/// Free accounts that may have a session, each once: an account may have had several routes.
async fn candidates(
    context: &Context,
    passed: &HashSet<(AccountId, i64)>,
) -> Result<Vec<Candidate>> {
    let mut found = context.store().telegram_accounts().await?;
    let sessions = context.telegram();
    let mut seen = HashSet::new();
    found.retain(|it| {
        it.is_free
            && !passed.contains(&(it.owner.account, it.version))
            && !sessions.holds(it.owner.account)
            && seen.insert(it.owner.account)
    });
    Ok(found)
}

/// Takes a session. False when there is none in these credentials.
async fn take(
    context: &Context,
    server: &Server,
    candidate: &Candidate,
    holds: &mut JoinSet<(Candidate, Ended)>,
) -> Result<bool> {
    let store = context.store();
    let owner = candidate.owner;
    let row = store.account(owner.user, owner.account).await?;
    if row.is_none_or(|row| !row.is_active || row.needs_reconnect.is_some()) {
        // Not shown yet, or waiting for its person: looked at again when that may have changed.
        return Ok(true);
    }
    let Some(session) = session(context, owner, &candidate.route).await? else {
        return Ok(false);
    };
    let holder = Uuid::now_v7();
    if !store.take_telegram(owner, holder, LEASE).await? {
        return Ok(true);
    }
    // What was read before the lease was ours may have been written since.
    let current = self::session(context, owner, &candidate.route).await?;
    let (calls, receiver) = mpsc::channel(CALLS_MAX);
    let hold = Hold {
        context: context.clone(),
        server: server.clone(),
        owner,
        version: candidate.version,
        holder,
        session: current.unwrap_or(session),
        calls: receiver,
        stop: context.telegram().inner.stop.subscribe(),
    };
    context.telegram().held().insert(owner.account, calls);
    let candidate = candidate.clone();
    holds.spawn(async move {
        let ended = hold.run().await;
        (candidate, ended)
    });
    Ok(true)
}

/// The session in an account's credentials, if they are one.
pub(crate) async fn session(
    context: &Context,
    owner: Owner,
    route: &str,
) -> Result<Option<String>> {
    let credentials = context.store().credentials(owner, route).await?;
    let token = credentials.map(|it| it.access_token.expose().to_owned());
    Ok(token.filter(|token| is_session(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_number_and_others_another() {
        let ids: Vec<MessageId> = (0..1_000).map(|_| MessageId(Uuid::now_v7())).collect();
        let numbers: HashSet<i64> = ids.iter().map(|id| random_id(*id)).collect();
        assert_eq!(numbers.len(), ids.len());
        assert!(!numbers.contains(&0));
        assert_eq!(random_id(ids[0]), random_id(ids[0]));
    }
}
