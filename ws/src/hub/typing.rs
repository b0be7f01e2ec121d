//! Who types in a room, as this replica tells Redis: no more often than it must, one script at a time, and in order.

use std::{collections::HashMap, time::Duration};

use gatefold_shared::{
    redis::{Redis, RedisError, Script, Value, keys, millis},
    rooms::{self, RoomName, User},
};
use tokio::time::Instant;
use uuid::Uuid;

static TYPING: Script = Script::new("typing", &[rooms::PRELUDE, include_str!("typing.lua")]);

/// What Redis is to hear.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) starts: Vec<User>,
    pub(super) stops: Vec<i64>,
}

/// Who types through this replica.
#[derive(Default)]
pub(super) struct Typists {
    /// By user: the connection, and when Redis was told.
    by_user: HashMap<i64, (Uuid, Instant)>,
    /// What Redis was not told yet: who starts, or stops.
    wanted: HashMap<i64, Option<User>>,
    is_telling: bool,
}

impl Typists {
    /// A connection's user types. Redis hears of it when it is news, or when it would soon forget.
    pub(super) fn start(&mut self, connection: Uuid, user: &User, expiry: Duration, now: Instant) {
        if let Some((typist, told_at)) = self.by_user.get_mut(&user.id)
            && now < *told_at + expiry / 3
        {
            *typist = connection;
            return;
        }
        self.by_user.insert(user.id, (connection, now));
        self.wanted.insert(user.id, Some(user.clone()));
    }

    /// A user stopped.
    pub(super) fn stop(&mut self, user_id: i64) {
        if self.by_user.remove(&user_id).is_some() {
            self.wanted.insert(user_id, None);
        }
    }

    /// A user publishes something, which ends their typing in Redis, but for what Redis has yet to hear.
    pub(super) fn publishes(&mut self, user_id: i64) {
        let has_typed = self.by_user.remove(&user_id).is_some();
        if has_typed && (self.is_telling || self.wanted.contains_key(&user_id)) {
            self.wanted.insert(user_id, None);
        }
    }

    /// Redis says that a user stopped, perhaps because of something that was published elsewhere.
    pub(super) fn on_stopped(&mut self, user_id: i64) {
        if !self.is_telling && !self.wanted.contains_key(&user_id) {
            self.by_user.remove(&user_id);
        }
    }

    /// A connection is not there any more, and if its user typed, then on another one.
    pub(super) fn forget(&mut self, connection: Uuid, user_id: i64) {
        if self.by_user.get(&user_id).is_some_and(|(typist, _)| *typist == connection) {
            self.stop(user_id);
        }
    }

    /// What to tell Redis now.
    pub(super) fn next(&mut self) -> Option<Changes> {
        if self.is_telling || self.wanted.is_empty() {
            return None;
        }
        self.is_telling = true;
        let mut changes = Changes::default();
        for (user_id, start) in self.wanted.drain() {
            match start {
                Some(user) => changes.starts.push(user),
                None => changes.stops.push(user_id),
            }
        }
        Some(changes)
    }

    /// Redis was told, or not: then whoever still types may say so again.
    pub(super) fn told(&mut self, changes: &Changes, was_told: bool) {
        self.is_telling = false;
        if !was_told {
            for user in &changes.starts {
                self.by_user.remove(&user.id);
            }
        }
    }

    /// Whether there is nothing to tell, and nobody who may have to stop.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_telling && self.wanted.is_empty() && self.by_user.is_empty()
    }
}

/// Tells Redis who types. After an error Redis may have heard it or not; it will not hear it later.
pub(super) async fn tell(
    redis: &Redis,
    room: &RoomName,
    changes: &Changes,
    expiry: Duration,
    until: Instant,
) -> Result<(), RedisError> {
    let mut arguments: Vec<Value> =
        vec![millis(expiry).into(), i64::try_from(changes.starts.len()).unwrap_or(i64::MAX).into()];
    for user in &changes.starts {
        arguments.extend([Value::from(user.id), Value::from(&*user.username)]);
    }
    arguments.extend(changes.stops.iter().map(|&user_id| Value::from(user_id)));
    let reply = redis.run_in_time(&TYPING, &keys::of_room(room.as_str()), &arguments, until, i64::MAX).await?;
    match &reply[..] {
        [outcome] if outcome.as_i64() == Some(1) => Ok(()),
        _ => Err(TYPING.unexpected_reply()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY: Duration = Duration::from_secs(6);

    fn user() -> User {
        User { id: 7, username: "grace".into() }
    }

    fn starts(typists: &mut Typists) -> usize {
        let Some(changes) = typists.next() else { return 0 };
        typists.told(&changes, true);
        changes.starts.len()
    }

    #[test]
    fn redis_hears_of_a_start_once_until_a_third_of_its_time_is_over() {
        let (mut typists, now, one) = (Typists::default(), Instant::now(), Uuid::nil());
        for (after, told) in [(0, 1), (1, 0), (2, 1), (3, 0), (5, 1), (7, 1)] {
            typists.start(one, &user(), EXPIRY, now + Duration::from_secs(after));
            assert_eq!(starts(&mut typists), told, "after {after} s");
        }
    }

    #[test]
    fn what_comes_while_redis_is_told_is_told_afterwards_and_only_the_last_of_it() {
        let (mut typists, now, one) = (Typists::default(), Instant::now(), Uuid::nil());
        typists.start(one, &user(), EXPIRY, now);
        let first = typists.next().expect("something");
        typists.stop(7);
        typists.start(one, &user(), EXPIRY, now);
        typists.stop(7);
        assert_eq!(typists.next(), None);
        typists.told(&first, true);
        assert_eq!(typists.next(), Some(Changes { starts: Vec::new(), stops: vec![7] }));
    }

    #[test]
    fn only_the_connection_that_typed_last_takes_the_typing_with_it() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        typists.start(one, &user(), EXPIRY, now);
        typists.start(other, &user(), EXPIRY, now);
        assert_eq!(starts(&mut typists), 1);
        typists.forget(one, 7);
        assert_eq!(typists.next(), None);
        typists.forget(other, 7);
        assert_eq!(typists.next().map(|changes| changes.stops), Some(vec![7]));
    }

    #[test]
    fn whoever_was_stopped_elsewhere_starts_anew() {
        let (mut typists, now, one) = (Typists::default(), Instant::now(), Uuid::nil());
        typists.start(one, &user(), EXPIRY, now);
        assert_eq!(starts(&mut typists), 1);
        typists.on_stopped(7);
        typists.start(one, &user(), EXPIRY, now);
        assert_eq!(starts(&mut typists), 1);
    }

    #[test]
    fn a_start_that_redis_did_not_hear_of_may_be_said_again() {
        let (mut typists, now, one) = (Typists::default(), Instant::now(), Uuid::nil());
        typists.start(one, &user(), EXPIRY, now);
        let changes = typists.next().expect("something");
        typists.told(&changes, false);
        typists.start(one, &user(), EXPIRY, now);
        assert_eq!(starts(&mut typists), 1);
    }
}
