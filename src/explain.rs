//! `hub explain`: one message as a timeline, from raw input to socket frame.

use std::io::Write as _;

use anyhow::Result;
use chrono::{DateTime, Utc};
use hub_config::Role;
use hub_domain::id::MessageId;
use hub_store::inspect::{self, Explained, MessageState, Stored};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::Shown;
use crate::events::{connect, opener, silent_when_cut_off, time};
use crate::roles;

/// What of an event's payload tells more than its kind.
const TELLING: [&str; 7] = [
    "platform_message_id",
    "receipt",
    "attempt",
    "class",
    "reason",
    "retry_at",
    "settle_by",
];

/// `hub explain`
pub fn run(message: Uuid, shown: Shown) -> Result<()> {
    let settings = roles::load(Role::Migrate)?;
    let outcome = roles::runtime()?.block_on(async {
        let pool = connect(&settings).await?;
        let mut opener = opener(&pool, &settings, shown.open).await?;
        let it = inspect::explain(&pool, MessageId(message), opener.as_mut()).await?;
        let timeline = timeline(&it);
        let mut out = std::io::stdout().lock();
        if shown.json {
            let mut all = serde_json::to_value(&it)?;
            all["timeline"] = timeline.iter().map(Moment::json).collect();
            writeln!(out, "{all}")?;
        } else {
            write!(out, "{}", text(&it, &timeline, shown.open))?;
        }
        Ok(())
    });
    silent_when_cut_off(outcome)
}

/// Something that happened to the message.
#[derive(Debug, PartialEq)]
struct Moment {
    at: DateTime<Utc>,
    /// Milliseconds since the first.
    offset: f64,
    what: String,
    /// `c:3-7` of a command, `e:3-1042` of an event.
    place: Option<String>,
    detail: String,
}

impl Moment {
    fn new(at: DateTime<Utc>, what: &str, place: Option<String>, detail: String) -> Self {
        Self {
            at,
            offset: 0.0,
            what: what.to_owned(),
            place,
            detail,
        }
    }

    fn json(&self) -> Value {
        json!({
            "at": time(self.at),
            "offsetMs": self.offset,
            "what": self.what,
            "place": self.place,
            "detail": self.detail,
        })
    }
}

/// Everything with a time, in its order.
fn timeline(it: &Explained) -> Vec<Moment> {
    let mut moments = Vec::new();
    for input in &it.inputs {
        if let Some(kept) = &input.kept {
            let place = Some(format!("c:{}", input.place));
            let platform = kept.platform.as_deref().unwrap_or("unreadable");
            let request = kept.request.as_deref().unwrap_or("unknown");
            let size = kept.stored_bytes;
            let detail = format!("{platform}, request {request}, {size} bytes as stored");
            moments.push(Moment::new(kept.received_at, &kept.kind, place, detail));
        }
    }
    let mut turn = None;
    for step in &it.events {
        let event = &step.event;
        let place = Some(format!("e:{}", event.place));
        moments.push(Moment::new(
            event.recorded_at,
            &event.kind,
            place,
            detail(event),
        ));
        // Several events may have been told of in one turn.
        if let Some(told) = &step.told
            && turn != Some(told.through)
        {
            turn = Some(told.through);
            let shard = event.place.shard;
            let range = format!("events {shard}-{} to {}", told.after + 1, told.through);
            let folded = format!("every read model of the shard had {range}");
            moments.push(Moment::new(told.folded_at, "folded", None, folded));
            moments.push(Moment::new(
                told.at,
                "told",
                None,
                format!("sockets: {range}"),
            ));
        }
    }
    let began = it.events.iter().map(|step| step.event.recorded_at).min();
    for job in &it.ended {
        if began.is_some_and(|began| job.finished_at >= began) {
            let owner = job.lease_owner.as_deref().unwrap_or("nobody");
            let detail = format!("{} of the conversation, by {owner}", job.queue);
            moments.push(Moment::new(job.finished_at, "job ended", None, detail));
        }
    }
    moments.sort_by_key(|moment| moment.at);
    if let Some(first) = moments.first().map(|moment| moment.at) {
        for moment in &mut moments {
            let since = (moment.at - first).num_microseconds().unwrap_or(i64::MAX);
            moment.offset = since as f64 / 1_000.0;
        }
    }
    moments
}

/// Who or what caused an event, and what it says.
fn detail(event: &Stored) -> String {
    let mut parts = Vec::new();
    for (name, said) in [
        ("causation", "because"),
        ("actor", "by"),
        ("request", "request"),
    ] {
        if let Some(value) = event.meta.get(name).and_then(Value::as_str) {
            parts.push(format!("{said} {value}"));
        }
    }
    for name in TELLING {
        match event.payload.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(value)) => parts.push(format!("{name} {value}")),
            Some(value) => parts.push(format!("{name} {value}")),
        }
    }
    parts.join(", ")
}

fn text(it: &Explained, timeline: &[Moment], open: bool) -> String {
    let last = it.events.last().map_or(0, |step| step.event.place.position);
    let mut lines = match &it.message {
        Some(row) => of_row(row),
        None => vec![
            format!(
                "message {} is in the log and not in the inbox: {}",
                it.id,
                why_not(it)
            ),
            format!("  conversation {}", it.conversation),
        ],
    };
    for parked in &it.parked {
        lines.push(format!(
            "  parked by {} at {}-{} since {}, {}{}: see `hub dlq`",
            match parked.is_live {
                Some(_) => format!("{} {}", parked.reactor, parked.generation),
                None => parked.reactor.clone(),
            },
            it.shard,
            parked.position,
            time(parked.parked_at),
            parked.class,
            match parked.reason.as_str() {
                "" => String::new(),
                reason => format!(": {reason}"),
            },
        ));
    }
    lines.push("what happened".to_owned());
    for moment in timeline {
        lines.push(format!(
            "  {:>12}  {}  {:18} {:10} {}",
            format!("+{:.1} ms", moment.offset),
            time(moment.at),
            moment.what,
            moment.place.as_deref().unwrap_or_default(),
            moment.detail
        ));
    }
    for input in it.inputs.iter().filter(|input| input.kept.is_none()) {
        lines.push(format!(
            "  the raw input c:{} is no longer kept",
            input.place
        ));
    }
    lines.push(format!("who has come how far in shard {}", it.shard));
    for checkpoint in &it.checkpoints {
        let name = match checkpoint.is_live {
            Some(true) => format!("{} {} (live)", checkpoint.reactor, checkpoint.generation),
            Some(false) => format!("{} {}", checkpoint.reactor, checkpoint.generation),
            None => checkpoint.reactor.clone(),
        };
        let has = match checkpoint.position >= last {
            true => "has all of it",
            false => "has not come to it yet",
        };
        lines.push(format!(
            "  {name:18} at {:<10} moved {}  {has}",
            checkpoint.position,
            time(checkpoint.updated_at)
        ));
    }
    for job in &it.asked {
        lines.push(format!(
            "  a job of queue {} is due {}, {} claims{}",
            job.queue,
            time(job.due_at),
            job.attempts,
            job.parked_at.map_or(String::new(), |at| format!(
                ", put aside {}: {}",
                time(at),
                job.last_error.as_deref().unwrap_or("no reason given")
            ))
        ));
    }
    if open {
        lines.extend(opened(it));
    }
    lines.join("\n") + "\n"
}

fn of_row(row: &MessageState) -> Vec<String> {
    let direction = if row.outgoing { "outgoing" } else { "incoming" };
    let mut lines = vec![
        format!("message {} is {}", row.id, row.state),
        format!(
            "  {} {direction}, conversation {}",
            row.platform, row.conversation_id
        ),
        format!("  user {}, account {}", row.user_id, row.account_id),
    ];
    if let Some(id) = &row.platform_message_id {
        lines.push(format!("  the platform calls it {id}"));
    }
    if let Some(failure) = &row.failure {
        let reason = row.failure_reason.as_deref().unwrap_or_default();
        lines.push(format!("  last refusal: {failure}, {reason}"));
    }
    lines
}

/// Why the inbox does not have it.
fn why_not(it: &Explained) -> &'static str {
    let first = it
        .events
        .first()
        .map_or(0, |step| step.event.place.position);
    let inbox = it.checkpoints.iter();
    let inbox = inbox.filter(|it| it.reactor == "inbox" && it.is_live == Some(true));
    let mut parked = it.parked.iter();
    if parked.any(|it| it.reactor == "inbox" && it.is_live == Some(true)) {
        "the inbox could not process it"
    } else if inbox.map(|it| it.position).max() < Some(first) {
        "the inbox has not come to it yet"
    } else {
        "the inbox has passed it: it was forgotten, discarded, or is known under another id"
    }
}

/// What was asked to be opened.
fn opened(it: &Explained) -> Vec<String> {
    let mut lines = vec!["what it says".to_owned()];
    for input in &it.inputs {
        if let Some(body) = input.kept.as_ref().and_then(|kept| kept.body.as_deref()) {
            lines.push(format!("  c:{} {body}", input.place));
        }
    }
    for step in &it.events {
        lines.push(format!("  e:{} {}", step.event.place, step.event.payload));
    }
    lines
}
