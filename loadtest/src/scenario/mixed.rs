//! Everything, as on an ordinary day: users with a session, a socket and a room, who do one thing or another by chance.
//! At a rate, a day passes in a minute or so: few are there in the night, and most at noon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::fanout::{delivered, message};
use super::mix::{Choice, Deed, USUAL};
use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::hall::{join, leave, room_names};
use crate::record::Meter;
use crate::socket::{Listener, Opener, Socket};
use crate::user::User;

struct Person {
    user: Arc<User>,
    opener: Opener,
    listener: Listener,
    room: Option<Arc<str>>,
    socket: Option<Socket>,
    is_typing: bool,
    choice: Choice,
    random: StdRng,
    deed: Deed,
    meters: Arc<Meters>,
    epoch: Instant,
}

/// Where what is done is counted.
struct Meters(BTreeMap<&'static str, Arc<Meter>>);

impl Person {
    /// The socket, joined; opened if it is not.
    async fn connect(&mut self) -> Result<&mut Socket, Failure> {
        if self.socket.as_ref().is_none_or(|socket| !socket.is_open()) {
            let mut socket = self.opener.open(&self.user, Arc::clone(&self.listener)).await?;
            if let Some(room) = &self.room {
                join(&mut socket, room).await?;
            }
            self.is_typing = false;
            self.socket = Some(socket);
        }
        self.socket.as_mut().ok_or(Failure::Unexpected("no socket"))
    }

    /// Ends the session, which closes the socket, and begins another.
    async fn log_out_and_in(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        let out = self.user.client.lock().await.log_out().await;
        let answered = Instant::now();
        self.meters.of("logout").record(begun, &out.as_ref().map(drop).map_err(Clone::clone));
        out?;
        if let Some(mut socket) = self.socket.take()
            && !self.opener.original
        {
            let closed = self.meters.of("closed").awaiting(answered);
            let end = socket.ended().await;
            closed.succeeded(end.at.saturating_duration_since(answered));
        }
        self.user.client.lock().await.log_in().await.map(drop)
    }
}

impl Actor for Person {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.user.client.lock().await.access().await?;
        self.deed = self.choice.choose(&mut self.random);
        let deed = self.deed;
        let socket = self.connect().await?;
        if deed.speaks() {
            socket.may_speak().await;
        }
        Ok(())
    }

    async fn act(&mut self, intended: Instant) -> Result<(), Failure> {
        match self.deed {
            Deed::Protected => return self.user.client.lock().await.protected().await,
            Deed::Refresh => return self.user.client.lock().await.refresh().await,
            Deed::Login => return self.log_out_and_in().await,
            Deed::Reconnect => {
                self.socket = None; // broken, not closed
                return self.connect().await.map(drop);
            }
            Deed::Ping => return self.connect().await?.ask(json!({"type": "ping"}), "pong").await,
            Deed::Publish | Deed::Typing | Deed::Rejoin | Deed::Presence => {}
        }
        let room = self.room.clone().ok_or(Failure::Unexpected("no room"))?;
        let (deed, epoch, typing) = (self.deed, self.epoch, !self.is_typing);
        self.is_typing ^= deed == Deed::Typing;
        let socket = self.connect().await?;
        match deed {
            Deed::Publish => socket.ask(message(&room, intended, epoch), "published").await,
            Deed::Typing => socket.say(&json!({"type": "typing", "room": &*room, "typing": typing})).await,
            Deed::Presence => socket.ask(json!({"type": "presence", "room": &*room}), "presence_state").await,
            _ => {
                leave(socket, &room).await?;
                join(socket, &room).await
            }
        }
    }

    fn meter(&self) -> &Meter {
        self.meters.of(self.deed.name())
    }
}

impl Meters {
    /// One for each deed, and for the two halves of a log-out.
    fn new(bench: &Bench<'_>) -> Self {
        let names = USUAL.iter().map(|(deed, _)| deed.name()).chain(["logout", "closed"]);
        Self(names.map(|name| (name, bench.meter(name))).collect())
    }

    fn of(&self, name: &str) -> &Meter {
        &self.0[name]
    }
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let choice = bench.sizes.mix.choice(bench.target.original).context("--mix leaves nothing to do")?;
    let meters = Arc::new(Meters::new(bench));
    let (delivery, epoch) = (bench.meter("delivery"), Instant::now());
    let listener: Listener = Arc::new(move |kind, payload| {
        delivered(&delivery, epoch, kind, payload);
    });
    let rooms = room_names(bench.sizes.rooms);
    let actors = bench.users.iter().enumerate().map(|(number, user)| Person {
        user: Arc::clone(user),
        opener: bench.target.socket_for(number),
        listener: Arc::clone(&listener),
        room: (!bench.target.original).then(|| Arc::clone(&rooms[number % rooms.len()])),
        socket: None,
        is_typing: false,
        choice: choice.clone(),
        random: StdRng::seed_from_u64(bench.plan.seed.wrapping_add(number as u64)),
        deed: Deed::Ping,
        meters: Arc::clone(&meters),
        epoch,
    });
    let actors = bench.drive(actors.collect()).await?;
    crate::hall::close_all(actors.into_iter().filter_map(|actor| actor.socket)).await;
    Ok(())
}
