//! `hub bench ingest`: signed webhooks over HTTP, each durable before its 200, and until they are
//! seen in the read model. Load generator, API, worker and PostgreSQL share the machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use hub_config::Settings;
use hub_domain::id::{MessageId, Shard, conversation_id, message_id};
use hub_domain::platform::Platform;
use hub_domain::signature;
use hub_store::Store;
use hub_store::account::Owner;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::ground::{self, ENCRYPTION_KEY, Ground};
use super::history::Person;
use super::load::{Measured, closed_loop};
use super::{Report, Row};
use crate::cli::BenchWishes;
use crate::roles;

mod client;

use client::Client;

/// Connections of the load generator.
const CLIENTS: usize = 64;

/// Pages that messages arrive for.
const PAGES: u64 = 64;

/// People who write to each page.
const WRITERS: u64 = 20;

/// What the platform signs with.
const APP_SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Of this many paced webhooks one is followed into the read model.
const FOLLOWED_EVERY: u64 = 20;

pub async fn run(ground: &Ground, wishes: &BenchWishes, report: &mut Report) -> Result<()> {
    let url = ground.database().await?;
    let hub = Hub::start(&url).await?;
    let time = Duration::from_secs(wishes.seconds);

    // What can be had from HTTP alone: the same request, refused for its signature.
    let refused = hub.load(time, Signed::Wrongly).await?;
    let began = Instant::now();
    let accepted = hub.load(time, Signed::Rightly).await?;
    report.row(&Row::beside(
        "webhooks accepted",
        &accepted,
        "the same, refused unsigned",
        &refused,
    ))?;
    let sent = hub.sent.load(Ordering::Relaxed);
    hub.wait_for(sent).await?;
    let seen = Measured::of(CLIENTS, Vec::new(), began.elapsed());
    let end_to_end = sent as f64 / began.elapsed().as_secs_f64();
    report.row(&Row {
        per_s: end_to_end,
        ratio: end_to_end / accepted.per_s,
        ..Row::beside(
            "seen in the inbox, sustained",
            &seen,
            "webhooks accepted",
            &accepted,
        )
    })?;

    let lag = hub.paced(end_to_end / 2.0, time).await?;
    report.row(&Row {
        per_s: end_to_end / 2.0,
        ratio: 0.5,
        peer_per_s: end_to_end,
        ..Row::beside(
            "lag until seen, at half of that",
            &lag,
            "seen in the inbox, sustained",
            &lag,
        )
    })?;
    hub.stop().await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signed {
    Rightly,
    Wrongly,
}

/// An API and a worker in this process.
struct Hub {
    store: Store,
    people: Vec<Person>,
    clients: Vec<Mutex<Client>>,
    sent: AtomicU64,
    stop: CancellationToken,
    parts: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Hub {
    async fn start(url: &str) -> Result<Self> {
        let environment = BTreeMap::from([
            ("HUB_ENV", "development"),
            ("DATABASE_URL", url),
            ("JWT_SECRET", "signs access tokens of a measurement"),
            (
                "JWT_REFRESH_SECRET",
                "signs refresh tokens of a measurement",
            ),
            ("ENCRYPTION_KEY", ENCRYPTION_KEY),
            ("FACEBOOK_APP_ID", "845120034567890"),
            ("FACEBOOK_APP_SECRET", APP_SECRET),
            ("FACEBOOK_VERIFY_TOKEN", "verify"),
            // Nobody is there: whoever asks for a name is told so at once.
            ("FACEBOOK_API_BASE", "http://127.0.0.1:9"),
        ]);
        let settings = Settings::load(|name| environment.get(name).map(ToString::to_string))?;
        let store = ground::open(url, settings.database.pool_size).await?;
        let mut people = Vec::new();
        for number in 0..PAGES {
            let person = Person::new(&store, number).await?;
            let owner = Owner {
                user: person.user,
                account: person.account,
            };
            store
                .put_owner(Platform::Facebook, &person.page, owner)
                .await?;
            people.push(person);
        }
        let stop = CancellationToken::new();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let api = hub_api::Api::new(store.clone(), Arc::new(settings.clone()), None);
        let api = hub_api::serve(listener, api, roles::wait(stop.clone()));
        let worker = (store.clone(), settings, stop.clone());
        let parts = vec![
            tokio::spawn(async move { Ok(api.await?) }),
            tokio::spawn(async move { roles::work(worker.0, &worker.1, worker.2).await }),
        ];
        let clients = (0..CLIENTS).map(|_| Client::connect(address));
        let clients = try_join_all(clients).await?;
        Ok(Self {
            store,
            people,
            clients: clients.into_iter().map(Mutex::new).collect(),
            sent: AtomicU64::new(0),
            stop,
            parts,
        })
    }

    async fn stop(self) -> Result<()> {
        drop(self.clients);
        self.stop.cancel();
        for part in self.parts {
            part.await??;
        }
        self.store.close().await;
        Ok(())
    }

    /// As many webhooks as are answered.
    async fn load(&self, time: Duration, signed: Signed) -> Result<Measured> {
        closed_loop(CLIENTS, time, |client, nth| async move {
            let number = match signed {
                Signed::Rightly => self.sent.fetch_add(1, Ordering::Relaxed),
                Signed::Wrongly => nth,
            };
            let status = self.post(client, number, signed).await?;
            let expected = if signed == Signed::Rightly { 200 } else { 401 };
            ensure!(status == expected, "a webhook was answered with {status}");
            Ok(())
        })
        .await
    }

    async fn post(&self, client: usize, number: u64, signed: Signed) -> Result<u16> {
        let (person, writer, mid) = self.message(number);
        let body = format!(
            r#"{{"object":"page","entry":[{{"id":"{}","time":1791201600900,"messaging":[{{"sender":{{"id":"{writer}"}},"recipient":{{"id":"{}"}},"timestamp":{},"message":{{"mid":"{mid}","text":"Hi, is the blue teapot still in stock? ({number})"}}}}]}}]}}"#,
            person.page,
            person.page,
            1_791_201_600_000 + number,
        );
        let secret = if signed == Signed::Rightly {
            APP_SECRET
        } else {
            "somebody else's"
        };
        let signature = signature::meta_sign(secret, body.as_bytes());
        let mut client = self.clients[client].lock().await;
        client
            .post("/api/webhooks/facebook", &signature, body.as_bytes())
            .await
    }

    fn message(&self, number: u64) -> (&Person, String, String) {
        let person = &self.people[(number % PAGES) as usize];
        let writer = format!("7214365{:09}", number / PAGES % WRITERS);
        (
            person,
            writer,
            format!("m_bench-pVhb7TnR2uYq8s1Lw5Xc9EoKd4GjMa6Bv{number:010}"),
        )
    }

    /// Waits until this many messages are in the read model.
    async fn wait_for(&self, messages: u64) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            let seen = hub_store::peer::listed(self.store.pool()).await?;
            if seen >= i64::try_from(messages)? {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "only {seen} of {messages} messages were seen in the inbox"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Webhooks at a steady rate; how long those that were followed took from the first byte sent
    /// until they were seen in the read model.
    async fn paced(&self, per_s: f64, time: Duration) -> Result<Measured> {
        let began = Instant::now();
        let count = (per_s * time.as_secs_f64()) as u64;
        let first = self.sent.fetch_add(count, Ordering::Relaxed);
        let next = AtomicU64::new(0);
        let followed = Mutex::new(Vec::new());
        let sending = AtomicBool::new(true);
        let senders = (0..CLIENTS).map(|client| {
            let (next, followed) = (&next, &followed);
            async move {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= count {
                        return anyhow::Ok(());
                    }
                    let due = began + Duration::from_secs_f64(nth as f64 / per_s);
                    tokio::time::sleep_until(due.into()).await;
                    let sent = Instant::now();
                    let status = self.post(client, first + nth, Signed::Rightly).await?;
                    ensure!(status == 200, "a webhook was answered with {status}");
                    if nth.is_multiple_of(FOLLOWED_EVERY) {
                        followed.lock().await.push(self.followed(first + nth, sent));
                    }
                }
            }
        });
        let send = async {
            let sent = try_join_all(senders).await;
            sending.store(false, Ordering::Relaxed);
            sent
        };
        let (sent, micros) = tokio::join!(send, self.follow(&followed, &sending));
        sent?;
        let micros = micros?;
        Ok(Measured::of(CLIENTS, micros, began.elapsed()))
    }

    /// Looks for all followed messages with one question every few milliseconds, so that looking is
    /// not what is measured.
    async fn follow(
        &self,
        followed: &Mutex<Vec<(Shard, MessageId, Instant)>>,
        sending: &AtomicBool,
    ) -> Result<Vec<u32>> {
        let mut micros = Vec::new();
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let open = followed.lock().await;
            let ids: Vec<_> = open.iter().map(|it| (it.0, it.1)).collect();
            drop(open);
            if ids.is_empty() {
                if !sending.load(Ordering::Relaxed) {
                    return Ok(micros);
                }
                continue;
            }
            let seen = hub_store::peer::seen(self.store.pool(), &ids).await?;
            followed.lock().await.retain(|(_, id, sent)| {
                if seen.contains(id) {
                    micros.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                !seen.contains(id)
            });
        }
    }

    fn followed(&self, number: u64, sent: Instant) -> (Shard, MessageId, Instant) {
        let (person, writer, mid) = self.message(number);
        let conversation = conversation_id(person.account, &writer);
        (person.shard, message_id(conversation, &mid), sent)
    }
}
