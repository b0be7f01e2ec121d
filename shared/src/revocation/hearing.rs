//! Whether what is published reaches us. A subscription can look alive and deliver nothing, so each replica publishes to
//! itself, beside every channel of the log, and believes in its subscription only while the echoes come back.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One bit for each partition; there are 64.
type Partitions = u64;

#[derive(Default)]
struct State {
    /// Counts subscriptions: the echo of an earlier one says nothing of this one.
    subscription: u64,
    /// Those whose echo came back.
    echoed: Partitions,
    is_confirmed: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Hearing(Mutex<State>);

impl Hearing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything that is published arrives, as far as is known.
    pub(super) fn is_confirmed(&self) -> bool {
        self.state().is_confirmed
    }

    /// The current subscription, which its probes must carry.
    pub(super) fn subscription(&self) -> u64 {
        self.state().subscription
    }

    /// Something may have been missed. Tells whether that is news.
    pub(super) fn mark_lost(&self) -> bool {
        let mut state = self.state();
        let was_confirmed = state.is_confirmed;
        *state = State { subscription: state.subscription + 1, ..State::default() };
        was_confirmed
    }

    /// A probe of `subscription` came back.
    pub(super) fn echo(&self, partition: usize, subscription: u64) {
        let mut state = self.state();
        if subscription == state.subscription {
            state.echoed |= 1 << partition;
        }
    }

    /// The current subscription, if an echo came back from every partition since it was last confirmed.
    pub(super) fn complete(&self) -> Option<u64> {
        let state = self.state();
        (state.echoed == Partitions::MAX).then_some(state.subscription)
    }

    /// All that was published before `subscription` was complete has been read, so that nothing is missing any more, unless
    /// it was lost meanwhile. Tells whether that is news.
    pub(super) fn confirm(&self, subscription: u64) -> bool {
        let mut state = self.state();
        if state.subscription != subscription {
            return false;
        }
        state.echoed = 0;
        !std::mem::replace(&mut state.is_confirmed, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_confirmed_by_the_echoes_of_all_partitions_and_of_this_subscription_only() {
        let hearing = Hearing::default();
        let first = hearing.subscription();
        (0..63).for_each(|partition| hearing.echo(partition, first));
        assert_eq!(hearing.complete(), None);
        assert!(!hearing.mark_lost(), "there was nothing to lose");
        let second = hearing.subscription();
        hearing.echo(63, second);
        (0..64).for_each(|partition| hearing.echo(partition, first));
        assert_eq!(hearing.complete(), None, "echoes from before count for nothing");
        (0..63).for_each(|partition| hearing.echo(partition, second));
        assert_eq!(hearing.complete(), Some(second));
        assert!(hearing.confirm(second));
        assert!(hearing.is_confirmed());
        assert_eq!(hearing.complete(), None, "the next count begins at nothing");
        assert!(hearing.mark_lost());
        assert!(!hearing.is_confirmed());
    }

    #[test]
    fn what_was_lost_while_it_was_read_is_not_confirmed() {
        let hearing = Hearing::default();
        let subscription = hearing.subscription();
        (0..64).for_each(|partition| hearing.echo(partition, subscription));
        let complete = hearing.complete().expect("all came back");
        hearing.mark_lost();
        assert!(!hearing.confirm(complete));
        assert!(!hearing.is_confirmed());
    }
}
