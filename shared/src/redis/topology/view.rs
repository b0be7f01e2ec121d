//! What witnesses say, and what follows from it.

use std::{collections::HashMap, fmt};

use tokio::time::Instant;

use crate::redis::{
    address::Address,
    slots::{SLOTS, Slots},
};

/// In a table of slots: nobody's.
const NOBODY: u16 = u16::MAX;

/// That a server is the primary of some slots, inclusive ranges of them. Later elections have higher epochs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Claim {
    pub(super) address: Address,
    pub(super) epoch: u64,
    pub(super) slots: Vec<(u16, u16)>,
}

impl Claim {
    pub(super) fn of_everything(address: Address, epoch: u64) -> Self {
        Self { address, epoch, slots: vec![(0, u16::try_from(SLOTS - 1).unwrap_or(u16::MAX))] }
    }
}

/// What one witness says.
#[derive(Debug)]
pub(super) struct Testimony {
    pub(super) asked_at: Instant,
    pub(super) claims: Vec<Claim>,
    /// Others who can be asked.
    pub(super) others: Vec<Address>,
}

impl Testimony {
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.claims == other.claims
    }

    pub(super) fn names(&self, address: &Address) -> bool {
        self.others.contains(address)
    }
}

/// Who is the primary of which slots.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::redis) struct View {
    primaries: Vec<(Address, u64)>,
    /// For each slot the index of its primary.
    table: Vec<u16>,
}

impl Default for View {
    fn default() -> Self {
        Self { primaries: Vec::new(), table: vec![NOBODY; SLOTS] }
    }
}

impl View {
    /// What most count of: for each slot the claim with the highest epoch, and of equal ones that of most witnesses.
    pub(super) fn of(claims: &[Claim]) -> Self {
        let mut votes: HashMap<&Claim, usize> = HashMap::new();
        for claim in claims {
            *votes.entry(claim).or_default() += 1;
        }
        let mut claims: Vec<_> = votes.into_iter().collect();
        claims.sort_by(|(one, votes), (other, others)| {
            (one.epoch, votes, &one.address).cmp(&(other.epoch, others, &other.address))
        });
        let mut table = vec![usize::MAX; SLOTS];
        for (index, (claim, _)) in claims.iter().enumerate() {
            for &(first, last) in &claim.slots {
                if let Some(slots) = table.get_mut(usize::from(first)..=usize::from(last)) {
                    slots.fill(index);
                }
            }
        }
        let mut view = Self::default();
        for (slot, index) in table.into_iter().enumerate().filter(|(_, index)| *index != usize::MAX) {
            let Claim { address, epoch, .. } = claims[index].0;
            let known = view.primaries.iter().position(|(primary, _)| primary == address);
            let primary = known.unwrap_or_else(|| {
                view.primaries.push((address.clone(), *epoch));
                view.primaries.len() - 1
            });
            view.primaries[primary].1 = view.primaries[primary].1.max(*epoch);
            view.table[slot] = u16::try_from(primary).unwrap_or(NOBODY);
        }
        view
    }

    /// The primaries.
    pub(in crate::redis) fn primaries(&self) -> impl Iterator<Item = &Address> {
        self.primaries.iter().map(|(address, _)| address)
    }

    /// Whether this is one.
    pub(in crate::redis) fn has(&self, address: &Address) -> bool {
        self.primaries().any(|primary| primary == address)
    }

    /// The primary of a slot.
    pub(in crate::redis) fn primary_of(&self, slot: u16) -> Option<&Address> {
        self.owner_of(slot).map(|(address, _)| address)
    }

    fn owner_of(&self, slot: u16) -> Option<&(Address, u64)> {
        self.primaries.get(usize::from(*self.table.get(usize::from(slot))?))
    }

    fn slots_where(is_meant: impl Fn(u16) -> bool) -> Slots {
        Slots::of((0..u16::try_from(SLOTS).unwrap_or(u16::MAX)).filter(|slot| is_meant(*slot)))
    }

    /// The slots of a primary.
    pub(in crate::redis) fn slots_of(&self, address: &Address) -> Slots {
        Self::slots_where(|slot| self.primary_of(slot) == Some(address))
    }

    /// The slots that have another primary than before, or the same in a later epoch: it may have lost them in between.
    pub(in crate::redis) fn moved_since(&self, before: &Self) -> Slots {
        Self::slots_where(|slot| self.owner_of(slot) != before.owner_of(slot))
    }

    /// Of these, the ones whose primary satisfies a condition.
    pub(in crate::redis) fn those_of(&self, slots: &Slots, is_meant: impl Fn(&Address) -> bool) -> Slots {
        Self::slots_where(|slot| slots.has_slot(slot) && self.primary_of(slot).is_some_and(&is_meant))
    }
}

impl fmt::Display for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, epoch)) in self.primaries.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(formatter, "{comma}{address} (epoch {epoch})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(port: u16, epoch: u64, slots: (u16, u16)) -> Claim {
        Claim { address: Address::new("h", port), epoch, slots: vec![slots] }
    }

    fn port(view: &View, slot: u16) -> Option<u16> {
        view.primary_of(slot).map(|address| address.port)
    }

    #[test]
    fn the_highest_epoch_counts_for_each_slot_however_many_say_otherwise() {
        let (old, new) = (claim(1, 3, (0, 9)), claim(2, 4, (5, 9)));
        let view = View::of(&[old.clone(), new.clone(), old.clone(), old.clone()]);
        assert_eq!((port(&view, 4), port(&view, 5), port(&view, 10)), (Some(1), Some(2), None));
        assert_eq!(view, View::of(&[new, old]), "in whichever order");
    }

    #[test]
    fn of_equal_epochs_the_majority_counts() {
        let (one, other) = (claim(1, 3, (0, 9)), claim(2, 3, (0, 9)));
        assert_eq!(port(&View::of(&[one.clone(), other.clone(), one.clone()]), 0), Some(1));
        assert_eq!(port(&View::of(&[one, other.clone(), other]), 0), Some(2));
    }

    #[test]
    fn a_slot_that_went_away_and_came_back_has_moved() {
        let (before, after) = (View::of(&[claim(1, 3, (0, 9)), claim(2, 1, (10, 19))]), [claim(1, 5, (0, 9))]);
        let moved = View::of(&[after[0].clone(), claim(2, 1, (10, 19))]).moved_since(&before);
        assert!(moved.has_slot(0) && moved.has_slot(9) && !moved.has_slot(10));
        assert!(before.moved_since(&before).is_empty());
    }
}
