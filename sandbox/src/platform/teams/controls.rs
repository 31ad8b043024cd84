//! Control routes of Teams: who connects, what people do with messages, what happens to tokens and
//! subscriptions.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Graph;
use super::chats::{Change, members};
use crate::call::text;
use crate::control::{BadInput, parse};
use crate::deliver::{Delivery, Outcome};

/// The routes.
pub(super) fn router(graph: Arc<Graph>) -> Router {
    Router::new()
        .route("/control/teams/people", post(add_person).get(people))
        .route("/control/teams/messages", post(change_message))
        .route(
            "/control/teams/subscriptions/{person}",
            post(act).get(subscriptions),
        )
        .route("/control/teams/tokens/{person}", post(end_tokens))
        .with_state(graph)
}

fn need(body: &Value, name: &str) -> Result<String, BadInput> {
    text(&body[name])
        .filter(|text| !text.is_empty())
        .ok_or_else(|| BadInput(format!("{name} must be a non-empty string")))
}

/// Makes a person, who is the next one to connect.
async fn add_person(State(graph): State<Arc<Graph>>, body: Bytes) -> Result<Json<Value>, BadInput> {
    let body: Value = parse(&body)?;
    let (id, name) = (need(&body, "id")?, need(&body, "name")?);
    if id.contains(['/', '_', '\'', '@', ' ']) {
        return Err(BadInput("id must be an id of a person".to_owned()));
    }
    let mut state = graph.state();
    state.people.insert(id.clone(), name);
    state.choices.push_back(id);
    Ok(Json(json!({"ok": true})))
}

async fn people(State(graph): State<Arc<Graph>>) -> Json<Value> {
    let state = graph.state();
    let people: Vec<Value> = state
        .people
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name}))
        .collect();
    Json(json!({"people": people}))
}

/// Somebody edits, deletes or reacts; whoever has subscribed is told.
async fn change_message(
    State(graph): State<Arc<Graph>>,
    body: Bytes,
) -> Result<Json<Value>, BadInput> {
    graph.world.drive();
    let body: Value = parse(&body)?;
    let (chat, id, action) = (
        need(&body, "chat")?,
        need(&body, "message")?,
        need(&body, "action")?,
    );
    let change = match action.as_str() {
        "edit" => Change::Edit(need(&body, "text")?),
        "delete" => Change::Delete,
        "react" => Change::React {
            from: need(&body, "from")?,
            with: need(&body, "reaction")?,
        },
        "unreact" => Change::Unreact {
            from: need(&body, "from")?,
            with: need(&body, "reaction")?,
        },
        _ => {
            let words = "action must be one of edit, delete, react, unreact";
            return Err(BadInput(words.to_owned()));
        }
    };
    let kind = match &change {
        Change::Delete => "deleted",
        _ => "updated",
    };
    if !graph.change(&chat, &id, change) {
        return Err(BadInput("there is no such message".to_owned()));
    }
    let mut delivery = Delivery::without_attempt(Outcome::Queued);
    if let Some((one, other)) = members(&chat) {
        for person in [one, other] {
            if let Some(webhook) = graph.notification(person, &chat, &id, kind) {
                delivery = graph.world.deliver(webhook, 1).await;
            }
        }
    }
    Ok(Json(
        json!({"status": delivery.status, "outcome": delivery.outcome}),
    ))
}

async fn subscriptions(State(graph): State<Arc<Graph>>, Path(person): Path<String>) -> Json<Value> {
    let all = graph.subscriptions_of(&person);
    let ids: Vec<String> = all.into_iter().map(|(id, _)| id).collect();
    Json(json!({ "subscriptions": ids }))
}

/// Tells a lifecycle event; `subscriptionRemoved` also removes them, `expired` does so silently.
async fn act(
    State(graph): State<Arc<Graph>>,
    Path(person): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, BadInput> {
    graph.world.drive();
    let body: Value = parse(&body)?;
    let event = need(&body, "event")?;
    let webhook = match event.as_str() {
        "expired" => None,
        "reauthorizationRequired" | "subscriptionRemoved" | "missed" => {
            graph.lifecycle(&person, &event)
        }
        _ => {
            let words = "event must be one of expired, reauthorizationRequired, \
                         subscriptionRemoved, missed";
            return Err(BadInput(words.to_owned()));
        }
    };
    let ended = match event.as_str() {
        "expired" | "subscriptionRemoved" => graph.expire(&person),
        _ => 0,
    };
    let mut delivery = Delivery::without_attempt(Outcome::Queued);
    if let Some(webhook) = webhook {
        delivery = graph.world.deliver(webhook, 1).await;
    }
    Ok(Json(
        json!({"ended": ended, "status": delivery.status, "outcome": delivery.outcome}),
    ))
}

/// Ends a person's access tokens; with `revoked` their refresh tokens too.
async fn end_tokens(
    State(graph): State<Arc<Graph>>,
    Path(person): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, BadInput> {
    graph.world.drive();
    let body: Value = parse(&body)?;
    graph.void(&person, body["revoked"] == true);
    Ok(Json(json!({"ok": true})))
}
