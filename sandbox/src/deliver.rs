//! Webhooks to the hub, with a platform's persistence.
//!
//! Delivery is at least once: anything but a 2xx is repeated with growing delay, in the background,
//! and always to the *current* hub address, so a hub that restarts on another port gets what it
//! missed. Webhooks are independent of each other: one that waits for its next attempt does not
//! hold up the rest, so order is lost exactly when real platforms lose it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::faults::Mode;
use crate::ledger::hold;
use crate::world::World;

/// How long the hub may take to answer one attempt. Meta gives 5 s, Telegram more.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The wait before the first repetition; it doubles from here.
const DELAY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const DELAY_MAX: Duration = Duration::from_secs(120);
/// A webhook nobody took for this long is given up. Meta unsubscribes after an hour.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Webhooks waiting for another attempt at once; beyond it new ones get one attempt only.
const WAITING_MAX: usize = 10_000;
/// How long a webhook is held for a partner to swap with before it goes alone.
const HELD_MAX: Duration = Duration::from_secs(5);

/// A webhook, signed and ready.
#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) platform: &'static str,
    pub(crate) path: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// How the first attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// The hub answered.
    Answered,
    /// The hub could not be reached or took too long.
    Unreachable,
    /// A fault swallowed it.
    Dropped,
    /// A fault holds it until the next one has overtaken it.
    Held,
    /// No webhook is set up; it waits to be fetched.
    Queued,
}

/// The first attempt's result.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Delivery {
    /// The HTTP status the hub gave, 0 for none.
    pub(crate) status: u16,
    pub(crate) outcome: Outcome,
}

struct Held {
    webhook: Webhook,
    copies: u32,
    number: u64,
}

/// The way to the hub.
pub(crate) struct Courier {
    client: reqwest::Client,
    base: watch::Sender<String>,
    held: Mutex<HashMap<&'static str, Held>>,
    held_ever: AtomicU64,
    waiting: AtomicUsize,
}

impl Delivery {
    /// Nothing was sent, for this reason.
    pub(crate) fn without_attempt(outcome: Outcome) -> Self {
        Self { status: 0, outcome }
    }

    fn taken(self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Courier {
    /// A courier to this base URL.
    pub(crate) fn new(base: &str) -> reqwest::Result<Self> {
        // The hub is a neighbour: a proxy from the environment would only be in the way. Platforms
        // do not follow redirects.
        let client = reqwest::Client::builder()
            .timeout(ANSWER_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            base: watch::Sender::new(base.trim_end_matches('/').to_owned()),
            held: Mutex::default(),
            held_ever: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Where webhooks go.
    pub(crate) fn base(&self) -> String {
        self.base.borrow().clone()
    }

    /// Sends webhooks elsewhere from now on. Those that wait are tried at once.
    pub(crate) fn set_base(&self, base: &str) {
        self.base
            .send_replace(base.trim_end_matches('/').to_owned());
    }

    /// Asks the hub something, as platforms do that want an address proved: status and body.
    pub(crate) async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let answer = self.client.get(format!("{}{path}", self.base())).send();
        let answer = answer.await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    /// Posts a form and returns the answer: status and body.
    pub(crate) async fn post_form(
        &self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Option<(u16, String)> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let posted = self.client.post(format!("{}{path}", self.base()));
        let kind = "application/x-www-form-urlencoded";
        let answer = posted.header("content-type", kind).body(form).send();
        let answer = answer.await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    /// Posts nothing but a query and returns the answer: status, content type, body.
    pub(crate) async fn ask_by_post(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Option<(u16, String, String)> {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        let url = format!("{}{path}?{query}", self.base());
        let asked = self.client.post(url).header("content-type", "text/plain");
        let answer = asked.send().await.ok()?;
        let kind = answer.headers().get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let (status, kind) = (answer.status().as_u16(), kind.to_owned());
        Some((status, kind, answer.text().await.ok()?))
    }

    async fn attempt(&self, webhook: &Webhook) -> Delivery {
        let url = format!("{}{}", self.base(), webhook.path);
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .body(webhook.body.clone());
        for (name, value) in &webhook.headers {
            request = request.header(*name, value);
        }
        match request.send().await {
            Ok(answer) => Delivery {
                status: answer.status().as_u16(),
                outcome: Outcome::Answered,
            },
            Err(_) => Delivery::without_attempt(Outcome::Unreachable),
        }
    }
}

impl World {
    /// Delivers a webhook so many times, through the faults. Returns when the first attempt is
    /// over; repetitions go on in the background.
    pub(crate) async fn deliver(self: &Arc<Self>, webhook: Webhook, copies: u32) -> Delivery {
        // A task of its own: whoever waits here may be a request that its caller gives up.
        let world = Arc::clone(self);
        tokio::spawn(async move { world.pass_faults(webhook, copies).await })
            .await
            .unwrap_or(Delivery::without_attempt(Outcome::Unreachable))
    }

    /// Lets go of everything that is held for a swap.
    pub(crate) fn release_held(self: &Arc<Self>) {
        let held: Vec<Held> = hold(&self.courier.held)
            .drain()
            .map(|(_, held)| held)
            .collect();
        for Held {
            webhook, copies, ..
        } in held
        {
            let world = Arc::clone(self);
            tokio::spawn(async move { world.hand_over(webhook, copies).await });
        }
    }

    async fn pass_faults(self: Arc<Self>, webhook: Webhook, copies: u32) -> Delivery {
        let platform = webhook.platform;
        if self.faults.hits_webhook(platform, Mode::Drop) {
            return Delivery::without_attempt(Outcome::Dropped);
        }
        let doubled = self.faults.hits_webhook(platform, Mode::Duplicate);
        let copies = if doubled { copies * 2 } else { copies };
        let swap = self.faults.hits_webhook(platform, Mode::Reorder);
        let earlier = hold(&self.courier.held).remove(platform);
        if let Some(earlier) = earlier {
            let delivery = self.hand_over(webhook, copies).await;
            self.hand_over(earlier.webhook, earlier.copies).await;
            return delivery;
        }
        if swap {
            self.hold_for_swap(webhook, copies);
            return Delivery::without_attempt(Outcome::Held);
        }
        self.hand_over(webhook, copies).await
    }

    fn hold_for_swap(self: &Arc<Self>, webhook: Webhook, copies: u32) {
        let platform = webhook.platform;
        let number = self.courier.held_ever.fetch_add(1, Ordering::Relaxed);
        let displaced = hold(&self.courier.held).insert(
            platform,
            Held {
                webhook,
                copies,
                number,
            },
        );
        let world = Arc::clone(self);
        tokio::spawn(async move {
            // Two webhooks that looked for a partner at the same moment: the first one goes now.
            if let Some(displaced) = displaced {
                world.hand_over(displaced.webhook, displaced.copies).await;
            }
            tokio::time::sleep(HELD_MAX).await;
            let lonely = {
                let mut held = hold(&world.courier.held);
                let still_there = held.get(platform).is_some_and(|held| held.number == number);
                if still_there {
                    held.remove(platform)
                } else {
                    None
                }
            };
            if let Some(lonely) = lonely {
                world.hand_over(lonely.webhook, lonely.copies).await;
            }
        });
    }

    async fn hand_over(self: &Arc<Self>, webhook: Webhook, copies: u32) -> Delivery {
        let mut first = None;
        for _ in 0..copies.max(1) {
            let delivery = self.courier.attempt(&webhook).await;
            if !delivery.taken() {
                tracing::debug!(
                    platform = webhook.platform,
                    status = delivery.status,
                    "the hub did not take a webhook; it is tried again"
                );
                self.repeat_later(webhook.clone());
            }
            first.get_or_insert(delivery);
        }
        first.unwrap_or(Delivery::without_attempt(Outcome::Unreachable))
    }

    fn repeat_later(self: &Arc<Self>, webhook: Webhook) {
        if self.courier.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.courier.waiting.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(
                platform = webhook.platform,
                "too many webhooks wait; one is lost"
            );
            return;
        }
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = world.repeat(webhook) => {}
                () = world.stop.cancelled() => {}
            }
            world.courier.waiting.fetch_sub(1, Ordering::Relaxed);
        });
    }

    async fn repeat(&self, webhook: Webhook) {
        let mut base = self.courier.base.subscribe();
        let (started, mut delay) = (Instant::now(), DELAY_FIRST);
        while started.elapsed() < PATIENCE {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = base.changed() => {}
            }
            if self.courier.attempt(&webhook).await.taken() {
                return;
            }
            delay = (delay * 2).min(DELAY_MAX);
        }
        tracing::warn!(
            platform = webhook.platform,
            "the hub took a webhook never; given up"
        );
    }
}
