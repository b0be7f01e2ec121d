//! A user who leaves on one replica while they come on another: members of both hear the same.

use super::*;

const LEFT: &str = r#"{"seq":12,"leave":[{"id":2,"username":"user-2"}]}"#;
const CAME: &str = r#"{"seq":13,"join":[{"id":2,"username":"user-2"}]}"#;

/// A room that user 2, who is elsewhere, enters here, as Redis is being told.
async fn room_that_somebody_enters(now: Instant) -> (Room, Client, Client, Update) {
    let (mut room, mut one) = room_of(1, now).await;
    hear(&mut room, r#"{"seq":11,"join":[{"id":2,"username":"user-2"}]}"#).await;
    assert_eq!(one.heard(), ["join 2"]);
    let two = Client::new(2);
    two.joins(&mut room, now);
    let update = room.next_update(now).expect("somebody came");
    (room, one, two, update)
}

#[tokio::test]
async fn a_departure_elsewhere_before_the_arrival_here_is_heard_whichever_comes_first_reply_or_event() {
    let now = Instant::now();
    for reply_first in [true, false] {
        let (mut room, mut one, mut two, update) = room_that_somebody_enters(now).await;
        let mut update = Some(update);
        if reply_first {
            is_told(&mut room, update.take().expect("once"), 13, &[], now).await;
        }
        hear(&mut room, LEFT).await;
        if let Some(update) = update {
            is_told(&mut room, update, 13, &[], now).await;
        }
        hear(&mut room, CAME).await;
        assert_eq!(one.heard(), ["leave 2", "join 2"], "reply first: {reply_first}");
        assert_eq!(two.heard().last().map(String::as_str), Some(if reply_first { "join 2" } else { "joined 2 true" }));
    }
}

#[tokio::test]
async fn a_departure_after_the_arrival_here_means_that_redis_forgot_and_nobody_hears_it() {
    let now = Instant::now();
    let (mut room, mut one, mut two, update) = room_that_somebody_enters(now).await;
    is_told(&mut room, update, 11, &[], now).await;
    assert_eq!(two.heard(), ["joined 2 true"]);
    hear(&mut room, LEFT).await;
    assert_eq!((one.heard(), two.heard()), (vec![], vec![]));
}

#[tokio::test]
async fn whoever_was_revoked_is_not_said_to_be_here_under_a_new_id() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    let mut two = comes(&mut room, 2, now).await;
    hear(&mut room, r#"{"seq":11,"join":[{"id":2,"username":"user-2"}]}"#).await;
    assert_eq!((one.heard(), two.heard()), (vec!["join 2".to_owned()], vec!["joined 2 true".to_owned()]));
    // One of them is known to have ended before everything is said again, and the other one while that is said.
    let three = comes(&mut room, 3, now).await;
    room.on_reborn(Uuid::nil());
    for revoked in [&two, &three] {
        revoked.peer.end(crate::close::CloseReason::Revoked(gatefold_shared::revocation::Why::Logout));
    }
    room.lose(three.peer.id, false, now);
    let update = room.next_update(now).expect("something to say");
    assert!(update.changes.exact);
    assert_eq!(ids(&update.changes.arrivals), [1]);
    assert!(!two.peer.is_in(&room.name));
}

#[tokio::test]
async fn whoever_has_no_connection_any_more_is_not_said_to_be_here_under_a_new_id() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let two = comes(&mut room, 2, now).await;
    room.lose(two.peer.id, false, now);
    room.on_reborn(Uuid::nil());
    assert_eq!(ids(&room.next_update(now).expect("something to say").changes.arrivals), [1]);
}
