//! What is told of messages that were missed, by the members or by somebody who comes.

use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// Reads the room as it was after event `seq`, and what was said since the members heard the last message.
async fn is_read(room: &mut Room, (seq, last): (u64, &str), history: History, now: Instant) {
    let mut update = room.next_update(now).expect("the room has to be read");
    assert!(update.since.take().is_some() && update.state.is_some());
    room.on_updated(update, (Updated { seq, state: Some(state(&[1], last)) }, Some(history)), now).await;
}

/// What whoever joins now is told to come back with.
fn last_told(room: &mut Room, now: Instant) -> String {
    let mut tab = Client::new(1);
    tab.joins(room, now);
    let joined = tab.payloads().pop().expect("joined");
    room.lose(tab.peer.id, true, now);
    joined["last"].as_str().expect("an id").to_owned()
}

fn gone(seq: u64) -> History {
    History { seq, recovered: false, messages: Vec::new() }
}

#[tokio::test]
async fn whoever_joins_a_room_that_redis_had_forgotten_is_not_given_an_id_that_is_gone() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    hear(&mut room, &message(11, "1000-0")).await;
    assert_eq!(last_told(&mut room, now), "1000-0");

    // The next event is the first of a new clock.
    hear(&mut room, r#"{"seq":4000000000,"join":[{"id":2,"username":"user-2"}]}"#).await;
    let later = now + HOUR * 2;
    assert!(!room.may_lack(&gone(4_000_000_000), later), "nothing was said: the room was forgotten");
    is_read(&mut room, (4_000_000_000, "4000000-0"), gone(4_000_000_000), later).await;
    assert_eq!(last_told(&mut room, later), "4000000-0");
}

#[tokio::test]
async fn messages_that_redis_has_lost_are_missed() {
    let now = Instant::now();
    let (mut room, mut one) = room_of(1, now).await;
    hear(&mut room, &message(11, "1000-0")).await;
    room.on_missed();
    assert!(room.may_lack(&gone(4_000_000_000), now + HOUR / 2));
    let history = History { recovered: false, ..history(4_000_000_001, &["4000-0"]) };
    is_read(&mut room, (4_000_000_000, "3000-0"), history, now + HOUR / 2).await;
    // As whoever comes back is told; with the id from before, which they would come back with now.
    let heard = one.messages();
    assert_eq!(heard.iter().map(short).collect::<Vec<_>>(), ["1000-0", "joined 1 false", "4000-0"]);
    assert_eq!((&heard[1]["payload"]["last"], &heard[1]["id"]), (&"1000-0".into(), &Value::Null));
    assert_eq!(last_told(&mut room, now), "4000-0", "the history was read later than the room");
}

#[tokio::test]
async fn whoever_waits_while_messages_are_lost_is_told_of_that_too() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    hear(&mut room, &message(11, "1000-0")).await;
    let (mut found, mut asks) = (Client::new(1), Client::new(1));
    let asked = found.comes_back(&mut room, "900-0", now + HOUR);
    // More of the history than is being read for the other one.
    asks.comes_back(&mut room, "800-0", now + HOUR);
    // What they found is ahead of what has been heard, and the rest of it never comes.
    room.on_read(asked, Some(&page(12, "900-0", &["1000-0", "2000-0"])));
    room.on_missed();
    let history = History { recovered: false, ..history(19, &["9000-0"]) };
    is_read(&mut room, (19, "9000-0"), history, now).await;
    assert_eq!(found.heard(), ["joined 1 false"]);
    let again = has_its_turn(&mut room).expect("it may have been found before that").number;
    room.on_read(again, Some(&page(19, "9000-0", &[])));
    assert_eq!(asks.heard(), ["joined 1 false"]);
}

#[tokio::test]
async fn when_redis_has_lost_the_last_messages_nobody_is_given_an_id_that_it_does_not_know() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    hear(&mut room, &message(11, "1000-0")).await;
    hear(&mut room, &message(12, "2000-0")).await;
    room.on_missed();
    is_read(&mut room, (11, "1000-0"), gone(11), now).await;
    assert_eq!(last_told(&mut room, now), "1000-0");
}

/// The ids in the one `joined` that a client has heard.
fn recovered(tab: &mut Client) -> Vec<String> {
    let joined = tab.payloads().pop().expect("joined");
    let messages = joined["messages"].as_array().expect("a list").iter();
    messages.map(|message| message["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn what_whoever_comes_back_has_read_before_the_members_heard_it_comes_once() {
    let now = Instant::now();
    // The history that was read has something for who comes, or had all that they knew.
    for (since, read, told) in [("1-0", &["2-0", "3-0"][..], &["2-0", "3-0", "4-0"][..]), ("3-0", &[], &["4-0"])] {
        let (mut room, mut one) = room_of(1, now).await;
        hear(&mut room, &message(11, "1-0")).await;
        let mut tab = Client::new(1);
        let asked = tab.comes_back(&mut room, since, now + HOUR);
        room.on_read(asked, Some(&page(13, since, read)));
        // The members have missed what that one has read.
        hear(&mut room, &message(14, "4-0")).await;
        is_read(&mut room, (14, "4-0"), history(14, &["2-0", "3-0", "4-0"]), now).await;
        assert_eq!(one.heard(), ["1-0", "2-0", "3-0", "4-0"]);
        assert_eq!(recovered(&mut tab), told);
    }
}

#[tokio::test]
async fn of_what_is_told_only_so_much_is_kept_as_somebody_who_waits_may_need() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let mut tabs = [Client::new(1), Client::new(1)];
    let mut asked = tabs[0].comes_back(&mut room, "0-20", now + HOUR);
    // One always comes before the other has been let in.
    for number in 1..=10_u64 {
        let (comes, waits) = if number % 2 == 0 { (0, 1) } else { (1, 0) };
        // Each wants more than is being read, so that nobody is served with another one.
        let next = tabs[comes].comes_back(&mut room, &format!("0-{}", 20 - number), now + HOUR);
        let seq = 10 + number;
        hear(&mut room, &message(seq, &format!("{number}-0"))).await;
        room.on_read(asked, Some(&page(seq - 1, "0-1", &[])));
        assert_eq!(recovered(&mut tabs[waits]), [format!("{number}-0")]);
        assert_eq!(room.waiting.recent.len(), 1);
        asked = next;
    }
}
