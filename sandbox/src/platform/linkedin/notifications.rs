//! What was told of an organization, for those who come and ask: also what no webhook brought.

use serde_json::{Value, json};

use super::Site;
use super::answers::{self, Answer, Refusal};
use crate::call::Call;

/// Notifications that are kept of one organization; the real ones stay for 60 days.
const KEPT_MAX: usize = 1_000;
/// The most of one page, and how many there are without asking.
const PAGE: (usize, usize) = (100, 10);

impl Site {
    /// Keeps a notification, whether or not it is delivered.
    pub(super) fn note(&self, organization: &str, notification: &Value) {
        let mut memory = self.memory();
        let all = memory.told.entry(organization.to_owned()).or_default();
        if all.len() == KEPT_MAX {
            all.remove(0);
        }
        let mut notification = notification.clone();
        // Who asks is no subscriber.
        if let Some(fields) = notification.as_object_mut() {
            fields.remove("subscriber");
        }
        all.push(notification);
    }

    /// What happened to an organization in a time.
    pub(super) fn notifications(&self, call: &Call) -> Answer {
        let caller = self.versioned(call)?;
        let organization = call.param("organizationalEntity").unwrap_or_default();
        let administers = self.member(&caller.member).organization.as_ref() == Some(&organization);
        let may = caller.may("rw_organization_admin") || caller.may("r_organization_admin");
        if !may || !administers {
            return Err(Refusal::denied());
        }
        if call.param("q").as_deref() != Some("criteria") {
            return Err(Refusal::invalid("q must be criteria"));
        }
        let listed = |name: &str| {
            let list = call.param(name)?;
            let list = list.strip_prefix("List(")?.strip_suffix(')')?.to_owned();
            Some(list.split(',').map(str::to_owned).collect::<Vec<_>>())
        };
        let actions = listed("actions").ok_or_else(|| Refusal::invalid("actions is no List"))?;
        let range = call.param("timeRange").unwrap_or_default();
        let (start, end) = read(&range).ok_or_else(|| Refusal::invalid("timeRange is invalid"))?;
        let number = |name: &str, default: usize| {
            let given = call.param(name);
            given.map_or(Some(default), |text| text.parse::<usize>().ok())
        };
        let (Some(first), Some(count)) = (number("start", 0), number("count", PAGE.1)) else {
            return Err(Refusal::invalid("start and count are numbers"));
        };
        if !(1..=PAGE.0).contains(&count) {
            return Err(Refusal::invalid("count must be between 1 and 100"));
        }
        let memory = self.memory();
        let told = memory.told.get(&organization).cloned().unwrap_or_default();
        drop(memory);
        let is_asked = |it: &Value| {
            let at = it["lastModifiedAt"].as_i64().unwrap_or_default();
            let action = it["action"].as_str().unwrap_or_default();
            (start..=end).contains(&at) && actions.iter().any(|it| it == action)
        };
        let found: Vec<Value> = told.into_iter().filter(is_asked).collect();
        let total = found.len();
        let elements: Vec<Value> = found.into_iter().skip(first).take(count).collect();
        let paging = json!({"start": first, "count": count, "links": [], "total": total});
        Ok(answers::ok(
            &json!({"paging": paging, "elements": elements}),
        ))
    }
}

/// `(start:1,end:2)`
fn read(range: &str) -> Option<(i64, i64)> {
    let inside = range.strip_prefix('(')?.strip_suffix(')')?;
    let (start, end) = inside.split_once(',')?;
    let start = start.strip_prefix("start:")?.parse().ok()?;
    let end = end.strip_prefix("end:")?.parse().ok()?;
    Some((start, end))
}
