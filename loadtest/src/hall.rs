//! Sockets in numbers, and rooms full of them: opened and joined before anything is measured.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::failure::Failure;
use crate::record::Meter;
use crate::setup;
use crate::socket::{Listener, Opener, Socket};
use crate::user::User;

/// How many sockets are opened at once where that is not what is measured.
const AT_ONCE: usize = 32;

/// A room, and the sockets in it.
pub(crate) struct Room {
    pub(crate) name: Arc<str>,
    pub(crate) members: Vec<(Arc<User>, Socket)>,
}

/// A listener that does not care.
pub(crate) fn deaf() -> Listener {
    Arc::new(|_, _| {})
}

/// Names of rooms that no other run has.
pub(crate) fn room_names(rooms: u16) -> Vec<Arc<str>> {
    let run: u32 = rand::random();
    (0..rooms).map(|room| format!("load-{run:08x}-{room}").into()).collect()
}

/// Opens so many sockets, of all users in turn.
pub(crate) async fn open_sockets(bench: &Bench<'_>, sockets: usize) -> Result<Vec<Socket>> {
    let wanted = (0..sockets).map(|number| Wanted {
        opener: bench.target.socket_for(number),
        user: Arc::clone(bench.user(number)),
        listener: deaf(),
        room: None,
    });
    Ok(open(bench, wanted).await?.into_iter().map(|(_, socket)| socket).collect())
}

/// Opens a socket for each of these users.
pub(crate) async fn open_for(bench: &Bench<'_>, users: &[Arc<User>]) -> Result<Vec<(Arc<User>, Socket)>> {
    let wanted = users.iter().enumerate().map(|(number, user)| Wanted {
        opener: bench.target.socket_for(number),
        user: Arc::clone(user),
        listener: deaf(),
        room: None,
    });
    open(bench, wanted).await
}

/// Opens rooms of so many members each, of `users` in turn: nobody is in a room twice who need not be. `listener` is
/// told the number of the room.
pub(crate) async fn fill(
    bench: &Bench<'_>,
    users: &[Arc<User>],
    listener: impl Fn(usize) -> Listener,
) -> Result<Vec<Room>> {
    let members = usize::from(bench.sizes.members);
    let names = room_names(bench.sizes.rooms);
    let wanted = names.iter().enumerate().flat_map(|(room, name)| {
        let listener = listener(room);
        (0..members).map(move |member| {
            let number = room * members + member;
            let user = Arc::clone(&users[number % users.len()]);
            let (opener, room) = (bench.target.socket_for(number), Some(Arc::clone(name)));
            Wanted { opener, user, listener: Arc::clone(&listener), room }
        })
    });
    let mut sockets = open(bench, wanted).await?.into_iter();
    Ok(names.into_iter().map(|name| Room { name, members: sockets.by_ref().take(members).collect() }).collect())
}

/// Closes them, and waits until they are.
pub(crate) async fn close_all(sockets: impl IntoIterator<Item = Socket>) {
    let mut closing: JoinSet<()> = sockets.into_iter().map(Socket::close).collect();
    while closing.join_next().await.is_some() {}
}

struct Wanted {
    opener: Opener,
    user: Arc<User>,
    listener: Listener,
    room: Option<Arc<str>>,
}

async fn open(bench: &Bench<'_>, wanted: impl Iterator<Item = Wanted>) -> Result<Vec<(Arc<User>, Socket)>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let patience = bench.plan.timeout;
    let mut opening = JoinSet::new();
    for (number, wanted) in wanted.enumerate() {
        let places = Arc::clone(&places);
        opening.spawn(async move {
            let _place = places.acquire_owned().await;
            Ok((number, setup::within(patience, wanted.open()).await?))
        });
    }
    setup::all(opening, &bench.stop).await.context("cannot open the sockets that this needs")
}

impl Wanted {
    async fn open(self) -> Result<(Arc<User>, Socket), Failure> {
        let Self { opener, user, listener, room } = self;
        let mut socket = opener.open(&user, listener).await?;
        if let Some(room) = room {
            join(&mut socket, &room).await?;
        }
        Ok((user, socket))
    }
}

pub(crate) async fn join(socket: &mut Socket, room: &str) -> Result<(), Failure> {
    socket.ask(json!({"type": "join", "room": room}), "joined").await
}

pub(crate) async fn leave(socket: &mut Socket, room: &str) -> Result<(), Failure> {
    socket.ask(json!({"type": "leave", "room": room}), "left").await
}

/// What somebody has done and the others in the room must hear: the room, the user, and whether it began or ended.
pub(crate) type Deed = (usize, i64, bool);

/// Deeds that not everybody has heard of yet.
pub(crate) struct Echoes {
    pending: Mutex<HashMap<Deed, Pending>>,
    /// One for each that hears.
    meter: Arc<Meter>,
}

struct Pending {
    intended: Instant,
    left: u64,
    all: oneshot::Sender<()>,
}

impl Echoes {
    pub(crate) fn new(meter: Arc<Meter>) -> Arc<Self> {
        Arc::new(Self { pending: Mutex::default(), meter })
    }

    /// So many will hear of a deed that is about to be done; the receiver hears when all of them have.
    pub(crate) fn expect(&self, deed: Deed, intended: Instant, left: usize) -> oneshot::Receiver<()> {
        let (all, heard) = oneshot::channel();
        self.pending().insert(deed, Pending { intended, left: left as u64, all });
        heard
    }

    /// One more has heard.
    pub(crate) fn heard(&self, deed: Deed) {
        let mut pending = self.pending();
        let Some(echo) = pending.get_mut(&deed) else { return };
        self.meter.succeeded(echo.intended, echo.intended.elapsed());
        echo.left -= 1;
        if echo.left == 0
            && let Some(echo) = pending.remove(&deed)
        {
            let _ = echo.all.send(()); // whoever did it may have given up
        }
    }

    /// Whoever has not heard by now, never will.
    pub(crate) fn give_up(&self, deed: Deed) {
        if let Some(echo) = self.pending().remove(&deed) {
            self.meter.failed_times(echo.intended, &Failure::NotDelivered, echo.left);
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<Deed, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::Recorder;

    #[test]
    fn a_deed_is_done_when_the_last_has_heard_and_who_has_not_is_counted() {
        let start = Instant::now();
        let recorder = Recorder::starting(start);
        let echoes = Echoes::new(recorder.meter("typing_heard"));
        let mut all = echoes.expect((0, 7, true), start, 2);
        echoes.heard((0, 7, true));
        echoes.heard((0, 7, false)); // something else
        assert!(all.try_recv().is_err());
        echoes.heard((0, 7, true));
        assert!(all.try_recv().is_ok());

        let _never = echoes.expect((0, 8, true), start, 3);
        echoes.heard((0, 8, true));
        echoes.give_up((0, 8, true));
        recorder.tick(Duration::from_secs(1));
        let measured = &recorder.measured(Duration::from_secs(1))[0];
        assert_eq!((measured.count, measured.errors), (3, 2));
    }
}
