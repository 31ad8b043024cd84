//! What was told already, so that a notifier that repeats itself after a crash is not repeated.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use chrono::{DateTime, Utc};
use hub_domain::id::{ConversationId, Shard};
use hub_store::bus::{Change, What};

/// Changes remembered per shard: more than a notifier repeats, which is one batch
/// ([`hub_domain::limits::REACTOR_BATCH_MAX`]).
const WINDOW: usize = 1_024;

/// Watermarks remembered; beyond that the memory starts over, and a receipt tells a little more
/// than necessary.
const WATERMARKS_MAX: usize = 10_000;

/// The newest changes of each shard, and how far receipts have been told.
#[derive(Default)]
pub(super) struct Seen {
    shards: HashMap<Shard, BTreeSet<(i64, u64)>>,
    watermarks: HashMap<(ConversationId, String), DateTime<Utc>>,
}

impl Seen {
    /// False when this very change was seen before, or is too old to know. Two notifiers that
    /// overlap may deliver out of order: what is merely late still counts as new.
    pub(super) fn is_new(&mut self, change: &Change) -> bool {
        let mut hasher = DefaultHasher::new();
        change.hash(&mut hasher);
        let window = self.shards.entry(change.shard).or_default();
        if window.len() >= WINDOW
            && window
                .first()
                .is_some_and(|(oldest, _)| change.position < *oldest)
        {
            return false;
        }
        let is_new = window.insert((change.position, hasher.finish()));
        if window.len() > WINDOW {
            window.pop_first();
        }
        is_new
    }

    /// Up to where an earlier receipt of this kind has told already, when the change is a receipt
    /// with a watermark.
    pub(super) fn advance(&mut self, change: &Change) -> Option<DateTime<Utc>> {
        let conversation = change.conversation?;
        let (watermark, status) = change.what.iter().find_map(|what| match what {
            What::Receipts {
                watermark, status, ..
            } => watermark.map(|watermark| (watermark, status)),
            _ => None,
        })?;
        if self.watermarks.len() >= WATERMARKS_MAX {
            self.watermarks.clear();
        }
        let told = self.watermarks.entry((conversation, status.clone()));
        let mut before = None;
        told.and_modify(|until| {
            before = Some(*until);
            *until = watermark.max(*until);
        })
        .or_insert(watermark);
        before
    }
}

#[cfg(test)]
mod tests {
    use hub_domain::id::UserId;
    use uuid::Uuid;

    use super::*;

    fn change(position: i64, what: What) -> Change {
        Change {
            shard: Shard(1),
            position,
            user: UserId(Uuid::from_u128(1)),
            conversation: Some(ConversationId(Uuid::from_u128(2))),
            what: vec![what],
        }
    }

    #[test]
    fn a_repeated_batch_is_silent_and_a_late_change_is_not() {
        let mut seen = Seen::default();
        for position in (1..=600).filter(|position| *position != 300) {
            assert!(seen.is_new(&change(position, What::Conversation)));
        }
        for position in (1..=600).filter(|position| *position != 300) {
            assert!(!seen.is_new(&change(position, What::Conversation)));
        }
        assert!(seen.is_new(&change(300, What::Conversation)));
        assert!(seen.is_new(&change(600, What::UnreadCounts)));
    }

    #[test]
    fn memory_is_bounded_and_what_fell_out_of_it_stays_silent() {
        let mut seen = Seen::default();
        for position in 1..=5_000 {
            assert!(seen.is_new(&change(position, What::Conversation)));
        }
        assert_eq!(seen.shards[&Shard(1)].len(), WINDOW);
        assert!(!seen.is_new(&change(1, What::Conversation)));
    }

    #[test]
    fn watermarks_only_advance() {
        let mut seen = Seen::default();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let mut told = |seconds| {
            let receipts = What::Receipts {
                platform_message_ids: Vec::new(),
                watermark: Some(at(seconds)),
                status: "read".to_owned(),
                at: at(seconds),
            };
            seen.advance(&change(1, receipts))
        };
        assert_eq!(told(10), None);
        assert_eq!(told(20), Some(at(10)));
        assert_eq!(told(15), Some(at(20)));
        assert_eq!(told(30), Some(at(20)));
    }
}
