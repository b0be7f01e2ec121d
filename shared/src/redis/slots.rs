//! Sets of the slots into which Redis Cluster sorts keys and sharded channels. A Redis that is no cluster has them all.

use std::{fmt, sync::Arc};

use fred::util::redis_keyslot;

/// How many slots there are.
pub(super) const SLOTS: usize = 16_384;

/// A set of slots; clones are the same set.
#[derive(Clone, PartialEq, Eq)]
pub struct Slots(Arc<[u64; SLOTS / 64]>);

impl Slots {
    pub(super) fn of(slots: impl IntoIterator<Item = u16>) -> Self {
        let mut bits = [0; SLOTS / 64];
        for slot in slots {
            bits[usize::from(slot) / 64] |= 1 << (slot % 64);
        }
        Self(Arc::new(bits))
    }

    /// Whether the slot of a key or channel is among them.
    pub fn has(&self, key: &str) -> bool {
        self.has_slot(slot_of(key))
    }

    pub(super) fn has_slot(&self, slot: u16) -> bool {
        self.0[usize::from(slot) / 64] >> (slot % 64) & 1 == 1
    }

    pub(super) fn first(&self) -> Option<u16> {
        let index = self.0.iter().position(|bits| *bits != 0)?;
        u16::try_from(index * 64 + usize::try_from(self.0[index].trailing_zeros()).ok()?).ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|bits| *bits == 0)
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: u32 = self.0.iter().map(|bits| bits.count_ones()).sum();
        write!(formatter, "{count} slots")
    }
}

/// The slot of a key or channel.
pub(super) fn slot_of(key: &str) -> u16 {
    redis_keyslot(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_keys_of_its_slots_and_no_others() {
        let (one, other) = ("room:{a}", "room:{b}");
        let slots = Slots::of([slot_of(one)]);
        assert!(slots.has(one) && slots.has("room:{a}:users") && !slots.has(other) && !slots.is_empty());
        assert!(Slots::of([]).is_empty());
    }
}
