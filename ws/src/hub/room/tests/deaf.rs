//! When somebody is not let in in time: is it that no events come?

use super::*;

const LATE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_lookup_that_takes_too_long_says_nothing_of_events() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    let mut tab = Client::new(1);
    tab.comes_back(&mut room, "1-0", now + LATE);
    room.on_time(now + LATE).await;
    assert_eq!(tab.heard(), ["unavailable"]);
    assert!(room.next_update(now + LATE).is_none(), "events are heard as before");
    hear(&mut room, &message(11, "2-0")).await;
    assert_eq!(one.heard(), ["2-0"]);
}

#[tokio::test]
async fn a_message_that_redis_tells_of_and_that_is_never_heard_has_the_room_followed_anew() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let mut tab = Client::new(1);
    let asked = tab.comes_back(&mut room, "1-0", now + LATE);
    room.on_read(asked, Some(&page(11, "1-0", &["2-0"])));
    room.on_time(now + LATE).await;
    assert_eq!(tab.heard(), ["unavailable"]);
    assert!(room.next_update(now + LATE).expect("an update").subscribe);
}
