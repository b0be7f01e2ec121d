//! Subscriptions to sharded channels: each at the primary that has the channel's slot.
//!
//! Whoever subscribes hears when subscriptions are lost, and when they can be made (again); nothing is subscribed to anew
//! by itself, since what was published meanwhile has to be read then, too. When a slot moves to another primary its former
//! one ends the subscriptions in it, on connections that live. So a slot is also reported when its primary is another one
//! than before, or the same in a later epoch: then it was away in between.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fred::{
    bytes_utils::Str,
    types::{Message as FredMessage, Value},
};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc,
    },
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    RedisError,
    address::Address,
    away::LastAway,
    connection::Connection,
    line::{Failure, Keeper, Line},
    map::{Map, Nodes, in_time},
    slots::{Slots, slot_of},
};
use crate::lifecycle::Lifecycle;

/// How soon a subscription is tried again that could not be made because another server takes over.
const TAKING_OVER: Duration = Duration::from_millis(20);

/// What a subscriber hears.
#[derive(Debug)]
pub enum Heard {
    /// Something that was published.
    Message {
        /// Where.
        channel: Str,
        /// What.
        text: Str,
    },
    /// The subscriptions to channels in these slots are gone.
    Lost(Slots),
    /// Channels in these slots can be subscribed to, and none is.
    Open(Slots),
    /// More was published in these slots than could be heard; the subscriptions are still there.
    Missed(Slots),
}

/// To each primary one, which ends when it is taken out.
type Lines = HashMap<Address, (Arc<Line>, DropGuard)>;

/// A handle for subscribing; clones are the same.
#[derive(Clone)]
pub struct Subscriber {
    nodes: Nodes,
    lines: Arc<Mutex<Lines>>,
}

/// What is needed to add lines.
struct Follower {
    subscriber: Subscriber,
    heard: mpsc::Sender<Heard>,
    backlog: usize,
    life: Lifecycle,
}

impl Subscriber {
    /// Begins to connect. So much may wait to be heard.
    pub(super) fn begin(nodes: &Nodes, backlog: usize, life: &Lifecycle) -> (Self, mpsc::Receiver<Heard>) {
        let (heard, receiver) = mpsc::channel(backlog);
        let subscriber = Self { nodes: nodes.clone(), lines: Arc::default() };
        let follower = Follower { subscriber: subscriber.clone(), heard, backlog, life: life.clone() };
        life.spawn(follower.run());
        (subscriber, receiver)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line_of(&self, channel: &str) -> Option<Arc<Line>> {
        let map = self.nodes.now();
        let address = map.view.primary_of(slot_of(channel))?;
        self.lines().get(address).map(|(line, _)| Arc::clone(line))
    }

    /// Subscribes to a channel, which must be called again whenever its slot is [open](Heard::Open).
    pub async fn subscribe(&self, channel: String, until: Instant) -> Result<(), RedisError> {
        loop {
            let call = match self.line_of(&channel) {
                Some(line) => line.call("SSUBSCRIBE", vec![channel.as_str().into()], false, until).await,
                None => Err(Failure::Gone),
            };
            match call {
                Ok((connection, reply)) => {
                    return is_of(&reply, &channel).then_some(()).ok_or_else(|| {
                        // An answer to something else: nothing on this connection is what it seems.
                        connection.close();
                        connection.lost()
                    });
                }
                // Another server has taken over, and the connection to it is just begun.
                Err(Failure::Gone) => in_time(until, sleep(TAKING_OVER)).await?,
                Err(Failure::Redis(error)) => {
                    // Perhaps the slot has moved.
                    self.nodes.topology.urge();
                    return Err(error);
                }
            }
        }
    }

    /// Ends a subscription, if it is there. One too many tells what nobody listens to.
    pub async fn unsubscribe(&self, channel: &str) {
        let connection = self.line_of(channel).and_then(|line| line.connections().borrow().clone());
        if let Some(connection) = connection {
            connection.unsubscribe(channel).await;
        }
    }

    /// Connects anew to the primary that has a channel's slot, for a connection that only looks alive.
    pub fn renew(&self, channel: &str) {
        if let Some(line) = self.line_of(channel) {
            line.renew();
        }
    }
}

/// Whether an answer says that this channel was subscribed to.
fn is_of(reply: &Value, channel: &str) -> bool {
    match reply {
        Value::Array(parts) => parts.get(1).and_then(Value::as_str).is_some_and(|it| it == channel),
        _ => false,
    }
}

impl Follower {
    async fn run(self) {
        let mut maps = self.subscriber.nodes.changes();
        let mut before: Option<Arc<Map>> = None;
        loop {
            let map = maps.borrow_and_update().clone();
            let moved = before.as_ref().map(|before| map.view.moved_since(&before.view));
            self.keep_lines(&map);
            if let Some(moved) = moved.filter(|moved| !moved.is_empty()) {
                // Where there is no connection yet, they are reported when there is.
                let is_up =
                    |address: &Address| self.subscriber.lines().get(address).is_some_and(|(line, _)| line.is_up());
                let open = map.view.those_of(&moved, is_up);
                self.tell(Heard::Lost(moved)).await;
                if !open.is_empty() {
                    self.tell(Heard::Open(open)).await;
                }
            }
            before = Some(map);
            if maps.changed().await.is_err() {
                return;
            }
        }
    }

    async fn tell(&self, heard: Heard) {
        // Whoever hears it ends with the replica.
        let _ = self.heard.send(heard).await;
    }

    fn keep_lines(&self, map: &Map) {
        let mut lines = self.subscriber.lines();
        lines.retain(|address, _| map.view.has(address));
        for address in map.view.primaries() {
            if !lines.contains_key(address) {
                lines.insert(address.clone(), self.begin(address));
            }
        }
    }

    fn begin(&self, address: &Address) -> (Arc<Line>, DropGuard) {
        let gone = CancellationToken::new();
        let line = Line::new(address.clone(), gone.clone());
        let topology = Arc::clone(&self.subscriber.nodes.topology);
        let connector = topology.connector.with_backlog(self.backlog);
        let keeper = Keeper { line: Arc::clone(&line), topology, connector, away: LastAway::default(), is_first: true };
        let listener =
            Listener { line: Arc::clone(&line), nodes: self.subscriber.nodes.clone(), heard: self.heard.clone() };
        self.life.spawn(keeper.run());
        self.life.spawn(listener.run());
        (line, gone.drop_guard())
    }
}

/// Passes on what comes from one primary.
struct Listener {
    line: Arc<Line>,
    nodes: Nodes,
    heard: mpsc::Sender<Heard>,
}

impl Listener {
    async fn run(self) {
        tokio::select! { () = self.listen() => (), () = self.line.gone() => () }
    }

    async fn listen(&self) {
        let mut connections = self.line.connections();
        loop {
            let connection = connections.borrow_and_update().clone();
            if let Some((connection, messages)) = connection.and_then(|it| it.take_messages().map(|rx| (it, rx))) {
                self.tell(Heard::Open).await;
                self.pass_on(&connection, messages).await;
                self.tell(Heard::Lost).await;
            } else if connections.changed().await.is_err() {
                return;
            }
        }
    }

    /// The slots that this primary has by now.
    async fn tell(&self, what: impl Fn(Slots) -> Heard) {
        let slots = self.nodes.now().view.slots_of(&self.line.address);
        let _ = self.heard.send(what(slots)).await;
    }

    async fn pass_on(&self, connection: &Connection, mut messages: broadcast::Receiver<FredMessage>) {
        loop {
            let message = tokio::select! {
                biased;
                () = connection.closed() => return,
                message = messages.recv() => message,
            };
            match message {
                Ok(message) => {
                    connection.has_read();
                    let Some(text) = message.value.as_bytes_str() else { continue };
                    let _ = self.heard.send(Heard::Message { channel: message.channel, text }).await;
                }
                Err(RecvError::Lagged(_)) => self.tell(Heard::Missed).await,
                Err(RecvError::Closed) => return,
            }
        }
    }
}
