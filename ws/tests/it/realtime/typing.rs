//! Who is typing: a state with a lifetime, and each way in which it ends.

use std::time::{Duration, Instant};

use gatefold_cluster::Cluster;
use gatefold_shared::clock;
use serde_json::json;

use super::{TYPING, TYPING_ROOM_LIMIT, patient, shared};
use crate::harness::{Gatefold, new_room, unhurried, visitor::Visitor};

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
async fn a_start_ends_by_itself_and_not_before_its_time() {
    let gatefold = shared().await;
    let (mut typist, mut reader, room) = two_in_a_room(gatefold).await;
    let started = Instant::now();
    typist.typing(&room, true).await;
    reader.hears_typing(&room, &typist.user, true).await;
    reader.hears_typing(&room, &typist.user, false).await;
    let lasted = started.elapsed();
    assert!(lasted >= TYPING, "it lasted {lasted:?}");
    typist.has_heard_everything(&room, &mut reader).await;
}

#[tokio::test]
async fn a_start_is_heard_with_its_end() {
    let gatefold = patient().await;
    let (mut typist, mut reader, room) = two_in_a_room(gatefold).await;
    let before = clock::unix_millis();
    typist.typing(&room, true).await;
    let until = reader.hears_typing(&room, &typist.user, true).await.as_u64().expect("milliseconds");
    let range = before..=clock::unix_millis();
    assert!(range.contains(&(until - 60_000)), "{until} is not a minute after {range:?}");
}

/// Typing lasts for longer here than anybody waits for its end.
#[tokio::test]
async fn it_ends_when_the_typist_says_so() {
    let (mut typist, mut reader, room) = typing_in_a_room(patient().await).await;
    typist.typing(&room, false).await;
    reader.hears_typing(&room, &typist.user, false).await;
    reader.has_heard_everything(&room, &mut typist).await;
}

#[tokio::test]
async fn it_ends_with_the_message() {
    let (mut typist, mut reader, room) = typing_in_a_room(patient().await).await;
    typist.publish(&room, "here it is").await;
    // In whichever order.
    let mut kinds = [reader.hear().await, reader.hear().await].map(|heard| heard["type"].to_string());
    kinds.sort();
    assert_eq!(kinds, ["\"message\"", "\"typing\""]);
    assert_eq!(reader.join(&room).await["typing"], json!([]));
}

#[tokio::test]
async fn it_ends_when_the_typist_leaves() {
    let (mut typist, mut reader, room) = typing_in_a_room(patient().await).await;
    typist.leave(&room).await;
    let mut kinds = [reader.hear().await, reader.hear().await].map(|heard| heard["type"].to_string());
    kinds.sort();
    assert_eq!(kinds, ["\"presence\"", "\"typing\""]);
    assert_eq!(reader.join(&room).await["typing"], json!([]));
}

#[tokio::test]
async fn it_ends_when_the_typist_is_lost_and_is_not_waited_for() {
    let (typist, mut reader, room) = typing_in_a_room(patient().await).await;
    let user = typist.user.clone();
    typist.cut();
    reader.hears_typing(&room, &user, false).await;
    // As a user they may still come back.
    assert_eq!(reader.presence(&room).await, (2, vec![user.id, reader.user.id]));
}

#[tokio::test]
async fn it_lasts_as_long_as_it_is_renewed_and_renewals_are_not_heard() {
    // Redis is told every three seconds: a machine that does nothing for five ends no typing.
    const LASTS: Duration = Duration::from_secs(9);
    let gatefold = Gatefold::start(unhurried(Cluster::builder()).ws(3).env("TYPING_EXPIRY", "9s")).await;
    let (mut typist, mut reader, room) = typing_in_a_room(&gatefold).await;
    let mut late = gatefold.visitor("ws-3").await;
    let started = Instant::now();
    while started.elapsed() < LASTS + Duration::from_secs(1) {
        typist.typing(&room, true).await;
        typist.typing(&room, true).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(late.join(&room).await["typing"], json!([typist.user.json()]));
    reader.hears_presence(&room, "join", &late.user).await;
    reader.hears_typing(&room, &typist.user, false).await;
    late.hears_typing(&room, &typist.user, false).await;
}

#[tokio::test]
async fn whoever_comes_later_sees_who_is_typing() {
    let gatefold = patient().await;
    let (mut typist, _, room) = typing_in_a_room(gatefold).await;
    for replica in ["ws-1", "ws-2", "ws-3"] {
        let mut late = gatefold.visitor(replica).await;
        assert_eq!(late.join(&room).await["typing"], json!([typist.user.json()]), "{replica}");
        typist.hears_presence(&room, "join", &late.user).await;
    }
}

#[tokio::test]
async fn no_device_of_the_typist_hears_of_it() {
    let gatefold = patient().await;
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
    let (mut typist, mut reader, room) = two_in_a_room(patient().await).await;
    typist.typing(&room, false).await;
    reader.has_heard_everything(&room, &mut typist).await;
}

#[tokio::test]
async fn renewals_are_stopped_before_redis_is_asked() {
    let gatefold = patient().await;
    let (mut typist, _reader, room) = typing_in_a_room(gatefold).await;
    let before = gatefold.events_in_redis(&room).await;
    for _ in 0..50 {
        typist.typing(&room, true).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    typist.publish(&room, "now").await;
    // Whatever Redis is told is an event: the message, and perhaps what is due after a third of a minute.
    let events = gatefold.events_in_redis(&room).await - before;
    assert!(events <= 2, "{events} events for 50 renewals");
}

#[tokio::test]
async fn in_a_room_with_too_many_users_typing_is_silence_without_an_error() {
    let gatefold = patient().await;
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
