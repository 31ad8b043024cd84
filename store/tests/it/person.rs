//! Somebody who lived here for a while: something of every kind, and everything called theirs.

use std::time::Duration;

use chrono::Utc;
use hub_domain::command::{Command, NewCommand};
use hub_domain::envelope::Meta;
use hub_domain::event::{
    AccountConnected, ContactNamed, ConversationNoted, Event, FailureClass, MessageEdited,
    MessageObserved, MessageQueued, MessageReceived, MessageType, SendFailed,
};
use hub_domain::id::{Key, MessageId, SessionId, UserId, login_stream};
use hub_domain::platform::{Connected, Platform};
use hub_domain::secret::Secret;
use hub_store::account::Owner;
use hub_store::jobs::{self, NewJob};
use hub_store::oauth::Begun;
use hub_store::session::{NewToken, Pair};
use hub_store::{PgPool, Store};
use uuid::Uuid;

use crate::facts::{Chat, user};

/// The platform account that everybody here has connected, and one for each alone.
pub const SHARED: &str = "7100";

/// Somebody with something of every kind. Each thing is called after its owner.
pub struct Person {
    pub user: UserId,
    pub name: &'static str,
    pub chat: Chat,
}

impl Person {
    pub fn new(n: u128, name: &'static str) -> Self {
        Self {
            user: user(n),
            name,
            chat: Chat::new(user(n), &format!("thread of {name}")),
        }
    }

    pub fn email(&self) -> String {
        format!("{}@example.org", self.name)
    }

    pub fn own(&self) -> String {
        format!("99{}", self.name.len())
    }

    /// Everything that is theirs alone.
    pub fn secrets(&self) -> Vec<String> {
        let things = [
            "text of yesterday",
            "text of today",
            "edited text",
            "observed text",
            "queued text",
            "failed text",
            "caption",
            "photograph",
            "detail",
            "note",
            "contact",
            "asked name",
            "username",
            "access token",
            "refresh token",
            "pair",
            "verifier",
            "grant",
            "raw of own",
            "raw of both",
        ];
        let mut secrets: Vec<String> = things.iter().map(|what| self.thing(what)).collect();
        secrets.push(self.email());
        secrets
    }

    pub fn thing(&self, what: &str) -> String {
        format!("{what} that is {}'s own", self.name)
    }

    pub fn account(&self) -> Owner {
        Owner {
            user: self.user,
            account: self.chat.at.account,
        }
    }

    /// Lives here for a while.
    pub async fn live(&self, store: &Store) {
        self.log_in(store).await;
        self.connect(store).await;
        self.talk(store).await;
        self.deliver(store).await;
        let endpoint = "GET /api/conversations".to_owned();
        store.usage().request(self.user, endpoint);
        store.usage().write().await.unwrap();
    }

    async fn log_in(&self, store: &Store) {
        let (user, email) = (self.user, self.email());
        let stream = login_stream(&email);
        let registered = store.register(stream, user, &email, "$2b$hash", Meta::default());
        registered.await.unwrap();
        let token = |n: u8| NewToken {
            hash: [n ^ self.user.0.as_bytes()[15]; 32],
            expires_at: Utc::now() + chrono::Duration::days(1),
        };
        let session = SessionId(Uuid::now_v7());
        store
            .start_session(user, session, &token(64), Meta::default())
            .await
            .unwrap();
        let make = |_| {
            let pair = Pair {
                access: self.thing("pair"),
                refresh: String::new(),
            };
            (pair, token(128))
        };
        let zero = Duration::ZERO;
        let exchanged = store.exchange_refresh_token(user, token(64).hash, zero, zero, make);
        exchanged.await.unwrap();
        let begun = Begun {
            user,
            platform: Platform::Twitter,
            verifier: Some(self.thing("verifier")),
        };
        let state = format!("state of {}", self.name);
        store.put_oauth_state(&state, &begun).await.unwrap();
    }

    pub async fn connect(&self, store: &Store) {
        let key = store.vault().user(self.user).await.unwrap();
        let shard = store.sharding().of_user(self.user);
        let own = self.own();
        for (platform, route) in [(Platform::Telegram, SHARED), (Platform::Facebook, &own)] {
            let connected = Connected {
                platform_user_id: route.to_owned(),
                username: self.thing("username"),
                route: route.to_owned(),
                access_token: Secret::new(self.thing("access token")),
                refresh_token: Some(Secret::new(self.thing("refresh token"))),
                expires_in_s: None,
                granted: None,
            };
            let account = hub_domain::id::account_id(self.user, platform, route);
            let owner = Owner {
                user: self.user,
                account,
            };
            store
                .put_account_tokens(owner, &connected, None)
                .await
                .unwrap();
            let person = store.person(platform, self.name);
            store.put_agreement(owner, person, None).await.unwrap();
            store.put_owner(platform, route, owner).await.unwrap();
            let event = AccountConnected {
                user: self.user,
                account,
                platform,
                platform_user_id: route.to_owned(),
                username: key.seal(&self.thing("username")),
                route: route.to_owned(),
            };
            let append = hub_domain::envelope::Append::one(shard, account, event);
            store.append(append).await.unwrap();
        }
    }

    async fn talk(&self, store: &Store) {
        let vault = store.vault();
        let names = vault.user(self.user).await.unwrap();
        let (now, yesterday) = (Utc::now(), Utc::now() - chrono::Duration::days(1));
        let today = vault.content(self.user, now, None).await.unwrap();
        let before = vault.content(self.user, yesterday, None).await.unwrap();
        let mut first = self.chat.message("m1", 1);
        first.text = before.seal(&self.thing("text of yesterday"));
        first.sender_name = Some(names.seal(&self.thing("contact")));
        first.thread_name = None;
        first.media = Some(before.seal(&self.thing("photograph")));
        first.detail = Some(before.seal(&self.thing("detail")));
        let mut second = self.chat.message("m2", 2);
        second.text = today.seal(&self.thing("text of today"));
        second.sender_name = None;
        let mut third = self.chat.message("m3", 3);
        third.text = today.seal(&self.thing("observed text"));
        third.sender_name = None;
        third.media = Some(today.seal(&self.thing("caption")));
        let conversation = self.chat.at.conversation;
        let queued = |n: u128, what| MessageQueued {
            at: self.chat.at.clone(),
            message: MessageId(Uuid::from_u128(n << 64 | self.user.0.as_u128())),
            message_type: MessageType::Text,
            text: today.seal(&self.thing(what)),
            attached: None,
        };
        let failed = queued(2, "failed text");
        let events: Vec<Event> = vec![
            MessageReceived(first).into(),
            MessageReceived(second).into(),
            MessageObserved(third).into(),
            MessageEdited {
                user: self.user,
                conversation,
                platform_message_id: "m2".to_owned(),
                text: today.seal(&self.thing("edited text")),
                edited_at: now,
            }
            .into(),
            ContactNamed {
                user: self.user,
                conversation,
                name: names.seal(&self.thing("asked name")),
            }
            .into(),
            ConversationNoted {
                user: self.user,
                conversation,
                fact: "conversation.referral".to_owned(),
                detail: today.seal(&self.thing("note")),
            }
            .into(),
            queued(1, "queued text").into(),
            failed.clone().into(),
            SendFailed {
                user: self.user,
                conversation,
                message: failed.message,
                class: FailureClass::Exhausted,
                reason: "no".to_owned(),
            }
            .into(),
        ];
        let shard = store.sharding().of_user(self.user);
        for event in events {
            store.append(self.chat.append(shard, event)).await.unwrap();
        }
    }

    /// Raw input, and what waits to be done about it.
    async fn deliver(&self, store: &Store) {
        let shard = store.sharding().of_user(self.user);
        let grant = store.vault().user(self.user).await.unwrap();
        let connect = Command::Connect {
            user: self.user,
            platform: Platform::Facebook,
            grant: grant.seal(&self.thing("grant")),
            answer: Key::of(&[self.name.as_bytes()]),
        };
        let command = |command| NewCommand {
            shard,
            command,
            request: None,
        };
        store.accept(command(connect)).await.unwrap();
        let (own, at) = (self.own(), Utc::now());
        for (what, routes) in [
            ("raw of own", vec![own.clone()]),
            ("raw of both", vec!["another page".to_owned(), own]),
        ] {
            let text = self.thing(what);
            let body = store
                .vault()
                .seal_raw(Platform::Facebook, &routes, at, &text);
            let webhook = Command::Webhook {
                platform: Platform::Facebook,
                body: body.await.unwrap(),
                sealed_at: at,
                routes,
            };
            store.accept(command(webhook)).await.unwrap();
        }
        let job = |queue| NewJob {
            shard,
            queue,
            key: format!("{queue} of {}", self.name),
            payload: serde_json::json!({ "user": self.user }),
            delay: Duration::ZERO,
        };
        let mut tx = store.pool().begin().await.unwrap();
        for queue in ["contact", "send"] {
            jobs::enqueue(&mut tx, &job(queue)).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// What may be told from rows alone: how many there are where.
    pub async fn left(&self, pool: &PgPool) -> Vec<(String, i64)> {
        let rows = sqlx::query_as(
            "SELECT 'logins', count(*) FROM logins WHERE user_id = $1 \
             UNION ALL SELECT 'refresh_tokens', count(*) FROM refresh_tokens WHERE user_id = $1 \
             UNION ALL SELECT 'oauth_states', count(*) FROM oauth_states WHERE user_id = $1 \
             UNION ALL SELECT 'directory', count(*) FROM directory WHERE user_id = $1 \
             UNION ALL SELECT 'agreements', count(*) FROM agreements WHERE user_id = $1 \
             UNION ALL SELECT 'account_tokens', count(*) FROM account_tokens t \
                 JOIN read.accounts a ON a.id = t.account WHERE a.user_id = $1 \
             UNION ALL SELECT 'contact', count(*) FROM jobs \
                 WHERE queue = 'contact' AND payload ->> 'user' = $1::text \
             UNION ALL SELECT 'usage', count(*) FROM api_usage_logs WHERE user_id = $1 \
             UNION ALL SELECT 'keys', count(*) FROM data_keys \
                 WHERE (owner = $1 OR subject = $1) AND wrapped IS NOT NULL",
        );
        let rows: Vec<(String, i64)> = rows.bind(self.user.0).fetch_all(pool).await.unwrap();
        rows.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}
