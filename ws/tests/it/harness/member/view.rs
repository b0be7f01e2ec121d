//! What a member believes, from what it heard and from nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use serde_json::Value;

use crate::harness::visitor::ids;

/// Everything that a member knows.
#[derive(Default)]
pub struct View {
    /// The rooms in which it wants to be.
    pub wanted: BTreeSet<String>,
    pub rooms: BTreeMap<String, Room>,
    /// The server has greeted it on the connection that there is.
    pub connected: bool,
    /// How often it was greeted.
    pub connections: usize,
    /// How the server closed earlier connections.
    pub closes: Vec<(u16, String)>,
    /// The codes of the errors that it was told.
    pub errors: Vec<String>,
    /// How many of its messages the server says to have published.
    pub published: usize,
}

/// A room, as a member knows it.
#[derive(Clone, Default)]
pub struct Room {
    /// Whether it is one of its members, on the connection that there is.
    pub joined: bool,
    pub present: BTreeSet<i64>,
    pub typing: BTreeSet<i64>,
    /// In the order in which they came; none is there twice.
    pub messages: Vec<Message>,
    /// From where to go on after a loss: the last message, or what was told for it when it came in.
    last: Option<String>,
    /// How often a message came that was there already.
    pub duplicates: usize,
    /// How often the server said that it cannot tell everything that was missed.
    pub gaps: usize,
    pub events: Vec<Event>,
    /// Events that cannot be: somebody comes who is there, or goes who is not.
    pub contradictions: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    pub author: i64,
    pub data: Value,
}

/// Somebody came or went.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: Instant,
    pub came: bool,
    pub user: i64,
}

impl View {
    pub fn room(&mut self, room: &str) -> &mut Room {
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.to_owned(), Room::default());
        }
        self.rooms.get_mut(room).expect("it is there")
    }

    pub fn is_in(&self, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|room| room.joined)
    }

    /// Whether it is where it wants to be.
    pub fn is_settled(&self) -> bool {
        self.connected && self.wanted.iter().all(|room| self.is_in(room))
    }

    /// As far as it is told, in the rooms where it is.
    pub fn nobody_types(&self) -> bool {
        self.rooms.values().all(|room| !room.joined || room.typing.is_empty())
    }

    pub fn missing(&self) -> Vec<String> {
        self.wanted.iter().filter(|room| !self.is_in(room)).cloned().collect()
    }

    pub fn last_id(&self, room: &str) -> Option<String> {
        self.rooms.get(room)?.last.clone()
    }

    pub fn hear(&mut self, message: &Value) {
        let payload = &message["payload"];
        match message["type"].as_str().expect("a type") {
            "connected" => {
                self.connected = true;
                self.connections += 1;
            }
            "error" => self.errors.push(payload["code"].as_str().expect("a code").to_owned()),
            "published" => self.published += 1,
            "joined" => self.joined(payload),
            "left" => {
                let room = payload["room"].as_str().expect("a room");
                self.room(room).joined = false;
                if message.get("id").is_none() {
                    self.wanted.remove(room); // unasked: it may not be there any more
                }
            }
            kind @ ("presence" | "typing" | "message") => {
                let room = self.room(payload["room"].as_str().expect("a room"));
                // What comes before the answer to a join is in the answer.
                if room.joined {
                    room.hear(kind, payload);
                }
            }
            _ => {}
        }
    }

    fn joined(&mut self, payload: &Value) {
        let name = payload["room"].as_str().expect("a room");
        if !self.wanted.contains(name) {
            return; // it has changed its mind meanwhile
        }
        let room = self.room(name);
        room.joined = true;
        room.present = ids(&payload["users"]).into_iter().collect();
        room.typing = ids(&payload["typing"]).into_iter().collect();
        let comes_back = room.last.is_some();
        room.last.get_or_insert_with(|| payload["last"].as_str().expect("an id").to_owned());
        payload["messages"].as_array().expect("a list").iter().for_each(|message| room.add(message));
        if comes_back && payload["recovered"] == false {
            room.gaps += 1;
        }
    }
}

impl Room {
    fn hear(&mut self, kind: &str, payload: &Value) {
        let user = payload["user"]["id"].as_i64().expect("an id");
        match kind {
            "message" => self.add(payload),
            "typing" if payload["typing"] == true => drop(self.typing.insert(user)),
            "typing" => drop(self.typing.remove(&user)),
            _ => {
                let came = payload["event"] == "join";
                let changed = if came { self.present.insert(user) } else { self.present.remove(&user) };
                if !changed {
                    self.contradictions.push(payload.to_string());
                }
                self.events.push(Event { at: Instant::now(), came, user });
            }
        }
    }

    fn add(&mut self, message: &Value) {
        let id = message["id"].as_str().expect("an id");
        // What was missed and what comes now are next to each other, so one need not look far.
        if self.messages.iter().rev().take(300).any(|known| known.id == id) {
            self.duplicates += 1;
            return;
        }
        let author = message["user"]["id"].as_i64().expect("an id");
        self.last = Some(id.to_owned());
        self.messages.push(Message { id: id.to_owned(), author, data: message["data"].clone() });
    }

    /// Who went, in the order in which it was heard.
    pub fn gone(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| !event.came)
    }
}
