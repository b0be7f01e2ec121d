//! Those who have asked to join a room and are not in it yet.

use std::sync::atomic::{AtomicU64, Ordering};

use gatefold_shared::{jwt::Subject, redis::StreamId, rooms::User};
use tokio::time::Instant;
use uuid::Uuid;

use crate::hub::{
    Join, Pending,
    history::{History, Page, Published},
};

/// One of them.
pub(super) struct Joining {
    /// Tells this attempt from others, also of the same connection.
    pub(super) ticket: u64,
    pub(super) connection: Uuid,
    pub(super) user: User,
    pub(super) pending: Pending,
    pub(super) since: Option<StreamId>,
    pub(super) grantee: Option<Subject>,
    /// When nobody waits for the answer any more.
    pub(super) give_up_at: Instant,
    pub(super) lookup: Lookup,
    /// Tells this lookup from others.
    pub(super) asked: u64,
}

/// What has to be asked of Redis before somebody may be let in, once the room is followed.
pub(super) enum Lookup {
    Needed,
    /// Whether they may enter, and when it is their turn to have the history read.
    Asked,
    /// They may enter, and get what this reading finds.
    Reading(Reading),
    Done(Option<History>),
}

/// A reading of the history that is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) number: u64,
    /// The first message that it reads.
    pub(super) from: StreamId,
    /// The room's last event when it began.
    pub(super) seq: u64,
}

impl Joining {
    /// Whether they may be let in when the room's last event has this number.
    pub(super) fn is_ready(&self, seq: u64) -> bool {
        match &self.lookup {
            // What is in the history is told from there, and what comes later as it comes.
            Lookup::Done(history) => history.as_ref().is_none_or(|history| history.seq <= seq),
            Lookup::Needed | Lookup::Asked | Lookup::Reading(_) => false,
        }
    }

    /// After which event they may have to be told what was said. What comes before the history is read is in it.
    fn needs_after(&self) -> Option<u64> {
        match &self.lookup {
            Lookup::Done(history) => history.as_ref().map(|history| history.seq),
            Lookup::Needed | Lookup::Asked | Lookup::Reading(_) => None,
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
    /// Under way. Whoever comes meanwhile gets what they find, as far as it reaches.
    readings: Vec<Reading>,
    /// Messages that were told to the members since somebody who waits began to read the history.
    pub(super) recent: Vec<(u64, Published)>,
}

impl Waiting {
    pub(super) fn add(
        &mut self,
        connection: Uuid,
        user: User,
        pending: Pending,
        Join { since, grantee }: Join,
        give_up_at: Instant,
    ) -> u64 {
        let ticket = next_number();
        let lookup = if since.is_some() || grantee.is_some() { Lookup::Needed } else { Lookup::Done(None) };
        let asked = 0;
        self.list.push(Joining { ticket, connection, user, pending, since, grantee, give_up_at, lookup, asked });
        ticket
    }

    /// Events may have been missed, and one may have been that a grant was taken away.
    pub(super) fn ask_again(&mut self) {
        for joining in self.list.iter_mut().filter(|joining| joining.grantee.is_some()) {
            (joining.lookup, joining.asked) = (Lookup::Needed, 0);
        }
    }

    /// Messages are missing between what the members were told and what comes: those who come back may miss them, too.
    pub(super) fn on_gap(&mut self) {
        self.readings.clear();
        for joining in &mut self.list {
            match &mut joining.lookup {
                Lookup::Done(Some(history)) => history.recovered = false,
                // It may have been found before the gap.
                Lookup::Reading(_) => (joining.lookup, joining.asked) = (Lookup::Needed, 0),
                _ => {}
            }
        }
    }

    /// Somebody may enter, and wants to know what came after `since`: how that is found, and whether it is being read yet.
    pub(super) fn reading(&mut self, since: StreamId, seq: u64) -> (Reading, bool) {
        if let Some(reading) = self.readings.iter().find(|reading| reading.from <= since) {
            return (*reading, true);
        }
        let others = self.list.iter().filter(|joining| matches!(joining.lookup, Lookup::Needed | Lookup::Asked));
        let from = others.filter_map(|joining| joining.since).min().map_or(since, |other| other.min(since));
        let reading = Reading { number: next_number(), from, seq };
        self.readings.push(reading);
        (reading, false)
    }

    /// The history was read, or could not be; the attempts that fail with it. If it was found before a gap, nobody wants it.
    pub(super) fn on_read(&mut self, number: u64, page: Option<&Page>) -> Vec<u64> {
        let Some(at) = self.readings.iter().position(|reading| reading.number == number) else { return Vec::new() };
        self.readings.swap_remove(at);
        let mut failed = Vec::new();
        for joining in &mut self.list {
            let is_theirs = matches!(&joining.lookup, Lookup::Reading(reading) if reading.number == number);
            // It also does for those who still wait for their turn.
            let needs_no_more = matches!(joining.lookup, Lookup::Needed | Lookup::Asked) && joining.grantee.is_none();
            match (page, joining.since) {
                (Some(page), Some(since)) if is_theirs || (needs_no_more && page.from <= since) => {
                    (joining.lookup, joining.asked) = (Lookup::Done(Some(page.after(since))), 0);
                }
                (None, _) if is_theirs => failed.push(joining.ticket),
                _ => {}
            }
        }
        failed
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
        match self.needs_after().min() {
            Some(seq) => self.recent.retain(|(at, _)| *at > seq),
            None => self.recent = Vec::new(),
        }
    }

    fn needs_after(&self) -> impl Iterator<Item = u64> {
        let readings = self.readings.iter().map(|reading| reading.seq);
        self.list.iter().filter_map(Joining::needs_after).chain(readings)
    }

    /// A message was told to the members.
    pub(super) fn note(&mut self, seq: u64, message: impl FnOnce() -> Published) {
        if self.needs_after().next().is_some() {
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
