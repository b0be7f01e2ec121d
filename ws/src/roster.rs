//! Who is connected, by session: so that sockets of a session that is revoked can be closed, and all of them when the
//! replica goes.
//!
//! A socket first enters and then asks whether its session was revoked before. What was revoked before is found by asking
//! and what is revoked later is told, so that no socket slips through between the two.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gatefold_shared::revocation::{Entry, Revocations, Why};
use metrics::gauge;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use uuid::Uuid;

use crate::{close::CloseReason, peer::Peer};

/// See the module.
#[derive(Default)]
pub(crate) struct Roster(Mutex<HashMap<Uuid, Vec<Arc<Peer>>>>);

/// The roster, and what is known of the sessions of those in it.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) roster: Arc<Roster>,
    pub(crate) revocations: Revocations,
}

impl Sessions {
    /// Ends the connections of all sessions that were revoked until now, or of those that are known of after `patience`.
    pub(crate) async fn end_revoked_until_now(&self, patience: Duration) {
        self.revocations.read_until_now(patience).await;
        self.roster.end_all_revoked(&self.revocations);
    }
}

/// A connection's place in the roster, until this is dropped.
pub(crate) struct Entered {
    roster: Arc<Roster>,
    family: Uuid,
    peer: Uuid,
}

impl Roster {
    fn by_family(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<Arc<Peer>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection of a session, or by its own id as long as it has not said whose it is.
    pub(crate) fn enter(self: &Arc<Self>, family: Uuid, peer: Arc<Peer>) -> Entered {
        let entered = Entered { roster: Arc::clone(self), family, peer: peer.id };
        let mut by_family = self.by_family();
        let peers = by_family.entry(family).or_default();
        // Nearly every session has one socket.
        peers.reserve_exact(1);
        peers.push(peer);
        gauge!("gatefold_ws_sockets").increment(1);
        entered
    }

    /// All who are connected.
    pub(crate) fn everybody(&self) -> Vec<Arc<Peer>> {
        self.by_family().values().flatten().map(Arc::clone).collect()
    }

    /// Ends the connections of every session that is revoked, for ever.
    pub(crate) async fn follow(self: Arc<Self>, revocations: Revocations, mut revoked: Receiver<Entry>) {
        loop {
            match revoked.recv().await {
                Ok(entry) => self.end(entry.family, entry.why),
                // More was revoked at once than fits between us: the whole of what is known is asked instead.
                Err(RecvError::Lagged(_)) => self.end_all_revoked(&revocations),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn end(&self, family: Uuid, why: Why) {
        for peer in self.by_family().get(&family).into_iter().flatten() {
            peer.end(CloseReason::Revoked(why));
        }
    }

    fn end_all_revoked(&self, revocations: &Revocations) {
        let families: Vec<Uuid> = self.by_family().keys().copied().collect();
        for family in families {
            if let Some(why) = revocations.why(family) {
                self.end(family, why);
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut by_family = self.roster.by_family();
        if let Some(peers) = by_family.get_mut(&self.family) {
            peers.retain(|peer| peer.id != self.peer);
            if peers.is_empty() {
                by_family.remove(&self.family);
            }
        }
        gauge!("gatefold_ws_sockets").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn peer() -> Arc<Peer> {
        Arc::new(Peer::new(tokio::io::sink()))
    }

    #[test]
    fn every_connection_of_the_session_ends_and_no_other() {
        let roster = Arc::<Roster>::default();
        let (first, second, other) = (peer(), peer(), peer());
        let _entered = [(ONE, &first), (ONE, &second), (OTHER, &other)]
            .map(|(family, peer)| roster.enter(family, Arc::clone(peer)));
        roster.end(ONE, Why::Logout);
        assert_eq!([&first, &second, &other].map(|peer| peer.has_ended()), [true, true, false]);
    }

    #[test]
    fn nothing_is_left_of_a_session_without_connections() {
        let roster = Arc::<Roster>::default();
        let (first, second) = (roster.enter(ONE, peer()), roster.enter(ONE, peer()));
        assert_eq!(roster.everybody().len(), 2);
        drop(first);
        assert_eq!(roster.everybody().len(), 1);
        drop(second);
        assert!(roster.by_family().is_empty());
    }
}
