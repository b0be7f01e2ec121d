//! Coming and going: users join rooms and leave them, and everybody who stays there hears of it. It is over when the one
//! who did it has the answer and the last has heard.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::hall::{Echoes, close_all, fill, join, leave, open_for};
use crate::record::Meter;
use crate::socket::{Listener, Socket};

struct ComesAndGoes {
    socket: Socket,
    user: i64,
    room: (usize, Arc<str>),
    watchers: usize,
    is_there: bool,
    echoes: Arc<Echoes>,
    /// For coming, and for going.
    meters: [Arc<Meter>; 2],
    did_come: bool,
}

impl Actor for ComesAndGoes {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.socket.may_speak().await;
        Ok(())
    }

    async fn act(&mut self, intended: Instant) -> Result<(), Failure> {
        self.did_come = !self.is_there;
        let deed = (self.room.0, self.user, self.did_come);
        self.echoes.give_up(deed); // of a turn that timed out
        let heard = self.echoes.expect(deed, intended, self.watchers);
        if self.did_come {
            join(&mut self.socket, &self.room.1).await?;
        } else {
            leave(&mut self.socket, &self.room.1).await?;
        }
        self.is_there = self.did_come;
        heard.await.map_err(|_| Failure::NotDelivered)
    }

    fn meter(&self) -> &Meter {
        &self.meters[usize::from(!self.did_come)]
    }
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let meters = [bench.meter("join"), bench.meter("leave")];
    let echoes = Echoes::new(bench.meter("presence_heard"));
    let listener = |room: usize| -> Listener {
        let echoes = Arc::clone(&echoes);
        Arc::new(move |kind, payload| {
            if let ("presence", Some(user), Some(event)) = (kind, &payload.user, payload.event.as_deref()) {
                echoes.heard((room, user.id, event == "join"));
            }
        })
    };
    // Who watches and who comes and goes are not the same, or they would be there already.
    let (watchers, visitors) = bench.users.split_at(usize::from(bench.sizes.members));
    let rooms = fill(bench, watchers, listener).await?;
    let mut actors = Vec::new();
    for (number, (user, socket)) in open_for(bench, visitors).await?.into_iter().enumerate() {
        let room = number % rooms.len();
        actors.push(ComesAndGoes {
            socket,
            user: user.id,
            room: (room, Arc::clone(&rooms[room].name)),
            watchers: rooms[room].members.len(),
            is_there: false,
            echoes: Arc::clone(&echoes),
            meters: meters.clone(),
            did_come: true,
        });
    }
    let actors = bench.drive(actors).await?;
    close_all(actors.into_iter().map(|actor| actor.socket)).await;
    close_all(rooms.into_iter().flat_map(|room| room.members).map(|(_, socket)| socket)).await;
    Ok(())
}
