//! Who comes into a room, and who goes.

use std::sync::Arc;

use gatefold_shared::{
    jwt::Subject,
    redis::StreamId,
    rooms::{RoomName, User},
    trace::Parent,
};
use serde_json::value::RawValue;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Due, Here, Member, Room, Step,
    joining::{Lookup, next_number},
};
use crate::{
    frame,
    hub::{Join, Pending, history::Page},
    peer::Peer,
    protocol::{ErrorCode, ServerMessage},
};

/// Somebody who has to be looked up in Redis before they may be let in.
pub(in crate::hub) struct ToLookUp {
    /// Tells this lookup from others.
    pub(in crate::hub) asked: u64,
    pub(in crate::hub) connection: Uuid,
    pub(in crate::hub) user_id: i64,
    pub(in crate::hub) grantee: Option<Subject>,
    pub(in crate::hub) needs_history: bool,
    pub(in crate::hub) until: Instant,
    pub(in crate::hub) trace: Option<Parent>,
}

/// A part of the history that has to be read for those who come back.
pub(in crate::hub) struct ToRead {
    pub(in crate::hub) number: u64,
    pub(in crate::hub) from: StreamId,
}

fn refuse(peer: &Peer, error: ErrorCode, pending: Pending) {
    pending.answer(peer, &ServerMessage::error(error));
}

impl Room {
    /// A connection joins; it hears whether it could, at the latest at `give_up_at`. If that takes a grant, nobody else
    /// hears anything before it is found.
    pub(in crate::hub) fn join(
        &mut self,
        peer: &Arc<Peer>,
        user: User,
        pending: Pending,
        join: Join,
        give_up_at: Instant,
    ) {
        // It may have left, or been turned away, after it noted this itself.
        if peer.joins(&self.name).is_err() {
            return refuse(peer, ErrorCode::TooManyRooms, pending);
        }
        if peer.has_ended() {
            // It may have been taken out of its rooms before it noted this one.
            peer.leaves(&self.name);
            return;
        }
        let new = || Member { peer: Arc::clone(peer), user_id: user.id, is_counted: false, is_admitted: false };
        self.members.entry(peer.id).or_insert_with(new);
        if join.grantee.is_none() {
            self.count(peer.id, &user);
        }
        let is_known = self.told.contains_key(&user.id);
        self.cause = pending.trace();
        let ticket = self.waiting.add(peer.id, user, pending, join, give_up_at);
        self.schedule(give_up_at, Due::GiveUp(ticket));
        self.retry_at = None;
        if is_known {
            self.admit();
        }
    }

    /// Counts the user of a connection as here.
    fn count(&mut self, connection: Uuid, user: &User) {
        let Some(member) = self.members.get_mut(&connection).filter(|member| !member.is_counted) else { return };
        member.is_counted = true;
        let new = || Here { username: Arc::clone(&user.username), connections: 0, leaves_at: None };
        let here = self.here.entry(user.id).or_insert_with(new);
        here.connections += 1;
        here.leaves_at = None;
        self.changed.insert(user.id);
    }

    /// A connection leaves, because it wants to: others hear it at once.
    pub(in crate::hub) fn leave(&mut self, peer: &Peer, pending: Pending) {
        peer.leaves(&self.name);
        let Some(member) = self.remove(peer.id, ErrorCode::NotJoined) else {
            return refuse(peer, ErrorCode::NotJoined, pending);
        };
        self.remove_without_connections(member.user_id);
        self.cause = pending.trace();
        pending.answer(peer, &ServerMessage::Left { room: self.name.clone() });
    }

    /// A connection was lost. Unless all go, others hear it when its user does not come back in time.
    pub(in crate::hub) fn lose(&mut self, connection: Uuid, everybody_goes: bool, now: Instant) {
        let Some(member) = self.remove(connection, ErrorCode::NotJoined) else { return };
        if member.peer.was_revoked() && !self.told.contains_key(&member.user_id) {
            // Others must not hear that they come.
            self.remove_without_connections(member.user_id);
        } else if !everybody_goes {
            self.leaves_soon(member.user_id, now);
        }
    }

    /// Takes out the connections whose sessions were revoked: before others hear who is here.
    pub(super) fn drop_revoked(&mut self) {
        let revoked = self.members.values().filter(|member| member.peer.was_revoked());
        let revoked: Vec<_> = revoked.map(|member| member.peer.id).collect();
        for connection in revoked {
            let Some(member) = self.remove(connection, ErrorCode::NotJoined) else { continue };
            member.peer.leaves(&self.name);
            self.remove_without_connections(member.user_id);
        }
    }

    fn remove_without_connections(&mut self, user_id: i64) {
        if self.here.get(&user_id).is_some_and(|here| here.connections == 0) {
            self.remove_user(user_id);
        }
    }

    /// Gives a user who has no connections any more some time to come back.
    fn leaves_soon(&mut self, user_id: i64, now: Instant) {
        let due = now + self.policy.presence_grace;
        if let Some(here) = self.here.get_mut(&user_id).filter(|here| here.connections == 0) {
            here.leaves_at = Some(due);
            self.schedule(due, Due::Leave(user_id));
        }
    }

    pub(super) fn leave_if_due(&mut self, user_id: i64, now: Instant) {
        if self.here.get(&user_id).is_some_and(|here| here.leaves_at.is_some_and(|at| at <= now)) {
            self.remove_user(user_id);
        }
    }

    /// A user may not be here any more.
    pub(in crate::hub) fn expel(&mut self, user_id: i64) {
        let theirs = self.members.iter().filter(|(_, member)| member.user_id == user_id);
        let theirs: Vec<_> = theirs.map(|(connection, _)| *connection).collect();
        for connection in theirs {
            let Some(member) = self.remove(connection, ErrorCode::ForbiddenRoom) else { continue };
            member.peer.leaves(&self.name);
            if member.is_admitted {
                let left = ServerMessage::Left { room: self.name.clone() };
                member.peer.deliver(&frame::text(&left.to_json(None)));
            }
        }
        self.remove_user(user_id);
    }

    /// Takes a connection out; what it waits for is answered with `error`. Its user is still counted as here.
    fn remove(&mut self, connection: Uuid, error: ErrorCode) -> Option<Member> {
        let member = self.members.remove(&connection)?;
        if let Some(here) = self.here.get_mut(&member.user_id).filter(|_| member.is_counted) {
            here.connections -= 1;
        }
        self.typists.forget(connection, member.user_id);
        for joining in self.waiting.take(|joining| joining.connection == connection) {
            refuse(&member.peer, error, joining.pending);
        }
        self.waiting.tidy();
        Some(member)
    }

    /// Whether a connection is in the room, or about to be.
    pub(in crate::hub) fn knows(&self, connection: Uuid) -> bool {
        self.members.contains_key(&connection)
    }

    /// Whether a connection has been let in.
    pub(in crate::hub) fn has(&self, connection: Uuid) -> bool {
        self.members.get(&connection).is_some_and(|member| member.is_admitted)
    }

    /// The users who are here through this replica.
    pub(in crate::hub) fn users_here(&self) -> Vec<i64> {
        self.here.keys().copied().collect()
    }

    /// Who is in the room, if that is known for certain.
    pub(in crate::hub) fn present(&mut self, name: RoomName) -> Option<ServerMessage> {
        let is_known = matches!(self.step, Step::In { .. }) && self.is_subscribed;
        let state =
            || ServerMessage::PresenceState { room: name, count: self.view.count() as u64, users: self.view.list() };
        is_known.then(state)
    }

    /// Whether typing is told in a room with so many users.
    pub(in crate::hub) fn tells_typing(&self) -> bool {
        self.view.count() <= self.policy.typing_room_limit
    }

    /// Who can be looked up now: what is found then holds, since whatever changes it will be heard.
    pub(in crate::hub) fn next_lookups(&mut self) -> Vec<ToLookUp> {
        if matches!(self.step, Step::Out { .. }) {
            return Vec::new();
        }
        let needed = self.waiting.list.iter_mut().filter(|joining| matches!(joining.lookup, Lookup::Needed));
        let begin = needed.map(|joining| {
            (joining.lookup, joining.asked) = (Lookup::Asked, next_number());
            ToLookUp {
                asked: joining.asked,
                connection: joining.connection,
                user_id: joining.user.id,
                grantee: joining.grantee,
                needs_history: joining.since.is_some(),
                until: joining.give_up_at,
                trace: joining.pending.trace(),
            }
        });
        begin.collect()
    }

    /// Whether somebody who waits may enter, unless they have to be looked up again; and what has to be read for them first.
    pub(in crate::hub) fn looked_up(&mut self, asked: u64, may_enter: Option<bool>) -> Option<ToRead> {
        let joining = self.waiting.list.iter().find(|joining| joining.asked == asked)?;
        let (ticket, connection, user, since) =
            (joining.ticket, joining.connection, joining.user.clone(), joining.since);
        let error = match may_enter {
            Some(true) => {
                let (lookup, to_read) = match (since, &self.step) {
                    (None, _) => (Lookup::Done(None), None),
                    // What is read before the room is followed again is not all.
                    (Some(_), Step::Out { .. }) => (Lookup::Needed, None),
                    (Some(since), &Step::In { seq }) => {
                        let (reading, is_under_way) = self.waiting.reading(since, seq);
                        let to_read = ToRead { number: reading.number, from: reading.from };
                        (Lookup::Reading(reading), (!is_under_way).then_some(to_read))
                    }
                };
                if let Some(joining) = self.waiting.list.iter_mut().find(|joining| joining.ticket == ticket) {
                    (joining.lookup, joining.asked) = (lookup, 0);
                }
                self.count(connection, &user);
                self.admit();
                return to_read;
            }
            Some(false) => ErrorCode::ForbiddenRoom,
            None => ErrorCode::Unavailable,
        };
        self.turn_away(|waiting| waiting == ticket, error);
        None
    }

    /// The history was read for those who wait for it, or could not be.
    pub(in crate::hub) fn on_read(&mut self, number: u64, page: Option<&Page>) {
        let failed = self.waiting.on_read(number, page);
        self.turn_away(|ticket| failed.contains(&ticket), ErrorCode::Unavailable);
        self.admit();
    }

    /// Somebody has waited for long enough. If everything but an event came, no events come: the room is followed anew.
    pub(super) fn give_up(&mut self, ticket: u64) {
        if matches!(self.step, Step::In { .. }) && self.lacks_an_event(ticket) {
            self.on_unsubscribed();
        }
        self.turn_away(|waiting| waiting == ticket, ErrorCode::Unavailable);
    }

    /// Whether Redis has answered all that somebody waits for. Unless it is their own arrival, or a message that they read of,
    /// that has not been heard yet, they were let in.
    fn lacks_an_event(&self, ticket: u64) -> bool {
        let waiting = self.waiting.list.iter().find(|joining| joining.ticket == ticket);
        waiting.is_some_and(|it| self.told.contains_key(&it.user.id) && matches!(it.lookup, Lookup::Done(_)))
    }

    /// Tells those who wait that they were not let in.
    pub(super) fn turn_away(&mut self, is_one: impl Fn(u64) -> bool, error: ErrorCode) {
        for joining in self.waiting.take(|joining| is_one(joining.ticket)) {
            let Some(member) = self.members.get(&joining.connection) else { continue };
            let peer = Arc::clone(&member.peer);
            refuse(&peer, error, joining.pending);
            if !member.is_admitted && !self.waiting.has(joining.connection) {
                let user_id = member.user_id;
                self.remove(joining.connection, error);
                peer.leaves(&self.name);
                if error == ErrorCode::Unavailable && self.told.contains_key(&user_id) {
                    // Perhaps they were on their way back.
                    self.leaves_soon(user_id, Instant::now());
                } else {
                    self.remove_without_connections(user_id);
                }
            }
        }
        self.waiting.tidy();
    }

    /// How the room is, for somebody who is let in, or is in it and missed something: who types is told without themselves.
    pub(super) fn joined(
        &mut self,
        hearer: Option<i64>,
        messages: Vec<Box<RawValue>>,
        recovered: bool,
    ) -> ServerMessage {
        ServerMessage::Joined {
            room: self.name.clone(),
            count: self.view.count() as u64,
            users: self.view.list(),
            typing: self.view.typing(hearer),
            messages,
            recovered,
            last: self.last_message.unwrap_or(StreamId::ZERO).to_string(),
        }
    }

    /// Lets in everybody who waits and can be: Redis knows of them, the room is followed, and they are seen in it.
    pub(super) fn admit(&mut self) {
        let Step::In { seq } = self.step else { return };
        let (told, view) = (&self.told, &self.view);
        let ready = self
            .waiting
            .take(|joining| joining.is_ready(seq) && told.contains_key(&joining.user.id) && view.has(joining.user.id));
        for joining in ready {
            let Lookup::Done(history) = joining.lookup else { continue };
            let Some(member) = self.members.get_mut(&joining.connection) else { continue };
            let recovered = history.as_ref().is_none_or(|history| history.recovered);
            let told_since = history.iter().flat_map(|history| self.waiting.told_since(history, joining.since));
            let told_since: Vec<_> = told_since.cloned().collect();
            let messages = history.into_iter().flat_map(|history| history.messages).chain(told_since);
            let messages = messages.map(|message| message.payload).collect();
            member.is_admitted = true;
            let peer = Arc::clone(&member.peer);
            let user_id = joining.user.id;
            let bytes = joining.pending.answer(&peer, &self.joined(Some(user_id), messages, recovered));
            self.charges.push((user_id, bytes));
        }
        self.waiting.tidy();
    }
}
