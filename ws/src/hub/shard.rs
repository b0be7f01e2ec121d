//! A part of the rooms, and all that happens to them, one thing after the other.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    pin::pin,
    sync::Arc,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use gatefold_shared::{
    redis::{RedisError, Slots, keys},
    rooms::{Publication, RoomName},
    trace::Parent,
};
use metrics::{counter, gauge};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tracing::warn;

use super::{
    Context, Join, Notice, Request, What,
    calls::{self, Outcome},
    inbox::{Heard, Inbox},
    room::Room,
};
use crate::protocol::{ErrorCode, ServerMessage};

/// See the module.
pub(super) struct Shard {
    context: Arc<Context>,
    rooms: HashMap<RoomName, Room>,
    calls: FuturesUnordered<BoxFuture<'static, Outcome>>,
    agenda: BinaryHeap<Reverse<(Instant, RoomName)>>,
}

fn answer(request: Request, message: &ServerMessage) {
    request.pending.answer(&request.peer, message);
}

fn refuse(request: Request, error: ErrorCode) {
    answer(request, &ServerMessage::error(error));
}

fn unavailable(request: Request, error: &RedisError) {
    warn!(%error, room = %request.room, conn.id = %request.peer.id,
        trace.id = request.pending.trace().map(|trace| tracing::field::display(trace.trace_id())), "a message about a room could not be served");
    refuse(request, ErrorCode::Unavailable);
}

impl Shard {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, rooms: HashMap::new(), calls: FuturesUnordered::new(), agenda: BinaryHeap::new() }
    }

    pub(super) async fn run(mut self, mut notices: mpsc::Receiver<Notice>, inbox: Arc<Inbox>) {
        let mut timer = pin!(sleep_until(Instant::now()));
        loop {
            let due = self.agenda.peek().map(|Reverse((at, _))| *at);
            if let Some(due) = due.filter(|due| *due != timer.deadline()) {
                timer.as_mut().reset(due);
            }
            tokio::select! {
                Some(outcome) = self.calls.next() => self.finish(outcome).await,
                heard = inbox.next() => self.follow(heard).await,
                notice = notices.recv() => match notice {
                    Some(notice) => self.hear(notice),
                    None => return,
                },
                () = timer.as_mut(), if due.is_some() => self.on_time().await,
            }
        }
    }

    async fn follow(&mut self, heard: Heard) {
        let (Heard::Event { channel, .. } | Heard::Missed { channel }) = &heard;
        let Some(room) = keys::room_of_channel(channel).and_then(|room| self.rooms.get_mut(room)) else { return };
        match heard {
            Heard::Event { event, .. } => room.hear(event, Instant::now()).await,
            Heard::Missed { .. } => {
                counter!("gatefold_ws_room_overflows_total").increment(1);
                room.on_missed();
            }
        }
        let name = room.name.clone();
        self.look_after(&name);
    }

    fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Request(request) => self.serve(request),
            Notice::Gone { room, peer } => {
                let everybody_goes = self.context.life.draining().is_cancelled();
                self.change(&room, |room| room.lose(peer, everybody_goes, Instant::now()));
            }
            Notice::Missed(slots) => self.change_in(Some(&slots), Room::on_missed),
            Notice::Unsubscribed(slots) => self.change_in(Some(&slots), Room::on_unsubscribed),
            Notice::Reborn(former) => self.change_in(None, |room| room.on_reborn(former)),
            Notice::Vanished(replica) => self.change_in(None, |room| room.on_vanished(replica)),
        }
    }

    fn change(&mut self, name: &RoomName, change: impl FnOnce(&mut Room)) {
        if let Some(room) = self.rooms.get_mut(name) {
            change(room);
            self.look_after(name);
        }
    }

    /// Changes the rooms in some slots, or all.
    fn change_in(&mut self, slots: Option<&Slots>, change: impl Fn(&mut Room)) {
        let is_in = |name: &&RoomName| slots.is_none_or(|slots| slots.has(&keys::room(name.as_str())));
        let names: Vec<_> = self.rooms.keys().filter(is_in).cloned().collect();
        for name in names {
            self.change(&name, &change);
        }
    }

    fn serve(&mut self, request: Request) {
        let context = Arc::clone(&self.context);
        if request.pending.since() + context.redis.call_timeout() <= Instant::now() {
            // Whoever asked was promised an answer by now: nothing is asked of Redis for them.
            match &request.what {
                What::Publish { .. } | What::Presence { .. } => return refuse(request, ErrorCode::Unavailable),
                What::Join(_) => {
                    if !self.rooms.get(&request.room).is_some_and(|room| room.knows(request.peer.id)) {
                        request.peer.leaves(&request.room);
                    }
                    return refuse(request, ErrorCode::Unavailable);
                }
                What::Leave | What::Typing { .. } => {}
            }
        }
        match &request.what {
            What::Presence { grantee: Some(grantee) } => {
                let (trace, grantee) = (request.pending.trace(), *grantee);
                self.calls.push(Box::pin(Parent::around(trace, calls::may_enter(context, request, grantee))));
            }
            _ => self.serve_allowed(request),
        }
    }

    fn serve_allowed(&mut self, mut request: Request) {
        if request.peer.has_ended() {
            // It was taken out of its rooms, or will be.
            return;
        }
        let context = Arc::clone(&self.context);
        match &mut request.what {
            What::Join(join) => {
                let join = *join;
                self.join(request, join);
            }
            What::Presence { .. } => {
                let name = request.room.clone();
                if let Some(state) = self.rooms.get_mut(&request.room).and_then(|room| room.present(name)) {
                    answer(request, &state);
                } else {
                    let trace = request.pending.trace();
                    self.calls.push(Box::pin(Parent::around(trace, calls::present(context, request))));
                }
            }
            What::Leave => {
                if let Some(room) = self.rooms.get_mut(&request.room) {
                    room.leave(&request.peer, request.pending);
                    self.look_after(&request.room);
                } else {
                    request.peer.leaves(&request.room);
                    refuse(request, ErrorCode::NotJoined);
                }
            }
            What::Publish { data } => {
                let data = std::mem::take(data);
                let now = Instant::now();
                match self.joined(&request) {
                    Some(room) if room.has_too_many_until > now => {
                        let wait = room.has_too_many_until - now;
                        refuse(request, ErrorCode::over_budget(wait));
                    }
                    Some(room) => {
                        room.typists.publishes(request.user.id);
                        self.look_after(&request.room);
                        let trace = request.pending.trace();
                        self.calls.push(Box::pin(Parent::around(trace, calls::publish(context, request, data))));
                    }
                    None => refuse(request, ErrorCode::NotJoined),
                }
            }
            What::Typing { typing } => {
                let typing = *typing;
                let expiry = context.policy.typing_expiry;
                let Some(room) = self.joined(&request) else { return refuse(request, ErrorCode::NotJoined) };
                room.cause = request.pending.trace();
                if !typing {
                    room.typists.stop(request.user.id);
                } else if room.tells_typing() {
                    room.typists.start(request.peer.id, &request.user, expiry, Instant::now());
                }
                self.look_after(&request.room);
                request.pending.ends("ok");
            }
        }
    }

    fn joined(&mut self, request: &Request) -> Option<&mut Room> {
        self.rooms.get_mut(&request.room).filter(|room| room.has(request.peer.id))
    }

    fn join(&mut self, request: Request, join: Join) {
        let Request { room: name, peer, user, pending, .. } = request;
        let rooms = self.rooms.len();
        let Context { redis, policy, .. } = &*self.context;
        let new = || Room::new(name.clone(), *policy, redis.time().clone());
        let room = self.rooms.entry(name.clone()).or_insert_with(new);
        let give_up_at = pending.since() + redis.call_timeout();
        room.join(&peer, user, pending, join, give_up_at);
        if self.rooms.len() > rooms {
            gauge!("gatefold_ws_rooms").increment(1);
        }
        self.look_after(&name);
    }

    /// Does for a room what there is to be done.
    fn look_after(&mut self, name: &RoomName) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let (context, cause) = (&self.context, room.cause.take());
        if let Some(update) = room.next_update(Instant::now()) {
            let update = calls::update(Arc::clone(context), name.clone(), update);
            self.calls.push(Box::pin(Parent::around(cause, update)));
        }
        for it in room.next_lookups() {
            let trace = it.trace;
            let call = calls::look_up(Arc::clone(context), name.clone(), it);
            self.calls.push(Box::pin(Parent::around(trace, call)));
        }
        for (user_id, bytes) in room.charges.drain(..) {
            context.charges.budgets.charge(context.charges.bytes, user_id, bytes);
        }
        if let Some(changes) = room.typists.next() {
            let telling = calls::tell_typing(Arc::clone(context), name.clone(), changes);
            self.calls.push(Box::pin(Parent::around(cause, telling)));
        }
        if let Some(due) = room.next_due()
            && room.scheduled.is_none_or(|scheduled| due < scheduled)
        {
            room.scheduled = Some(due);
            self.agenda.push(Reverse((due, name.clone())));
        }
        if room.is_over() {
            self.rooms.remove(name);
            gauge!("gatefold_ws_rooms").decrement(1);
        }
    }

    async fn on_time(&mut self) {
        let now = Instant::now();
        while self.agenda.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, name))) = self.agenda.pop() else { return };
            if let Some(room) = self.rooms.get_mut(&name).filter(|room| room.scheduled == Some(at)) {
                room.scheduled = None;
                room.on_time(now).await;
                self.look_after(&name);
            }
        }
    }

    async fn finish(&mut self, outcome: Outcome) {
        let now = Instant::now();
        match outcome {
            Outcome::Updated { room: name, update, result } => {
                let Some(room) = self.rooms.get_mut(&name) else { return };
                match result {
                    Ok(updated) => {
                        let was_read = updated.0.state.is_some();
                        if let Some(state) = &updated.0.state {
                            self.context.replicas.heard_of(&state.replicas);
                        }
                        room.on_updated(update, updated, now).await;
                        if was_read {
                            self.check_grants(&name);
                        }
                    }
                    Err(error) => {
                        if room.on_update_failed(&update, now) {
                            warn!(%error, room = %name, "redis could not be told who is in a room; trying again");
                        }
                    }
                }
                self.look_after(&name);
            }
            Outcome::LookedUp { room: name, asked, result, turn } => {
                let Some(room) = self.rooms.get_mut(&name) else { return };
                let found = result.inspect_err(|error| warn!(%error, room = %name, "could not look somebody up")).ok();
                if let Some(to_read) = room.looked_up(asked, found) {
                    let reading = calls::read(Arc::clone(&self.context), name.clone(), to_read, turn);
                    self.calls.push(Box::pin(reading));
                }
                self.look_after(&name);
            }
            Outcome::Read { room: name, number, result } => {
                let page = result.inspect_err(|error| warn!(%error, room = %name, "a history could not be read")).ok();
                self.change(&name, |room| room.on_read(number, page.as_ref()));
            }
            Outcome::Typed { room: name, changes, result } => {
                let was_told =
                    result.inspect_err(|error| warn!(%error, room = %name, "redis could not be told who types"));
                self.change(&name, |room| room.typists.told(&changes, was_told.is_ok()));
            }
            Outcome::Published { request, result } => match result {
                Ok(Publication::Published(id)) => {
                    if let Some(room) = self.rooms.get_mut(&request.room) {
                        room.on_published(&id);
                    }
                    let published = ServerMessage::Published { room: request.room.clone(), id };
                    answer(request, &published);
                }
                Ok(Publication::TooMany(wait)) => {
                    if let Some(room) = self.rooms.get_mut(&request.room) {
                        room.has_too_many_until = now + wait;
                    }
                    counter!("gatefold_room_budget_refusals_total", "budget" => "room").increment(1);
                    refuse(request, ErrorCode::over_budget(wait));
                }
                Err(error) => unavailable(request, &error),
            },
            Outcome::Present { request, result } => match result {
                Ok(present) => {
                    let (room, users) = (request.room.clone(), calls::listed(&present));
                    answer(request, &ServerMessage::PresenceState { room, count: present.count, users });
                }
                Err(error) => unavailable(request, &error),
            },
            Outcome::MayEnter { request, result } => self.entrance(request, result),
            Outcome::MayStay { room: name, user_id, result } => match result {
                Ok(true) => {}
                Ok(false) => self.change(&name, |room| room.expel(user_id)),
                Err(error) => {
                    warn!(%error, room = %name, "could not ask who may stay; the room is read again, and everybody looked up");
                    self.change(&name, |room| room.reads_again(now));
                }
            },
        }
    }

    fn entrance(&mut self, request: Request, may_enter: Result<bool, RedisError>) {
        let error = match may_enter {
            Ok(true) => return self.serve_allowed(request),
            Ok(false) => ErrorCode::ForbiddenRoom,
            Err(error) => {
                warn!(%error, room = %request.room, "could not ask who may enter a room");
                ErrorCode::Unavailable
            }
        };
        refuse(request, error);
    }

    /// Events were missed, and one may have been that somebody may not be here any more.
    fn check_grants(&mut self, name: &RoomName) {
        if !name.is_private() {
            return;
        }
        let Some(room) = self.rooms.get(name) else { return };
        for user_id in room.users_here() {
            self.calls.push(Box::pin(calls::may_stay(Arc::clone(&self.context), name.clone(), user_id)));
        }
    }
}
