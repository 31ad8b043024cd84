//! Which conversation of ours a stored one becomes.
//!
//! Mostly itself, under its own id, with aliases for every name an adapter may give its thread.
//! Messages that earlier collectors stored without a thread go to the conversations of whoever wrote
//! them (contract 6.7): to one that is there, or to a new one.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use hub_domain::id::{AccountId, ConversationId, conversation_id};
use hub_domain::imported::threads;
use hub_domain::platform::Platform;
use uuid::Uuid;

use super::source::{ConversationRow, MessageRow, Writers};
use crate::aliases::Alias;

/// A conversation of ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    /// Its id; until it is settled the one it should have.
    pub(super) id: Uuid,
    /// What sends are addressed to.
    pub(super) thread: String,
    /// Every name that leads to it.
    names: Vec<String>,
    pub(super) participant_id: Option<String>,
    pub(super) participant_name: Option<String>,
    pub(super) avatar: Option<String>,
    pub(super) last_message_at: Option<DateTime<Utc>>,
    pub(super) created_at: Option<DateTime<Utc>>,
    /// The stored conversation it takes its words from.
    pub(super) row: Uuid,
}

impl Target {
    pub(super) fn conversation(&self) -> ConversationId {
        ConversationId(self.id)
    }
}

/// Where the messages of a stored conversation go.
enum Way {
    All(usize),
    ByWriter {
        others: HashMap<String, usize>,
        ours: Option<usize>,
    },
}

/// What becomes of the conversations of an account.
pub(super) struct Plan {
    platform: Platform,
    /// The platform's id of our side.
    own: String,
    account: AccountId,
    pub(super) targets: Vec<Target>,
    ways: HashMap<Uuid, Way>,
    by_name: HashMap<String, usize>,
}

impl Plan {
    /// A plan for the conversations that have a thread; those without are left to
    /// [`Plan::scatter`]. Newest first: where two are called the same, the newest has the name.
    pub(super) fn new(
        platform: Platform,
        own: &str,
        account: AccountId,
        rows: &[ConversationRow],
    ) -> Self {
        let mut plan = Self {
            platform,
            own: own.to_owned(),
            account,
            targets: Vec::new(),
            ways: HashMap::new(),
            by_name: HashMap::new(),
        };
        let named: Vec<_> = rows.iter().filter(|row| has_thread(row)).collect();
        for (index, row) in named.iter().enumerate() {
            plan.by_name.insert(row.thread.clone(), index);
        }
        for (index, row) in named.into_iter().enumerate() {
            let names = threads(platform, own, &row.thread, row.participant_id.as_deref());
            for name in &names {
                plan.by_name.entry(name.clone()).or_insert(index);
            }
            let own_names: Vec<String> = names
                .into_iter()
                .filter(|name| plan.by_name.get(name) == Some(&index))
                .collect();
            plan.targets.push(Target {
                id: row.id,
                thread: own_names.first().unwrap_or(&row.thread).clone(),
                names: own_names,
                participant_id: row.participant_id.clone(),
                participant_name: row.participant_name.clone(),
                avatar: row.avatar.clone(),
                last_message_at: row.last_message_at,
                created_at: row.created_at,
                row: row.id,
            });
            plan.ways.insert(row.id, Way::All(index));
        }
        plan
    }

    /// Spreads a conversation without a thread over those of its writers. Its own id stays in use
    /// when that is one, and for what was written by us to nobody knows whom. False when there is
    /// nothing in it.
    pub(super) fn scatter(&mut self, row: &ConversationRow, writers: Writers) -> bool {
        let alone = writers.others.len() == 1;
        let mut others = HashMap::new();
        for (writer, name) in writers.others {
            let names = threads(self.platform, &self.own, &writer, Some(&writer));
            let there = names
                .iter()
                .find_map(|name| self.by_name.get(name))
                .copied();
            let index = there.unwrap_or_else(|| {
                let thread = names.first().unwrap_or(&writer).clone();
                let follows = conversation_id(self.account, &thread).0;
                for name in &names {
                    self.by_name.insert(name.clone(), self.targets.len());
                }
                self.targets.push(Target {
                    id: if alone { row.id } else { follows },
                    thread,
                    names,
                    participant_id: Some(writer.clone()),
                    participant_name: name,
                    created_at: row.created_at,
                    row: row.id,
                    ..Target::default()
                });
                self.targets.len() - 1
            });
            others.insert(writer, index);
        }
        let is_empty = others.is_empty() && !writers.ours;
        let ours = match others.values().next() {
            Some(index) if alone => Some(*index),
            _ if !writers.ours => None,
            _ => {
                self.targets.push(Target {
                    id: row.id,
                    participant_id: row.participant_id.clone(),
                    participant_name: row.participant_name.clone(),
                    created_at: row.created_at,
                    row: row.id,
                    ..Target::default()
                });
                Some(self.targets.len() - 1)
            }
        };
        self.ways.insert(row.id, Way::ByWriter { others, ours });
        !is_empty
    }

    /// Every id that follows from a name, and every id that is wanted: what may be here already.
    pub(super) fn candidates(&self) -> (Vec<Uuid>, Vec<Uuid>) {
        let names = self.targets.iter().flat_map(|it| &it.names);
        let derived: Vec<Uuid> = names.map(|name| self.derived(name)).collect();
        let ids = self.targets.iter().map(|it| it.id);
        let ids = ids.chain(derived.iter().copied()).collect();
        (derived, ids)
    }

    /// Settles the ids, with what is here already: `aliases` and `streams`. A conversation that
    /// began here before it was imported keeps the id it got here. Returns the aliases to write,
    /// and how many conversations have not the id that was wanted.
    pub(super) fn settle(
        &mut self,
        aliases: &HashMap<Uuid, Uuid>,
        streams: &HashSet<Uuid>,
    ) -> (Vec<Alias>, u64) {
        let mut written = Vec::new();
        let mut renamed = 0;
        let account = self.account;
        for target in &mut self.targets {
            let names = target.names.iter();
            let derived: Vec<Uuid> = names.map(|name| conversation_id(account, name).0).collect();
            let named = derived.iter().find_map(|id| aliases.get(id)).copied();
            let begun = derived.iter().find(|id| streams.contains(id)).copied();
            let wanted = target.id;
            target.id = match (named, begun) {
                (Some(named), _) => named,
                (None, Some(begun)) if !streams.contains(&wanted) => begun,
                _ => wanted,
            };
            renamed += u64::from(target.id != wanted);
            written.extend(
                derived
                    .into_iter()
                    .filter(|id| *id != target.id)
                    .filter(|id| !aliases.contains_key(id) && !streams.contains(id))
                    .map(|derived| Alias {
                        derived,
                        id: target.id,
                    }),
            );
        }
        (written, renamed)
    }

    /// Where a message goes.
    pub(super) fn target(&self, message: &MessageRow) -> Option<usize> {
        match self.ways.get(&message.conversation)? {
            Way::All(index) => Some(*index),
            Way::ByWriter { ours, .. } if message.outgoing => *ours,
            Way::ByWriter { others, .. } => others.get(&message.sender_id).copied(),
        }
    }

    /// The stored conversations whose messages go to several.
    pub(super) fn scattered(&self) -> Vec<Uuid> {
        let by_writer = self.ways.iter();
        let by_writer = by_writer.filter(|it| matches!(it.1, Way::ByWriter { .. }));
        by_writer.map(|it| *it.0).collect()
    }

    fn derived(&self, name: &str) -> Uuid {
        conversation_id(self.account, name).0
    }
}

/// Whether a stored conversation knows its thread.
pub(super) fn has_thread(row: &ConversationRow) -> bool {
    !row.thread.trim().is_empty()
}
