//! The revocations in a replica's memory, and whether Redis still has them.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    entry::{Entry, Why},
    read::Page,
};
use crate::redis::{
    StreamId,
    keys::{self, PARTITIONS},
};

/// How far a partition's stream has been read, and what is known to stand behind that.
#[derive(Clone, Default)]
struct Partition {
    /// The newest entry that was read, which the next page begins with: if it is gone, so may be others.
    last: StreamId,
    /// Until when Redis keeps that entry, at least.
    kept_until: i64,
    /// What was only heard of since; the next read must find it.
    heard: Vec<(StreamId, Uuid)>,
    /// Redis has lost something here, and not all of it is known to be back.
    rolled_back: bool,
}

/// See the module.
pub(super) struct Held {
    by_family: HashMap<Uuid, Entry>,
    partitions: Vec<Partition>,
}

/// What was known of a partition when a read of it was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Where to read from, this id included.
    pub(super) from: StreamId,
    /// How many entries were heard of that the read must find.
    heard: usize,
}

impl Default for Held {
    fn default() -> Self {
        let partitions = usize::try_from(PARTITIONS).unwrap_or_default();
        Self { by_family: HashMap::new(), partitions: vec![Partition::default(); partitions] }
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
        let partition = &mut self.partitions[keys::partition_of(entry.user_id)];
        if entry.id > partition.last {
            partition.heard.push((entry.id, entry.family));
        }
        let known = self.by_family.get(&entry.family).map(|known| known.until);
        // An older entry must not shorten the time of a newer one that is known already.
        let until = known.unwrap_or(entry.until).max(entry.until);
        self.by_family.insert(entry.family, Entry { until, ..entry });
        known.is_none()
    }

    /// What reads of these partitions that are about to be sent must find.
    pub(super) fn expected(&self, partitions: &[usize]) -> Vec<(usize, Expected)> {
        let expected = |partition: &Partition| Expected { from: partition.last, heard: partition.heard.len() };
        partitions.iter().map(|index| (*index, expected(&self.partitions[*index]))).collect()
    }

    /// Takes note of what a read returned, after each of its entries was [added](Self::add). Tells whether Redis has rolled
    /// back: something that it must still have is gone.
    pub(super) fn record_page(&mut self, partition: usize, expected: Expected, page: &Page, now: i64) -> bool {
        let Self { by_family, partitions } = self;
        let partition = &mut partitions[partition];
        let lost_its_last =
            expected.from != StreamId::default() && page.first != Some(expected.from) && partition.kept_until > now;
        let has = |id: StreamId| page.entries.binary_search_by_key(&id, |entry| entry.id).is_ok();
        // Behind the end of a page that is not the last, anything may still come. An entry under another id by now was
        // re-asserted, by us or by another replica.
        let is_missing = |(id, family): &(StreamId, Uuid)| {
            (page.is_end || Some(*id) <= page.last)
                && !has(*id)
                && by_family.get(family).is_some_and(|entry| entry.id == *id && entry.until > now)
        };
        if lost_its_last || partition.heard.iter().take(expected.heard).any(is_missing) {
            *partition = Partition { rolled_back: true, ..Partition::default() };
        }
        if let Some(last) = page.last {
            partition.last = last;
            // Streams are trimmed at their beginning, so an entry stays as long as any before it.
            partition.kept_until = page.entries.iter().map(|entry| entry.until).fold(partition.kept_until, i64::max);
        }
        partition.heard.retain(|(id, _)| *id > partition.last);
        partition.rolled_back
    }

    /// All that Redis should have in a partition is there again.
    pub(super) fn mark_restored(&mut self, partition: usize) {
        self.partitions[partition].rolled_back = false;
    }

    /// The entries of a partition that are still of interest.
    pub(super) fn of_partition(&self, partition: usize, now: i64) -> Vec<Entry> {
        let is_here = |entry: &&Entry| keys::partition_of(entry.user_id) == partition;
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

    /// A read that was sent just now returns this.
    fn read(held: &mut Held, entries: &[Entry], now: i64) -> bool {
        let expected = held.expected(&[0])[0].1;
        answer(held, expected, entries, now)
    }

    fn answer(held: &mut Held, expected: Expected, entries: &[Entry], now: i64) -> bool {
        answer_page(held, expected, entries, true, now)
    }

    fn answer_page(held: &mut Held, expected: Expected, entries: &[Entry], is_end: bool, now: i64) -> bool {
        for entry in entries.iter().filter(|entry| entry.until > now) {
            held.add(*entry);
        }
        let id_of = |entry: Option<&Entry>| entry.map(|entry| entry.id);
        let (first, last) = (id_of(entries.first()), id_of(entries.last()));
        held.record_page(0, expected, &Page { entries: entries.to_vec(), first, last, is_end }, now)
    }

    fn read_from(held: &Held) -> StreamId {
        held.expected(&[0])[0].1.from
    }

    #[test]
    fn what_is_read_is_where_the_next_read_begins() {
        let mut held = Held::default();
        assert!(!read(&mut held, &[entry(5, 100), entry(7, 100)], 10));
        assert_eq!(read_from(&held), StreamId(7, 0));
        assert!(!read(&mut held, &[entry(7, 100)], 10));
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn a_last_entry_that_is_gone_before_its_time_is_a_roll_back() {
        let mut held = Held::default();
        read(&mut held, &[entry(7, 100)], 10);
        assert!(read(&mut held, &[], 20));
        assert_eq!(read_from(&held), StreamId::default(), "everything is read again");
        assert!(read(&mut held, &[], 20), "until it was made good");
        held.mark_restored(0);
        assert!(!read(&mut held, &[entry(21, 100)], 20));
    }

    #[test]
    fn a_last_entry_that_was_trimmed_after_its_time_is_none() {
        let mut held = Held::default();
        read(&mut held, &[entry(7, 100)], 10);
        assert!(!read(&mut held, &[entry(200, 300)], 150));
    }

    #[test]
    fn an_entry_is_kept_as_long_as_those_before_it() {
        let mut held = Held::default();
        read(&mut held, &[entry(5, 900), entry(7, 100)], 10);
        assert!(read(&mut held, &[], 200), "its own time is over, but not that of the one before");
    }

    #[test]
    fn an_entry_that_was_only_heard_of_and_is_not_in_the_stream_is_a_roll_back() {
        let mut held = Held::default();
        read(&mut held, &[entry(7, 100)], 10);
        held.add(entry(9, 100));
        assert!(read(&mut held, &[entry(7, 100)], 20));
    }

    #[test]
    fn an_entry_that_is_heard_of_while_a_read_is_on_its_way_need_not_be_in_its_answer() {
        let mut held = Held::default();
        read(&mut held, &[entry(7, 100)], 10);
        let expected = held.expected(&[0])[0].1;
        held.add(entry(9, 100));
        assert!(!answer(&mut held, expected, &[entry(7, 100)], 20));
        assert!(read(&mut held, &[entry(7, 100)], 20), "but it must be in the next one's");
    }

    #[test]
    fn a_page_is_known_before_the_next_and_what_was_heard_may_be_in_a_later_one() {
        let mut held = Held::default();
        held.add(entry(9, 100));
        let expected = held.expected(&[0])[0].1;
        assert!(!answer_page(&mut held, expected, &[entry(5, 100), entry(7, 100)], false, 20));
        assert_eq!((held.len(), read_from(&held)), (3, StreamId(7, 0)));
        let expected = held.expected(&[0])[0].1;
        assert!(
            answer_page(&mut held, expected, &[entry(7, 100), entry(11, 100)], false, 20),
            "9 is not where it must be"
        );
    }

    #[test]
    fn what_cannot_be_read_moves_the_place_all_the_same() {
        let mut held = Held::default();
        let unreadable =
            |first, last| Page { first: Some(StreamId(first, 0)), last: Some(StreamId(last, 0)), ..Page::default() };
        let expected = held.expected(&[0])[0].1;
        assert!(!held.record_page(0, expected, &unreadable(3, 5), 20));
        assert_eq!(read_from(&held), StreamId(5, 0));
        let expected = held.expected(&[0])[0].1;
        assert!(!held.record_page(0, expected, &unreadable(5, 8), 20));
        assert_eq!(read_from(&held), StreamId(8, 0));
    }

    #[test]
    fn an_entry_that_stands_elsewhere_by_now_is_not_missed() {
        let mut held = Held::default();
        held.add(entry(9, 100));
        let again = Entry { id: StreamId(12, 0), ..entry(9, 100) };
        assert!(!read(&mut held, &[again], 20));
    }

    #[test]
    fn an_entry_never_shortens_the_time_of_another_of_its_session() {
        let mut held = Held::default();
        held.add(entry(9, 300));
        held.add(Entry { id: StreamId(5, 0), until: 100, ..entry(9, 300) });
        held.forget_before(200);
        assert_eq!(held.len(), 1);
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
