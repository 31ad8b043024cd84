//! Folds from events to read-model rows, as pure functions.
//!
//! A fold works on the rows it needs, loaded by somebody else, and marks what it changed. The same
//! fold serves the live projection, a rebuild from zero and the question what the inbox was at some
//! past position. Every event is matched without a wildcard, so a new kind stops the build here.

pub mod accounts;
pub mod inbox;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// Rows by id, with a mark on those that changed and a list of those that went away.
#[derive(Clone, Debug)]
pub struct Table<K, R> {
    rows: HashMap<K, Slot<R>>,
    removed: HashSet<K>,
}

#[derive(Clone, Debug)]
struct Slot<R> {
    row: R,
    dirty: bool,
}

impl<K, R> Default for Table<K, R> {
    fn default() -> Self {
        Self {
            rows: HashMap::new(),
            removed: HashSet::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, R> Table<K, R> {
    /// Puts a row that is stored already.
    pub fn load(&mut self, id: K, row: R) {
        self.rows.insert(id, Slot { row, dirty: false });
    }

    /// The row, unchanged.
    pub fn get(&self, id: K) -> Option<&R> {
        self.rows.get(&id).map(|slot| &slot.row)
    }

    /// Whether something was heard of this row, also that it went away.
    pub fn knows(&self, id: K) -> bool {
        self.rows.contains_key(&id) || self.removed.contains(&id)
    }

    /// The row, to be changed.
    pub fn change(&mut self, id: K) -> Option<&mut R> {
        self.rows.get_mut(&id).map(|slot| {
            slot.dirty = true;
            &mut slot.row
        })
    }

    /// The row, to be changed; made first when there is none.
    pub fn change_or(&mut self, id: K, make: impl FnOnce() -> R) -> &mut R {
        let slot = self.rows.entry(id).or_insert_with(|| Slot {
            row: make(),
            dirty: true,
        });
        slot.dirty = true;
        &mut slot.row
    }

    /// Takes the row away.
    pub fn remove(&mut self, id: K) -> Option<R> {
        let slot = self.rows.remove(&id)?;
        self.removed.insert(id);
        Some(slot.row)
    }

    /// The rows that changed since they were loaded.
    pub fn changed(&self) -> impl Iterator<Item = &R> {
        self.rows
            .values()
            .filter(|slot| slot.dirty)
            .map(|slot| &slot.row)
    }

    /// The ids of the rows that went away.
    pub fn removed(&self) -> impl Iterator<Item = K> {
        self.removed.iter().copied()
    }

    /// Every row.
    pub fn all(&self) -> impl Iterator<Item = &R> {
        self.rows.values().map(|slot| &slot.row)
    }
}
