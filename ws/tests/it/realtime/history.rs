//! What was said while somebody was away.

use gatefold_cluster::Cluster;
use serde_json::{Value, json};

use super::shared;
use crate::harness::{Gatefold, eventually, new_room, unhurried, visitor::Visitor};

/// So many messages of a room are kept.
const KEPT: usize = 100;

/// A room where so many messages were published, whose data are their numbers; their ids. Nobody may publish so many at
/// once, so several do.
async fn room_with(gatefold: &Gatefold, messages: usize) -> (String, Visitor, Vec<String>) {
    let room = new_room();
    let (mut first, mut second) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await);
    let mut third = gatefold.visitor("ws-3").await;
    let mut ids = Vec::new();
    for author in [&mut first, &mut second, &mut third] {
        author.join(&room).await;
    }
    for number in 0..messages {
        let author = [&mut first, &mut second, &mut third].into_iter().nth(number % 3).expect("one of three");
        ids.push(author.publish(&room, number).await);
    }
    (room, gatefold.visitor("ws-1").await, ids)
}

fn numbers(messages: &Value) -> Vec<usize> {
    let number = |message: &Value| usize::try_from(message["data"].as_u64().expect("a number")).expect("small");
    messages.as_array().expect("a list").iter().map(number).collect()
}

async fn missed(visitor: &mut Visitor, room: &str, since: &str) -> (Vec<usize>, bool) {
    let joined = visitor.join_since(room, since).await;
    (numbers(&joined["messages"]), joined["recovered"].as_bool().expect("yes or no"))
}

#[tokio::test]
async fn what_came_after_the_last_message_that_was_seen_comes_in_its_order() {
    let gatefold = shared().await;
    let (room, mut visitor, ids) = room_with(gatefold, 12).await;
    assert_eq!(missed(&mut visitor, &room, &ids[0]).await, ((1..12).collect(), true));
    assert_eq!(missed(&mut visitor, &room, &ids[10]).await, (vec![11], true));
    assert_eq!(missed(&mut visitor, &room, &ids[11]).await, (vec![], true));
    let joined = visitor.join(&room).await;
    assert_eq!((&joined["messages"], &joined["recovered"]), (&json!([]), &json!(true)));
}

#[tokio::test]
async fn a_message_that_was_missed_looks_like_one_that_is_heard() {
    let gatefold = shared().await;
    let room = new_room();
    let (mut author, mut reader) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await);
    author.join(&room).await;
    let first = author.publish(&room, "first").await;
    author.publish(&room, json!({"text": "ü \"quoted\"", "n": [1, null]})).await;
    author.hears_message(&room, "first").await;
    let heard = author.event("message").await;
    assert_eq!(reader.join_since(&room, &first).await["messages"], json!([heard]));
}

#[tokio::test]
async fn a_hundred_messages_are_kept_and_it_is_said_when_more_were_missed() {
    let gatefold = shared().await;
    let (room, mut visitor, ids) = room_with(gatefold, KEPT + 6).await;
    let kept: Vec<_> = (6..KEPT + 6).collect();
    assert_eq!(missed(&mut visitor, &room, &ids[5]).await, (kept.clone(), true), "exactly those that are kept");
    assert_eq!(missed(&mut visitor, &room, &ids[6]).await, (kept[1..].to_vec(), true), "one less");
    assert_eq!(missed(&mut visitor, &room, &ids[4]).await, (kept.clone(), false), "one is missing");
    assert_eq!(missed(&mut visitor, &room, &ids[0]).await, (kept.clone(), false), "five are missing");
    assert_eq!(missed(&mut visitor, &room, "1-0").await, (kept, false), "who knows how many are missing");
}

#[tokio::test]
async fn an_id_that_redis_never_gave_is_not_said_to_be_recovered() {
    let gatefold = shared().await;
    let (room, mut visitor, _) = room_with(gatefold, 3).await;
    // As after a loss of data: what was seen there is not known any more.
    let (messages, recovered) = missed(&mut visitor, &room, "99999999999999-0").await;
    assert!(!recovered, "{messages:?}");
}

#[tokio::test]
async fn what_is_no_id_makes_the_message_invalid() {
    let gatefold = shared().await;
    let room = new_room();
    let mut visitor = gatefold.visitor("ws-1").await;
    let garbage = [
        json!(""),
        json!("abc"),
        json!("1-"),
        json!("-1"),
        json!("1-2-3"),
        json!("1-x"),
        json!("$"),
        json!("+"),
        json!(5),
    ];
    for since in garbage.iter().chain(&[json!("99999999999999999999999-0"), json!(" 1-0"), json!({})]) {
        let join = json!({"type": "join", "room": room, "since": since});
        assert_eq!(visitor.error(join).await, "invalid_message", "{since}");
    }
    assert_eq!(visitor.presence(&room).await, (0, vec![]));
}

#[tokio::test]
async fn between_what_was_missed_and_what_is_heard_nothing_is_lost_and_nothing_comes_twice() {
    let gatefold = shared().await;
    let (room, _, ids) = room_with(gatefold, 1).await;
    let mut author = gatefold.visitor("ws-1").await;
    author.join(&room).await;
    let talking = async {
        for number in 1..55 {
            author.publish(&room, number).await;
        }
    };
    let joining = async {
        let mut seen = Vec::new();
        for replica in ["ws-1", "ws-2", "ws-3", "ws-1", "ws-2", "ws-3"] {
            let mut visitor = gatefold.visitor(replica).await;
            let joined = visitor.join_since(&room, &ids[0]).await;
            assert_eq!(joined["recovered"], true);
            let mut all = numbers(&joined["messages"]);
            while all.last() != Some(&54) {
                let heard = visitor.hear().await;
                if heard["type"] == "message" {
                    all.extend(numbers(&json!([heard["payload"]])));
                }
            }
            seen.push(all);
        }
        seen
    };
    let ((), seen) = tokio::join!(talking, joining);
    for all in seen {
        assert_eq!(all, (1..55).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn members_are_told_that_messages_were_lost_on_their_way_to_them() {
    let gatefold = Gatefold::start(unhurried(Cluster::builder()).ws(1).redis_through_proxy()).await;
    let room = new_room();
    let [mut author, mut reader] = [gatefold.visitor("ws-1").await, gatefold.visitor("ws-1").await];
    author.join(&room).await;
    reader.join(&room).await;
    let seen = author.publish(&room, "seen").await;
    reader.hears_message(&room, "seen").await;

    // While this replica has lost Redis, others publish so much that not all of it is kept.
    let faults = gatefold.cluster.redis_faults().expect("a proxy");
    faults.refuse();
    eventually("it is cut off", async || faults.connections() == 0).await;
    let kept = gatefold.redis_command(&format!("XADD room:{{{room}}}:history * user 7 data 2")).await;
    let kept = kept.lines().nth(1).expect("an id");
    let before = kept.strip_suffix("-0").and_then(|time| time.parse::<u64>().ok()).expect("milliseconds") - 1;
    gatefold.redis_command(&format!("HSET room:{{{room}}}:clock gone {before}-0 last {kept}")).await;
    faults.pass();

    let told = reader.event("joined").await;
    assert_eq!(
        (&told["recovered"], &told["messages"], &told["count"]),
        (&json!(false), &json!([]), &json!(2)),
        "{told}"
    );
    assert_eq!(told["last"], json!(seen), "what to come back with if the rest does not come");
    assert_eq!(reader.hears_message(&room, 2).await["id"], kept);
}

#[tokio::test]
async fn what_is_older_than_five_minutes_goes_with_the_next_message_and_is_known_to_be_gone() {
    let gatefold = shared().await;
    let room = new_room();
    let (mut author, mut reader) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await);
    author.join(&room).await;
    let now = gatefold_shared::clock::unix_millis();
    let (old, recent) = (format!("{}-0", now - 301_000), format!("{}-0", now - 200_000));
    // As if the room were as old as that.
    gatefold.redis_command(&format!("HSET room:{{{room}}}:clock gone {}-0", now - 400_000)).await;
    for id in [&old, &recent] {
        gatefold.redis_command(&format!("XADD room:{{{room}}}:history {id} user 7 data 1")).await;
    }
    author.publish(&room, 2).await;
    let before = format!("{}-0", now - 302_000);
    assert_eq!(missed(&mut reader, &room, &before).await, (vec![1, 2], false));
    assert_eq!(missed(&mut reader, &room, &old).await, (vec![1, 2], true));
    assert_eq!(missed(&mut reader, &room, &recent).await, (vec![2], true));
}
