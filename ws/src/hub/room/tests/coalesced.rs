//! Several who come back at once have the history read once.

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn asks(room: &mut Room, since: &str, now: Instant) -> Client {
    let client = Client::new(1);
    client.asks(room, Join { since: since.parse().ok(), grantee: None }, now + HOUR);
    client
}

fn messages(client: &mut Client) -> (Value, Vec<Value>) {
    let mut joined = client.payloads().pop().expect("joined");
    let messages = joined["messages"].as_array().expect("a list").iter().map(|message| message["id"].clone()).collect();
    (joined["recovered"].take(), messages)
}

#[tokio::test]
async fn who_comes_while_the_history_is_read_gets_it_from_the_same_page_and_what_is_said_meanwhile() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let mut first = Client::new(1);
    let reading = first.comes_back(&mut room, "1-0", now + HOUR);
    let mut second = asks(&mut room, "2-0", now);
    assert!(has_its_turn(&mut room).is_none(), "it is being read");
    hear(&mut room, &message(11, "4-0")).await;
    // Whose turn has not come yet needs none.
    let mut third = asks(&mut room, "3-0", now);
    let asked = room.next_lookups().pop().expect("a lookup").asked;
    room.on_read(reading, Some(&page(10, "1-0", &["2-0", "3-0"])));
    assert_eq!(messages(&mut first), (true.into(), vec!["2-0".into(), "3-0".into(), "4-0".into()]));
    assert_eq!(messages(&mut second), (true.into(), vec!["3-0".into(), "4-0".into()]));
    assert_eq!(messages(&mut third), (true.into(), vec!["4-0".into()]));
    assert!(room.looked_up(asked, Some(true)).is_none(), "nothing is read for who has it");
    assert!(room.waiting.recent.is_empty());
}

#[tokio::test]
async fn a_reading_begins_with_the_oldest_message_that_anybody_wants() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let _others = [asks(&mut room, "5-0", now), asks(&mut room, "1-0", now), asks(&mut room, "9-0", now)];
    let lookups: Vec<_> = room.next_lookups().iter().map(|lookup| lookup.asked).collect();
    let read: Vec<_> = lookups.into_iter().filter_map(|asked| room.looked_up(asked, Some(true))).collect();
    assert_eq!(read.iter().map(|reading| reading.from).collect::<Vec<_>>(), [StreamId(1, 0)]);
}

#[tokio::test]
async fn nothing_is_read_for_who_has_given_up_or_gone_and_a_failure_is_told_to_all_who_wait() {
    let now = Instant::now();
    let (mut room, _one) = room_of(1, now).await;
    let (gone, mut waits) = (asks(&mut room, "1-0", now), Client::new(1));
    let asked = room.next_lookups().pop().expect("a lookup").asked;
    room.lose(gone.peer.id, false, now);
    assert!(room.looked_up(asked, Some(true)).is_none());

    let reading = waits.comes_back(&mut room, "1-0", now + HOUR);
    let mut too = asks(&mut room, "1-0", now);
    assert!(has_its_turn(&mut room).is_none());
    room.on_read(reading, None);
    assert_eq!((waits.heard(), too.heard()), (vec!["unavailable".to_owned()], vec!["unavailable".to_owned()]));
}

#[tokio::test]
async fn a_history_is_charged_to_whoever_asked_for_it() {
    let now = Instant::now();
    let (mut room, one) = room_of(1, now).await;
    room.charges.clear();
    assert_eq!(one.peer.take_debt(), 0, "a small answer costs no more than its message");
    let client = Client::new(1);
    let reading = client.comes_back(&mut room, "1-0", now + HOUR);
    let ids: Vec<String> = (2..2000).map(|id| format!("{id}-0")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    room.on_read(reading, Some(&page(10, "1-0", &ids)));
    let [(1, bytes)] = room.charges[..] else { panic!("{:?}", room.charges) };
    assert!(bytes > 20_000 && client.peer.take_debt() > 0, "{bytes}");
}
