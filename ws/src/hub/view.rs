//! A room as its members on this replica were told it is. Pure: it is told what happened, and says what they must hear.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use gatefold_shared::rooms::{MAX_LISTED, RoomName, User};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use super::event::Event;
use crate::{
    presence::RoomState,
    protocol::{PresenceEvent, ServerMessage},
};

/// See the module.
pub(super) struct View {
    room: RoomName,
    users: BTreeMap<i64, Seen>,
    typing: HashMap<i64, (User, u64)>,
    /// The users as they are listed, until they change.
    listed: Option<Arc<RawValue>>,
}

struct Seen {
    username: Arc<str>,
    /// Redis does not know the user any more, but perhaps it has only forgotten: they count until then.
    doubted_until: Option<Instant>,
}

/// Something that members must hear.
pub(super) struct Announcement {
    pub(super) message: ServerMessage,
    /// A user who need not hear it.
    pub(super) except: Option<i64>,
}

impl View {
    pub(super) fn new(room: RoomName) -> Self {
        Self { room, users: BTreeMap::new(), typing: HashMap::new(), listed: None }
    }

    pub(super) fn count(&self) -> usize {
        self.users.len()
    }

    pub(super) fn has(&self, user_id: i64) -> bool {
        self.users.contains_key(&user_id)
    }

    /// The users, or as many of them as are listed.
    pub(super) fn list(&mut self) -> Arc<RawValue> {
        let users = &self.users;
        let list = || {
            let user = |(&id, seen): (&i64, &Seen)| User { id, username: Arc::clone(&seen.username) };
            let users: Vec<_> = users.iter().take(MAX_LISTED).map(user).collect();
            // Numbers and texts always have a form in JSON.
            to_raw_value(&users).unwrap_or_default().into()
        };
        Arc::clone(self.listed.get_or_insert_with(list))
    }

    /// Who types, but for one.
    pub(super) fn typing(&self, except: Option<i64>) -> Vec<User> {
        let others = self.typing.values().filter(|(user, _)| Some(user.id) != except);
        others.map(|(user, _)| user.clone()).collect()
    }

    /// Until when a user types, in milliseconds since 1970.
    pub(super) fn types_until(&self, user_id: i64) -> Option<u64> {
        self.typing.get(&user_id).map(|(_, until)| *until)
    }

    /// Something happened. Users who are here, but whom Redis has forgotten, do not leave: it will hear of them again. Should
    /// they go before it has, nobody hears of that; so they are doubted.
    pub(super) fn apply(
        &mut self,
        event: &Event<'_>,
        is_forgotten: impl Fn(i64) -> bool,
        doubted_until: Instant,
    ) -> Vec<Announcement> {
        let mut told = Vec::new();
        for user in &event.leave {
            if !is_forgotten(user.id) {
                self.leaves(user.id, &mut told);
            } else if let Some(seen) = self.users.get_mut(&user.id) {
                seen.doubted_until = Some(doubted_until);
            }
        }
        for user in &event.join {
            self.joins(user, &mut told);
        }
        for &user_id in &event.stopped {
            self.stops(user_id, &mut told);
        }
        for typist in &event.typing {
            self.types(&typist.user, typist.until, &mut told);
        }
        told
    }

    /// This is how the room is in Redis. Whoever is missing there is doubted for a while.
    pub(super) fn reconcile(
        &mut self,
        state: &RoomState,
        is_here: impl Fn(i64) -> bool,
        doubted_until: Instant,
    ) -> Vec<Announcement> {
        let mut told = Vec::new();
        let known: HashMap<i64, &User> = state.users.iter().map(|user| (user.id, user)).collect();
        for (user_id, seen) in &mut self.users {
            if !known.contains_key(user_id) && !is_here(*user_id) {
                seen.doubted_until.get_or_insert(doubted_until);
            }
        }
        for user in &state.users {
            self.joins(user, &mut told);
        }
        let stopped: Vec<_> =
            self.typing.keys().filter(|id| state.typing.iter().all(|(typist, _)| typist != *id)).copied().collect();
        for user_id in stopped {
            self.stops(user_id, &mut told);
        }
        for (user_id, until) in &state.typing {
            if let Some(user) = known.get(user_id) {
                self.types(user, *until, &mut told);
            }
        }
        told
    }

    /// Who is still doubted.
    pub(super) fn doubted(&self) -> impl Iterator<Item = i64> {
        self.users.iter().filter(|(_, seen)| seen.doubted_until.is_some()).map(|(id, _)| *id)
    }

    /// The time in which a user was doubted may be over.
    pub(super) fn end_doubt(&mut self, user_id: i64, is_here: bool, now: Instant) -> Vec<Announcement> {
        let mut told = Vec::new();
        let is_over = |seen: &Seen| seen.doubted_until.is_some_and(|until| until <= now);
        if !is_here && self.users.get(&user_id).is_some_and(is_over) {
            self.leaves(user_id, &mut told);
        }
        told
    }

    /// The time in which a user types may be over; `now` is in milliseconds since 1970.
    pub(super) fn end_typing(&mut self, user_id: i64, now: u64) -> Vec<Announcement> {
        let mut told = Vec::new();
        if self.types_until(user_id).is_some_and(|until| until <= now) {
            self.stops(user_id, &mut told);
        }
        told
    }

    fn joins(&mut self, user: &User, told: &mut Vec<Announcement>) {
        let seen = Seen { username: Arc::clone(&user.username), doubted_until: None };
        if self.users.insert(user.id, seen).is_none() {
            self.listed = None;
            told.push(self.presence(PresenceEvent::Join, user.clone()));
        }
    }

    fn leaves(&mut self, user_id: i64, told: &mut Vec<Announcement>) {
        self.stops(user_id, told);
        if let Some(seen) = self.users.remove(&user_id) {
            self.listed = None;
            told.push(self.presence(PresenceEvent::Leave, User { id: user_id, username: seen.username }));
        }
    }

    fn presence(&self, event: PresenceEvent, user: User) -> Announcement {
        Announcement { message: ServerMessage::Presence { room: self.room.clone(), event, user }, except: None }
    }

    fn types(&mut self, user: &User, until: u64, told: &mut Vec<Announcement>) {
        if self.typing.insert(user.id, (user.clone(), until)).is_none() {
            told.push(self.typing_is(true, user.clone(), until));
        }
    }

    fn stops(&mut self, user_id: i64, told: &mut Vec<Announcement>) {
        if let Some((user, until)) = self.typing.remove(&user_id) {
            told.push(self.typing_is(false, user, until));
        }
    }

    fn typing_is(&self, typing: bool, user: User, until: u64) -> Announcement {
        let except = Some(user.id);
        Announcement { message: ServerMessage::Typing { room: self.room.clone(), user, typing, until }, except }
    }
}

#[cfg(test)]
mod tests;
