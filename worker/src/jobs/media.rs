//! Fetching the media of a message while the platform still hands them out.
//!
//! One job per message. For each of its media the adapter says where the bytes are, the fetcher gets
//! them ([`crate::fetch`]), or the session of a Telegram user account reads them (`session`), their content says what they are, and the object store keeps them sealed
//! under the key of the message's text. What became of each is an event, once. What cannot be had is
//! an event as well: at once when asking again does not help, after every allowed attempt when it
//! might have. A run that dies leaves objects whose events the next run adds, without fetching again.
//!
//! Calls are made in the account's name: with tokens that were renewed if need be, and out of its
//! budget, as is a fetch that carries a token. A medium alone never ends an account's authorisation:
//! a platform that refuses the tokens is asked again, with newer ones, until the attempts are spent.

mod session;

use std::time::{Duration, Instant};

use hub_domain::envelope::Append;
use hub_domain::event::{Event, MediaAnnounced, MediaLoss, MediaStored, MediaUnavailable};
use hub_domain::id::{Key, Shard, object_id};
use hub_domain::media::{content_type, fits};
use hub_domain::platform::call::CallFailure;
use hub_domain::platform::fact::Media as Medium;
use hub_domain::platform::media::{Download, MediaStep};
use hub_domain::platform::{Adapter, App, Credentials, Platform};
use hub_domain::retry;
use hub_store::account::Owner;
use hub_store::jobs::{Job, NewJob, Outcome};
use hub_store::objects::About;
use hub_store::vault::{DataKey, Opened};
use hub_store::{Error, Result};
use sha2::{Digest as _, Sha256};

use self::session::Place;
use super::withdrawn::STORE_LOOK;
use super::{Queue, accounts_behind, entropy};
use crate::Context;
use crate::call::{Called, NotNow};
use crate::fetch::FetchError;
use crate::renewal::{Access, Renewal};

/// Media of one message that are fetched. Platforms allow ten.
pub(super) const MEDIA_MAX: usize = 20;

/// Calls of one medium's flow.
const CALLS_MAX: usize = 5;

/// A run ends before its lease does.
const RUN_MAX: Duration = Duration::from_secs(75);

/// The queue of media to fetch.
#[derive(Clone)]
pub struct Media {
    context: Context,
}

/// The job that fetches a message's media. Their description stays sealed.
pub fn job(shard: Shard, event: &MediaAnnounced) -> NewJob {
    NewJob {
        shard,
        queue: Media::NAME,
        key: event.message.to_string(),
        payload: serde_json::json!(event),
        delay: Duration::ZERO,
    }
}

/// Why a medium is not here.
enum Missing {
    /// For good.
    Lost(MediaLoss),
    /// For now.
    Later(Option<Duration>, String),
    /// For now, because the account may not call. That is no failed attempt.
    NotNow(NotNow),
    /// For now, because the platform does not know the tokens.
    Unknown(String),
}

impl From<FetchError> for Missing {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Refused => Self::Lost(MediaLoss::Refused),
            FetchError::TooBig => Self::Lost(MediaLoss::TooBig),
            FetchError::Gone => Self::Lost(MediaLoss::Gone),
            FetchError::Later { wait, reason } => Self::Later(wait, reason),
        }
    }
}

impl From<CallFailure> for Missing {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::RetryAfter { wait, reason } => Self::Later(Some(wait), reason),
            CallFailure::Backoff { reason } => Self::Later(None, reason),
            CallFailure::Reconnect { reason } => Self::Unknown(reason),
            CallFailure::Permanent { .. } => Self::Lost(MediaLoss::Gone),
        }
    }
}

/// What fetching takes, of one message.
struct Source<'a> {
    announced: &'a MediaAnnounced,
    adapter: &'static dyn Adapter,
    app: &'a App,
    renewal: Option<Renewal>,
    /// Where they are, if a session fetches them.
    place: Option<Place>,
    key: &'a DataKey,
}

/// What calls are made with.
struct Tokens {
    credentials: Credentials,
    /// `None` for those that cannot be renewed from here.
    version: Option<i64>,
}

impl Source<'_> {
    fn owner(&self) -> Owner {
        Owner {
            user: self.announced.user,
            account: self.announced.account,
        }
    }

    fn platform(&self) -> Platform {
        self.announced.platform
    }
}

impl Media {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// The tokens of the account. Those that are no good any more are good enough for platforms that
    /// give an address with the message.
    async fn tokens(&self, source: &Source<'_>, access: Access) -> Result<Option<Tokens>> {
        if let Access::Granted(held) = access {
            return Ok(Some(Tokens {
                version: Some(held.state.version),
                credentials: held.credentials,
            }));
        }
        let route = source.renewal.as_ref().map(|it| it.route.as_str());
        let (store, route) = (self.context.store(), route.unwrap_or_default());
        let left = store.credentials(source.owner(), route).await?;
        Ok(left.map(|credentials| Tokens {
            credentials,
            version: None,
        }))
    }

    /// A medium's bytes, from wherever the platform says. Tokens that it does not know may be ones
    /// that can be renewed.
    async fn bytes(
        &self,
        source: &Source<'_>,
        medium: &Medium,
        within: Duration,
    ) -> Result<std::result::Result<Vec<u8>, Missing>> {
        const GONE: Missing = Missing::Lost(MediaLoss::Gone);
        let Some(renewal) = &source.renewal else {
            return Ok(Err(GONE));
        };
        let Some(tokens) = self.tokens(source, renewal.access().await?).await? else {
            return Ok(Err(GONE));
        };
        let found = self.follow(source, &tokens, medium, within).await?;
        let (Err(Missing::Unknown(_)), Some(version)) = (&found, tokens.version) else {
            return Ok(found);
        };
        match renewal.after_refusal(version).await? {
            Some(access @ Access::Granted(_)) => match self.tokens(source, access).await? {
                Some(newer) => self.follow(source, &newer, medium, within).await,
                None => Ok(Err(GONE)),
            },
            _ => Ok(found),
        }
    }

    /// The adapter's way to the bytes, walked to its end.
    async fn follow(
        &self,
        source: &Source<'_>,
        tokens: &Tokens,
        medium: &Medium,
        within: Duration,
    ) -> Result<std::result::Result<Vec<u8>, Missing>> {
        let (owner, platform) = (source.owner(), source.platform());
        let mut flow = source
            .adapter
            .media(source.app, &tokens.credentials, medium);
        let mut step = flow.next(None);
        for _ in 0..CALLS_MAX {
            step = match step {
                MediaStep::Call(request) => {
                    let called = self.context.call_as(platform, owner, "media", request);
                    match called.await? {
                        Called::Answered(answer) => flow.next(Some(answer)),
                        Called::NotNow(not_now) => return Ok(Err(Missing::NotNow(not_now))),
                    }
                }
                MediaStep::Fetch(download) => {
                    let is_a_call = !download.request.headers.is_empty();
                    if is_a_call && let Some(not_now) = self.context.admit(platform, owner).await? {
                        return Ok(Err(Missing::NotNow(not_now)));
                    }
                    let fetcher = self.context.fetcher();
                    match fetcher.fetch(&download.request, within).await {
                        Ok(bytes) => return Ok(checked(&download, bytes)),
                        Err(FetchError::Gone) => flow.refused(),
                        Err(error) => return Ok(Err(error.into())),
                    }
                }
                MediaStep::Gone => break,
                MediaStep::Failed(failure) => return Ok(Err(failure.into())),
            };
        }
        Ok(Err(Missing::Lost(MediaLoss::Gone)))
    }

    /// A medium in the object store: from an earlier run, or now.
    async fn stored(
        &self,
        source: &Source<'_>,
        index: u16,
        medium: &Medium,
        within: Duration,
    ) -> Result<std::result::Result<About, Missing>> {
        let (objects, user) = (self.context.objects(), source.announced.user);
        let object = object_id(source.announced.message, index);
        if let Some(about) = objects.about(user, object).await? {
            return Ok(Ok(about));
        }
        let bytes_max = self.context.media().bytes_max as u64;
        if medium.size.is_some_and(|size| size > bytes_max) {
            return Ok(Err(Missing::Lost(MediaLoss::TooBig)));
        }
        let read = match &source.place {
            Some(place) => self.read(source, place, medium, within).await?,
            None => self.bytes(source, medium, within).await?,
        };
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(missing) => return Ok(Err(missing)),
        };
        let content_type = content_type(&bytes);
        if bytes.is_empty() || !fits(medium.kind, content_type) {
            return Ok(Err(Missing::Lost(MediaLoss::WrongType)));
        }
        let put = objects.put(user, object, source.key, content_type, bytes);
        put.await.map(Ok)
    }

    async fn tell(&self, shard: Shard, index: u16, event: impl Into<Event>) -> Result<()> {
        let event = event.into();
        let (conversation, message, what) = match &event {
            Event::MediaStored(it) => (it.conversation, it.message, b"stored".as_slice()),
            Event::MediaUnavailable(it) => (it.conversation, it.message, b"lost".as_slice()),
            _ => return Ok(()),
        };
        let key = Key::of(&[b"media", message.0.as_bytes(), &index.to_be_bytes(), what]);
        let append = Append::one(shard, conversation, event).once(key);
        self.context.store().append(append).await?;
        Ok(())
    }
}

impl Queue for Media {
    const NAME: &'static str = "media";

    async fn run(&self, job: &Job) -> Result<Outcome> {
        match self.turn(job).await {
            // No fault of the medium's.
            Err(Error::Objects(reason)) => {
                tracing::warn!(reason, "media wait for the object store");
                Ok(Outcome::Again(STORE_LOOK))
            }
            ended => ended,
        }
    }
}

impl Media {
    async fn turn(&self, job: &Job) -> Result<Outcome> {
        let (begun, store) = (Instant::now(), self.context.store());
        let Ok(announced) = serde_json::from_value::<MediaAnnounced>(job.payload.clone()) else {
            return Ok(park("the payload is malformed"));
        };
        let (user, sealed) = (announced.user, announced.media.0.as_str());
        if store.is_withdrawn(user, announced.message).await? {
            return Ok(Outcome::Done);
        }
        let keys = store.vault().keyring(user, [sealed]).await?;
        // Erased, the person or the day: nobody could read what would be fetched.
        let Some(key) = keys.key(sealed)? else {
            return Ok(Outcome::Done);
        };
        let Opened::Text(media) = keys.open(sealed)? else {
            return Ok(Outcome::Done);
        };
        let Ok(media) = serde_json::from_str::<Vec<Medium>>(&media) else {
            return Ok(park("the media are not described as media"));
        };
        let Some((adapter, app)) = self.context.platform(announced.platform) else {
            return Ok(park("there is no adapter for the platform"));
        };
        let mut source = Source {
            announced: &announced,
            adapter,
            app,
            renewal: None,
            place: None,
            key,
        };
        // An account that does not show yet would pass for one that is gone, and the medium for lost.
        let account = announced.account;
        if let Some(behind) = accounts_behind(&self.context, job.shard, account).await? {
            return Ok(behind);
        }
        let account = store.account(user, account).await?;
        let route = account.map(|it| it.route).unwrap_or_default();
        let (platform, owner) = (source.platform(), source.owner());
        source.renewal = self.context.renewal(platform, owner, &route);
        source.place = match self.place(&source, &route, job.shard).await? {
            Ok(place) => place,
            Err(outcome) => return Ok(outcome),
        };
        let is_last = job.attempts.unsigned_abs() >= retry::JOB.attempts_max;
        let (mut again, mut waits) = (None, None);
        for (medium, index) in media.iter().take(MEDIA_MAX).zip(0..) {
            let within = self.context.media().timeout;
            let within = within.min(RUN_MAX.saturating_sub(begun.elapsed()));
            let lost = match self.stored(&source, index, medium, within).await? {
                Ok(about) => {
                    let event = MediaStored {
                        user,
                        conversation: announced.conversation,
                        message: announced.message,
                        index,
                        object: object_id(announced.message, index),
                        content_type: about.content_type,
                        size: about.size,
                    };
                    self.tell(job.shard, index, event).await?;
                    count("stored");
                    continue;
                }
                Err(Missing::NotNow(not_now)) => {
                    waits = Some(not_now);
                    continue;
                }
                Err(Missing::Later(wait, reason)) if !is_last => {
                    again = Some((wait, reason));
                    continue;
                }
                // Somebody may connect the account again while attempts last.
                Err(Missing::Unknown(reason)) if !is_last => {
                    again = Some((None, reason));
                    continue;
                }
                Err(Missing::Later(..) | Missing::Unknown(_)) => MediaLoss::Unreachable,
                Err(Missing::Lost(loss)) => loss,
            };
            let event = MediaUnavailable {
                user,
                conversation: announced.conversation,
                message: announced.message,
                index,
                loss: lost,
            };
            self.tell(job.shard, index, event).await?;
            count("unavailable");
        }
        let Some((wait, reason)) = again else {
            return Ok(match waits {
                Some(not_now) => Outcome::Again(not_now.come_back()),
                None => Outcome::Done,
            });
        };
        let delay = retry::delay(retry::JOB, job.attempts.unsigned_abs(), entropy());
        let after = delay
            .unwrap_or(retry::JOB.cap)
            .max(wait.unwrap_or_default());
        Ok(Outcome::Retry { after, reason })
    }
}

/// The bytes, if they are the ones the platform spoke of. Others came wrong, and may come right.
fn checked(download: &Download, bytes: Vec<u8>) -> std::result::Result<Vec<u8>, Missing> {
    let is_other = |expected: [u8; 32]| Sha256::digest(&bytes)[..] != expected;
    match download.sha256 {
        Some(expected) if is_other(expected) => {
            let reason = "the bytes have another digest than the platform said";
            Err(Missing::Later(None, reason.to_owned()))
        }
        _ => Ok(bytes),
    }
}

fn park(reason: &str) -> Outcome {
    Outcome::Park {
        reason: reason.to_owned(),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("hub_media_total", "outcome" => outcome).increment(1);
}
