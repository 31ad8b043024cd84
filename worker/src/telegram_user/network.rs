//! Telegram's own servers, spoken to by grammers.
//!
//! Raw calls where the crate's own would panic, forget, or send twice: the login, sends, and whose
//! session it is. A task of its own listens, because a wait for updates must not be broken off in
//! the middle, and hands them over one batch at a time: Telegram's counters move when a batch is
//! durable.

mod files;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use grammers_client::client::{Client, UpdateStream};
use grammers_client::peer::PeerMap;
use grammers_client::sender::{ConnectionParams, NoRetries, UpdatesConfiguration};
use grammers_client::session::Session as _;
use grammers_client::session::types::{PeerId, PeerInfo, PeerRef, UpdateState, UpdatesState};
use grammers_client::session::updates::UpdatesLike;
use grammers_client::tl::{enums, functions, types};
use grammers_client::{InvocationError, SenderPool, SignInError, client, tl};
use hub_domain::platform::telegram_user::{Chat, ChatKind, Handed, Item, Message};
use hub_domain::secret::Secret;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

use super::kept::Kept;
use super::{Dialog, Failure, FilePart, Located, Me, Mtproto, SignedIn, convert};

/// Updates that may wait; more are dropped by the crate, and found again by a look at everything.
const UPDATES_MAX: NonZeroUsize = NonZeroUsize::new(2_000).expect("not zero");

/// Pause between calls that fetch history.
const PACE: Duration = Duration::from_secs(1);

/// A session with Telegram.
pub(super) struct Network {
    client: Client,
    kept: Arc<Kept>,
    api_id: i32,
    api_hash: Secret,
    /// The updates, until somebody listens.
    unheard: Mutex<Option<mpsc::Receiver<UpdatesLike>>>,
    heard: Mutex<Heard>,
    /// What runs for this session ends with it.
    tasks: std::sync::Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Heard {
    batches: Option<mpsc::Receiver<Batch>>,
    /// The batch that was told and is not known to be durable.
    told: Option<oneshot::Sender<()>>,
    again: Vec<Item>,
}

/// What was heard, and whom to tell that it is durable.
struct Batch {
    items: Result<Vec<Item>, Failure>,
    kept: oneshot::Sender<()>,
}

impl Network {
    /// Opens a session; the first call connects.
    pub(super) async fn open(
        api_id: i32,
        api_hash: Secret,
        session: Option<&str>,
    ) -> Result<Self, Failure> {
        let kept = Arc::new(Kept::of(session)?);
        let params = ConnectionParams {
            device_model: "Hub".to_owned(),
            system_version: "1".to_owned(),
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            system_lang_code: "en".to_owned(),
            lang_code: "en".to_owned(),
            retry_policy: Box::new(NoRetries),
            updates_channel_capacity: UPDATES_MAX,
            ..ConnectionParams::default()
        };
        let SenderPool {
            runner,
            handle,
            updates,
        } = SenderPool::with_configuration(Arc::clone(&kept), api_id, params);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            runner.run().await;
        });
        Ok(Self {
            client: Client::new(handle),
            kept,
            api_id,
            api_hash,
            unheard: Mutex::new(Some(updates)),
            heard: Mutex::default(),
            tasks: std::sync::Mutex::new(tasks),
        })
    }

    /// A call, in the data centre Telegram sends it to.
    async fn invoke<R: tl::RemoteCall>(&self, request: &R) -> Result<R::Return, InvocationError> {
        match self.client.invoke(request).await {
            Err(InvocationError::Rpc(error)) if error.code == 303 => {
                let Some(to) = error.value.and_then(|dc| i32::try_from(dc).ok()) else {
                    return Err(InvocationError::Rpc(error));
                };
                let Ok(()) = self.kept.set_home_dc_id(to).await;
                self.client.invoke(request).await
            }
            answer => answer,
        }
    }

    async fn signed_in(&self, user: enums::User) -> Result<Me, Failure> {
        let enums::User::User(user) = user else {
            return Err(Failure::Refused {
                reason: "no user".to_owned(),
            });
        };
        let info = PeerInfo::User {
            id: user.id,
            auth: user
                .access_hash
                .map(grammers_client::session::types::PeerAuth::from_hash),
            bot: Some(false),
            is_self: Some(true),
        };
        let Ok(()) = self.kept.cache_peer(info).await;
        // From here on updates are counted; those from before are found in the histories.
        if let Ok(enums::updates::State::State(state)) =
            self.client.invoke(&functions::updates::GetState {}).await
        {
            let all = UpdatesState {
                pts: state.pts,
                qts: state.qts,
                date: state.date,
                seq: state.seq,
                channels: Vec::new(),
            };
            let Ok(()) = self.kept.set_update_state(UpdateState::All(all)).await;
        }
        Ok(me_of(user))
    }

    async fn peer(&self, chat: &Chat) -> Result<PeerRef, Failure> {
        let unknown = || Failure::Refused {
            reason: "PEER_ID_INVALID".to_owned(),
        };
        let id = match chat.kind {
            ChatKind::User => PeerId::user(chat.id),
            ChatKind::Chat => PeerId::chat(chat.id),
            ChatKind::Channel => PeerId::channel(chat.id),
        };
        let id = id.ok_or_else(unknown)?;
        if chat.kind == ChatKind::Chat {
            return Ok(id.to_ambient_ref());
        }
        let Ok(known) = self.kept.peer_ref(id).await;
        if let Some(known) = known {
            return Ok(known);
        }
        // Whoever is in a dialog is known after a look at them.
        let mut dialogs = self.client.iter_dialogs().limit(100);
        while dialogs.next().await.map_err(|it| failure(&it))?.is_some() {}
        let Ok(known) = self.kept.peer_ref(id).await;
        known.ok_or_else(unknown)
    }

    async fn listen(&self, updates: mpsc::Receiver<UpdatesLike>) -> Result<(), Failure> {
        let configuration = UpdatesConfiguration { catch_up: true };
        let stream = self.client.stream_updates(updates, configuration).await;
        let stream = stream.map_err(|error| Failure::NotSent {
            reason: error.to_string(),
        })?;
        let (batches, receiver) = mpsc::channel(1);
        self.heard.lock().await.batches = Some(receiver);
        let mut tasks = self
            .tasks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tasks.spawn(pump(stream, batches));
        Ok(())
    }
}

/// Hands batches over, and lets Telegram's counters move when they are durable.
async fn pump(mut stream: UpdateStream, batches: mpsc::Sender<Batch>) {
    loop {
        let items = batch(&mut stream).await;
        let is_over = items.is_err();
        let (kept, durable) = oneshot::channel();
        if batches.send(Batch { items, kept }).await.is_err() || durable.await.is_err() {
            return;
        }
        if is_over || stream.sync_update_state().await.is_err() {
            return;
        }
    }
}

async fn batch(stream: &mut UpdateStream) -> Result<Vec<Item>, Failure> {
    let (update, _, peers) = stream.next_raw().await.map_err(|it| failure(&it))?;
    Ok(vec![convert::item(&update, &|id| name(&peers, id))])
}

fn name(peers: &PeerMap, id: PeerId) -> Option<String> {
    let name = peers.get(id)?.name()?;
    Some(name.to_owned())
}

fn me_of(user: types::User) -> Me {
    Me {
        id: user.id,
        username: user
            .username
            .or(user.first_name)
            .filter(|name| !name.is_empty()),
    }
}

fn failure(error: &InvocationError) -> Failure {
    match error {
        InvocationError::Rpc(error) => {
            Failure::of(error.code, &error.name, error.value.map(u64::from))
        }
        InvocationError::InvalidDc | InvocationError::Authentication(_) => Failure::NotSent {
            reason: error.to_string(),
        },
        error => Failure::Unclear {
            reason: error.to_string(),
        },
    }
}

fn sign_in_failure(error: SignInError) -> Failure {
    let named = |name: &str| Failure::Refused {
        reason: name.to_owned(),
    };
    match error {
        SignInError::SignUpRequired => named("PHONE_NUMBER_UNOCCUPIED"),
        SignInError::PasswordRequired(_) => named("SESSION_PASSWORD_NEEDED"),
        SignInError::InvalidCode => named("PHONE_CODE_INVALID"),
        SignInError::InvalidPassword(_) => named("PASSWORD_HASH_INVALID"),
        SignInError::Other(error) => failure(&error),
    }
}

impl Mtproto for Network {
    fn send_code<'a>(&'a self, phone: &'a str) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(async move {
            let request = functions::auth::SendCode {
                phone_number: phone.to_owned(),
                api_id: self.api_id,
                api_hash: self.api_hash.expose().to_owned(),
                settings: types::CodeSettings {
                    allow_flashcall: false,
                    current_number: false,
                    allow_app_hash: false,
                    allow_missed_call: false,
                    allow_firebase: false,
                    logout_tokens: None,
                    token: None,
                    app_sandbox: None,
                    unknown_number: false,
                }
                .into(),
            };
            match self.invoke(&request).await.map_err(|it| failure(&it))? {
                enums::auth::SentCode::Code(code) => Ok(code.phone_code_hash),
                enums::auth::SentCode::Success(_) | enums::auth::SentCode::PaymentRequired(_) => {
                    Err(Failure::Refused {
                        reason: "PAYMENT_REQUIRED".to_owned(),
                    })
                }
            }
        })
    }

    fn sign_in<'a>(
        &'a self,
        phone: &'a str,
        hash: &'a str,
        code: &'a str,
    ) -> BoxFuture<'a, Result<SignedIn, Failure>> {
        Box::pin(async move {
            let request = functions::auth::SignIn {
                phone_number: phone.to_owned(),
                phone_code_hash: hash.to_owned(),
                phone_code: Some(code.to_owned()),
                email_verification: None,
            };
            match self.invoke(&request).await {
                Ok(enums::auth::Authorization::Authorization(it)) => {
                    Ok(SignedIn::As(self.signed_in(it.user).await?))
                }
                Ok(enums::auth::Authorization::SignUpRequired(_)) => Err(Failure::Refused {
                    reason: "PHONE_NUMBER_UNOCCUPIED".to_owned(),
                }),
                Err(error) if error.is("SESSION_PASSWORD_NEEDED") => Ok(SignedIn::PasswordNeeded),
                Err(error) => Err(failure(&error)),
            }
        })
    }

    fn check_password<'a>(&'a self, password: &'a str) -> BoxFuture<'a, Result<Me, Failure>> {
        Box::pin(async move {
            let asked = self.invoke(&functions::account::GetPassword {}).await;
            let enums::account::Password::Password(asked) = asked.map_err(|it| failure(&it))?;
            // The crate takes for granted what Telegram may leave out.
            if asked.current_algo.is_none() || asked.srp_b.is_none() || asked.srp_id.is_none() {
                return Err(Failure::Refused {
                    reason: "SRP_ID_INVALID".to_owned(),
                });
            }
            let token = client::PasswordToken::new(asked);
            let user = self.client.check_password(token, password).await;
            self.signed_in(user.map_err(sign_in_failure)?.raw).await
        })
    }

    fn me(&self) -> BoxFuture<'_, Result<Me, Failure>> {
        Box::pin(async move {
            let request = functions::users::GetUsers {
                id: vec![enums::InputUser::UserSelf],
            };
            let users = self.invoke(&request).await.map_err(|it| failure(&it))?;
            match users.into_iter().next() {
                // A session from elsewhere does not know yet whose it is.
                Some(user) if self.kept.own_id().is_none() => self.signed_in(user).await,
                Some(enums::User::User(user)) => Ok(me_of(user)),
                _ => Err(Failure::Refused {
                    reason: "no user".to_owned(),
                }),
            }
        })
    }

    fn dialogs(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Dialog>, Failure>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let mut dialogs = self.client.iter_dialogs().limit(limit);
            while let Some(dialog) = dialogs.next().await.map_err(|it| failure(&it))? {
                let enums::Dialog::Dialog(raw) = &dialog.raw else {
                    continue;
                };
                let name = dialog.peer().name().map(str::to_owned);
                found.push(Dialog {
                    chat: convert::chat(&raw.peer, &|_| name.clone()),
                    unread: raw.unread_count,
                    read_in: raw.read_inbox_max_id.into(),
                    read_out: raw.read_outbox_max_id.into(),
                    top: raw.top_message.into(),
                    date: dialog
                        .last_message
                        .as_ref()
                        .map_or(0, |message| message.date().as_second()),
                });
            }
            Ok(found)
        })
    }

    fn history<'a>(
        &'a self,
        chat: &'a Chat,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Message>, Failure>> {
        Box::pin(async move {
            let peer = self.peer(chat).await?;
            let mut found = Vec::new();
            let mut messages = self.client.iter_messages(peer).limit(limit);
            while let Some(message) = messages.next().await.map_err(|it| failure(&it))? {
                let names = |id: PeerId| {
                    let peers = [message.sender(), message.peer()];
                    let peer = peers.into_iter().flatten().find(|peer| peer.id() == id)?;
                    peer.name().map(str::to_owned)
                };
                found.extend(convert::of_history(&message.raw, &names));
            }
            Ok(found)
        })
    }

    fn send<'a>(
        &'a self,
        chat: &'a Chat,
        text: &'a str,
        file: Option<&'a Handed>,
        random_id: i64,
    ) -> BoxFuture<'a, Result<i64, Failure>> {
        Box::pin(async move {
            let peer = self.peer(chat).await?.into();
            let updates = match file {
                None => {
                    let request = functions::messages::SendMessage {
                        no_webpage: false,
                        silent: false,
                        background: false,
                        clear_draft: false,
                        noforwards: false,
                        update_stickersets_order: false,
                        invert_media: false,
                        allow_paid_floodskip: false,
                        peer,
                        reply_to: None,
                        message: text.to_owned(),
                        random_id,
                        reply_markup: None,
                        entities: None,
                        schedule_date: None,
                        schedule_repeat_period: None,
                        send_as: None,
                        quick_reply_shortcut: None,
                        effect: None,
                        allow_paid_stars: None,
                        suggested_post: None,
                        rich_message: None,
                    };
                    self.invoke(&request).await
                }
                Some(file) => {
                    self.invoke(&files::message(peer, text, file, random_id))
                        .await
                }
            };
            let updates = updates.map_err(|it| failure(&it))?;
            sent_id(&updates, random_id).ok_or_else(|| Failure::Unclear {
                reason: "an answer without a number".to_owned(),
            })
        })
    }

    fn save_part<'a>(&'a self, part: &'a FilePart) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            match self.save(part).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::NotSent {
                    reason: "the part was not kept".to_owned(),
                }),
                Err(error) => Err(failure(&error)),
            }
        })
    }

    fn locate<'a>(
        &'a self,
        chat: &'a Chat,
        id: i64,
    ) -> BoxFuture<'a, Result<Option<Located>, Failure>> {
        Box::pin(async move {
            let Ok(id) = i32::try_from(id) else {
                return Ok(None);
            };
            let peer = self.peer(chat).await?;
            let found = self.client.get_messages_by_id(peer, &[id]).await;
            let found = found.map_err(|it| failure(&it))?.into_iter().flatten();
            Ok(found.last().and_then(|it| files::located(&it.raw)))
        })
    }

    fn read<'a>(
        &'a self,
        file: &'a Located,
        offset: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(self.piece(file, offset))
    }

    fn updates(&self) -> BoxFuture<'_, Result<Vec<Item>, Failure>> {
        Box::pin(async move {
            let unheard = self.unheard.lock().await.take();
            if let Some(updates) = unheard {
                self.listen(updates).await?;
            }
            let mut heard = self.heard.lock().await;
            // Told once, not kept, and asked for again: the same once more.
            if heard.told.is_some() && !heard.again.is_empty() {
                return Ok(heard.again.clone());
            }
            let over = || Failure::NotSent {
                reason: "the updates ended".to_owned(),
            };
            let batches = heard.batches.as_mut().ok_or_else(over)?;
            let batch = batches.recv().await.ok_or_else(over)?;
            heard.told = Some(batch.kept);
            heard.again = batch.items?;
            Ok(heard.again.clone())
        })
    }

    fn kept(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut heard = self.heard.lock().await;
            heard.again.clear();
            if let Some(told) = heard.told.take() {
                let _pump_is_gone = told.send(());
            }
        })
    }

    fn log_out(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let ended = self.invoke(&functions::auth::LogOut {}).await;
            ended.map(|_| ()).map_err(|it| failure(&it))
        })
    }

    fn session(&self) -> String {
        self.kept.text()
    }

    fn pace(&self) -> Duration {
        PACE
    }
}

/// The number Telegram gave to the message with this number of ours.
fn sent_id(updates: &enums::Updates, random_id: i64) -> Option<i64> {
    let of = |updates: &[enums::Update]| {
        updates.iter().find_map(|update| match update {
            enums::Update::MessageId(it) if it.random_id == random_id => Some(i64::from(it.id)),
            _ => None,
        })
    };
    match updates {
        enums::Updates::UpdateShortSentMessage(it) => Some(it.id.into()),
        enums::Updates::Updates(it) => of(&it.updates),
        enums::Updates::Combined(it) => of(&it.updates),
        _ => None,
    }
}
