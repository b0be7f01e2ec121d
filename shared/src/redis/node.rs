//! A primary, and the connections to it. What happens in rooms has its own, so that sessions never wait behind it.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    address::Address,
    away::LastAway,
    line::{Keeper, Line},
    topology::Topology,
};
use crate::lifecycle::Lifecycle;

/// Connections of each kind. One carries tens of thousands of commands a second; a second one keeps a large reply from
/// delaying the rest.
const LINES: usize = 2;
/// Calls about rooms that one replica has under way at once: what a call about a session may have to wait for. Ten replicas
/// whose scripts take 0.2 ms each fill 16 ms of Redis, and an administrator's command, which first has to connect, makes six
/// calls one after the other. With a round trip of 1 ms a replica still makes thousands of calls a second.
const ROOM_CALLS: usize = 8;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Sessions, revocations, limits and tickets.
    Sessions,
    /// What happens in rooms.
    Rooms,
    /// Changes that wait for Redis's replicas: WAIT holds up whatever comes after it on its connection.
    Commits,
}

/// See the module.
pub(super) struct Node {
    pub(super) address: Address,
    sessions: [Arc<Line>; LINES],
    rooms: [Arc<Line>; LINES],
    commits: [Arc<Line>; LINES],
    /// The places for calls about rooms.
    pub(super) room_calls: Semaphore,
    pub(super) away: LastAway,
    gone: CancellationToken,
}

impl Node {
    /// Begins to connect, and goes on trying until it [retires](Self::retire). `is_first`: it takes over from nobody.
    pub(super) fn begin(
        address: &Address,
        topology: &Arc<Topology>,
        is_first: bool,
        commits: bool,
        life: &Lifecycle,
    ) -> Self {
        let (gone, away) = (CancellationToken::new(), LastAway::default());
        if !is_first {
            away.note();
        }
        let begin = || {
            let made = Line::new(address.clone(), gone.clone());
            let (topology, connector) = (Arc::clone(topology), topology.connector.clone());
            let keeper = Keeper { line: Arc::clone(&made), topology, connector, away: away.clone(), is_first };
            life.spawn(keeper.run());
            made
        };
        let lines = || [(); LINES].map(|()| begin());
        let (sessions, rooms) = (lines(), lines());
        let commits = if commits { lines() } else { sessions.clone() };
        let (address, room_calls) = (address.clone(), Semaphore::new(ROOM_CALLS));
        Self { address, sessions, rooms, commits, room_calls, away, gone }
    }

    /// The connection for what is in a slot: always the same one, so that what is asked first happens first.
    pub(super) fn line(&self, lane: Lane, slot: u16) -> &Arc<Line> {
        let lines = match lane {
            Lane::Sessions => &self.sessions,
            Lane::Rooms => &self.rooms,
            Lane::Commits => &self.commits,
        };
        &lines[usize::from(slot) % LINES]
    }

    /// It is no primary any more: its connections are closed, and whoever waits for them looks elsewhere.
    pub(super) fn retire(&self) {
        self.gone.cancel();
    }

    /// Whether calls are answered, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.sessions.iter().all(|line| line.is_up())
    }
}
