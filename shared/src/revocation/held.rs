//! The revocations in a replica's memory, and whether Redis still has them.

use std::collections::HashMap;

use uuid::Uuid;

use super::entry::{Entry, StreamId, Why};
use crate::redis::keys::PARTITIONS;

/// How far a partition's stream has been read.
#[derive(Clone, Copy, Default)]
struct Cursor {
    /// The newest entry that was read, which the next read begins with: if it is gone, so may be others.
    last: StreamId,
    /// Until when Redis keeps that entry.
    kept_until: i64,
}

/// See the module.
pub(super) struct Held {
    by_family: HashMap<Uuid, Entry>,
    cursors: Vec<Cursor>,
}

impl Default for Held {
    fn default() -> Self {
        let partitions = usize::try_from(PARTITIONS).unwrap_or_default();
        Self { by_family: HashMap::new(), cursors: vec![Cursor::default(); partitions] }
    }
}

impl Held {
    pub(super) fn why(&self, family: Uuid) -> Option<Why> {
        self.by_family.get(&family).map(|entry| entry.why)
    }

    pub(super) fn len(&self) -> usize {
        self.by_family.len()
    }

    /// Holds an entry, and tells whether its session was not known to have ended.
    pub(super) fn add(&mut self, entry: Entry) -> bool {
        self.by_family.insert(entry.family, entry).is_none()
    }

    /// Where to read a partition's stream from, this id included.
    pub(super) fn read_from(&self, partition: usize) -> StreamId {
        self.cursors[partition].last
    }

    /// Takes note of what a read from [`Self::read_from`] returned. `known_before` are the ids that were held before the
    /// read was sent. Tells whether Redis has rolled back: something that it must still have is gone.
    pub(super) fn has_read(&mut self, partition: usize, read: &[Entry], known_before: &[StreamId], now: i64) -> bool {
        let cursor = self.cursors[partition];
        let has = |id: StreamId| read.iter().any(|entry| entry.id == id);
        let newest = read.last().copied();
        let lost_its_last = cursor.last != StreamId::default() && !has(cursor.last) && cursor.kept_until > now;
        let lost_one_since = known_before.iter().any(|id| *id > cursor.last && !has(*id));
        if lost_its_last || lost_one_since {
            self.cursors[partition] = Cursor::default();
            return true;
        }
        if let Some(newest) = newest {
            self.cursors[partition] = Cursor { last: newest.id, kept_until: newest.until };
        }
        false
    }

    /// The entries of a partition that are still of interest.
    pub(super) fn of_partition(&self, partition: usize, now: i64) -> Vec<Entry> {
        let is_here = |entry: &&Entry| usize::try_from(entry.user_id.rem_euclid(PARTITIONS)) == Ok(partition);
        self.by_family.values().filter(|entry| entry.until > now).filter(is_here).copied().collect()
    }

    /// Forgets what no valid token can belong to any more.
    pub(super) fn forget_before(&mut self, now: i64) {
        self.by_family.retain(|_, entry| entry.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, until: i64) -> Entry {
        Entry { id: StreamId(id, 0), family: Uuid::from_u128(id.into()), user_id: 64, why: Why::Logout, until }
    }

    #[test]
    fn what_is_read_is_where_the_next_read_begins() {
        let mut held = Held::default();
        assert!(!held.has_read(0, &[entry(5, 100), entry(7, 100)], &[], 10));
        assert_eq!(held.read_from(0), StreamId(7, 0));
        assert!(!held.has_read(0, &[entry(7, 100)], &[], 10));
    }

    #[test]
    fn a_last_entry_that_is_gone_before_its_time_is_a_roll_back() {
        let mut held = Held::default();
        held.has_read(0, &[entry(7, 100)], &[], 10);
        assert!(held.has_read(0, &[], &[], 20));
        assert_eq!(held.read_from(0), StreamId::default(), "everything is read again");
    }

    #[test]
    fn a_last_entry_that_was_trimmed_after_its_time_is_none() {
        let mut held = Held::default();
        held.has_read(0, &[entry(7, 100)], &[], 10);
        assert!(!held.has_read(0, &[entry(200, 300)], &[], 150));
    }

    #[test]
    fn an_entry_that_was_only_heard_of_and_is_not_in_the_stream_is_a_roll_back() {
        let mut held = Held::default();
        held.has_read(0, &[entry(7, 100)], &[], 10);
        held.add(entry(9, 100));
        assert!(held.has_read(0, &[entry(7, 100)], &[StreamId(7, 0), StreamId(9, 0)], 20));
    }

    #[test]
    fn entries_are_forgotten_when_their_tokens_have_expired() {
        let mut held = Held::default();
        assert!(held.add(entry(1, 100)));
        assert!(!held.add(entry(1, 100)));
        held.forget_before(99);
        assert_eq!(held.len(), 1);
        held.forget_before(100);
        assert_eq!(held.len(), 0);
    }
}
