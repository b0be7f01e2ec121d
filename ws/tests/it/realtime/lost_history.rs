//! What is said to whoever comes back when Redis has lost messages, and at the very beginning of a room.

use gatefold_cluster::Cluster;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::harness::{Gatefold, new_room, unhurried, visitor::ids};

/// Two replicas whose subscriptions tests may cut.
async fn two_replicas() -> &'static Gatefold {
    static SHARED: OnceCell<Gatefold> = OnceCell::const_new();
    SHARED.get_or_init(|| Gatefold::start(unhurried(Cluster::builder()).ws(2).env("PRESENCE_GRACE", "60s"))).await
}

#[tokio::test]
async fn after_redis_has_lost_acknowledged_messages_nobody_is_told_that_all_was_recovered() {
    let gatefold = two_replicas().await;
    let room = new_room();
    let (mut author, mut elsewhere) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await);
    author.join(&room).await;
    let kept = author.publish(&room, "kept").await;
    author.hears_message(&room, "kept").await;
    let lost = author.publish(&room, "lost").await;
    author.hears_message(&room, "lost").await;

    // As a replica of Redis has the room that takes over without the last write.
    assert_eq!(gatefold.redis_command(&format!("XDEL room:{{{room}}}:history {lost}")).await, ":1\r\n");
    gatefold.redis_command(&format!("HSET room:{{{room}}}:clock last {kept}")).await;
    gatefold.redis_command("CLIENT KILL TYPE pubsub").await;
    let told = author.event("joined").await;
    assert_eq!((&told["recovered"], &told["last"]), (&json!(false), &json!(lost)), "{told}");

    let next = author.publish(&room, "next").await;
    // The other replica has never seen what was lost.
    for visitor in [&mut elsewhere, &mut gatefold.visitor("ws-1").await] {
        let joined = visitor.join_since(&room, &kept).await;
        assert_eq!((&joined["recovered"], &joined["messages"][0]["data"]), (&json!(false), &json!("next")), "{joined}");
        let joined = visitor.join_since(&room, &next).await;
        assert_eq!((&joined["recovered"], &joined["messages"]), (&json!(true), &json!([])), "{joined}");
    }
}

#[tokio::test]
async fn a_message_in_the_millisecond_in_which_a_room_begins_is_not_lost_to_who_was_there_before() {
    let gatefold = two_replicas().await;
    let room = new_room();
    let mut visitor = gatefold.visitor("ws-1").await;
    let last = visitor.join(&room).await["last"].as_str().expect("an id").to_owned();
    // The number of the first event is the time of day in microseconds.
    let began = gatefold.events_in_redis(&room).await / 1000;
    let first = format!("{began}-0");
    gatefold.redis_list(&["EVAL", "redis.call('XADD', KEYS[1], ARGV[1], 'user', '7', 'data', '1') redis.call('HSET', KEYS[2], 'last', ARGV[1]) return {}", "2",
        &format!("room:{{{room}}}:history"), &format!("room:{{{room}}}:clock"), &first]).await;
    let joined = gatefold.visitor("ws-2").await.join_since(&room, &last).await;
    assert_eq!((&joined["recovered"], &joined["messages"][0]["id"]), (&json!(true), &json!(first)), "{joined}");
}

#[tokio::test]
async fn when_a_history_has_expired_and_goes_on_only_who_had_all_of_it_has_recovered() {
    let gatefold = two_replicas().await;
    let room = new_room();
    let mut author = gatefold.visitor("ws-1").await;
    author.join(&room).await;
    let (early, late) = (author.publish(&room, 1).await, author.publish(&room, 2).await);
    assert_eq!(gatefold.redis_command(&format!("DEL room:{{{room}}}:history")).await, ":1\r\n");
    author.publish(&room, 3).await;
    let mut back = gatefold.visitor("ws-2").await;
    for (since, recovered) in [(early, false), (late, true)] {
        let joined = back.join_since(&room, &since).await;
        assert_eq!((&joined["recovered"], &joined["messages"][0]["data"]), (&json!(recovered), &json!(3)), "{joined}");
    }
}

/// How often Redis was asked for all fields of some hash, as for the users of a room.
async fn readings(gatefold: &Gatefold) -> u64 {
    let stats = gatefold.redis_command("INFO commandstats").await;
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_hgetall:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_large_room_is_not_read_anew_for_each_who_comes_and_goes() {
    const CYCLES: u64 = 40;
    let gatefold = two_replicas().await;
    let (room, replica) = (new_room(), uuid::Uuid::new_v4().to_string());
    // Ten thousand users who are there through another replica.
    let key = |part: &str| format!("room:{{{room}}}:{part}");
    let fill = "for id = 1, 10000 do redis.call('HSET', KEYS[1], id, '1:somebody-' .. id) redis.call('SADD', KEYS[2], id) end return {}";
    gatefold.redis_list(&["EVAL", fill, "2", &key("users"), &key(&format!("members:{replica}"))]).await;
    let mut visitor = gatefold.visitor("ws-1").await;
    let before = readings(gatefold).await;
    for _ in 0..CYCLES {
        let joined = visitor.patiently(json!({"type": "join", "room": room})).await;
        assert_eq!(joined["payload"]["count"], 10_001, "{}", joined["type"]);
        assert_eq!(ids(&joined["payload"]["users"]).len(), 1000);
        assert_eq!(visitor.patiently(json!({"type": "leave", "room": room})).await["type"], "left");
    }
    let readings = readings(gatefold).await - before;
    // The other tests of this file have some rooms read as well.
    assert!(readings < CYCLES / 2, "{readings} readings");
}
