//! One room: its members here, what Redis was told of them, and how far its events were followed.
//!
//! The room says what should be so, and asks for one [`Update`] at a time until it is. After whatever goes wrong it says
//! everything again, and reads how the room is; its members then hear what they missed.

mod joining;
mod membership;
mod step;

pub(super) use self::membership::{ToLookUp, ToRead};

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use gatefold_shared::{
    redis::{RedisTime, Str, StreamId},
    rooms::{RoomName, User},
    trace::Parent,
};
use metrics::counter;
use tokio::{task::yield_now, time::Instant};
use tokio_tungstenite::tungstenite::Bytes;
use uuid::Uuid;

use self::joining::Waiting;
use super::{
    RoomPolicy,
    calls::Update,
    typing::Typists,
    view::{Announcement, View},
};
use crate::{
    frame::{self, Frames},
    peer::Peer,
    presence::{Changes, StateRequest, lease},
};

/// How soon what has failed is tried again.
const TRIED_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// How long a large room that nobody here is in any more is followed, so that whoever comes back does not have it read again.
const KEPT_WARM: Duration = Duration::from_secs(10);
/// The number of users from which a room is a large one.
const LARGE: usize = 100;
/// Members who are written to before others get their turn.
const TOLD_AT_ONCE: usize = 64;

/// See the module.
pub(super) struct Room {
    pub(super) name: RoomName,
    policy: RoomPolicy,
    redis_time: RedisTime,
    /// Connections that are in the room, or about to be.
    members: HashMap<Uuid, Member>,
    waiting: Waiting,
    /// Users who should be known to be here.
    here: HashMap<i64, Here>,
    /// Users of whom Redis was told, and the room's last event by then.
    told: HashMap<i64, u64>,
    /// Users for whom these two may differ.
    changed: HashSet<i64>,
    /// Redis may have been told something else.
    is_unsure: bool,
    /// Other ids of this replica, and dead replicas, under which Redis may still think that somebody is here.
    former: Vec<Uuid>,
    /// Other replicas through which users were here when the room was read last.
    others: Vec<Uuid>,
    is_subscribed: bool,
    is_updating: bool,
    retry_at: Option<Instant>,
    step: Step,
    /// Changes when events may have been missed.
    epoch: u64,
    /// The last message that the members were told.
    last_message: Option<StreamId>,
    /// The last message that was published through this replica.
    last_published: Option<StreamId>,
    /// Nobody is here, but the room is followed until then.
    warm_until: Option<Instant>,
    /// Nothing may be published before: there was too much.
    pub(super) has_too_many_until: Instant,
    /// What the users' budgets have to be charged for, in bytes.
    pub(super) charges: Vec<(i64, usize)>,
    /// The last event that is known, and when it became so.
    last_event: (u64, Instant),
    /// Messages up to this event were told from the history.
    caught_up_to: u64,
    view: View,
    pub(super) typists: Typists,
    agenda: BinaryHeap<Reverse<(Instant, Due)>>,
    /// When the shard will next look whether somebody still types.
    typing_due: HashMap<i64, Instant>,
    /// Updates that failed in a row.
    failures: u32,
    /// The trace of what asked last for something that Redis may have to hear.
    pub(super) cause: Option<Parent>,
    /// When the shard will look after this room.
    pub(super) scheduled: Option<Instant>,
}

struct Member {
    peer: Arc<Peer>,
    user_id: i64,
    /// Its user is here, which may take a grant.
    is_counted: bool,
    /// It has heard `joined`.
    is_admitted: bool,
}

struct Here {
    username: Arc<str>,
    connections: usize,
    /// Without connections, when others hear that the user left.
    leaves_at: Option<Instant>,
}

impl Here {
    fn user(&self, id: i64) -> User {
        User { id, username: Arc::clone(&self.username) }
    }
}

/// Whether the room's events are followed.
enum Step {
    /// They are not, or some were missed; these came since.
    Out { backlog: Vec<Str> },
    /// This was the last one.
    In { seq: u64 },
}

/// What is due at a certain time, if it still is then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Retry,
    Leave(i64),
    Doubt(i64),
    Typing(i64),
    GiveUp(u64),
    Cool,
}

impl Room {
    pub(super) fn new(name: RoomName, policy: RoomPolicy, redis_time: RedisTime) -> Self {
        Self {
            view: View::new(name.clone()),
            name,
            policy,
            redis_time,
            members: HashMap::new(),
            waiting: Waiting::default(),
            here: HashMap::new(),
            told: HashMap::new(),
            changed: HashSet::new(),
            // This replica may have been here before, and what it said last may have been lost.
            is_unsure: true,
            former: Vec::new(),
            others: Vec::new(),
            is_subscribed: false,
            is_updating: false,
            retry_at: None,
            step: Step::Out { backlog: Vec::new() },
            epoch: 0,
            last_message: None,
            last_published: None,
            warm_until: None,
            has_too_many_until: Instant::now(),
            charges: Vec::new(),
            last_event: (0, Instant::now()),
            caught_up_to: 0,
            typists: Typists::default(),
            agenda: BinaryHeap::new(),
            typing_due: HashMap::new(),
            failures: 0,
            cause: None,
            scheduled: None,
        }
    }

    /// Whether nothing of this room is left here.
    pub(super) fn is_over(&self) -> bool {
        let is_quiet = !self.is_updating && !self.is_unsure && self.former.is_empty() && self.typists.is_idle();
        is_quiet && !self.is_subscribed && self.members.is_empty() && self.here.is_empty() && self.told.is_empty()
    }

    /// What has to be said to Redis next, if anything has and nothing is being said.
    pub(super) fn next_update(&mut self, now: Instant) -> Option<Update> {
        if self.is_updating || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        if self.is_unsure {
            self.drop_revoked();
        }
        let is_empty = self.here.is_empty() && self.members.is_empty();
        let is_followed = !is_empty || self.is_warm(now);
        let subscribe = !is_empty && !self.is_subscribed;
        let exact = self.is_unsure;
        let unsubscribe = !is_followed && (self.is_subscribed || exact);
        let tell_state = !is_empty && (subscribe || matches!(self.step, Step::Out { .. }));
        let changes = if exact { self.everything() } else { self.news() };
        let former = std::mem::take(&mut self.former);
        if changes.is_empty() && former.is_empty() && !subscribe && !unsubscribe && !tell_state {
            return None;
        }
        (self.is_updating, self.is_unsure, self.is_subscribed, self.retry_at) = (true, false, is_followed, None);
        let state = tell_state.then(|| StateRequest { known_message: self.last_message.max(self.last_published) });
        if unsubscribe {
            self.step = Step::Out { backlog: Vec::new() };
            self.view = View::new(self.name.clone());
            (self.last_message, self.last_published) = (None, None);
            self.others = Vec::new();
        }
        let since = self.last_message.filter(|_| tell_state);
        Some(Update { subscribe, unsubscribe, changes, state, former, since, epoch: self.epoch })
    }

    /// Whether the room is followed although nobody is here: it is large, somebody has just left, and nothing was missed.
    fn is_warm(&mut self, now: Instant) -> bool {
        let is_in_step = matches!(self.step, Step::In { .. }) && self.is_subscribed && !self.is_unsure;
        if !self.here.is_empty() || !self.members.is_empty() || !is_in_step || self.view.count() < LARGE {
            self.warm_until = None;
            return false;
        }
        if let Some(until) = self.warm_until {
            return now < until;
        }
        self.warm_until = Some(now + KEPT_WARM);
        self.schedule(now + KEPT_WARM, Due::Cool);
        true
    }

    fn everything(&mut self) -> Changes {
        self.changed.clear();
        let arrivals = self.here.iter().map(|(&id, here)| here.user(id)).collect();
        Changes { exact: true, arrivals, departures: Vec::new() }
    }

    fn news(&mut self) -> Changes {
        let mut changes = Changes::default();
        for id in self.changed.drain() {
            match (self.here.get(&id), self.told.contains_key(&id)) {
                (Some(here), false) => changes.arrivals.push(here.user(id)),
                (None, true) => {
                    // Whoever comes back meanwhile has not been seen to come yet.
                    self.told.remove(&id);
                    changes.departures.push(id);
                }
                _ => {}
            }
        }
        changes
    }

    /// A user is not here any more.
    fn remove_user(&mut self, user_id: i64) {
        if self.here.remove(&user_id).is_some() {
            self.changed.insert(user_id);
        }
    }

    /// Events may have been missed.
    pub(super) fn on_missed(&mut self) {
        self.epoch += 1;
        self.step = Step::Out { backlog: Vec::new() };
        self.waiting.ask_again();
    }

    /// Nothing is subscribed to any more. Perhaps Redis has also lost what it was told.
    pub(super) fn on_unsubscribed(&mut self) {
        self.on_missed();
        self.is_unsure = true;
        self.is_subscribed = false;
    }

    /// The replica has a new id instead of `former`, under which Redis was told nothing. Whoever has no connection any more is
    /// not said to be here again.
    pub(super) fn on_reborn(&mut self, former: Uuid) {
        self.on_unsubscribed();
        self.former.push(former);
        self.told.clear();
        self.here.retain(|_, here| here.connections > 0);
    }

    /// A replica is gone for good. Whoever evicted it may not have known of this room.
    pub(super) fn on_vanished(&mut self, replica: Uuid) {
        let others = self.others.len();
        self.others.retain(|other| *other != replica);
        if self.others.len() < others {
            self.former.push(replica);
        }
    }

    /// A message was published through this replica.
    pub(super) fn on_published(&mut self, id: &str) {
        self.last_published = self.last_published.max(id.parse().ok());
    }

    fn schedule(&mut self, at: Instant, due: Due) {
        self.agenda.push(Reverse((at, due)));
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.agenda.peek().map(|Reverse((at, _))| *at)
    }

    /// Does what is due.
    pub(super) async fn on_time(&mut self, now: Instant) {
        while self.next_due().is_some_and(|at| at <= now) {
            let Some(Reverse((at, due))) = self.agenda.pop() else { return };
            let announcements = match due {
                Due::Retry | Due::Cool => Vec::new(),
                Due::Leave(user_id) => {
                    self.leave_if_due(user_id, now);
                    Vec::new()
                }
                Due::Doubt(user_id) => self.view.end_doubt(user_id, self.here.contains_key(&user_id), now),
                Due::Typing(user_id) if self.typing_due.get(&user_id) != Some(&at) => Vec::new(),
                Due::Typing(user_id) => {
                    self.typing_due.remove(&user_id);
                    let announcements = self.view.end_typing(user_id, self.redis_millis(now));
                    if announcements.is_empty() {
                        self.schedule_typing(user_id, now);
                    }
                    announcements
                }
                Due::GiveUp(ticket) => {
                    self.give_up(ticket);
                    Vec::new()
                }
            };
            self.announce(announcements).await;
        }
        if self.agenda.is_empty() {
            self.agenda = BinaryHeap::new();
        }
    }

    fn redis_millis(&self, at: Instant) -> u64 {
        u64::try_from(self.redis_time.at(at)).unwrap_or_default()
    }

    /// Ends a user's typing when its time is over, if it is not renewed until then.
    fn schedule_typing(&mut self, user_id: i64, now: Instant) {
        if let Some(until) = self.view.types_until(user_id) {
            let left = Duration::from_millis(until.saturating_sub(self.redis_millis(now)));
            let at = now + left.min(self.policy.typing_expiry);
            self.typing_due.insert(user_id, at);
            self.schedule(at, Due::Typing(user_id));
        }
    }

    /// How long users whom Redis has forgotten still count: their replica has to notice, and they may have to come back.
    fn doubt(&self) -> Duration {
        self.policy.presence_grace + lease::RENEWED_EVERY + lease::READS_REVOCATIONS
    }

    /// Tells the members; what all of them hear, in one go.
    async fn announce(&self, announcements: Vec<Announcement>) {
        let mut together = Frames::default();
        for Announcement { message, except } in announcements {
            if except.is_none() {
                together.push(&message.to_json(None));
            } else {
                self.tell_members(std::mem::take(&mut together).into(), |_| true).await;
                let alone = frame::text(&message.to_json(None));
                self.tell_members(alone, |member| Some(member.user_id) != except).await;
            }
        }
        self.tell_members(together.into(), |_| true).await;
    }

    /// Tells those for whom `hears` holds, and returns how many there were to tell.
    async fn tell_members(&self, frames: Bytes, hears: impl Fn(&Member) -> bool) -> usize {
        if frames.is_empty() {
            return 0;
        }
        let mut told = 0;
        for member in self.members.values().filter(|member| member.is_admitted && hears(member)) {
            member.peer.deliver(&frames);
            told += 1;
            if told % TOLD_AT_ONCE == 0 {
                yield_now().await;
            }
        }
        counter!("gatefold_ws_deliveries_total").increment(told as u64);
        told
    }
}

#[cfg(test)]
mod tests;
