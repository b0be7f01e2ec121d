//! Who is typing: somebody begins and everybody else in the room hears it; before their next turn they end, which is
//! heard too. What the typist sends is not answered, so it is over when the last has heard.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::hall::{Echoes, close_all, fill};
use crate::record::Meter;
use crate::socket::{Listener, Socket, Typing};

struct Types {
    socket: Socket,
    user: i64,
    room: (usize, Arc<str>),
    others: usize,
    is_typing: bool,
    echoes: Arc<Echoes>,
    meter: Arc<Meter>,
}

impl Types {
    async fn tell(&mut self, typing: bool, intended: Instant) -> Result<(), Failure> {
        let deed = (self.room.0, self.user, typing);
        self.echoes.give_up(deed); // of a turn that timed out
        let heard = self.echoes.expect(deed, intended, self.others);
        self.is_typing = typing;
        let message = json!({"type": "typing", "room": &*self.room.1, "typing": typing});
        self.socket.say(&message).await?;
        heard.await.map_err(|_| Failure::NotDelivered)
    }
}

impl Actor for Types {
    async fn prepare(&mut self) -> Result<(), Failure> {
        if self.is_typing {
            self.socket.may_speak().await;
            self.tell(false, Instant::now()).await?;
        }
        self.socket.may_speak().await;
        Ok(())
    }

    async fn act(&mut self, intended: Instant) -> Result<(), Failure> {
        self.tell(true, intended).await
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let meter = bench.meter("typing");
    let echoes = Echoes::new(bench.meter("typing_heard"));
    let listener = |room: usize| -> Listener {
        let echoes = Arc::clone(&echoes);
        Arc::new(move |kind, payload| {
            if let ("typing", Some(user), Some(Typing::Flag(typing))) = (kind, &payload.user, &payload.typing) {
                echoes.heard((room, user.id, *typing));
            }
        })
    };
    let rooms = fill(bench, bench.users, listener).await?;
    let mut actors = Vec::new();
    for (number, room) in rooms.into_iter().enumerate() {
        let others = room.members.len() - 1;
        actors.extend(room.members.into_iter().map(|(user, socket)| Types {
            socket,
            user: user.id,
            room: (number, Arc::clone(&room.name)),
            others,
            is_typing: false,
            echoes: Arc::clone(&echoes),
            meter: Arc::clone(&meter),
        }));
    }
    let actors = bench.drive(actors).await?;
    close_all(actors.into_iter().map(|actor| actor.socket)).await;
    Ok(())
}
