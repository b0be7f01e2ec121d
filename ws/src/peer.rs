//! The far end of a connection, as the rest of the replica knows it: it can be sent to, and told to end, by anybody, and
//! nobody ever waits for it.
//!
//! What is sent goes straight to the network if nothing is in its way: a message to a thousand members is a thousand writes,
//! without waking a thousand tasks. What the network does not take waits in a bounded queue for the connection's own task,
//! which is woken for it. A peer that does not read therefore delays nobody.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use gatefold_shared::rooms::RoomName;
use metrics::gauge;
use tokio::{io::AsyncWrite, time::Instant};
use tokio_tungstenite::tungstenite::Bytes;
use uuid::Uuid;

use crate::close::{CloseReason, Ending};

/// What may wait to be sent, in bytes, before the peer counts as too slow.
const MAX_UNSENT: usize = 1024 * 1024;
/// How many frames, or batches of them, may wait to be sent before the peer counts as too slow.
const MAX_UNSENT_FRAMES: usize = 1024;
/// For how long the network may take nothing of what waits before the peer counts as too slow.
const STALLED_FOR: Duration = Duration::from_secs(10);

/// Bytes of an answer that cost as much as one message of the client.
const BYTES_OF_A_MESSAGE: usize = 16 * 1024;

/// See the module.
pub(crate) struct Peer {
    /// The connection.
    pub(crate) id: Uuid,
    state: Mutex<State>,
    rooms: Mutex<Vec<RoomName>>,
    /// Messages that its answers have cost beside the ones that asked, and that its budget was not charged for yet.
    debt: AtomicU32,
}

struct State {
    network: Pin<Box<dyn AsyncWrite + Send>>,
    unsent: Queue,
    stalled_since: Option<Instant>,
    /// What rooms have for the peer, while it may not have it.
    held: Option<Queue>,
    ending: Option<Ending>,
    /// The connection's task, as it last waited.
    task: Option<Waker>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// The peer has joined as many rooms as it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyRooms;

impl Peer {
    /// Rooms that one connection may have joined.
    const MAX_ROOMS: usize = 100;

    pub(crate) fn new(network: impl AsyncWrite + Send + 'static) -> Self {
        let state = State {
            network: Box::pin(network),
            unsent: Queue::default(),
            stalled_since: None,
            held: None,
            ending: None,
            task: None,
        };
        Self { id: Uuid::new_v4(), state: Mutex::new(state), rooms: Mutex::default(), debt: AtomicU32::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends frames, soon.
    pub(crate) fn send(&self, frames: &Bytes) {
        let mut state = self.state();
        if state.ending.is_none() {
            state.send(frames);
        }
    }

    /// Sends frames that are about a room: not before the peer may have them.
    pub(crate) fn deliver(&self, frames: &Bytes) {
        let mut state = self.state();
        if state.ending.is_some() {
            return;
        }
        match &mut state.held {
            None => state.send(frames),
            Some(held) => {
                if held.push(frames.clone()).is_err() {
                    state.end(CloseReason::SlowConsumer.into());
                }
            }
        }
    }

    /// From now on, nothing about rooms is sent; it is kept.
    pub(crate) fn hold(&self) {
        self.state().held.get_or_insert_default();
    }

    /// What was kept is sent, and what comes from now on.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        for frames in state.held.take().into_iter().flat_map(|mut held| held.take()) {
            state.send(&frames);
        }
    }

    /// Ends the connection; the first reason stays.
    pub(crate) fn end(&self, ending: impl Into<Ending>) {
        self.state().end(ending.into());
    }

    /// Whether the connection is to end.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().ending.is_some()
    }

    /// Whether the connection is to end because its session was revoked.
    pub(crate) fn was_revoked(&self) -> bool {
        matches!(self.state().ending, Some(Ending::ByUs(CloseReason::Revoked(_))))
    }

    /// Charges the message budget for an answer of so many bytes: the larger ones cost more than the message that asked.
    pub(crate) fn charge(&self, bytes: usize) {
        self.debt.fetch_add(u32::try_from(bytes / BYTES_OF_A_MESSAGE).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// What the message budget was not charged for yet.
    pub(crate) fn take_debt(&self) -> u32 {
        self.debt.swap(0, Ordering::Relaxed)
    }

    /// For the connection's task: how it is to end, if it is. Meanwhile what waits is sent.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Ending> {
        let mut state = self.state();
        if !state.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            state.task = Some(context.waker().clone());
        }
        if state.ending.is_none()
            && let Poll::Ready(Err(_)) = state.flush(context)
        {
            state.ending = Some(Ending::Lost);
        }
        state.ending.map_or(Poll::Pending, Poll::Ready)
    }

    /// When the peer will count as too slow, if the network takes nothing until then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.state().stalled_since.map(|since| since + STALLED_FOR)
    }

    /// For the end: nothing but the frame that is under way, if one is, comes before what is now sent last.
    pub(crate) fn forget_unsent(&self) {
        self.state().unsent.keep_first();
    }

    /// Sends the last frames of a connection that ends.
    pub(crate) fn send_last(&self, frames: &Bytes) {
        self.state().send(frames);
    }

    /// Sends what waits, also for a connection that ends.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().flush(context)
    }

    /// Sends what waits, and then tells the network that this was all.
    pub(crate) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        ready!(state.flush(context))?;
        state.network.as_mut().poll_shutdown(context)
    }

    /// Lets go of the network, whoever still knows this peer.
    pub(crate) fn hang_up(&self) {
        let mut state = self.state();
        state.ending.get_or_insert(Ending::Lost);
        state.network = Box::pin(tokio::io::sink());
        (state.unsent, state.held) = (Queue::default(), None);
    }

    fn rooms(&self) -> MutexGuard<'_, Vec<RoomName>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the connection joins a room; whether that is new.
    pub(crate) fn joins(&self, room: &RoomName) -> Result<bool, TooManyRooms> {
        let mut rooms = self.rooms();
        if let Some(joined) = rooms.iter_mut().find(|joined| *joined == room) {
            // One copy of the name does for all who are there.
            *joined = room.clone();
            return Ok(false);
        }
        if rooms.len() >= Self::MAX_ROOMS {
            return Err(TooManyRooms);
        }
        rooms.reserve_exact(1);
        rooms.push(room.clone());
        Ok(true)
    }

    /// Notes that the connection is not in a room any more; whether it was.
    pub(crate) fn leaves(&self, room: &RoomName) -> bool {
        let mut rooms = self.rooms();
        let found = rooms.iter().position(|joined| joined == room);
        found.map(|at| rooms.swap_remove(at)).is_some()
    }

    /// Whether the connection has joined a room, or is about to.
    pub(crate) fn is_in(&self, room: &RoomName) -> bool {
        self.rooms().contains(room)
    }

    /// The rooms of a connection that has ended.
    pub(crate) fn leave_all(&self) -> Vec<RoomName> {
        std::mem::take(&mut self.rooms())
    }
}

impl State {
    fn send(&mut self, frames: &Bytes) {
        let mut unsent = frames.clone();
        if self.unsent.frames.is_empty() {
            // Nobody is woken by this attempt: if the network is busy, the connection's task will ask it again.
            match self.network.as_mut().poll_write(&mut Context::from_waker(Waker::noop()), frames) {
                Poll::Ready(Ok(written)) if written == frames.len() => return,
                Poll::Ready(Ok(written)) => drop(unsent.split_to(written)),
                Poll::Ready(Err(_)) => return self.end(Ending::Lost),
                Poll::Pending => {}
            }
            self.wake();
        }
        if self.unsent.push(unsent).is_err() {
            self.end(CloseReason::SlowConsumer.into());
        }
    }

    fn flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(frames) = self.unsent.frames.front() {
            match self.network.as_mut().poll_write(context, frames) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.unsent.written(written);
                    self.stalled_since = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }
}

/// There is no room for more.
struct Full;

impl Queue {
    /// What is too large by itself, as a long history may be, is taken if nothing else waits.
    fn push(&mut self, frames: Bytes) -> Result<(), Full> {
        let is_too_much = self.bytes + frames.len() > MAX_UNSENT && !self.frames.is_empty();
        if self.frames.len() >= MAX_UNSENT_FRAMES || is_too_much {
            return Err(Full);
        }
        self.waits(frames.len());
        self.frames.push_back(frames);
        Ok(())
    }

    fn written(&mut self, bytes: usize) {
        self.waits_no_more(bytes);
        if let Some(first) = self.frames.front_mut() {
            drop(first.split_to(bytes));
            if first.is_empty() {
                self.frames.pop_front();
                if self.frames.is_empty() {
                    // An idle connection keeps no memory for this.
                    self.frames = VecDeque::new();
                }
            }
        }
    }

    fn keep_first(&mut self) {
        self.frames.truncate(1);
        self.waits_no_more(self.bytes - self.frames.front().map_or(0, Bytes::len));
    }

    fn take(&mut self) -> VecDeque<Bytes> {
        self.waits_no_more(self.bytes);
        std::mem::take(&mut self.frames)
    }

    fn waits(&mut self, bytes: usize) {
        self.bytes += bytes;
        gauge!("gatefold_ws_unsent_bytes").increment(as_number(bytes));
    }

    fn waits_no_more(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if bytes > 0 {
            gauge!("gatefold_ws_unsent_bytes").decrement(as_number(bytes));
        }
    }
}

/// What waits with a peer that is gone waits no more.
impl Drop for Queue {
    fn drop(&mut self) {
        self.waits_no_more(self.bytes);
    }
}

fn as_number(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
