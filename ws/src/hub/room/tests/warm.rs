//! A large room is followed for some time after the last member here has left; and the dead are removed from what is followed.

use super::*;

/// A room that is large without its one member here, who leaves.
async fn large_room_left(now: Instant) -> (Room, Client) {
    let (mut room, mut client) = (room(), Client::new(1));
    client.joins(&mut room, now);
    let update = room.next_update(now).expect("somebody came");
    let users: Vec<_> = (1..=101).collect();
    is_told(&mut room, update, 10, &users, now).await;
    assert_eq!(client.heard(), ["joined 101 true"]);
    leaves(&mut room, &mut client, 11, now).await;
    (room, client)
}

async fn leaves(room: &mut Room, client: &mut Client, seq: u64, now: Instant) {
    room.leave(&client.peer, pending("leave"));
    assert_eq!(client.heard(), ["left"]);
    let update = room.next_update(now).expect("somebody went");
    assert!(!update.unsubscribe);
    assert_eq!(update.changes.departures, [1]);
    is_told(room, update, seq, &[], now).await;
    hear(room, &format!(r#"{{"seq":{seq},"leave":[{{"id":1,"username":"user-1"}}]}}"#)).await;
}

#[tokio::test]
async fn whoever_comes_and_goes_in_a_large_room_has_it_read_once() {
    let now = Instant::now();
    let (mut room, mut client) = large_room_left(now).await;
    for seq in [12, 14, 16] {
        client.joins(&mut room, now);
        let update = room.next_update(now).expect("somebody came");
        assert!(!update.subscribe && update.state.is_none(), "the room is known");
        is_told(&mut room, update, seq, &[], now).await;
        hear(&mut room, &format!(r#"{{"seq":{seq},"join":[{{"id":1,"username":"user-1"}}]}}"#)).await;
        assert_eq!(client.heard(), ["joined 101 true"]);
        leaves(&mut room, &mut client, seq + 1, now).await;
    }
    assert!(room.next_update(now).is_none() && !room.is_over());
    let later = now + KEPT_WARM;
    room.on_time(later).await;
    let update = room.next_update(later).expect("nobody came");
    assert!(update.unsubscribe && update.changes.is_empty());
    is_told(&mut room, update, 20, &[], later).await;
    assert!(room.is_over());
}

#[tokio::test]
async fn a_room_that_nobody_is_in_is_not_read_again_when_something_was_missed() {
    let now = Instant::now();
    let (mut room, _client) = large_room_left(now).await;
    room.on_missed();
    let update = room.next_update(now).expect("it is followed no more");
    assert!(update.unsubscribe && update.state.is_none());
}

#[tokio::test]
async fn of_a_replica_that_is_gone_the_users_are_removed_where_it_had_some() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let [dead, other] = [1, 2].map(Uuid::from_u128);
    room.on_missed();
    let update = room.next_update(now).expect("the room has to be read");
    let state = Some(RoomState { replicas: vec![dead], ..state(&[1, 2], "1-0") });
    room.on_updated(update, (Updated { seq: 11, state }, None), now).await;
    room.on_vanished(other);
    assert!(room.next_update(now).is_none());
    room.on_vanished(dead);
    let update = room.next_update(now).expect("the dead are removed");
    assert_eq!(update.former, [dead]);
    assert!(update.changes.is_empty() && update.state.is_none());
}
