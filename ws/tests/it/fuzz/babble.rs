//! What comes out of a client whose every choice is made by a generator of random numbers.

use rand::{
    Rng, RngExt,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use serde_json::{Value, json};

use crate::harness::raw::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame_with, unfinished, whole};

/// How a client leaves.
pub enum Exit {
    /// The connection breaks.
    Cut,
    /// It hangs up without a word.
    Drop,
    /// It sends no more, but listens.
    Finish,
    /// It says so, rightly or wrongly.
    Goodbye(Vec<u8>),
}

pub struct Babble {
    random: StdRng,
}

const TYPES: [&str; 10] =
    ["ping", "join", "leave", "typing", "publish", "presence", "reauth", "auth", "dance", "connected"];
const ROOMS: [&str; 6] = ["lobby", "user:1000", "user:1", "private:x", "not a room", ""];

impl Babble {
    pub fn new(random: StdRng) -> Self {
        Self { random }
    }

    /// How often it says something.
    pub fn moves(&mut self) -> usize {
        self.random.random_range(0..24)
    }

    /// Whether it listens, before it goes on.
    pub fn listens(&mut self) -> bool {
        self.random.random_ratio(1, 4)
    }

    /// Cuts what it says into segments, which the network may or may not join again.
    pub fn segments<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut segments = Vec::new();
        while !bytes.is_empty() && self.random.random_ratio(1, 3) && segments.len() < 20 {
            let (segment, rest) = bytes.split_at(self.random.random_range(0..=bytes.len()));
            segments.push(segment);
            bytes = rest;
        }
        segments.push(bytes);
        segments
    }

    pub fn exit(&mut self) -> Exit {
        match self.random.random_range(0..5) {
            0 => Exit::Cut,
            1 => Exit::Drop,
            2 => Exit::Finish,
            3 => Exit::Goodbye(close(1000, "that was it")),
            _ => {
                let (code, reason) = (self.random.random(), self.bytes(20));
                Exit::Goodbye(if self.random.random() { close(code, reason) } else { whole(CLOSE, reason) })
            }
        }
    }

    /// The next thing that it says. Most of it is well-formed, or nothing would ever get far.
    pub fn next(&mut self) -> Vec<u8> {
        match self.random.random_range(0..100) {
            0..40 => self.good_message(),
            40..60 => self.fragmented(),
            60..75 => self.control(),
            75..85 => {
                let text = self.nonsense();
                whole(TEXT, text)
            }
            85..89 => {
                let size = self.random.random_range(16_000..70_000);
                whole(TEXT, vec![b'x'; size])
            }
            89..92 => self.bytes(300),
            92..95 => {
                let (first, opcode, payload) =
                    (self.random.random_range(0..16), self.random.random_range(0..16), self.bytes(200));
                frame_with(first, opcode, &payload)
            }
            95..97 => {
                let payload = self.bytes(100);
                whole(BINARY, payload)
            }
            _ => {
                // A frame whose end never comes, unless what is said next is taken for it.
                let mut frame = self.good_message();
                frame.truncate(self.random.random_range(0..frame.len()));
                frame
            }
        }
    }

    fn good_message(&mut self) -> Vec<u8> {
        let message = self.message().to_string();
        whole(TEXT, message)
    }

    fn message(&mut self) -> Value {
        let mut message = json!({"type": TYPES.choose(&mut self.random)});
        let id = self.value(0);
        for (field, value) in [
            ("id", id),
            ("room", json!(ROOMS.choose(&mut self.random))),
            ("data", self.value(3)),
            ("typing", json!(self.random.random::<bool>())),
            ("since", json!(self.since())),
            ("access", json!("a.b.c")),
        ] {
            if self.random.random_ratio(2, 3) {
                message[field] = value;
            }
        }
        if self.random.random_ratio(1, 8) {
            let wrong = self.value(1);
            message[*["type", "room", "typing", "since", "access"].choose(&mut self.random).expect("one")] = wrong;
        }
        message
    }

    fn since(&mut self) -> String {
        let parts: (u64, u64) = (self.random.random(), self.random.random_range(0..3));
        match self.random.random_range(0..4) {
            0 => format!("{}-{}", parts.0, parts.1),
            1 => "0-0".into(),
            2 => "$".into(),
            _ => format!("{}", parts.0),
        }
    }

    /// Any JSON, at most so deep.
    fn value(&mut self, depth: u32) -> Value {
        match self.random.random_range(0..if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.random.random::<i64>()),
            2 => json!(self.random.random::<f64>() * 1e300),
            3 => json!(self.random.random::<bool>()),
            4 => {
                let bytes = self.bytes(60);
                json!(String::from_utf8_lossy(&bytes))
            }
            5 => (0..self.random.random_range(0..4)).map(|_| self.value(depth - 1)).collect(),
            _ => (0..self.random.random_range(0..4)).map(|key| (key.to_string(), self.value(depth - 1))).collect(),
        }
    }

    /// JSON that was tampered with, or deeply nested, or no JSON.
    fn nonsense(&mut self) -> Vec<u8> {
        let mut text = self.message().to_string().into_bytes();
        match self.random.random_range(0..5) {
            0 => text.truncate(self.random.random_range(0..text.len())),
            1 => {
                let place = self.random.random_range(0..text.len());
                text[place] = self.random.random();
            }
            2 => text.shuffle(&mut self.random),
            3 => text = vec![*b"[{\"".choose(&mut self.random).expect("one"); self.random.random_range(1..16_000)],
            _ => text = self.bytes(100),
        }
        text
    }

    /// A message in fragments, with control frames in between, mostly.
    fn fragmented(&mut self) -> Vec<u8> {
        let message = self.message().to_string().into_bytes();
        let mut rest = &message[..];
        let mut frames = Vec::new();
        let mut opcode = TEXT;
        while self.random.random_ratio(4, 5) {
            let (part, behind) = rest.split_at(self.random.random_range(0..=rest.len()));
            frames.extend(unfinished(opcode, part));
            rest = behind;
            opcode = CONTINUATION;
            if self.random.random_ratio(1, 3) {
                frames.extend(self.control());
            }
        }
        if self.random.random_ratio(1, 20) {
            opcode ^= TEXT;
        }
        if self.random.random_ratio(9, 10) {
            frames.extend(whole(opcode, rest));
        }
        frames
    }

    fn control(&mut self) -> Vec<u8> {
        let at_most = if self.random.random_ratio(1, 20) { 200 } else { 125 };
        let payload = self.bytes(at_most);
        whole(if self.random.random() { PING } else { PONG }, payload)
    }

    fn bytes(&mut self, at_most: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.random.random_range(0..=at_most)];
        self.random.fill_bytes(&mut bytes);
        bytes
    }
}
