//! A client that does one thing at a time, and accounts for everything that it hears in between.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Client, PATIENCE, User};

/// Somebody on one socket. What is no answer is kept until the test asks for it, in its order; nothing is skipped.
pub struct Visitor {
    pub user: User,
    pub client: Client,
    kept: VecDeque<Value>,
    asked: u64,
}

impl Visitor {
    pub fn new(user: User, client: Client) -> Self {
        Self { user, client, kept: VecDeque::new(), asked: 0 }
    }

    pub async fn say(&mut self, message: Value) {
        self.client.say(message).await;
    }

    /// Says something, and hears its answer: the one with its id.
    pub async fn ask(&mut self, mut message: Value) -> Value {
        self.asked += 1;
        message["id"] = json!(self.asked);
        self.say(message).await;
        loop {
            let heard = self.client.hear().await;
            if heard["id"] == json!(self.asked) {
                return heard;
            }
            self.kept.push_back(heard);
        }
    }

    /// Says something, and hears why it is not done.
    pub async fn error(&mut self, message: Value) -> String {
        let answer = self.ask(message).await;
        assert_eq!(answer["type"], "error", "{answer}");
        answer["payload"]["code"].as_str().expect("a code").to_owned()
    }

    /// Says something; the payload of the answer, which is of this type.
    pub async fn demand(&mut self, kind: &str, message: Value) -> Value {
        let mut answer = self.ask(message).await;
        assert_eq!(answer["type"], kind, "{answer}");
        answer["payload"].take()
    }

    /// What is said to somebody who joins.
    pub async fn join(&mut self, room: &str) -> Value {
        self.demand("joined", json!({"type": "join", "room": room})).await
    }

    pub async fn join_since(&mut self, room: &str, since: &str) -> Value {
        self.demand("joined", json!({"type": "join", "room": room, "since": since})).await
    }

    pub async fn leave(&mut self, room: &str) {
        assert_eq!(self.demand("left", json!({"type": "leave", "room": room})).await, json!({"room": room}));
    }

    /// Publishes; the id of the message.
    pub async fn publish(&mut self, room: &str, data: impl Into<Value>) -> String {
        let message = json!({"type": "publish", "room": room, "data": data.into()});
        let published = self.demand("published", message).await;
        assert_eq!(published["room"], room);
        published["id"].as_str().expect("an id").to_owned()
    }

    pub async fn typing(&mut self, room: &str, typing: bool) {
        self.say(json!({"type": "typing", "room": room, "typing": typing})).await;
    }

    /// Who is in a room: how many, and their ids.
    pub async fn presence(&mut self, room: &str) -> (u64, Vec<i64>) {
        let state = self.demand("presence_state", json!({"type": "presence", "room": room})).await;
        assert_eq!(state["room"], room);
        (state["count"].as_u64().expect("a number"), ids(&state["users"]))
    }

    /// The next thing that it hears without having asked.
    pub async fn hear(&mut self) -> Value {
        match self.kept.pop_front() {
            Some(heard) => heard,
            None => self.client.hear().await,
        }
    }

    /// The payload of the next event, which is of this type.
    pub async fn event(&mut self, kind: &str) -> Value {
        let mut heard = self.hear().await;
        assert_eq!(heard["type"], kind, "{heard}");
        heard["payload"].take()
    }

    /// The next event is that somebody came, or went.
    pub async fn hears_presence(&mut self, room: &str, event: &str, user: &User) {
        assert_eq!(self.event("presence").await, json!({"room": room, "event": event, "user": user.json()}));
    }

    /// The next event is that somebody types, or does not any more; until when, in ms since 1970.
    pub async fn hears_typing(&mut self, room: &str, user: &User, typing: bool) -> Value {
        let mut payload = self.event("typing").await;
        let until = payload["until"].take();
        assert_eq!(payload, json!({"room": room, "user": user.json(), "typing": typing, "until": null}));
        until
    }

    /// The next event is this message.
    pub async fn hears_message(&mut self, room: &str, data: impl Into<Value>) -> Value {
        let message = self.event("message").await;
        assert_eq!((&message["room"], &message["data"]), (&json!(room), &data.into()), "{message}");
        message
    }

    /// The next event is what somebody publishes now, so that nothing else has happened in the room since the last one.
    pub async fn has_heard_everything(&mut self, room: &str, teller: &mut Self) {
        let marker = format!("marker {}", uuid::Uuid::new_v4());
        teller.publish(room, marker.clone()).await;
        self.hears_message(room, marker).await;
    }

    /// That nothing comes within so long.
    pub async fn hears_nothing_for(&mut self, duration: Duration) {
        assert!(self.kept.is_empty(), "{:?}", self.kept);
        let heard = timeout(duration, self.client.hear()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    /// Repeats a message until it is served, for as long as it is answered that a store is away; the answer.
    pub async fn insist(&mut self, message: Value) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(message.clone()).await;
            if answer["payload"]["code"] != "unavailable" {
                return answer;
            }
            assert!(Instant::now() < deadline, "still unavailable: {message}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The next event is some message.
    pub async fn hears_message_only(&mut self, room: &str) {
        assert_eq!(self.event("message").await["room"], room);
    }

    /// Repeats a message for as long as it is answered that there were too many; the answer.
    pub async fn patiently(&mut self, message: Value) -> Value {
        loop {
            let answer = self.ask(message.clone()).await;
            if answer["payload"]["code"] != "rate_limited" {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// As [`Self::patiently`], but what is beyond a budget, which says when to come again, is an answer.
    pub async fn patiently_served(&mut self, message: Value) -> Value {
        loop {
            let answer = self.ask(message.clone()).await;
            if answer["payload"]["code"] != "rate_limited" || !answer["payload"]["retryAfter"].is_null() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Loses the connection, as a crash does.
    pub fn cut(self) {
        self.client.cut();
    }
}

/// The ids of a list of users.
pub fn ids(users: &Value) -> Vec<i64> {
    let users = users.as_array().expect("a list").iter();
    let mut ids: Vec<_> = users.map(|user| user["id"].as_i64().expect("an id")).collect();
    ids.sort_unstable();
    ids
}
