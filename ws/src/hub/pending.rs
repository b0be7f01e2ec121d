//! A message of a client that a room will answer: what the client calls it, how long it has waited, and its part of a trace.

use gatefold_shared::trace::{Parent, Span};
use metrics::histogram;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    frame,
    peer::Peer,
    protocol::{MessageId, ServerMessage},
};

/// See the module.
pub(crate) struct Pending {
    kind: &'static str,
    id: Option<MessageId>,
    since: Instant,
    span: Span,
}

impl Pending {
    /// A message of this kind has just come.
    pub(crate) fn new(kind: &'static str, id: Option<MessageId>, connection: Uuid) -> Self {
        Self { kind, id, since: Instant::now(), span: Span::message(kind, connection) }
    }

    /// When it came.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// What is done for its sake is a part of its trace.
    pub(super) fn trace(&self) -> Option<Parent> {
        self.span.as_parent()
    }

    /// Answers it, and returns how many bytes that took.
    pub(super) fn answer(self, peer: &Peer, message: &ServerMessage) -> usize {
        let json = message.to_json(self.id.as_ref());
        peer.charge(json.len());
        peer.deliver(&frame::text(&json));
        self.ends(message.result());
        json.len()
    }

    /// It has been served, as far as whoever asked will hear.
    pub(crate) fn ends(mut self, result: &'static str) {
        self.span.note("result", result);
        if result == "unavailable" {
            self.span.fail();
        }
        histogram!("gatefold_ws_request_duration_seconds", "type" => self.kind, "result" => result)
            .record(self.since.elapsed());
    }
}
