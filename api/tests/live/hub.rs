//! A hub for one test: a database of its own, the API on a free port, and what the worker would do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hub_api::auth::{Claims, issue};
use hub_api::live::Pace;
use hub_api::{Api, serve};
use hub_cluster::TestDatabase;
use hub_config::Settings;
use hub_domain::envelope::{Append, Recorded};
use hub_domain::event::{
    AccountConnected, Event, MessageReceived, MessageType, PlatformMessage, Sealed, Thread,
};
use hub_domain::id::{
    AccountId, MessageId, Place, StreamId, UserId, account_id, conversation_id, message_id,
};
use hub_domain::platform::Platform;
use hub_domain::secret::Secret;
use hub_store::bus::{Change, changes};
use hub_store::project::{Projection, step};
use hub_store::schema::FIRST_GENERATION;
use hub_store::signal::Topic;
use hub_store::vault::DataKey;
use hub_store::{Options, Store};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::database;

/// The origin whose pages may connect.
pub const ORIGIN: &str = "http://localhost:5173";

/// Times short enough for a test, and long enough for a busy machine.
pub const QUICK: Pace = Pace {
    authenticate_within: Duration::from_millis(1_000),
    ping_every: Duration::from_millis(150),
    answer_within: Duration::from_millis(600),
    silence_max: Duration::from_millis(1_000),
};

pub struct Hub {
    pub api: Api,
    pub address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    pub database: TestDatabase,
}

impl Hub {
    pub async fn start() -> Self {
        Self::start_at(Pace::default()).await
    }

    pub async fn start_at(pace: Pace) -> Self {
        let database = database().await;
        let options = Options {
            database_url: Secret::new(database.url()),
            connections_max: 8,
            readers_max: 4,
            redis_url: None,
            encryption_key: Secret::new("the encryption key of a test"),
        };
        let store = Store::open(options).await.unwrap();
        let settings = Settings::load(|name| {
            let value = match name {
                "JWT_SECRET" => "signs access tokens of a test",
                "JWT_REFRESH_SECRET" => "signs refresh tokens of a test",
                "CORS_ORIGINS" => ORIGIN,
                _ => return None,
            };
            Some(value.to_owned())
        });
        let api = Api::new(store, Arc::new(settings.unwrap()), None);
        api.sockets().set_pace(pace);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let until = shutdown.clone().cancelled_owned();
        let serving = tokio::spawn(serve(listener, api.clone(), until));
        Self {
            api,
            address,
            shutdown,
            serving,
            database,
        }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
    }

    pub fn store(&self) -> &Store {
        self.api.store()
    }

    /// A user with one connected account.
    pub async fn person(&self, name: &str) -> Person {
        let user = UserId(Uuid::now_v7());
        let key = self.store().vault().user(user).await.unwrap();
        let email = format!("{name}@example.com");
        let claims = Claims { user, email };
        let person = Person {
            account: account_id(user, Platform::Facebook, "1789"),
            claims,
            key,
        };
        let connected = AccountConnected {
            user,
            account: person.account,
            platform: Platform::Facebook,
            platform_user_id: "1789".to_owned(),
            username: person.key.seal("My Page"),
            route: "1789".to_owned(),
        };
        self.happen(user, person.account, connected).await;
        person
    }

    pub fn token(&self, person: &Person) -> String {
        self.token_of(person, Utc::now())
    }

    pub fn expired_token(&self, person: &Person) -> String {
        self.token_of(person, Utc::now() - TimeDelta::days(1))
    }

    fn token_of(&self, person: &Person, now: DateTime<Utc>) -> String {
        let auth = &self.api.settings().auth;
        issue(auth, &person.claims, now).unwrap().0.access
    }

    /// Appends an event and folds the log into the read models. Publishes nothing.
    pub async fn happen(
        &self,
        user: UserId,
        stream: impl Into<StreamId>,
        event: impl Into<Event>,
    ) -> Recorded {
        let shard = self.store().sharding().of_user(user);
        let append = Append::one(shard, stream, event);
        let place = self.store().append(append).await.unwrap().place();
        for projection in Projection::ALL {
            while step(self.store().pool(), projection, FIRST_GENERATION, shard)
                .await
                .unwrap()
                > 0
            {}
        }
        self.store().signals().raise(Topic::Projected);
        let before = Place {
            position: place.position - 1,
            ..place
        };
        let read = hub_store::read::after(self.store().pool(), before, 1)
            .await
            .unwrap();
        read.into_iter().next().unwrap()
    }

    /// Does what the notifier does with an event.
    pub async fn tell(&self, recorded: &Recorded) {
        self.publish(changes(recorded).unwrap()).await;
    }

    pub async fn publish(&self, change: Change) {
        self.store().bus().publish(vec![change]).await;
    }

    /// A customer writes to a person.
    pub async fn receive(&self, person: &Person, platform_id: &str, text: &str) -> Recorded {
        let message = person.message("t_10", platform_id, text);
        let conversation = message.at.conversation;
        self.happen(person.user(), conversation, MessageReceived(message))
            .await
    }
}

/// A hub user with a connected account.
pub struct Person {
    pub claims: Claims,
    pub account: AccountId,
    pub key: DataKey,
}

impl Person {
    pub fn user(&self) -> UserId {
        self.claims.user
    }

    pub fn thread(&self, thread: &str) -> Thread {
        Thread {
            user: self.user(),
            account: self.account,
            platform: Platform::Facebook,
            conversation: conversation_id(self.account, thread),
            thread: thread.to_owned(),
        }
    }

    pub fn message_id(&self, thread: &str, platform_id: &str) -> MessageId {
        message_id(conversation_id(self.account, thread), platform_id)
    }

    pub fn message(&self, thread: &str, platform_id: &str, text: &str) -> PlatformMessage {
        PlatformMessage {
            at: self.thread(thread),
            message: self.message_id(thread, platform_id),
            platform_message_id: platform_id.to_owned(),
            sender_id: "PSID9".to_owned(),
            sender_name: Some(self.sealed("Bob")),
            thread_name: None,
            message_type: MessageType::Text,
            text: self.sealed(text),
            media: None,
            detail: None,
            sent_at: "2026-01-31T09:30:00.123Z".parse().unwrap(),
        }
    }

    fn sealed(&self, text: &str) -> Sealed {
        self.key.seal(text)
    }
}
