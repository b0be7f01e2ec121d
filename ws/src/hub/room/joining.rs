//! Those who have asked to join a room and are not in it yet.

use std::sync::atomic::{AtomicU64, Ordering};

use gatefold_shared::{redis::StreamId, rooms::User};
use uuid::Uuid;

use crate::hub::{
    Join, Pending,
    calls::LookedUp,
    history::{History, Published},
};

/// One of them.
pub(super) struct Joining {
    /// Tells this attempt from others, also of the same connection.
    pub(super) ticket: u64,
    pub(super) connection: Uuid,
    pub(super) user: User,
    pub(super) pending: Pending,
    pub(super) since: Option<StreamId>,
    pub(super) needs_grant: bool,
    pub(super) lookup: Lookup,
    /// Tells this lookup from others.
    pub(super) asked: u64,
}

/// What has to be asked of Redis before somebody may be let in, once the room is followed.
pub(super) enum Lookup {
    Needed,
    /// Since the room's last event had this number.
    UnderWay(u64),
    Done(LookedUp),
}

impl Joining {
    /// Whether they may be let in when the room's last event has this number.
    pub(super) fn is_ready(&self, seq: u64) -> bool {
        match &self.lookup {
            // What is in the history is told from there, and what comes later as it comes.
            Lookup::Done(looked_up) => looked_up.history.as_ref().is_none_or(|history| history.seq <= seq),
            Lookup::Needed | Lookup::UnderWay(_) => false,
        }
    }

    /// After which event they may have to be told what was said. What comes before they are looked up is in the history then.
    fn needs_after(&self) -> Option<u64> {
        match &self.lookup {
            Lookup::UnderWay(seq) => self.since.map(|_| *seq),
            Lookup::Done(looked_up) => looked_up.history.as_ref().map(|history| history.seq),
            Lookup::Needed => None,
        }
    }
}

/// A number that no other attempt or lookup has, in whatever room: what comes late must not be taken for something else.
pub(super) fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) list: Vec<Joining>,
    /// Messages that were told to the members since somebody who waits began to read the history.
    pub(super) recent: Vec<(u64, Published)>,
}

impl Waiting {
    pub(super) fn add(
        &mut self,
        connection: Uuid,
        user: User,
        pending: Pending,
        Join { since, needs_grant }: Join,
    ) -> u64 {
        let ticket = next_number();
        let lookup = if since.is_some() || needs_grant {
            Lookup::Needed
        } else {
            Lookup::Done(LookedUp { may_enter: true, history: None })
        };
        self.list.push(Joining { ticket, connection, user, pending, since, needs_grant, lookup, asked: 0 });
        ticket
    }

    /// Events may have been missed, and one may have been that a grant was taken away.
    pub(super) fn ask_again(&mut self) {
        for joining in self.list.iter_mut().filter(|joining| joining.needs_grant) {
            (joining.lookup, joining.asked) = (Lookup::Needed, 0);
        }
    }

    /// Messages are missing between what the members were told and what comes: those who come back may miss them, too.
    pub(super) fn on_gap(&mut self) {
        for joining in &mut self.list {
            match &mut joining.lookup {
                Lookup::Done(LookedUp { history: Some(history), .. }) => history.recovered = false,
                // It may have been found before the gap.
                Lookup::UnderWay(_) => (joining.lookup, joining.asked) = (Lookup::Needed, 0),
                _ => {}
            }
        }
    }

    /// Takes out those for whom `is_one` holds, in order.
    pub(super) fn take(&mut self, is_one: impl Fn(&Joining) -> bool) -> Vec<Joining> {
        self.list.extract_if(.., |joining| is_one(joining)).collect()
    }

    /// Forgets what nobody who waits needs any more.
    pub(super) fn tidy(&mut self) {
        if self.list.is_empty() {
            self.list = Vec::new();
        }
        match self.list.iter().filter_map(Joining::needs_after).min() {
            Some(seq) => self.recent.retain(|(at, _)| *at > seq),
            None => self.recent = Vec::new(),
        }
    }

    /// A message was told to the members.
    pub(super) fn note(&mut self, seq: u64, message: impl FnOnce() -> Published) {
        if self.list.iter().any(|joining| joining.needs_after().is_some()) {
            self.recent.push((seq, message()));
        }
    }

    /// What was told since somebody who comes back read the history, and is not in it. Members may have read it later, and
    /// have heard some of it only then.
    pub(super) fn told_since(&self, history: &History, since: Option<StreamId>) -> impl Iterator<Item = &Published> {
        let (read_at, last) = (history.seq, history.messages.last().map(|message| message.id));
        let known = last.or(since.filter(|_| history.recovered));
        let is_news = move |(at, message): &&(u64, Published)| *at > read_at && known.is_none_or(|id| message.id > id);
        self.recent.iter().filter(is_news).map(|(_, message)| message)
    }

    /// Whether somebody waits on this connection.
    pub(super) fn has(&self, connection: Uuid) -> bool {
        self.list.iter().any(|joining| joining.connection == connection)
    }
}
