//! Who is typing: a state with a lifetime, and each way in which it ends.

use std::time::{Duration, Instant};

use gatefold_shared::clock;
use serde_json::json;

use super::{TYPING, TYPING_ROOM_LIMIT, shared};
use crate::harness::{Gatefold, new_room, visitor::Visitor};

const LATE: Duration = Duration::from_secs(3);

/// Somebody who will type, and somebody on another replica who will hear of it.
async fn two_in_a_room(gatefold: &Gatefold) -> (Visitor, Visitor, String) {
    let room = new_room();
    let (mut typist, mut reader) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await);
    typist.join(&room).await;
    reader.join(&room).await;
    typist.hears_presence(&room, "join", &reader.user).await;
    (typist, reader, room)
}

/// The typist has begun, and the reader knows.
async fn typing_in_a_room(gatefold: &Gatefold) -> (Visitor, Visitor, String) {
    let (mut typist, mut reader, room) = two_in_a_room(gatefold).await;
    typist.typing(&room, true).await;
    reader.hears_typing(&room, &typist.user, true).await;
    (typist, reader, room)
}

#[tokio::test]
async fn a_start_is_heard_with_its_end_and_ends_by_itself() {
    let gatefold = shared().await;
    let (mut typist, mut reader, room) = two_in_a_room(gatefold).await;
    let started = Instant::now();
    typist.typing(&room, true).await;
    let until = reader.hears_typing(&room, &typist.user, true).await.as_u64().expect("milliseconds");
    let left = Duration::from_millis(until.saturating_sub(clock::unix_millis()));
    assert!(left <= TYPING && left + LATE > TYPING, "{left:?} left");
    reader.hears_typing(&room, &typist.user, false).await;
    let lasted = started.elapsed();
    assert!((TYPING..TYPING + LATE).contains(&lasted), "it lasted {lasted:?}");
    typist.has_heard_everything(&room, &mut reader).await;
}

#[tokio::test]
async fn it_ends_when_the_typist_says_so() {
    let (mut typist, mut reader, room) = typing_in_a_room(shared().await).await;
    typist.typing(&room, false).await;
    reader.hears_typing(&room, &typist.user, false).await;
    reader.has_heard_everything(&room, &mut typist).await;
}

#[tokio::test]
async fn it_ends_with_the_message() {
    let (mut typist, mut reader, room) = typing_in_a_room(shared().await).await;
    typist.publish(&room, "here it is").await;
    // In whichever order, but at once.
    let mut kinds = [reader.hear().await, reader.hear().await].map(|heard| heard["type"].to_string());
    kinds.sort();
    assert_eq!(kinds, ["\"message\"", "\"typing\""]);
    assert_eq!(reader.join(&room).await["typing"], json!([]));
}

#[tokio::test]
async fn it_ends_when_the_typist_leaves() {
    let (mut typist, mut reader, room) = typing_in_a_room(shared().await).await;
    typist.leave(&room).await;
    let mut kinds = [reader.hear().await, reader.hear().await].map(|heard| heard["type"].to_string());
    kinds.sort();
    assert_eq!(kinds, ["\"presence\"", "\"typing\""]);
    assert_eq!(reader.join(&room).await["typing"], json!([]));
}

#[tokio::test]
async fn it_ends_when_the_typist_is_lost_and_is_not_waited_for() {
    let (typist, mut reader, room) = typing_in_a_room(shared().await).await;
    let (user, lost) = (typist.user.clone(), Instant::now());
    typist.cut();
    reader.hears_typing(&room, &user, false).await;
    assert!(lost.elapsed() < TYPING, "only after {:?}", lost.elapsed());
    reader.hears_presence(&room, "leave", &user).await;
}

#[tokio::test]
async fn it_lasts_as_long_as_it_is_renewed_and_renewals_are_not_heard() {
    let gatefold = shared().await;
    let (mut typist, mut reader, room) = typing_in_a_room(gatefold).await;
    let started = Instant::now();
    while started.elapsed() < TYPING * 2 {
        typist.typing(&room, true).await;
        typist.typing(&room, true).await;
        tokio::time::sleep(TYPING / 4).await;
    }
    let renewed = Instant::now();
    let mut late = gatefold.visitor("ws-3").await;
    assert_eq!(late.join(&room).await["typing"], json!([typist.user.json()]));
    reader.hears_presence(&room, "join", &late.user).await;
    reader.hears_typing(&room, &typist.user, false).await;
    late.hears_typing(&room, &typist.user, false).await;
    assert!(renewed.elapsed() < TYPING + LATE, "{:?}", renewed.elapsed());
}

#[tokio::test]
async fn whoever_comes_later_sees_who_is_typing() {
    let gatefold = shared().await;
    let (mut typist, _, room) = typing_in_a_room(gatefold).await;
    for replica in ["ws-1", "ws-2", "ws-3"] {
        let mut late = gatefold.visitor(replica).await;
        assert_eq!(late.join(&room).await["typing"], json!([typist.user.json()]), "{replica}");
        typist.hears_presence(&room, "join", &late.user).await;
    }
}

#[tokio::test]
async fn no_device_of_the_typist_hears_of_it() {
    let gatefold = shared().await;
    let (mut typist, mut reader, room) = two_in_a_room(gatefold).await;
    let mut devices = [gatefold.visit(&typist.user, "ws-1").await, gatefold.visit(&typist.user, "ws-2").await];
    for device in &mut devices {
        device.join(&room).await;
    }
    typist.typing(&room, true).await;
    reader.hears_typing(&room, &typist.user, true).await;
    typist.typing(&room, false).await;
    reader.hears_typing(&room, &typist.user, false).await;
    reader.publish(&room, "now").await;
    for device in devices.iter_mut().chain([&mut typist]) {
        device.hears_message(&room, "now").await;
    }
}

#[tokio::test]
async fn stopping_what_never_began_is_not_heard() {
    let (mut typist, mut reader, room) = two_in_a_room(shared().await).await;
    typist.typing(&room, false).await;
    reader.has_heard_everything(&room, &mut typist).await;
}

#[tokio::test]
async fn renewals_are_stopped_before_redis_is_asked() {
    let gatefold = shared().await;
    let mut typists = Vec::new();
    for _ in 0..6 {
        typists.push(typing_in_a_room(gatefold).await);
    }
    let before = gatefold.scripts_run().await;
    for _ in 0..50 {
        for (typist, _, room) in &mut typists {
            typist.typing(room, true).await;
        }
    }
    for (typist, reader, room) in &mut typists {
        assert_eq!(typist.ask(json!({"type": "ping"})).await["type"], "pong");
        reader.publish(room, "now").await;
        reader.hears_message(room, "now").await;
    }
    let run = gatefold.scripts_run().await - before;
    // One each for the six messages; some for renewals that were due, and for what replicas do of their own accord.
    assert!(run < 100, "{run} scripts for 300 renewals");
}

#[tokio::test]
async fn in_a_room_with_too_many_users_typing_is_silence_without_an_error() {
    let gatefold = shared().await;
    let (mut typist, mut reader, room) = typing_in_a_room(gatefold).await;
    typist.typing(&room, false).await;
    reader.hears_typing(&room, &typist.user, false).await;
    let mut crowd = Vec::new();
    for number in 2..=TYPING_ROOM_LIMIT {
        let mut somebody = gatefold.visitor(["ws-1", "ws-2", "ws-3"][number % 3]).await;
        somebody.join(&room).await;
        for member in [&mut typist, &mut reader] {
            member.hears_presence(&room, "join", &somebody.user).await;
        }
        crowd.push(somebody);
    }
    // Their joining may take a moment to be known everywhere, but they have all been heard by now.
    typist.typing(&room, true).await;
    reader.has_heard_everything(&room, &mut typist).await;
    typist.hears_message_only(&room).await;
    // With one user less, it is heard again.
    crowd.pop().expect("somebody").leave(&room).await;
    assert_eq!(reader.event("presence").await["event"], "leave");
    typist.event("presence").await;
    typist.typing(&room, true).await;
    reader.hears_typing(&room, &typist.user, true).await;
}
