//! Whether what is published reaches us. A subscription can look alive and deliver nothing, so each replica publishes to
//! itself, beside every channel of the log, and believes in a subscription only while the echoes come back. Partitions are
//! judged one by one: they may be on several primaries.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many partitions there are; [`crate::redis::keys::PARTITIONS`] as an index.
pub(super) const COUNT: usize = 64;

#[derive(Clone, Copy, Default)]
struct State {
    /// Counts subscriptions: the echo of an earlier one says nothing of this one.
    subscription: u64,
    /// An echo came back since it was last confirmed.
    has_echoed: bool,
    is_confirmed: bool,
}

/// See the module.
pub(super) struct Hearing(Mutex<[State; COUNT]>);

impl Default for Hearing {
    fn default() -> Self {
        Self(Mutex::new([State::default(); COUNT]))
    }
}

impl Hearing {
    fn states(&self) -> MutexGuard<'_, [State; COUNT]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything that is published in a partition arrives, as far as is known.
    pub(super) fn is_confirmed(&self, partition: usize) -> bool {
        self.states()[partition].is_confirmed
    }

    /// The current subscription, which its probes must carry.
    pub(super) fn subscription(&self, partition: usize) -> u64 {
        self.states()[partition].subscription
    }

    /// Something may have been missed in a partition. Tells whether that is news.
    pub(super) fn mark_lost(&self, partition: usize) -> bool {
        let mut states = self.states();
        let State { subscription, is_confirmed, .. } = states[partition];
        states[partition] = State { subscription: subscription + 1, ..State::default() };
        is_confirmed
    }

    /// A probe of `subscription` came back.
    pub(super) fn echo(&self, partition: usize, subscription: u64) {
        if let Some(state) = self.states().get_mut(partition).filter(|state| state.subscription == subscription) {
            state.has_echoed = true;
        }
    }

    /// The current subscription, if an echo came back since it was last confirmed.
    pub(super) fn complete(&self, partition: usize) -> Option<u64> {
        let state = self.states()[partition];
        state.has_echoed.then_some(state.subscription)
    }

    /// All that was published before `subscription` was complete has been read, so that nothing is missing any more, unless
    /// it was lost meanwhile. Tells whether that is news.
    pub(super) fn confirm(&self, partition: usize, subscription: u64) -> bool {
        let mut states = self.states();
        let state = &mut states[partition];
        if state.subscription != subscription {
            return false;
        }
        state.has_echoed = false;
        !std::mem::replace(&mut state.is_confirmed, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::keys::PARTITIONS;

    #[test]
    fn all_partitions_are_judged() {
        assert_eq!(i64::try_from(COUNT), Ok(PARTITIONS));
    }

    #[test]
    fn a_partition_is_confirmed_by_the_echo_of_its_own_subscription_only() {
        let hearing = Hearing::default();
        let first = hearing.subscription(7);
        hearing.echo(8, first);
        assert_eq!(hearing.complete(7), None);
        assert!(!hearing.mark_lost(7), "there was nothing to lose");
        let second = hearing.subscription(7);
        hearing.echo(7, first);
        assert_eq!(hearing.complete(7), None, "echoes from before count for nothing");
        hearing.echo(7, second);
        assert_eq!(hearing.complete(7), Some(second));
        assert!(hearing.confirm(7, second));
        assert!(hearing.is_confirmed(7) && !hearing.is_confirmed(8));
        assert_eq!(hearing.complete(7), None, "the next one begins at nothing");
        assert!(!hearing.mark_lost(8) && hearing.is_confirmed(7), "what is lost elsewhere is no matter");
        assert!(hearing.mark_lost(7) && !hearing.is_confirmed(7));
    }

    #[test]
    fn what_was_lost_while_it_was_read_is_not_confirmed() {
        let hearing = Hearing::default();
        hearing.echo(0, hearing.subscription(0));
        let complete = hearing.complete(0).expect("it came back");
        hearing.mark_lost(0);
        assert!(!hearing.confirm(0, complete));
        assert!(!hearing.is_confirmed(0));
    }
}
