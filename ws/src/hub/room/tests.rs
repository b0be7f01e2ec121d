//! A room, with somebody who answers as Redis would.

use futures_util::FutureExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::{
    hub::{
        Join, Pending,
        history::{History, Page},
    },
    presence::{RoomState, Updated},
};

mod coalesced;
mod crossing;
mod deaf;
mod missed;
mod warm;

const GRACE: Duration = Duration::from_secs(5);

fn pending(kind: &'static str) -> Pending {
    Pending::new(kind, None, Uuid::nil())
}

struct Client {
    peer: Arc<Peer>,
    pipe: DuplexStream,
    user: User,
}

impl Client {
    fn new(id: i64) -> Self {
        let (ours, pipe) = duplex(64 * 1024);
        Self { peer: Arc::new(Peer::new(ours)), pipe, user: user(id) }
    }

    fn joins(&self, room: &mut Room, now: Instant) {
        self.asks(room, Join { since: None, grantee: None }, now + Duration::from_secs(2));
    }

    fn asks(&self, room: &mut Room, join: Join, give_up_at: Instant) {
        self.peer.joins(&room.name).expect("few rooms");
        room.join(&self.peer, self.user.clone(), pending("join"), join, give_up_at);
    }

    /// Asks to come back to the room with this message, and has its turn at once; which reading that is.
    fn comes_back(&self, room: &mut Room, since: &str, give_up_at: Instant) -> u64 {
        self.asks(room, Join { since: since.parse().ok(), grantee: None }, give_up_at);
        has_its_turn(room).expect("a reading of the history").number
    }

    /// What it has heard since it was last asked, in short.
    fn heard(&mut self) -> Vec<String> {
        self.messages().iter().map(short).collect()
    }

    /// The payloads of the same.
    fn payloads(&mut self) -> Vec<Value> {
        self.messages().into_iter().map(|mut message| message["payload"].take()).collect()
    }

    fn messages(&mut self) -> Vec<Value> {
        let mut bytes = vec![0; 64 * 1024];
        let read = self.pipe.read(&mut bytes).now_or_never().map_or(0, |read| read.expect("bytes"));
        let mut rest = &bytes[..read];
        let mut messages = Vec::new();
        while let [0x81, length, behind @ ..] = rest {
            let (length, behind) = match length {
                126 => (usize::from(u16::from_be_bytes([behind[0], behind[1]])), &behind[2..]),
                _ => (usize::from(*length), behind),
            };
            messages.push(serde_json::from_slice(&behind[..length]).expect("JSON"));
            rest = &behind[length..];
        }
        messages
    }
}

/// Whoever asked last may enter; what is to be read for them, unless it is being read.
fn has_its_turn(room: &mut Room) -> Option<ToRead> {
    let asked = room.next_lookups().pop().expect("a lookup").asked;
    room.looked_up(asked, Some(true))
}

fn short(message: &Value) -> String {
    let payload = &message["payload"];
    match message["type"].as_str().expect("a type") {
        "joined" => format!("joined {} {}", payload["users"].as_array().expect("users").len(), payload["recovered"]),
        "presence" => format!("{} {}", payload["event"].as_str().expect("text"), payload["user"]["id"]),
        "message" => payload["id"].as_str().expect("text").to_owned(),
        "error" => payload["code"].as_str().expect("text").to_owned(),
        other => other.to_owned(),
    }
}

fn user(id: i64) -> User {
    User { id, username: format!("user-{id}").into() }
}

fn room() -> Room {
    let policy = RoomPolicy {
        presence_grace: GRACE,
        typing_expiry: Duration::from_secs(6),
        typing_room_limit: 200,
        publishes: "100/1s".parse().expect("a limit"),
    };
    Room::new(RoomName::parse("lobby").expect("a name"), policy, RedisTime::default())
}

/// Redis has heard `update`, and says who is there.
async fn is_told(room: &mut Room, update: Update, seq: u64, users: &[i64], now: Instant) {
    let state = || RoomState { users: users.iter().map(|&id| user(id)).collect(), ..RoomState::default() };
    let state = update.state.map(|_| state());
    room.on_updated(update, (Updated { seq, state }, None), now).await;
}

async fn hear(room: &mut Room, event: &str) {
    room.hear(event.to_owned().into(), Instant::now()).await;
}

/// A room with somebody in it.
async fn room_of(id: i64, now: Instant) -> (Room, Client) {
    let (mut room, mut client) = (room(), Client::new(id));
    client.joins(&mut room, now);
    let update = room.next_update(now).expect("somebody came");
    is_told(&mut room, update, 10, &[id], now).await;
    assert_eq!(client.heard(), ["joined 1 true"]);
    (room, client)
}

/// Somebody comes into a room, with the event 11, which has not been heard yet.
async fn comes(room: &mut Room, id: i64, now: Instant) -> Client {
    let client = Client::new(id);
    client.joins(room, now);
    let update = room.next_update(now).expect("somebody came");
    is_told(room, update, 11, &[], now).await;
    client
}

fn ids(users: &[User]) -> Vec<i64> {
    let mut ids: Vec<_> = users.iter().map(|user| user.id).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn the_first_who_comes_has_the_room_followed_and_the_last_who_goes_ends_that() {
    let now = Instant::now();
    let (mut room, mut client) = (room(), Client::new(1));
    client.joins(&mut room, now);
    let update = room.next_update(now).expect("somebody came");
    assert!(update.subscribe && update.state.is_some() && !update.unsubscribe);
    assert_eq!(ids(&update.changes.arrivals), [1]);
    assert!(room.next_update(now).is_none(), "one at a time");
    assert!(!room.has(client.peer.id), "Redis does not know yet");
    is_told(&mut room, update, 10, &[1], now).await;
    assert_eq!(client.heard(), ["joined 1 true"]);
    assert!(room.next_update(now).is_none(), "all is said");

    room.leave(&client.peer, pending("leave"));
    assert_eq!(client.heard(), ["left"]);
    let update = room.next_update(now).expect("somebody went");
    assert!(update.unsubscribe && update.state.is_none());
    assert_eq!(update.changes.departures, [1]);
    assert!(!room.is_over());
    is_told(&mut room, update, 11, &[], now).await;
    assert!(room.is_over());
}

#[tokio::test]
async fn who_comes_later_is_let_in_when_they_are_seen() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    let mut two = Client::new(2);
    two.joins(&mut room, now);
    let update = room.next_update(now).expect("somebody came");
    assert!(!update.subscribe && update.state.is_none());
    is_told(&mut room, update, 11, &[], now).await;
    assert_eq!(two.heard(), [""; 0], "their arrival has not come back yet");
    hear(&mut room, r#"{"seq":11,"join":[{"id":2,"username":"user-2"}]}"#).await;
    assert_eq!(two.heard(), ["joined 2 true"]);
    assert_eq!(one.heard(), ["join 2"]);
}

#[tokio::test]
async fn another_tab_needs_no_redis() {
    let now = Instant::now();
    let (mut room, one) = room_of(1, now).await;
    let mut tab = Client::new(1);
    tab.joins(&mut room, now);
    assert!(room.next_update(now).is_none());
    assert_eq!(tab.heard(), ["joined 1 true"]);
    room.leave(&one.peer, pending("leave"));
    assert!(room.next_update(now).is_none(), "their user is still here");
}

#[tokio::test]
async fn who_comes_back_while_redis_is_told_that_they_left_is_let_in_when_it_knows_that_they_came() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let mut two = comes(&mut room, 2, now).await;
    hear(&mut room, r#"{"seq":11,"join":[{"id":2,"username":"user-2"}]}"#).await;
    assert_eq!(two.heard(), ["joined 2 true"]);

    room.leave(&two.peer, pending("leave"));
    let left = room.next_update(now).expect("somebody went");
    two.joins(&mut room, now);
    assert_eq!(two.heard(), ["left"]);
    is_told(&mut room, left, 12, &[], now).await;
    let came = room.next_update(now).expect("somebody came");
    assert_eq!(ids(&came.changes.arrivals), [2]);
    assert_eq!(two.heard(), [""; 0], "nobody has seen them come");
    is_told(&mut room, came, 13, &[], now).await;
    assert_eq!(two.heard(), ["joined 2 true"]);
}

#[tokio::test]
async fn a_lost_connection_has_some_time_to_come_back() {
    let now = Instant::now();
    let (mut room, one) = room_of(1, now).await;
    room.lose(one.peer.id, false, now);
    assert!(room.next_update(now).is_none());
    let mut again = Client::new(1);
    again.joins(&mut room, now + GRACE / 2);
    assert_eq!(again.heard(), ["joined 1 true"]);
    room.on_time(now + GRACE).await;
    assert!(room.next_update(now + GRACE).is_none(), "they are back");

    room.lose(again.peer.id, false, now + GRACE);
    room.on_time(now + GRACE * 2).await;
    assert_eq!(room.next_update(now + GRACE * 2).expect("they are gone").changes.departures, [1]);
}

#[tokio::test]
async fn when_everybody_goes_nobody_is_said_to_leave() {
    let now = Instant::now();
    let (mut room, one) = room_of(1, now).await;
    room.lose(one.peer.id, true, now);
    room.on_time(now + GRACE * 10).await;
    assert!(room.next_update(now + GRACE * 10).is_none());
}

#[tokio::test]
async fn while_redis_is_away_nobody_is_let_in_and_afterwards_everything_is_said_again() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    let mut two = Client::new(2);
    two.joins(&mut room, now);
    let update = room.next_update(now).expect("somebody came");
    assert!(room.on_update_failed(&update, now));
    assert_eq!(two.heard(), ["unavailable"]);
    assert!(room.next_update(now).is_none(), "not at once");

    let update = room.next_update(now + TRIED_AGAIN_AFTER).expect("again");
    assert!(update.subscribe && update.state.is_some() && update.changes.exact);
    assert_eq!(ids(&update.changes.arrivals), [1], "whoever was turned away is not here");
    is_told(&mut room, update, 5, &[1, 3], now).await;
    assert_eq!(one.heard(), ["join 3"], "what they missed");
}

#[tokio::test]
async fn events_that_come_twice_late_or_not_at_all_do_no_harm() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    hear(&mut room, r#"{"seq":10,"join":[{"id":9,"username":"known-before"}]}"#).await;
    hear(&mut room, r#"{"seq":11,"join":[{"id":2,"username":"user-2"}]}"#).await;
    hear(&mut room, r#"{"seq":11,"leave":[{"id":2,"username":"user-2"}]}"#).await;
    assert_eq!(one.heard(), ["join 2"]);

    hear(&mut room, r#"{"seq":13,"join":[{"id":4,"username":"user-4"}]}"#).await;
    assert_eq!(one.heard(), [""; 0], "something is missing");
    let update = room.next_update(now).expect("the room has to be read");
    assert!(update.state.is_some() && !update.subscribe);
    hear(&mut room, r#"{"seq":14,"leave":[{"id":4,"username":"user-4"}]}"#).await;
    is_told(&mut room, update, 13, &[1, 2, 3, 4], now).await;
    assert_eq!(one.heard(), ["join 3", "join 4", "leave 4"]);
}

#[tokio::test]
async fn what_is_read_is_not_believed_if_something_was_missed_meanwhile() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    room.on_missed();
    let update = room.next_update(now).expect("the room has to be read");
    room.on_missed();
    is_told(&mut room, update, 20, &[1, 2], now).await;
    assert_eq!(one.heard(), [""; 0]);
    let update = room.next_update(now).expect("the room has to be read again");
    is_told(&mut room, update, 21, &[1, 3], now).await;
    assert_eq!(one.heard(), ["join 3"]);
}

#[tokio::test]
async fn under_a_new_id_everything_is_said_again_and_nobody_is_told() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    room.on_reborn(Uuid::nil());
    let update = room.next_update(now).expect("something to say");
    assert!(update.subscribe && update.changes.exact);
    assert_eq!(ids(&update.changes.arrivals), [1]);
    assert_eq!(update.former, [Uuid::nil()], "under the former one nobody is here any more");
    hear(&mut room, r#"{"seq":30,"leave":[{"id":1,"username":"user-1"}]}"#).await;
    is_told(&mut room, update, 31, &[1], now).await;
    assert_eq!(one.heard(), [""; 0]);
}

fn message(seq: u64, id: &str) -> String {
    format!(r#"{{"seq":{seq},"stopped":[],"id":"{id}","message":{{"id":"{id}"}}}}"#)
}

fn state(users: &[i64], last_message: &str) -> RoomState {
    let users = users.iter().map(|&id| user(id)).collect();
    RoomState { users, last_message: last_message.parse().ok(), ..RoomState::default() }
}

fn published(id: &&str) -> crate::hub::history::Published {
    crate::hub::history::Published {
        id: id.parse().expect("an id"),
        payload: serde_json::value::RawValue::from_string(format!(r#"{{"id":"{id}"}}"#)).expect("JSON"),
    }
}

fn history(seq: u64, ids: &[&str]) -> History {
    History { seq, recovered: true, messages: ids.iter().map(published).collect() }
}

/// A whole history, of which everything up to `gone` is missing.
fn page(seq: u64, gone: &str, ids: &[&str]) -> Page {
    let gone = gone.parse().expect("an id");
    let messages: Vec<_> = ids.iter().map(published).collect();
    let last = messages.last().map_or(gone, |message| message.id);
    Page { seq, from: StreamId::ZERO, gone, last, is_whole: true, messages }
}

#[tokio::test]
async fn missed_messages_are_told_once_and_in_order() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    hear(&mut room, &message(11, "1-0")).await;
    room.on_missed();
    let mut update = room.next_update(now).expect("the room has to be read");
    assert_eq!(update.since.take().map(|id| id.to_string()).as_deref(), Some("1-0"));
    hear(&mut room, &message(14, "4-0")).await;
    let state = Some(state(&[1], "3-0"));
    // The history was read a little later than the room.
    let read = (Updated { seq: 13, state }, Some(history(14, &["2-0", "3-0", "4-0"])));
    room.on_updated(update, read, now).await;
    hear(&mut room, &message(15, "5-0")).await;
    assert_eq!(one.heard(), ["1-0", "2-0", "3-0", "4-0", "5-0"]);
}

#[tokio::test]
async fn who_comes_back_gets_what_they_missed_once_however_it_is_timed() {
    let now = Instant::now();
    // The history is ahead of the events, in step with them, or behind.
    for (read_at, known) in [(12, vec!["1-0", "2-0"]), (11, vec!["1-0"]), (10, vec![])] {
        let (mut room, _one) = room_of(1, now).await;
        let client = Client::new(1);
        let asked = client.comes_back(&mut room, "0-1", now + Duration::from_secs(2));
        hear(&mut room, &message(11, "1-0")).await;
        room.on_read(asked, Some(&page(read_at, "0-1", &known)));
        hear(&mut room, &message(12, "2-0")).await;
        let mut bytes = vec![0; 4096];
        let mut pipe = client.pipe;
        let read = pipe.read(&mut bytes).await.expect("bytes");
        let text = String::from_utf8_lossy(&bytes[..read]);
        let places: Vec<_> = ["1-0", "2-0"].iter().map(|id| text.matches(&format!(r#""id":"{id}""#)).count()).collect();
        assert_eq!(places, [1, 1], "read at {read_at}: {text}");
    }
}

#[tokio::test]
async fn a_room_that_hears_nothing_is_followed_anew() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let mut two = comes(&mut room, 2, now).await;
    room.on_time(now + Duration::from_secs(2)).await;
    assert_eq!(two.heard(), ["unavailable"]);
    assert!(room.next_update(now).expect("an update").subscribe);
}

#[tokio::test]
async fn whoever_is_expelled_hears_it_on_all_connections_and_others_at_once() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    let mut tab = Client::new(1);
    tab.joins(&mut room, now);
    assert_eq!(tab.heard().len(), 1);
    hear(&mut room, r#"{"seq":11,"expel":1}"#).await;
    assert_eq!((one.heard(), tab.heard()), (vec!["left".to_owned()], vec!["left".to_owned()]));
    assert!(!one.peer.is_in(&room.name));
    assert_eq!(room.next_update(now).expect("an update").changes.departures, [1]);
}

#[tokio::test]
async fn whoever_may_not_enter_was_never_here() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let mut two = Client::new(2);
    two.asks(&mut room, Join { since: None, grantee: Some(42.into()) }, now + Duration::from_secs(2));
    assert!(room.next_update(now).is_none(), "nobody hears of them yet");
    let asked = room.next_lookups().pop().expect("a question").asked;
    assert!(room.looked_up(asked, Some(false)).is_none());
    assert_eq!(two.heard(), ["forbidden_room"]);
    assert!(!two.peer.is_in(&room.name));
    assert!(room.next_update(now).is_none());
}
