//! Threads: what an account and a person have exchanged here, and lists of it in Graph's pages.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::call::Call;

/// Details are served for the most recent messages of a thread only, so no more are kept.
const LINES_MAX: usize = 20;
/// Entries in a list when the caller does not say.
const LIST_DEFAULT: usize = 25;

/// Account (a Page, say) and person: what makes a thread.
pub(in crate::platform) type ThreadKey = (String, String);

/// One message of a thread.
#[derive(Clone)]
pub(in crate::platform) struct Line {
    pub(in crate::platform) mid: String,
    pub(in crate::platform) text: String,
    pub(in crate::platform) by_page: bool,
    pub(in crate::platform) at: DateTime<Utc>,
    /// What came with it, as a thread shows it: in other words than a webhook.
    attachments: Vec<Value>,
}

/// What an account and a person have exchanged, newest first.
#[derive(Default)]
pub(in crate::platform) struct Thread {
    pub(in crate::platform) lines: VecDeque<Line>,
    pub(in crate::platform) ever: usize,
}

impl Thread {
    /// Adds a message.
    pub(in crate::platform) fn push(&mut self, line: Line) {
        self.lines.push_front(line);
        self.lines.truncate(LINES_MAX);
        self.ever += 1;
    }
}

impl Line {
    /// The person wrote.
    pub(in crate::platform) fn from_person(mid: &str, text: &str) -> Self {
        Self {
            mid: mid.to_owned(),
            text: text.to_owned(),
            by_page: false,
            at: Utc::now(),
            attachments: Vec::new(),
        }
    }

    /// The account wrote.
    pub(in crate::platform) fn from_page(mid: &str, text: &str) -> Self {
        Self {
            by_page: true,
            ..Self::from_person(mid, text)
        }
    }

    /// A file came with it: `image`, `video`, `audio` or `file`.
    pub(in crate::platform) fn with(mut self, kind: &str, url: &str) -> Self {
        let id = format!("{}.{}", self.mid, self.attachments.len());
        let shown = match kind {
            "image" => json!({"id": id, "mime_type": "image/jpeg", "image_data": {"url": url}}),
            "video" => json!({"id": id, "mime_type": "video/mp4", "video_data": {"url": url}}),
            "audio" => json!({"id": id, "mime_type": "audio/mpeg", "file_url": url}),
            _ => json!({"id": id, "mime_type": "application/octet-stream", "file_url": url}),
        };
        self.attachments.push(shown);
        self
    }

    /// As a thread shows it, between these parties.
    pub(in crate::platform) fn shown(&self, from: Value, to: Value) -> Value {
        let mut shown = json!({
            "id": self.mid,
            "created_time": graph_time(self.at),
            "from": from,
            "to": {"data": [to]},
            "message": self.text,
        });
        if !self.attachments.is_empty() {
            shown["attachments"] = json!({"data": self.attachments});
        }
        shown
    }
}

/// The part of a list that was asked for. A cursor is simply how many entries came before.
pub(in crate::platform) fn page_of(entries: Vec<Value>, call: &Call) -> Value {
    let number = |name: &str| call.param(name).and_then(|text| text.parse::<usize>().ok());
    let limit = number("limit").unwrap_or(LIST_DEFAULT).max(1);
    let start = number("after").unwrap_or(0).min(entries.len());
    let end = start.saturating_add(limit).min(entries.len());
    let mut paging = json!({
        "cursors": {"before": start.to_string(), "after": end.to_string()},
    });
    if end < entries.len() {
        paging["next"] = call.url_with("after", &end.to_string()).into();
    }
    json!({"data": entries[start..end], "paging": paging})
}

/// Graph's own time format: no colon in the offset.
pub(in crate::platform) fn graph_time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S+0000").to_string()
}
