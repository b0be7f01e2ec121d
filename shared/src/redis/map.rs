//! The primaries that there are, as they come and go.

use std::{sync::Arc, time::Duration};

use fred::types::Value;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    RedisError,
    address::Address,
    connection::Connection,
    line::Failure,
    node::{Lane, Node},
    topology::{Topology, View},
};
use crate::lifecycle::Lifecycle;

/// How often a call follows where it is sent on to.
const MOST_DIRECTIONS: usize = 8;
/// How long a call waits that could not be served only because a slot is on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

/// The primaries at one time.
#[derive(Default)]
pub(super) struct Map {
    pub(super) view: Arc<View>,
    pub(super) nodes: Vec<Arc<Node>>,
}

impl Map {
    pub(super) fn node(&self, address: &Address) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.address == *address)
    }

    /// A slot that a primary has.
    pub(super) fn first_slot_of(&self, node: &Node) -> Option<u16> {
        self.view.slots_of(&node.address).first()
    }

    /// The primary of a slot.
    pub(super) fn node_of(&self, slot: u16) -> Option<&Arc<Node>> {
        self.node(self.view.primary_of(slot)?)
    }
}

/// A handle to them; clones are the same.
#[derive(Clone)]
pub(super) struct Nodes {
    pub(super) topology: Arc<Topology>,
    maps: Arc<watch::Sender<Arc<Map>>>,
}

impl Nodes {
    /// Begins to connect, to each as it becomes known.
    pub(super) fn follow(topology: Arc<Topology>, commits: bool, life: &Lifecycle) -> Self {
        let nodes = Self { topology, maps: Arc::new(watch::Sender::default()) };
        let mut views = nodes.topology.view();
        let (follower, life_of_nodes) = (nodes.clone(), life.clone());
        nodes.replace(&views.borrow_and_update().clone(), commits, life);
        life.spawn(async move {
            while views.changed().await.is_ok() {
                let view = views.borrow_and_update().clone();
                follower.replace(&view, commits, &life_of_nodes);
            }
        });
        nodes
    }

    fn replace(&self, view: &Arc<View>, commits: bool, life: &Lifecycle) {
        let before = self.now();
        let is_first = before.nodes.is_empty();
        let node = |address: &Address| {
            let begin = || Arc::new(Node::begin(address, &self.topology, is_first, commits, life));
            before.node(address).map_or_else(begin, Arc::clone)
        };
        let nodes = view.primaries().map(node).collect();
        self.maps.send_replace(Arc::new(Map { view: Arc::clone(view), nodes }));
        // Only then, so that whoever is turned away by them finds the others.
        before.nodes.iter().filter(|node| !view.has(&node.address)).for_each(|node| node.retire());
    }

    pub(super) fn now(&self) -> Arc<Map> {
        self.maps.borrow().clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Arc<Map>> {
        self.maps.subscribe()
    }

    /// Sends one command to the primary of a slot. A command that a server has refused because the slot is elsewhere, and
    /// one that was not sent because another server took over, is sent there; none is sent after it may have been executed.
    pub(super) async fn call(
        &self,
        lane: Lane,
        slot: u16,
        command: &'static str,
        arguments: &[Value],
        until: Instant,
    ) -> Result<(Arc<Connection>, Value), RedisError> {
        let mut maps = self.changes();
        let mut directions = 0;
        let mut sent_to: Option<(Arc<Node>, bool)> = None;
        loop {
            let map = maps.borrow_and_update().clone();
            let Some((node, asking)) = sent_to.take().or_else(|| Some((Arc::clone(map.node_of(slot)?), false))) else {
                // Nobody is known to have it yet.
                let _ = in_time(until, maps.changed()).await?;
                continue;
            };
            let _place = match lane {
                Lane::Rooms => Some(in_time(until, node.room_calls.acquire()).await?),
                Lane::Sessions | Lane::Commits => None,
            };
            let error = match node.line(lane, slot).call(command, arguments.to_vec(), asking, until).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Gone) => continue,
                Err(Failure::Redis(error)) => error,
            };
            let Some(direction) = Direction::of(&error, &node.address).filter(|_| directions < MOST_DIRECTIONS) else {
                return Err(error);
            };
            match direction {
                Direction::To { address, asking } => {
                    directions += 1;
                    self.topology.urge();
                    sent_to = map.node(&address).map(|node| (Arc::clone(node), asking));
                    if sent_to.is_none() {
                        let _ = in_time(until, maps.changed()).await?;
                    }
                }
                Direction::Later => sleep_until((Instant::now() + ON_ITS_WAY).min(until)).await,
            }
        }
    }
}

/// Waits for something, but not longer than until then.
pub(super) async fn in_time<R>(until: Instant, it: impl Future<Output = R>) -> Result<R, RedisError> {
    let patience = until.saturating_duration_since(Instant::now());
    timeout_at(until, it).await.map_err(|_| RedisError::Timeout(patience))
}

/// What a node of a Redis Cluster says that did not execute a command.
enum Direction {
    /// The slot is there, or on its way to there.
    To { address: Address, asking: bool },
    /// Some keys are here and some are there.
    Later,
}

impl Direction {
    fn of(error: &RedisError, said_by: &Address) -> Option<Self> {
        let RedisError::Command(error) = error else { return None };
        let mut words = error.details().split(' ');
        let asking = match words.next()? {
            "MOVED" => false,
            "ASK" => true,
            "TRYAGAIN" => return Some(Self::Later),
            _ => return None,
        };
        Some(Self::To { address: Address::parse(words.nth(1)?, said_by)?, asking })
    }
}
