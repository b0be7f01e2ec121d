//! Everything, as on an ordinary day: users with a session, a socket and a room, who do one thing or another by chance.
//! At a rate, a day passes in a minute or so: few are there in the night, and most at noon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::attendance::{Attendance, Seat};
use super::fanout::{delivered, message, settle};
use super::mix::{Choice, Deed, USUAL};
use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::hall::{close_all, join, leave, room_names};
use crate::record::Meter;
use crate::socket::{Listener, Opener, Socket};
use crate::user::User;

struct Person {
    user: Arc<User>,
    opener: Opener,
    listener: Listener,
    room: Option<Member>,
    socket: Option<Socket>,
    is_typing: bool,
    choice: Choice,
    random: StdRng,
    deed: Deed,
    meters: Arc<Meters>,
    epoch: Instant,
}

/// Of a room.
struct Member {
    name: Arc<str>,
    seat: Seat,
}

/// Where what is done is counted.
struct Meters(BTreeMap<&'static str, Arc<Meter>>);

impl Person {
    /// The socket, joined; opened if it is not.
    async fn connect(&mut self) -> Result<&mut Socket, Failure> {
        if self.socket.as_ref().is_none_or(|socket| !socket.is_open()) {
            self.disconnect().await;
            let mut socket = self.opener.open(&self.user, Arc::clone(&self.listener)).await?;
            if let Some(Member { name, seat }) = &mut self.room {
                seat.moves(Instant::now());
                join(&mut socket, name).await?;
                seat.arrived();
            }
            self.is_typing = false;
            self.socket = Some(socket);
        }
        self.socket.as_mut().ok_or(Failure::Unexpected("no socket"))
    }

    /// Breaks the socket rather than closing it, unless it was lost before.
    async fn disconnect(&mut self) {
        let mut since = Instant::now();
        if let Some(mut socket) = self.socket.take()
            && !socket.is_open()
        {
            since = socket.ended().await.at;
        }
        if let Some(Member { seat, .. }) = &mut self.room {
            seat.gone(since);
        }
    }

    /// Ends the session, which closes the socket, and begins another.
    async fn log_out_and_in(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        if let Some(Member { seat, .. }) = &mut self.room {
            seat.moves(begun);
        }
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
                self.disconnect().await;
                return self.connect().await.map(drop);
            }
            Deed::Ping => return self.connect().await?.ask(json!({"type": "ping"}), "pong").await,
            Deed::Publish | Deed::Typing | Deed::Rejoin | Deed::Presence => {}
        }
        self.connect().await?;
        let Self { deed, epoch, is_typing, room: Some(Member { name, seat }), socket: Some(socket), .. } = self else {
            return Err(Failure::Unexpected("no room"));
        };
        match deed {
            Deed::Publish => seat.room().publish(socket.ask(message(name, intended, *epoch), "published")).await,
            Deed::Typing => {
                *is_typing = !*is_typing;
                socket.say(&json!({"type": "typing", "room": &**name, "typing": *is_typing})).await
            }
            Deed::Presence => socket.ask(json!({"type": "presence", "room": &**name}), "presence_state").await,
            _ => {
                seat.moves(Instant::now());
                leave(socket, name).await?;
                join(socket, name).await?;
                seat.arrived();
                Ok(())
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
    let rooms: Vec<_> = room_names(bench.sizes.rooms).into_iter().map(|name| (name, Arc::default())).collect();
    let listener = |room: &Arc<Attendance>| -> Listener {
        let (room, delivery) = (Arc::clone(room), Arc::clone(&delivery));
        Arc::new(move |kind, payload| {
            if delivered(&delivery, epoch, kind, payload) {
                room.delivered();
            }
        })
    };
    let actors = bench.users.iter().enumerate().map(|(number, user)| {
        let (name, room) = &rooms[number % rooms.len()];
        Person {
            user: Arc::clone(user),
            opener: bench.target.socket_for(number),
            listener: listener(room),
            room: (!bench.target.original).then(|| Member { name: Arc::clone(name), seat: room.seat() }),
            socket: None,
            is_typing: false,
            choice: choice.clone(),
            random: StdRng::seed_from_u64(bench.plan.seed.wrapping_add(number as u64)),
            deed: Deed::Ping,
            meters: Arc::clone(&meters),
            epoch,
        }
    });
    let mut actors = bench.drive(actors.collect()).await?;
    for actor in &mut actors {
        if actor.socket.as_ref().is_some_and(|socket| !socket.is_open()) {
            actor.disconnect().await; // nobody had noticed
        }
    }
    settle(bench, &delivery, || rooms.iter().map(|(_, room)| room.balance())).await;
    close_all(actors.into_iter().filter_map(|actor| actor.socket)).await;
    Ok(())
}
