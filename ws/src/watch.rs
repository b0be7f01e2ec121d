//! Which sessions have sockets here, and how those sockets hear that theirs was revoked.
//!
//! A socket first watches its session and then asks whether it was revoked before. What was revoked before is found by
//! asking and what is revoked later is told, so that no socket slips through between the two.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gatefold_shared::revocation::{Denied, Entry, Revocations, Why};
use tokio::sync::{
    SetOnce,
    broadcast::{Receiver, error::RecvError},
};
use uuid::Uuid;

/// The watched sessions of a replica.
#[derive(Default)]
pub(crate) struct Watches(Mutex<HashMap<Uuid, Watched>>);

struct Watched {
    revoked: Arc<SetOnce<Why>>,
    sockets: usize,
}

/// One socket's watch over its session, which ends when this is dropped.
pub(crate) struct Watch {
    watches: Arc<Watches>,
    family: Uuid,
    revoked: Arc<SetOnce<Why>>,
}

impl Watches {
    fn by_family(&self) -> MutexGuard<'_, HashMap<Uuid, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a session for one more socket.
    pub(crate) fn watch(self: &Arc<Self>, family: Uuid) -> Watch {
        let mut by_family = self.by_family();
        let watched = by_family.entry(family).or_insert_with(|| Watched { revoked: Arc::default(), sockets: 0 });
        watched.sockets += 1;
        Watch { watches: Arc::clone(self), family, revoked: Arc::clone(&watched.revoked) }
    }

    /// Tells the sockets of every session that is revoked, for ever.
    pub(crate) async fn follow(self: Arc<Self>, revocations: Revocations, mut revoked: Receiver<Entry>) {
        loop {
            match revoked.recv().await {
                Ok(entry) => self.tell(entry.family, entry.why),
                // More was revoked at once than fits between us: the whole of what is known is asked instead.
                Err(RecvError::Lagged(_)) => self.tell_all(&revocations),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn tell(&self, family: Uuid, why: Why) {
        let watched = self.by_family().get(&family).map(|watched| Arc::clone(&watched.revoked));
        if let Some(revoked) = watched {
            // The first reason stays.
            let _ = revoked.set(why);
        }
    }

    fn tell_all(&self, revocations: &Revocations) {
        let families: Vec<Uuid> = self.by_family().keys().copied().collect();
        for family in families {
            if let Err(Denied::Revoked(why)) = revocations.check(family) {
                self.tell(family, why);
            }
        }
    }
}

impl Watch {
    /// Waits until the session is revoked, and tells why.
    pub(crate) async fn revoked(&self) -> Why {
        *self.revoked.wait().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_family = self.watches.by_family();
        if let Some(watched) = by_family.get_mut(&self.family) {
            watched.sockets -= 1;
            if watched.sockets == 0 {
                by_family.remove(&self.family);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    #[tokio::test]
    async fn every_socket_of_the_session_is_told_and_no_other() {
        let watches = Arc::<Watches>::default();
        let (first, second, other) = (watches.watch(ONE), watches.watch(ONE), watches.watch(OTHER));
        assert_eq!(first.revoked().now_or_never(), None);
        watches.tell(ONE, Why::Logout);
        watches.tell(ONE, Why::Disabled);
        assert_eq!(first.revoked().now_or_never(), Some(Why::Logout));
        assert_eq!(second.revoked().now_or_never(), Some(Why::Logout), "also one that looks later");
        assert_eq!(other.revoked().now_or_never(), None);
    }

    #[test]
    fn nothing_is_left_of_a_session_without_sockets() {
        let watches = Arc::<Watches>::default();
        let (first, second) = (watches.watch(ONE), watches.watch(ONE));
        drop(first);
        watches.tell(ONE, Why::Logout);
        assert_eq!(second.revoked().now_or_never(), Some(Why::Logout));
        drop(second);
        assert!(watches.by_family().is_empty());
        assert_eq!(watches.watch(ONE).revoked().now_or_never(), None, "who comes later has to ask");
    }
}
