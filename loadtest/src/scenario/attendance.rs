//! Messages into a room whose members come and go: how many deliveries there must be, and may be.
//!
//! Who was in the room all the time must be delivered a message once. Who came or went while it may have been under way is
//! delivered it or not: that is neither missing nor too much.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::fanout::LAST;
use crate::failure::Failure;

/// What happened in one room.
#[derive(Default)]
pub(super) struct Attendance(Mutex<Ledger>);

#[derive(Default)]
struct Ledger {
    /// Those who are in the room for sure.
    inside: u64,
    /// Those who are on their way in or out.
    between: u64,
    /// When something was published, or may have been.
    publishings: Vec<Instant>,
    least: i128,
    most: i128,
    delivered: i128,
}

/// A member, and where they are.
pub(super) struct Seat {
    room: Arc<Attendance>,
    at: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Between,
    Inside,
}

impl Attendance {
    /// A place for somebody who is not in the room yet.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        Seat { room: Arc::clone(self), at: Place::Outside }
    }

    /// Publishes something: `asking` ends when it has been published for sure, if it does.
    pub(super) async fn publish(&self, asking: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let hearers = self.begin_publishing(Instant::now());
        asking.await?;
        self.ledger().least += i128::from(hearers);
        Ok(())
    }

    /// One more has been delivered.
    pub(super) fn delivered(&self) {
        self.ledger().delivered += 1;
    }

    /// How many deliveries are missing, and how many are too many.
    pub(super) fn balance(&self) -> (u64, u64) {
        let Ledger { least, most, delivered, .. } = *self.ledger();
        let count = |difference: i128| u64::try_from(difference).unwrap_or(0);
        (count(least - delivered), count(delivered - most))
    }

    /// How many must hear of what is published now.
    fn begin_publishing(&self, now: Instant) -> u64 {
        let mut ledger = self.ledger();
        ledger.publishings.push(now);
        ledger.most += i128::from(ledger.inside + ledger.between);
        ledger.inside
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// What may have been under way at a moment, or since.
    fn under_way(&self, since: Instant) -> i128 {
        let recent = self.publishings.iter().rev().take_while(|at| **at + LAST >= since);
        i128::try_from(recent.count()).unwrap_or(i128::MAX)
    }
}

impl Seat {
    pub(super) fn room(&self) -> &Arc<Attendance> {
        &self.room
    }

    /// Begins to enter or to leave, or began to at that moment.
    pub(super) fn moves(&mut self, since: Instant) {
        let mut ledger = self.room.ledger();
        let under_way = ledger.under_way(since);
        match self.at {
            Place::Between => return,
            Place::Outside => ledger.most += under_way,
            Place::Inside => {
                ledger.least -= under_way;
                ledger.inside -= 1;
            }
        }
        ledger.between += 1;
        self.at = Place::Between;
    }

    /// Is in the room from now on.
    pub(super) fn arrived(&mut self) {
        self.moves(Instant::now());
        let mut ledger = self.room.ledger();
        ledger.between -= 1;
        ledger.inside += 1;
        self.at = Place::Inside;
    }

    /// Hears nothing any more.
    pub(super) fn gone(&mut self, since: Instant) {
        if self.at == Place::Outside {
            return;
        }
        self.moves(since);
        self.room.ledger().between -= 1;
        self.at = Place::Outside;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A room with so many in it.
    fn room(members: usize) -> (Arc<Attendance>, Vec<Seat>) {
        let room = Arc::<Attendance>::default();
        let mut seats: Vec<Seat> = (0..members).map(|_| room.seat()).collect();
        seats.iter_mut().for_each(Seat::arrived);
        (room, seats)
    }

    fn deliver(room: &Attendance, times: usize) {
        (0..times).for_each(|_| room.delivered());
    }

    #[tokio::test]
    async fn everybody_who_stays_must_hear_once() {
        let (room, _seats) = room(3);
        room.publish(async { Ok(()) }).await.unwrap();
        assert_eq!(room.balance(), (3, 0));
        deliver(&room, 2);
        assert_eq!(room.balance(), (1, 0));
        deliver(&room, 2);
        assert_eq!(room.balance(), (0, 1));
    }

    #[tokio::test]
    async fn what_may_have_been_published_is_neither_missing_nor_too_much() {
        let (room, _seats) = room(3);
        assert!(room.publish(async { Err(Failure::Timeout) }).await.is_err());
        assert_eq!(room.balance(), (0, 0));
        deliver(&room, 3);
        assert_eq!(room.balance(), (0, 0));
    }

    #[tokio::test]
    async fn who_comes_or_goes_meanwhile_may_hear_or_not() {
        let (room, mut seats) = room(3);
        room.publish(async { Ok(()) }).await.unwrap();
        seats[0].gone(Instant::now());
        let mut late = room.seat();
        late.moves(Instant::now());
        assert_eq!(room.balance(), (2, 0));
        deliver(&room, 4);
        assert_eq!(room.balance(), (0, 0));
        deliver(&room, 1);
        assert_eq!(room.balance(), (0, 1));
        // From when it has arrived it must hear, and one that has gone must not.
        late.arrived();
        room.publish(async { Ok(()) }).await.unwrap();
        deliver(&room, 3);
        assert_eq!(room.balance(), (0, 1));
    }

    #[test]
    fn who_leaves_later_must_have_heard() {
        let (room, mut seats) = room(2);
        let published = Instant::now();
        let hearers = room.begin_publishing(published);
        room.ledger().least += i128::from(hearers);
        seats[0].moves(published + LAST + Duration::from_secs(1));
        assert_eq!(room.balance(), (2, 0));
    }
}
