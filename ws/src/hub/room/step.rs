//! Keeping in step with Redis: one event after the other, and the whole room when some were missed.

use std::{cmp::Reverse, time::Duration};

use gatefold_shared::{
    redis::{Str, StreamId},
    trace::Span,
};
use metrics::counter;
use tokio::time::Instant;
use tracing::warn;

use super::{Due, Room, Step, TRIED_AGAIN_AFTER};
use crate::{
    frame,
    hub::{
        calls::Update,
        event::Event,
        history::{History, Published},
    },
    presence::Updated,
    protocol::{self, ErrorCode},
};

/// Events that may come while the room is read.
const MAX_BACKLOG: usize = 1024;
/// Redis forgets a room in which nothing happened for so long (`CLOCK_KEPT_FOR` in the scripts): nothing was missed then.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);

impl Room {
    /// Something happened in the room.
    pub(in crate::hub) async fn hear(&mut self, text: Str, now: Instant) {
        let Some(event) = Event::parse(&text) else {
            return warn!(room = %self.name, "an event that is none: the replicas are of different versions");
        };
        match &mut self.step {
            Step::Out { backlog } if backlog.len() < MAX_BACKLOG => backlog.push(text),
            Step::Out { .. } => self.on_missed(),
            // It was known before it came.
            Step::In { seq } if event.seq <= *seq => {}
            Step::In { seq } if event.seq == *seq + 1 => {
                *seq = event.seq;
                self.note_seq(event.seq, now);
                self.apply(&event, now).await;
                self.admit();
            }
            Step::In { .. } => {
                self.on_missed();
                self.step = Step::Out { backlog: vec![text] };
            }
        }
    }

    async fn apply(&mut self, event: &Event<'_>, now: Instant) {
        let (told, here) = (&self.told, &self.here);
        let doubted_until = now + self.doubt();
        // Redis has forgotten a user who is here if it was told of them before. Otherwise they left somewhere else before their
        // arrival here, which is told later: the members of all replicas hear of both.
        let was_told = |user_id| told.get(&user_id).is_some_and(|told_at| *told_at < event.seq);
        let is_forgotten = |user_id| here.contains_key(&user_id) && was_told(user_id);
        let announcements = self.view.apply(event, is_forgotten, doubted_until);
        self.announce(announcements).await;
        for user in event.leave.iter().filter(|user| self.view.has(user.id)) {
            self.agenda.push(Reverse((doubted_until, Due::Doubt(user.id))));
        }
        for typist in &event.typing {
            self.schedule_typing(typist.user.id, now);
        }
        for &user_id in &event.stopped {
            self.typists.on_stopped(user_id);
        }
        if event.seq > self.caught_up_to
            && let (Some(id), Some(payload)) = (event.id.and_then(|id| id.parse().ok()), event.message)
        {
            let mut span = Span::delivery(event.trace, event.id.unwrap_or_default());
            let members = self.tell_message(event.seq, &Published { id, payload: payload.to_owned() }).await;
            span.count("members", members);
        }
        if let Some(user_id) = event.expel {
            self.expel(user_id);
        }
    }

    async fn tell_message(&mut self, seq: u64, message: &Published) -> usize {
        self.last_message = Some(message.id);
        counter!("gatefold_ws_room_messages_total").increment(1);
        self.waiting.note(seq, || message.clone());
        self.tell_members(frame::text(&protocol::message(&message.payload)), |_| true).await
    }

    /// Redis was told.
    pub(in crate::hub) async fn on_updated(
        &mut self,
        update: Update,
        (updated, missed): (Updated, Option<History>),
        now: Instant,
    ) {
        (self.is_updating, self.failures) = (false, 0);
        let changes = update.changes;
        if update.epoch == self.epoch || !self.is_unsure {
            if changes.exact {
                self.told.clear();
            }
            self.told.extend(changes.arrivals.iter().map(|user| (user.id, updated.seq)));
        }
        if let Some(state) = updated.state
            && update.epoch == self.epoch
        {
            let doubted_until = now + self.doubt();
            let here = &self.here;
            self.others.clone_from(&state.replicas);
            let announcements = self.view.reconcile(&state, |user_id| here.contains_key(&user_id), doubted_until);
            self.announce(announcements).await;
            let doubted: Vec<_> = self.view.doubted().collect();
            for user_id in doubted {
                self.schedule(doubted_until, Due::Doubt(user_id));
            }
            for (user_id, _) in &state.typing {
                self.schedule_typing(*user_id, now);
            }
            let told_last = match missed {
                Some(history) => self.catch_up(history, now).await,
                None => None,
            };
            // The history was read after the room, and may have known more. What was told before may be known no more.
            self.last_message = told_last.max(state.last_message);
            self.note_seq(updated.seq, now);
            self.go_on_from(updated.seq, now).await;
        }
        self.admit();
    }

    /// Tells what was missed, and returns the last message of it.
    async fn catch_up(&mut self, history: History, now: Instant) -> Option<StreamId> {
        if self.may_lack(&history, now) {
            warn!(room = %self.name, "messages may have been missed that are not in the history any more");
            self.waiting.on_gap();
            self.tell_gap().await;
        }
        for message in &history.messages {
            self.tell_message(history.seq, message).await;
        }
        self.caught_up_to = history.seq;
        history.messages.last().map(|message| message.id)
    }

    /// Tells the members that messages are missing here, as it is told to whoever comes back too late.
    async fn tell_gap(&mut self) {
        let typists: Vec<i64> = self.view.typing(None).iter().map(|user| user.id).collect();
        let joined = self.joined(None, Vec::new(), false);
        self.tell_members(frame::text(&joined.to_json(None)), |member| !typists.contains(&member.user_id)).await;
        // Nobody is told of their own typing.
        for typist in typists.into_iter().filter(|typist| self.here.contains_key(typist)).collect::<Vec<_>>() {
            let joined = self.joined(Some(typist), Vec::new(), false);
            self.tell_members(frame::text(&joined.to_json(None)), |member| member.user_id == typist).await;
        }
    }

    /// Whether there may have been messages that are neither known here nor in the history.
    pub(super) fn may_lack(&self, history: &History, now: Instant) -> bool {
        let (_, known_since) = self.last_event;
        !history.recovered && now < known_since + FORGOTTEN_AFTER
    }

    /// Notes the number of the room's last event.
    fn note_seq(&mut self, seq: u64, now: Instant) {
        if self.last_event.0 != seq {
            self.last_event = (seq, now);
        }
    }

    /// The room is known as it was after an event; what came later is in the backlog.
    async fn go_on_from(&mut self, seq: u64, now: Instant) {
        let Step::Out { backlog } = std::mem::replace(&mut self.step, Step::In { seq }) else { return };
        for text in backlog {
            Box::pin(self.hear(text, now)).await;
        }
    }

    /// Redis could not be told, or it is not known whether it was. Returns whether that is new.
    pub(in crate::hub) fn on_update_failed(&mut self, update: &Update, now: Instant) -> bool {
        self.is_updating = false;
        self.is_subscribed = false;
        self.is_unsure = true;
        self.former.extend(&update.former);
        self.reads_again(now);
        self.turn_away(|_| true, ErrorCode::Unavailable);
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    /// The room has to be read, but not at once.
    pub(in crate::hub) fn reads_again(&mut self, now: Instant) {
        self.on_missed();
        let retry_at = now + TRIED_AGAIN_AFTER;
        self.retry_at = Some(retry_at);
        self.schedule(retry_at, Due::Retry);
    }
}
