//! Files that the hub hands over before the comment or the message that shows them: announced, put to
//! an address, and worked on for a moment.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use super::answers::{self, Answer, Refusal};
use super::login::Caller;
use super::{HANG, NAME, Site};
use crate::call::Call;
use crate::faults::{Fault, Op};
use crate::ledger::hold;
use crate::upload::{File, SentFile, Waiting};

/// What begins the URN of a picture.
const IMAGE: &str = "urn:li:image:";
/// What begins the URN of an attachment.
pub(super) const ASSET: &str = "urn:li:digitalmediaAsset:";
/// The only recipe of attachments.
const RECIPE: &str = "urn:li:digitalmediaRecipe:messaging-attachment";
/// The largest file.
const BYTES_MAX: usize = 20_000_000;

/// A file that was announced.
struct Begun {
    /// Whose it will be.
    owner: String,
    /// Who announced it.
    member: String,
    urn: String,
    is_there: bool,
    /// How often somebody asked what became of it.
    looks: u32,
}

/// Files that were announced, by the last part of their address.
#[derive(Default)]
pub(super) struct Announced(Mutex<HashMap<String, Begun>>);

impl Site {
    fn begin(&self, kind: &str, owner: String, member: String) -> (String, String) {
        let id = format!("C4D{}", self.world.unique());
        let urn = format!("{kind}{id}");
        let begun = Begun {
            owner,
            member,
            urn: urn.clone(),
            is_there: false,
            looks: 0,
        };
        hold(&self.announced.0).insert(id.clone(), begun);
        let url = self.world.url(&format!("/dms-uploads/{id}?ca=vector"));
        (urn, url)
    }

    /// A picture of an organization that comments.
    pub(super) fn initialize(&self, call: &Call) -> Answer {
        let caller = self.versioned(call)?;
        if call.param("action").as_deref() != Some("initializeUpload") {
            return Err(Refusal::invalid("action is not supported"));
        }
        let asked = call.value("initializeUploadRequest").unwrap_or_default();
        let owner = asked["owner"].as_str().unwrap_or_default().to_owned();
        if !self.may_speak_for(&caller, &owner) {
            return Err(Refusal::denied());
        }
        let (image, url) = self.begin(IMAGE, owner, caller.member);
        Ok(answers::ok(&json!({ "value": {
            "uploadUrlExpiresAt": crate::world::now_ms() + 86_400_000,
            "uploadUrl": url, "image": image } })))
    }

    /// An attachment of a member who writes.
    pub(super) fn register(&self, call: &Call) -> Answer {
        let caller = self.caller(call)?;
        if call.param("action").as_deref() != Some("registerUpload") {
            return Err(Refusal::invalid("action is not supported"));
        }
        let asked = call.value("registerUploadRequest").unwrap_or_default();
        if asked["recipes"] != json!([RECIPE]) {
            return Err(Refusal::invalid("recipes is not supported"));
        }
        let owner = asked["owner"].as_str().unwrap_or_default().to_owned();
        let is_own = owner == format!("urn:li:person:{}", caller.member);
        if !is_own || !caller.may("w_messages") {
            return Err(Refusal::denied());
        }
        let (asset, url) = self.begin(ASSET, owner, caller.member);
        let mechanism = json!({ "uploadUrl": url,
            "headers": { "media-type-family": "STILLIMAGE" } });
        Ok(answers::ok(&json!({ "value": {
            "asset": asset, "mediaArtifact": format!("{asset}:artifact"),
            "uploadMechanism": {
                "com.linkedin.digitalmedia.uploading.MediaUploadHttpRequest": mechanism } } })))
    }

    /// The bytes. Only who announced the file may bring them, and only a picture is one.
    pub(super) async fn take(&self, call: &Call, id: &str) -> Answer {
        let caller = self.caller(call)?;
        let fault = self.world.faults.hit(NAME, Op::Upload);
        match fault {
            Some(Fault::Status { status, .. }) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                return Ok(status.into_response());
            }
            Some(Fault::Hang) => return Ok(call.leave_unanswered(HANG).await),
            Some(Fault::AcceptNoReply) | None => {}
        }
        let whose = {
            let all = hold(&self.announced.0);
            let begun = all.get(id).filter(|it| it.member == caller.member);
            begun.map(|it| (it.owner.clone(), it.urn.clone()))
        };
        let (owner, urn) = whose.ok_or_else(Refusal::not_found)?;
        let file = File {
            field: String::new(),
            name: String::new(),
            mime: call.header("content-type").unwrap_or_default().to_owned(),
            bytes: call.raw.clone(),
        };
        if file.bytes.is_empty() || file.bytes.len() > BYTES_MAX {
            return Ok(StatusCode::PAYLOAD_TOO_LARGE.into_response());
        }
        if urn.starts_with(IMAGE) && file.family() != "image" {
            return Ok(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response());
        }
        let kind = if urn.starts_with(IMAGE) {
            "image"
        } else {
            "attachment"
        };
        let sent = self.world.shelve(kind, &file);
        self.world.uploads.keep(&urn, Waiting { owner, sent });
        if let Some(begun) = hold(&self.announced.0).get_mut(id) {
            begun.is_there = true;
        }
        if fault.is_some() {
            return Ok(call.leave_unanswered(HANG).await);
        }
        Ok(StatusCode::CREATED.into_response())
    }

    /// What became of a file: it is worked on when first asked, and there from then on.
    fn status(&self, urn: &str) -> Option<(String, &'static str)> {
        let id = urn.rsplit(':').next().unwrap_or_default();
        let mut all = hold(&self.announced.0);
        let begun = all.get_mut(id)?;
        begun.looks += u32::from(begun.is_there);
        let status = match (begun.is_there, begun.looks) {
            (false, _) => "WAITING_UPLOAD",
            (true, 1) => "PROCESSING",
            (true, _) => "AVAILABLE",
        };
        Some((begun.owner.clone(), status))
    }

    pub(super) fn image(&self, call: &Call, urn: &str) -> Answer {
        self.versioned(call)?;
        let (owner, status) = self.status(urn).ok_or_else(Refusal::not_found)?;
        Ok(answers::ok(
            &json!({ "id": urn, "owner": owner, "status": status }),
        ))
    }

    pub(super) fn asset(&self, call: &Call, id: &str) -> Answer {
        self.caller(call)?;
        let (_, status) = self.status(id).ok_or_else(Refusal::not_found)?;
        let recipe = json!({ "recipe": RECIPE, "status": status });
        Ok(answers::ok(&json!({ "id": id, "recipes": [recipe] })))
    }

    /// The file that a comment or a message names, if it is this owner's and there.
    pub(super) fn handed_over(
        &self,
        urn: &Value,
        owner: &str,
    ) -> Result<Option<SentFile>, Refusal> {
        let Some(urn) = urn.as_str() else {
            return Ok(None);
        };
        let found = self.world.uploads.get(urn, owner);
        let missing = || Refusal::invalid("the media asset was not found or is not uploaded");
        found.map(Some).ok_or_else(missing)
    }
}

impl Caller {
    /// Whether this scope was granted.
    pub(super) fn may(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|granted| granted == scope)
    }
}
