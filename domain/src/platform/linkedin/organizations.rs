//! The organizations a member administers.

use serde_json::Value;

use super::{urn, versioned};
use crate::platform::http::HttpRequest;
use crate::platform::{App, Credentials, wire};

/// Organizations of one member that are looked after.
const MAX: usize = 10;

/// The call that lists them.
pub fn list(app: &App, credentials: &Credentials) -> HttpRequest {
    let url = format!(
        "{}/rest/organizationAcls?q=roleAssignee&role=ADMINISTRATOR&state=APPROVED&count={MAX}",
        app.api_base
    );
    versioned(
        HttpRequest::get(url),
        &app.api_version,
        &credentials.access_token,
    )
}

/// The organizations in its answer.
pub fn listed(list: &Value) -> Vec<String> {
    let name =
        |acl: &Value| urn::of(&acl["organization"]).or_else(|| urn::of(&acl["organizationTarget"]));
    let mut all: Vec<String> = Vec::new();
    for urn in wire::items(&list["elements"]).iter().filter_map(name) {
        if !all.contains(&urn) && all.len() < MAX {
            all.push(urn);
        }
    }
    all
}
