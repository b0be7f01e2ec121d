//! Events of rooms on their way to a shard. Each room has a queue of its own, and the rooms take turns: a room in which much
//! happens delays the others by one event at a time. When a queue is full, the room is told that it has missed something, and
//! reads what that was. Whoever brings events never waits.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gatefold_shared::redis::Str;
use tokio::sync::Notify;

/// Events that may wait for one room.
const OF_A_ROOM: usize = 512;
/// Queues of rooms without events that are kept, so that not each event has to make one.
const SPARE: usize = 64;

/// What came from Redis for a room, by its channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Event { channel: Str, event: Str },
    Missed { channel: Str },
}

/// See the module.
pub(super) struct Inbox {
    /// Events that may wait for all rooms together.
    most: usize,
    queues: Mutex<Queues>,
    filled: Notify,
}

#[derive(Default)]
struct Queues {
    by_channel: HashMap<Str, Queue>,
    /// The rooms for which something waits.
    turns: VecDeque<Str>,
    waiting: usize,
    spare: Vec<VecDeque<Str>>,
}

#[derive(Default)]
struct Queue {
    /// What came before these is missing.
    has_missed: bool,
    events: VecDeque<Str>,
}

impl Inbox {
    pub(super) fn new(most: usize) -> Self {
        Self { most, queues: Mutex::default(), filled: Notify::new() }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.queues().waiting
    }

    /// Something happened in a room.
    pub(super) fn put(&self, channel: &Str, event: Str) {
        let mut guard = self.queues();
        let Queues { by_channel, turns, waiting, spare } = &mut *guard;
        let queue = if let Some(queue) = by_channel.get_mut(channel) {
            queue
        } else {
            turns.push_back(channel.clone());
            let events = spare.pop().unwrap_or_default();
            by_channel.entry(channel.clone()).or_insert(Queue { has_missed: false, events })
        };
        if queue.events.len() >= OF_A_ROOM || *waiting >= self.most {
            *waiting -= queue.events.len();
            queue.events.clear();
            queue.has_missed = true;
        }
        if *waiting < self.most {
            queue.events.push_back(event);
            *waiting += 1;
        }
        drop(guard);
        self.filled.notify_one();
    }

    /// The next thing that came, of the room whose turn it is. Nothing is lost if it is not waited for.
    pub(super) async fn next(&self) -> Heard {
        loop {
            if let Some(heard) = self.take() {
                return heard;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Option<Heard> {
        let mut guard = self.queues();
        let Queues { by_channel, turns, waiting, spare } = &mut *guard;
        let channel = turns.pop_front()?;
        let queue = by_channel.get_mut(&channel)?;
        let has_missed = std::mem::take(&mut queue.has_missed);
        let event = if has_missed { None } else { queue.events.pop_front() };
        *waiting -= usize::from(event.is_some());
        if !queue.events.is_empty() {
            turns.push_back(channel.clone());
        } else if let Some(queue) = by_channel.remove(&channel)
            && spare.len() < SPARE
        {
            spare.push(queue.events);
        }
        match event {
            Some(event) => Some(Heard::Event { channel, event }),
            None => Some(Heard::Missed { channel }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Str {
        text.to_owned().into()
    }

    fn all(inbox: &Inbox) -> Vec<String> {
        std::iter::from_fn(|| inbox.take())
            .map(|heard| match heard {
                Heard::Event { channel, event } => format!("{channel}{event}"),
                Heard::Missed { channel } => format!("{channel}?"),
            })
            .collect()
    }

    #[test]
    fn a_room_keeps_its_order_and_delays_the_others_by_one_event_at_a_time() {
        let inbox = Inbox::new(100);
        for event in ["1", "2", "3"] {
            inbox.put(&text("a"), text(event));
        }
        inbox.put(&text("b"), text("1"));
        assert_eq!(all(&inbox), ["a1", "b1", "a2", "a3"]);
        inbox.put(&text("a"), text("4"));
        assert_eq!(all(&inbox), ["a4"]);
        assert_eq!(inbox.len(), 0);
    }

    #[test]
    fn a_room_that_is_full_has_missed_something_and_no_other_room_has() {
        let inbox = Inbox::new(OF_A_ROOM * 2);
        inbox.put(&text("b"), text("1"));
        for number in 0..=OF_A_ROOM {
            inbox.put(&text("a"), text(&number.to_string()));
        }
        let last = format!("a{OF_A_ROOM}");
        assert_eq!(all(&inbox), ["b1", "a?", last.as_str()]);
    }

    #[test]
    fn when_all_rooms_together_are_full_the_one_that_comes_then_has_missed_something() {
        let inbox = Inbox::new(3);
        for event in ["1", "2", "3"] {
            inbox.put(&text("a"), text(event));
        }
        inbox.put(&text("b"), text("1"));
        inbox.put(&text("b"), text("2"));
        assert_eq!(all(&inbox), ["a1", "b?", "a2", "a3"]);
        inbox.put(&text("b"), text("3"));
        assert_eq!(all(&inbox), ["b3"]);
    }
}
