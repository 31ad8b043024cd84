//! Subscriptions and what is told through them.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Answer, Graph, GraphError, NAME, TENANT, ok, reply};
use crate::call::Call;
use crate::deliver::Webhook;
use crate::world::now_ms;

/// Where notifications are taken by the hub.
const PATH: &str = "/api/webhooks/teams";
/// The longest life, in minutes; beyond an hour only with an address for lifecycle events.
const LIFE_MINUTES: (i64, i64) = (60, 4_320);
/// How long the hub may take to prove its address.
const PROOF_MAX: Duration = Duration::from_secs(10);

/// A promise to tell.
#[derive(Clone)]
pub(super) struct Subscription {
    person: String,
    url: String,
    lifecycle_url: Option<String>,
    change_type: String,
    resource: String,
    client_state: Option<String>,
    ends_ms: i64,
}

impl Subscription {
    fn shown(&self, id: &str) -> Value {
        json!({
            "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#subscriptions/$entity",
            "id": id,
            "resource": self.resource,
            "changeType": self.change_type,
            "clientState": null,
            "notificationUrl": self.url,
            "lifecycleNotificationUrl": self.lifecycle_url,
            "expirationDateTime": long_time(self.ends_ms),
            "creatorId": self.person,
            "latestSupportedTlsVersion": "v1_2",
        })
    }

    fn holds(&self) -> bool {
        now_ms() < self.ends_ms
    }
}

/// Seven digits of a second, as in notifications.
fn long_time(ms: i64) -> String {
    let time = DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or_default();
    format!("{}0000Z", time.format("%Y-%m-%dT%H:%M:%S%.3f"))
}

impl Graph {
    /// Makes a subscription once its addresses have proved themselves.
    pub(super) async fn subscribe(&self, call: &Call) -> Answer {
        let token = self.bearer(call)?;
        let need = |name: &str| {
            let missing = || {
                GraphError::new(
                    400,
                    "InvalidRequest",
                    format!("{name} is a required property."),
                )
            };
            call.param(name).ok_or_else(missing)
        };
        let lifecycle_url = call.param("lifecycleNotificationUrl");
        let ends_ms = ends(&need("expirationDateTime")?, lifecycle_url.is_some())?;
        let resource = need("resource")?;
        if resource.trim_start_matches('/') != "me/chats/getAllMessages" {
            let words = "Only /me/chats/getAllMessages is played here.";
            return Err(GraphError::new(400, "InvalidRequest", words));
        }
        let client_state = call.param("clientState");
        if client_state.as_ref().is_some_and(|word| word.len() > 128) {
            let words = "clientState must not have more than 128 characters.";
            return Err(GraphError::new(400, "InvalidRequest", words));
        }
        let subscription = Subscription {
            person: token.person,
            url: need("notificationUrl")?,
            lifecycle_url,
            change_type: need("changeType")?,
            resource,
            client_state,
            ends_ms,
        };
        let urls = [Some(&subscription.url), subscription.lifecycle_url.as_ref()];
        for url in urls.into_iter().flatten() {
            self.prove(url).await?;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let mut state = self.state();
        state.subscriptions.retain(|_, it| it.holds());
        let twice =
            |it: &Subscription| it.person == subscription.person && it.url == subscription.url;
        if state.subscriptions.values().any(twice) {
            let words = "A subscription with the same resource already exists.";
            return Err(GraphError::new(409, "Conflict", words));
        }
        let shown = subscription.shown(&id);
        state.subscriptions.insert(id, subscription);
        Ok(reply(StatusCode::CREATED, &shown))
    }

    /// Asks an address for the token it is sent, as it reads after decoding.
    async fn prove(&self, url: &str) -> Result<(), GraphError> {
        let path = url::Url::parse(url).map(|url| url.path().to_owned());
        let failed = |why: &str| {
            let words = format!(
                "Subscription validation request failed. Notification endpoint must respond with \
                 200 OK to validation request. {why}"
            );
            GraphError::new(400, "ValidationError", words)
        };
        if !path.is_ok_and(|path| path == PATH) {
            return Err(failed("The path is not the hub's."));
        }
        let id = uuid::Uuid::new_v4();
        let token = format!(
            "Validation: Testing client application reachability for subscription \
             Request-Id: {id}+&"
        );
        let query = [("validationToken", token.as_str())];
        let asked = self.world.courier.ask_by_post(PATH, &query);
        let answer = tokio::time::timeout(PROOF_MAX, asked).await;
        match answer.ok().flatten() {
            Some((200, kind, body)) if kind.starts_with("text/plain") && body == token => Ok(()),
            Some((status, ..)) => Err(failed(&format!("It answered {status}."))),
            None => Err(failed("It did not answer.")),
        }
    }

    fn of(&self, call: &Call, id: &str) -> Result<Subscription, GraphError> {
        let token = self.bearer(call)?;
        let state = self.state();
        let subscription = state.subscriptions.get(id).cloned();
        subscription
            .filter(|it| it.person == token.person && it.holds())
            .ok_or_else(|| {
                let words = format!("Subscription {id} was not found.");
                GraphError::new(404, "ResourceNotFound", words)
            })
    }

    /// Moves the end.
    pub(super) fn renew(&self, call: &Call, id: &str) -> Answer {
        let mut subscription = self.of(call, id)?;
        let until = call.param("expirationDateTime").unwrap_or_default();
        subscription.ends_ms = ends(&until, subscription.lifecycle_url.is_some())?;
        let shown = subscription.shown(id);
        self.state()
            .subscriptions
            .insert(id.to_owned(), subscription);
        ok(&shown)
    }

    /// Keeps it alive without moving the end.
    pub(super) fn reauthorize(&self, call: &Call, id: &str) -> Answer {
        self.of(call, id)?;
        Ok(StatusCode::ACCEPTED.into_response())
    }

    /// Ends it.
    pub(super) fn unsubscribe(&self, call: &Call, id: &str) -> Answer {
        self.of(call, id)?;
        self.state().subscriptions.remove(id);
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Those of this person.
    pub(super) fn list_subscriptions(&self, call: &Call) -> Answer {
        let token = self.bearer(call)?;
        let all = self.subscriptions_of(&token.person);
        let all: Vec<Value> = all.iter().map(|(id, it)| it.shown(id)).collect();
        ok(&json!({ "value": all }))
    }

    /// The person's subscriptions that hold.
    pub(super) fn subscriptions_of(&self, person: &str) -> Vec<(String, Subscription)> {
        let state = self.state();
        let held = state.subscriptions.iter();
        held.filter(|(_, it)| it.person == person && it.holds())
            .map(|(id, it)| (id.clone(), it.clone()))
            .collect()
    }

    /// Ends the person's subscriptions without a word, as happens to whoever is away too long.
    pub(super) fn expire(&self, person: &str) -> usize {
        let mut state = self.state();
        let before = state.subscriptions.len();
        state.subscriptions.retain(|_, it| it.person != person);
        before - state.subscriptions.len()
    }

    /// What a person's subscriptions have to tell about a message; nothing without one.
    pub(super) fn notification(
        &self,
        person: &str,
        chat: &str,
        message: &str,
        change: &str,
    ) -> Option<Webhook> {
        let resource = format!("chats('{chat}')/messages('{message}')");
        let items: Vec<Value> = self
            .subscriptions_of(person)
            .into_iter()
            .filter(|(_, it)| it.change_type.split(',').any(|kind| kind == change))
            .map(|(id, it)| {
                json!({
                    "subscriptionId": id,
                    "changeType": change,
                    "clientState": it.client_state,
                    "subscriptionExpirationDateTime": long_time(it.ends_ms),
                    "resource": resource,
                    "resourceData": {
                        "id": message,
                        "@odata.type": "#Microsoft.Graph.chatMessage",
                        "@odata.id": resource,
                    },
                    "encryptedContent": null,
                    "tenantId": TENANT,
                })
            })
            .collect();
        webhook(items)
    }

    /// A lifecycle event of a person's subscriptions.
    pub(super) fn lifecycle(&self, person: &str, event: &str) -> Option<Webhook> {
        let items = self
            .subscriptions_of(person)
            .into_iter()
            .filter(|(_, it)| it.lifecycle_url.is_some())
            .map(|(id, it)| {
                json!({
                    "subscriptionId": id,
                    "subscriptionExpirationDateTime": long_time(it.ends_ms),
                    "tenantId": TENANT,
                    "clientState": it.client_state,
                    "lifecycleEvent": event,
                })
            })
            .collect();
        webhook(items)
    }
}

fn webhook(items: Vec<Value>) -> Option<Webhook> {
    (!items.is_empty()).then(|| Webhook {
        platform: NAME,
        path: PATH,
        headers: Vec::new(),
        body: Bytes::from(json!({ "value": items }).to_string()),
    })
}

fn ends(until: &str, with_lifecycle: bool) -> Result<i64, GraphError> {
    let invalid = |words: &str| GraphError::new(400, "ValidationError", words);
    let until = DateTime::parse_from_rfc3339(until)
        .map_err(|_| invalid("expirationDateTime is not a time."))?
        .timestamp_millis();
    // Clocks differ by a little.
    let minutes = (until - now_ms()) / 60_000;
    if until <= now_ms() {
        return Err(invalid("expirationDateTime must be in the future."));
    }
    if minutes > LIFE_MINUTES.1 || minutes > LIFE_MINUTES.0 && !with_lifecycle {
        return Err(invalid("Subscription expiration is beyond the limit."));
    }
    Ok(until)
}
