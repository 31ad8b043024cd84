//! The change log: members' messages, which the hub has to come and fetch.

use serde_json::{Value, json};

use super::answers::{self, Answer, Refusal};
use super::{Site, messages};
use crate::call::Call;
use crate::platform::Incoming;
use crate::world::now_ms;

/// The version that knows the change log.
const VERSION: &str = "202312";
/// Calls a member's log may be asked in a day.
const CALLS_A_DAY: u32 = 100;
/// The most elements of one page, and how many there are without asking.
const PAGE: (usize, usize) = (50, 10);

impl Site {
    /// Somebody has written to a member. Nobody is told.
    pub(super) fn messaged(&self, member: &str, incoming: &Incoming) -> String {
        let from = format!("urn:li:person:{}", super::bare(&incoming.from_id));
        let thread = format!(
            "urn:li:messagingThread:2-{}",
            hex::encode(&incoming.from_id)
        );
        let activity = match &incoming.media {
            Some(media) => messages::attached(&incoming.text, media),
            None => messages::plain(&incoming.text),
        };
        self.log(member, &from, &thread, activity)
    }

    /// Adds a message to a member's log.
    pub(super) fn log(&self, member: &str, from: &str, thread: &str, activity: Value) -> String {
        let id = format!("2-{}", self.world.unique());
        let mut memory = self.memory();
        let log = memory.changes.entry(member.to_owned()).or_default();
        let last = log.last().and_then(|it| it["processedAt"].as_i64());
        // No two in one millisecond, so that a page can end anywhere.
        let at = now_ms().max(last.unwrap_or_default() + 1);
        let mut activity = activity;
        for (name, value) in [
            ("owner", json!(from)),
            ("author", json!(from)),
            ("createdAt", json!(at)),
            ("deliveredAt", json!(at)),
            ("id", json!(id)),
            ("thread", json!(thread)),
        ] {
            activity[name] = value;
        }
        log.push(json!({
            "owner": format!("urn:li:person:{member}"), "actor": from, "resourceName": "messages",
            "resourceId": id, "resourceUri": format!("/messages/{id}"), "method": "CREATE",
            "configVersion": 13, "activityId": uuid::Uuid::new_v4().to_string(),
            "activityStatus": "SUCCESS", "processedAt": at, "capturedAt": at, "id": at,
            "siblingActivities": [], "parentSiblingActivities": [], "activity": activity,
        }));
        id
    }

    /// What was processed since a moment, that moment included.
    pub(super) fn change_log(&self, call: &Call) -> Answer {
        let caller = self.versioned(call)?;
        if call.header("linkedin-version") != Some(VERSION) {
            return Err(Refusal::version());
        }
        if call.param("q").as_deref() != Some("memberAndApplication") {
            return Err(Refusal::invalid("q must be memberAndApplication"));
        }
        if !caller.scope.contains("r_dma_portability") {
            return Err(Refusal::denied());
        }
        let number = |name: &str| call.param(name).and_then(|text| text.parse::<i64>().ok());
        let start = number("startTime").unwrap_or_default();
        let count = number("count").map_or(Some(PAGE.1), |count| usize::try_from(count).ok());
        let count = count
            .filter(|count| (1..=PAGE.0).contains(count))
            .ok_or_else(|| Refusal::invalid("count must be between 1 and 50"))?;
        let today = chrono::Utc::now().format("%F").to_string();
        let mut memory = self.memory();
        let asked = memory
            .asked
            .entry((caller.member.clone(), today))
            .or_default();
        if *asked >= CALLS_A_DAY {
            return Err(Refusal::throttled("MEMBER DAY"));
        }
        *asked += 1;
        let log = memory
            .changes
            .get(&caller.member)
            .cloned()
            .unwrap_or_default();
        let elements: Vec<Value> = log
            .into_iter()
            .filter(|element| element["processedAt"].as_i64() >= Some(start))
            .take(count)
            .collect();
        let paging = json!({"start": 0, "count": count, "links": []});
        Ok(answers::ok(
            &json!({"paging": paging, "elements": elements}),
        ))
    }
}
