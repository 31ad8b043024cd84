//! Wishes that need a session of a Telegram user account: signing in, dialogs, messages, a look.
//!
//! A wish about an account is fulfilled by the process that holds its session; another one puts it
//! back at once. Nobody waits for a wish that is past its time, so none is fulfilled then.

use std::time::Duration;

use chrono::Utc;
use hub_domain::envelope::{Append, Meta};
use hub_domain::event::AccountConnected;
use hub_domain::id::{AccountId, Key, UserId};
use hub_domain::platform::telegram_user::{
    Answered, Chat, ChatKind, DialogShown, MessageShown, Wish,
};
use hub_domain::platform::{Connected, Platform};
use hub_domain::secret::Secret;
use hub_store::Result;
use hub_store::account::Owner;
use hub_store::jobs::{Job, Outcome};
use hub_store::telegram::{QUEUE, Wished};
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::Context;
use crate::telegram_user::{Ask, Failure, Got, Me, Mtproto, Server, SignedIn, bounded};

/// How soon a wish that another process has to fulfil is put before it again.
const ELSEWHERE: Duration = Duration::from_millis(100);

/// The queue of wishes.
#[derive(Clone)]
pub struct Telegram {
    context: Context,
}

/// A login between its steps. Whoever has it and the code is in.
#[derive(Serialize, Deserialize)]
struct Login {
    hash: String,
    session: String,
    /// The code was redeemed: only the password is missing.
    needs_password: bool,
    /// The code may have been redeemed: whether it was is to be found out first.
    was_tried: bool,
}

impl Telegram {
    /// The queue, worked by this process.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    fn server(&self) -> std::result::Result<Server, Answered> {
        Server::of(&self.context)
            .ok_or_else(|| no("Telegram sign-in is not set up on this hub.", false))
    }

    async fn phone(&self, user: UserId, phone: &str) -> Result<Answered> {
        let server = match self.server() {
            Ok(server) => server,
            Err(answer) => return Ok(answer),
        };
        let sent = async {
            let connection = server.open(None).await?;
            let hash = bounded(connection.send_code(phone)).await?;
            Ok::<_, Failure>((hash, connection.session()))
        };
        let (hash, session) = match sent.await {
            Ok(sent) => sent,
            Err(failure) => return Ok(words(&failure)),
        };
        let login = Login {
            hash: hash.clone(),
            session,
            needs_password: false,
            was_tried: false,
        };
        self.keep(user, phone, &login).await?;
        Ok(Answered::CodeSent { hash })
    }

    async fn keep(&self, user: UserId, phone: &str, login: &Login) -> Result<()> {
        let text = serde_json::to_string(login)
            .map_err(|_| hub_store::Error::Sealed("a login is plain data"))?;
        let store = self.context.store();
        store.put_telegram_login(user, phone, &text).await
    }

    async fn verify(
        &self,
        wished: &Wished,
        phone: &str,
        code: &str,
        hash: &str,
        password: Option<&str>,
    ) -> Result<Answered> {
        let (store, user) = (self.context.store(), wished.user);
        let kept = store.telegram_login(user, phone).await?;
        let login = kept.and_then(|text| serde_json::from_str::<Login>(&text).ok());
        let Some(mut login) = login.filter(|login| login.hash == hash) else {
            let message = "There is no pending login for this number. Please ask for a code.";
            return Ok(no(message, true));
        };
        let server = match self.server() {
            Ok(server) => server,
            Err(answer) => return Ok(answer),
        };
        let connection = match server.open(Some(&login.session)).await {
            Ok(connection) => connection,
            Err(failure) => return Ok(words(&failure)),
        };
        let known = if login.was_tried {
            bounded(connection.me()).await.ok()
        } else {
            None
        };
        let signed_in = match known {
            Some(me) => Ok(SignedIn::As(me)),
            None if login.needs_password => Ok(SignedIn::PasswordNeeded),
            None => {
                login.was_tried = true;
                self.keep(user, phone, &login).await?;
                bounded(connection.sign_in(phone, hash, code)).await
            }
        };
        let me = match (signed_in, password) {
            (Ok(SignedIn::As(me)), _) => Ok(me),
            (Ok(SignedIn::PasswordNeeded), password) => {
                login.needs_password = true;
                login.session = connection.session();
                self.keep(user, phone, &login).await?;
                match password {
                    Some(password) => bounded(connection.check_password(password)).await,
                    None => return Ok(Answered::PasswordNeeded),
                }
            }
            (Err(failure), _) => Err(failure),
        };
        match me {
            Ok(me) => self.signed_in(wished, phone, me, &*connection).await,
            Err(failure) => {
                let is_over = failure.reason().starts_with("PHONE_CODE_EXPIRED");
                if is_over {
                    store.end_telegram_login(user, phone).await?;
                }
                Ok(words(&failure))
            }
        }
    }

    /// The session is stored before anybody is told.
    async fn signed_in(
        &self,
        wished: &Wished,
        phone: &str,
        me: Me,
        connection: &dyn Mtproto,
    ) -> Result<Answered> {
        let (store, user) = (self.context.store(), wished.user);
        let username = me.username.unwrap_or_else(|| phone.to_owned());
        let id = me.id.to_string();
        // An imported one keeps the id it had.
        let account = store.account_named(user, Platform::Telegram, &id).await?;
        let owner = Owner { user, account };
        let connected = Connected {
            platform_user_id: id.clone(),
            username: username.clone(),
            route: id.clone(),
            access_token: Secret::new(connection.session()),
            refresh_token: None,
            expires_in_s: None,
            granted: None,
        };
        store.put_account_tokens(owner, &connected, None).await?;
        store.put_owner(Platform::Telegram, &id, owner).await?;
        let event = AccountConnected {
            user,
            account,
            platform: Platform::Telegram,
            platform_user_id: id.clone(),
            username: store.vault().user(user).await?.seal(&username),
            route: id,
        };
        let meta = Meta {
            actor: Some(user.0),
            ..Meta::default()
        };
        let append = Append::one(store.sharding().of_user(user), account, event)
            .once(Key::of(&[b"connect", &wished.answer.0]))
            .because(meta);
        store.append(append).await?;
        store.end_telegram_login(user, phone).await?;
        self.context.telegram().look();
        Ok(Answered::SignedIn { account, username })
    }

    async fn of_session(&self, account: AccountId, ask: Ask) -> Answered {
        match self.context.telegram().ask(account, ask).await {
            Ok(Got::Dialogs(dialogs)) => Answered::Dialogs {
                dialogs: dialogs
                    .into_iter()
                    .map(|it| DialogShown {
                        id: it.chat.thread(),
                        is_user: it.chat.kind == ChatKind::User,
                        is_group: it.chat.kind != ChatKind::User,
                        unread_count: it.unread,
                        date: it.date,
                        name: it.chat.name.unwrap_or_default(),
                    })
                    .collect(),
            },
            Ok(Got::Messages(messages, me)) => Answered::Messages {
                messages: messages
                    .into_iter()
                    .map(|it| MessageShown {
                        id: it.id.to_string(),
                        sender_id: match &it.from {
                            Some(from) => from.thread(),
                            None if it.out => me.to_string(),
                            None => it.chat.thread(),
                        },
                        text: it.text,
                        date: it.date,
                        out: it.out,
                    })
                    .collect(),
            },
            Ok(Got::Sent(_) | Got::Located(_) | Got::Piece(_) | Got::Done) => Answered::Syncing,
            Err(failure) => words(&failure),
        }
    }
}

fn no(message: &str, by_person: bool) -> Answered {
    Answered::Refused {
        message: message.to_owned(),
        retry_after_s: None,
        by_person,
    }
}

/// A failure in words for the person who is waiting.
fn words(failure: &Failure) -> Answered {
    match failure {
        Failure::Wait { seconds, .. } => Answered::Refused {
            message: format!("Telegram asks to wait {seconds} seconds before the next try."),
            retry_after_s: Some(*seconds),
            by_person: true,
        },
        Failure::Refused { reason } => match reason.split(' ').next().unwrap_or_default() {
            "PHONE_NUMBER_INVALID" => no("Telegram does not know this phone number.", true),
            "PHONE_NUMBER_BANNED" => no("Telegram has banned this phone number.", true),
            "PHONE_NUMBER_UNOCCUPIED" => no(
                "There is no Telegram account with this number. Please register in Telegram first.",
                true,
            ),
            "PHONE_CODE_INVALID" | "PHONE_CODE_EMPTY" => no("The code is wrong.", true),
            "PHONE_CODE_EXPIRED" => no("The code has expired. Please ask for a new one.", true),
            "PASSWORD_HASH_INVALID" | "SRP_ID_INVALID" => no("The password is wrong.", true),
            "PHONE_NUMBER_FLOOD" | "PHONE_PASSWORD_FLOOD" => no(
                "Telegram has had too many tries for this number. Please try again tomorrow.",
                true,
            ),
            "API_ID_INVALID" | "API_ID_PUBLISHED_FLOOD" => {
                no("Telegram does not accept this hub's registration.", false)
            }
            "CHANNEL_PRIVATE" | "PEER_ID_INVALID" | "CHANNEL_INVALID" | "USER_ID_INVALID"
            | "CHAT_ID_INVALID" => no("Telegram does not know this chat.", true),
            name => {
                tracing::info!(name, "Telegram refused a wish");
                no("Telegram refused this.", true)
            }
        },
        Failure::Revoked { reason } if reason.starts_with("USER_DEACTIVATED") => {
            no("Telegram has closed this account.", true)
        }
        Failure::Revoked { .. } => no(
            "Telegram no longer accepts this session. Please sign in again.",
            true,
        ),
        Failure::NotSent { .. }
        | Failure::Unclear { .. }
        | Failure::Incomplete { .. }
        | Failure::Moved { .. }
        | Failure::Repeated => no("Telegram was not reached. Please try again.", false),
    }
}

impl Queue for Telegram {
    const NAME: &'static str = QUEUE;

    async fn run(&self, job: &Job) -> Result<Outcome> {
        let store = self.context.store();
        let Ok(wished) = serde_json::from_value::<Wished>(job.payload.clone()) else {
            return Ok(Outcome::Park {
                reason: "the payload is malformed".to_owned(),
            });
        };
        let is_late = wished.until < Utc::now();
        if is_late || store.vault().is_erased_now(wished.user).await? {
            return Ok(Outcome::Done);
        }
        if let Some(account) = wished.account
            && !self.context.telegram().holds(account)
        {
            return Ok(Outcome::Again(ELSEWHERE));
        }
        let answered = match (store.open_wish(&wished).await?, wished.account) {
            (Wish::Phone { phone }, _) => self.phone(wished.user, &phone).await?,
            (
                Wish::Verify {
                    phone,
                    code,
                    hash,
                    password,
                },
                _,
            ) => {
                self.verify(&wished, &phone, &code, &hash, password.as_deref())
                    .await?
            }
            (Wish::Dialogs { limit }, Some(account)) => {
                self.of_session(account, Ask::Dialogs(limit)).await
            }
            (Wish::Messages { thread, limit }, Some(account)) => match Chat::of_thread(&thread) {
                Some(chat) => self.of_session(account, Ask::Messages(chat, limit)).await,
                None => no("Telegram does not know this chat.", true),
            },
            (Wish::Sync {}, Some(account)) => self.of_session(account, Ask::Sync).await,
            (_, None) => no("This needs an account.", true),
        };
        store.answer_wish(&wished, &answered).await?;
        Ok(Outcome::Done)
    }
}
