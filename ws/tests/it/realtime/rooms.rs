//! Joining, leaving and publishing, and what is refused.

use gatefold_shared::clock;
use serde_json::{Value, json};

use super::shared;
use crate::harness::{User, eventually, new_room, visitor::ids};

#[tokio::test]
async fn whoever_joins_is_told_who_is_there_and_the_others_hear_of_it() {
    let gatefold = shared().await;
    let room = new_room();
    let [mut alice, mut bob] = [gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await];
    let joined = alice.join(&room).await;
    let last = joined["last"].as_str().expect("an id to come back with");
    let alone = json!({
        "room": room, "count": 1, "users": [alice.user.json()], "typing": [], "messages": [], "recovered": true,
        "last": last,
    });
    assert!(last.ends_with("-9007199254740991"), "nothing was published yet: {last}");
    assert_eq!(joined, alone);
    let mut together = alone;
    together["count"] = json!(2);
    together["users"] = json!([alice.user.json(), bob.user.json()]);
    assert_eq!(bob.join(&room).await, together);
    alice.hears_presence(&room, "join", &bob.user).await;
    alice.has_heard_everything(&room, &mut bob).await;
}

#[tokio::test]
async fn a_message_reaches_everybody_in_the_room_and_its_author_and_nobody_else() {
    let gatefold = shared().await;
    let (room, other_room) = (new_room(), new_room());
    let mut members = Vec::new();
    for replica in ["ws-1", "ws-2", "ws-3", "ws-1"] {
        let mut member = gatefold.visitor(replica).await;
        member.join(&room).await;
        members.push(member);
    }
    let mut outsider = gatefold.visitor("ws-1").await;
    outsider.join(&other_room).await;
    for index in 0..3 {
        for later in index + 1..4 {
            let user = members[later].user.clone();
            members[index].hears_presence(&room, "join", &user).await;
        }
    }
    let id = members[0].publish(&room, json!({"text": "hello"})).await;
    let author = members[0].user.json();
    for member in &mut members {
        let mut message = member.hears_message(&room, json!({"text": "hello"})).await;
        let timestamp = message["timestamp"].take().as_u64().expect("milliseconds");
        assert!(clock::unix_millis().abs_diff(timestamp) < 60_000, "{timestamp}");
        let expected = json!({"room": room, "id": id, "user": author, "data": {"text": "hello"}, "timestamp": null});
        assert_eq!(message, expected);
    }
    let [first, second, ..] = &mut members[..] else { panic!("four members") };
    first.has_heard_everything(&room, second).await;
    let id = outsider.publish(&other_room, "alone").await;
    assert_eq!(outsider.hears_message(&other_room, "alone").await["id"], id);
}

#[tokio::test]
async fn what_is_published_arrives_as_it_was_written() {
    let gatefold = shared().await;
    let room = new_room();
    let mut author = gatefold.visitor("ws-1").await;
    let mut reader = gatefold.visitor("ws-2").await;
    author.join(&room).await;
    reader.join(&room).await;
    author.hears_presence(&room, "join", &reader.user).await;
    let nested = "[".repeat(32) + &"]".repeat(32);
    for data in [
        "null",
        "false",
        "[]",
        r#""ü\u0000\"\\\ud83d\ude00""#,
        r#"{"b":1,"a":1.0,"b":2}"#,
        "123456789012345678901234567890.10",
        &nested,
    ] {
        author.client.say(format!(r#"{{"type":"publish","room":"{room}","data": {data} }}"#)).await;
        assert_eq!(author.client.hear_of("published").await["payload"]["room"], room);
        let text = reader.client.hear_text().await;
        assert!(text.contains(&format!(r#""data":{data}"#)), "{data} became {text}");
    }
}

#[tokio::test]
async fn the_largest_message_reaches_the_others_whole() {
    let gatefold = shared().await;
    let room = new_room();
    let mut author = gatefold.visitor("ws-1").await;
    author.join(&room).await;
    let largest = "x".repeat(16 * 1024 - 200);
    author.publish(&room, largest.clone()).await;
    author.hears_message(&room, largest).await;
}

#[tokio::test]
async fn every_answer_and_every_error_names_the_message_that_it_is_for() {
    let gatefold = shared().await;
    let room = new_room();
    let mut client = gatefold.visitor("ws-1").await.client;
    for id in [json!("a"), json!(7), json!("ü\u{0}\""), json!(-1.5)] {
        for (message, kind) in [
            (json!({"type": "publish", "room": room, "data": 1}), "error"),
            (json!({"type": "join", "room": ""}), "error"),
            (json!({"type": "join", "room": room}), "joined"),
            (json!({"type": "presence", "room": room}), "presence_state"),
            (json!({"type": "leave", "room": room}), "left"),
            (json!({"type": "presence"}), "error"),
        ] {
            let mut message = message;
            message["id"] = id.clone();
            let answer = client.ask(&message).await;
            assert_eq!((&answer["id"], &answer["type"]), (&id, &json!(kind)), "{message}: {answer}");
        }
        let answer = client.ask(json!({"type": "join", "room": room})).await;
        assert!(answer.get("id").is_none(), "{answer}");
        assert_eq!(client.ask(json!({"type": "leave", "room": room})).await["type"], "left");
    }
}

#[tokio::test]
async fn the_names_of_rooms_are_of_few_characters_and_not_too_long() {
    let gatefold = shared().await;
    let mut visitor = gatefold.visitor("ws-1").await;
    let every_character = "azAZ09_.:-";
    for name in [every_character.to_owned(), "x".into(), "x".repeat(128)] {
        assert_eq!(visitor.join(&name).await["room"], name);
        visitor.leave(&name).await;
    }
    for name in ["", " ", "a b", "ü", "a/b", "{a}", "a\u{0}", "a\n", &"x".repeat(129)] {
        for kind in ["join", "presence"] {
            assert_eq!(visitor.error(json!({"type": kind, "room": name})).await, "invalid_room", "{kind} {name:?}");
        }
    }
}

#[tokio::test]
async fn fields_that_are_missing_or_of_another_type_make_a_message_invalid() {
    let gatefold = shared().await;
    let room = new_room();
    let mut visitor = gatefold.visitor("ws-1").await;
    visitor.join(&room).await;
    for message in [
        json!({"type": "join"}),
        json!({"type": "join", "room": 7}),
        json!({"type": "join", "room": null}),
        json!({"type": "leave"}),
        json!({"type": "typing", "room": room}),
        json!({"type": "typing", "room": room, "typing": "yes"}),
        json!({"type": "typing", "typing": true}),
        json!({"type": "publish", "room": room}),
        json!({"type": "publish", "data": 1}),
        json!({"type": "presence", "room": [room]}),
    ] {
        assert_eq!(visitor.error(message.clone()).await, "invalid_message", "{message}");
    }
}

#[tokio::test]
async fn rooms_of_others_are_forbidden_and_ones_own_is_not() {
    let gatefold = shared().await;
    let mut visitor = gatefold.visitor("ws-1").await;
    let own = format!("user:{}", visitor.user.id);
    let forbidden = ["user:1", "user:", "user:abc", "private:", "private:anything", &format!("user:0{}", &own[5..])];
    for room in forbidden {
        for kind in ["join", "presence"] {
            assert_eq!(visitor.error(json!({"type": kind, "room": room})).await, "forbidden_room", "{kind} {room}");
        }
    }
    let mut second = gatefold.visit(&visitor.user, "ws-2").await;
    visitor.join(&own).await;
    second.join(&own).await;
    second.publish(&own, "from my other device").await;
    visitor.hears_message(&own, "from my other device").await;
    // Names that only begin alike are like any other.
    for room in ["users:1", "privateer", "User:1"] {
        visitor.join(room).await;
    }
}

#[tokio::test]
async fn whoever_is_not_in_a_room_cannot_speak_there() {
    let gatefold = shared().await;
    let room = new_room();
    let mut member = gatefold.visitor("ws-1").await;
    member.join(&room).await;
    let mut visitor = gatefold.visitor("ws-1").await;
    for refused in [
        json!({"type": "publish", "room": room, "data": 1}),
        json!({"type": "typing", "room": room, "typing": true}),
        json!({"type": "publish", "room": "user:1", "data": 1}),
        json!({"type": "publish", "room": new_room(), "data": 1}),
    ] {
        assert_eq!(visitor.error(refused.clone()).await, "not_joined", "{refused}");
    }
    visitor.join(&room).await;
    visitor.leave(&room).await;
    assert_eq!(visitor.error(json!({"type": "publish", "room": room, "data": 1})).await, "not_joined");
    member.hears_presence(&room, "join", &visitor.user).await;
    member.hears_presence(&room, "leave", &visitor.user).await;
    let mut other = gatefold.visit(&member.user, "ws-2").await;
    other.join(&room).await;
    member.has_heard_everything(&room, &mut other).await;
}

#[tokio::test]
async fn a_hundred_rooms_are_enough_and_a_room_that_is_left_makes_place_for_another() {
    let gatefold = shared().await;
    let mut visitor = gatefold.visitor("ws-1").await;
    let rooms: Vec<_> = (0..101).map(|_| new_room()).collect();
    for room in &rooms[..100] {
        visitor.patiently(json!({"type": "join", "room": room})).await;
    }
    let one_more = json!({"type": "join", "room": rooms[100]});
    assert_eq!(visitor.patiently(one_more.clone()).await["payload"]["code"], "too_many_rooms");
    // A room where one is already is not one more.
    assert_eq!(visitor.patiently(json!({"type": "join", "room": rooms[7]})).await["type"], "joined");
    assert_eq!(visitor.patiently(json!({"type": "leave", "room": rooms[7]})).await["type"], "left");
    assert_eq!(visitor.patiently(one_more).await["type"], "joined");
    // Another connection of the same user has a hundred of its own.
    assert_eq!(gatefold.visit(&visitor.user, "ws-1").await.join(&rooms[0]).await["count"], 1);
}

#[tokio::test]
async fn joining_again_tells_the_same_again_and_nobody_else() {
    let gatefold = shared().await;
    let room = new_room();
    let [mut alice, mut bob] = [gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await];
    alice.join(&room).await;
    let told = bob.join(&room).await;
    assert_eq!(bob.join(&room).await, told);
    alice.hears_presence(&room, "join", &bob.user).await;
    alice.has_heard_everything(&room, &mut bob).await;
    // Once left is left.
    bob.leave(&room).await;
    alice.hears_presence(&room, "leave", &bob.user).await;
    assert_eq!(alice.presence(&room).await, (1, vec![alice.user.id]));
}

#[tokio::test]
async fn whoever_left_hears_no_more() {
    let gatefold = shared().await;
    let room = new_room();
    let [mut alice, mut bob] = [gatefold.visitor("ws-1").await, gatefold.visitor("ws-1").await];
    alice.join(&room).await;
    bob.join(&room).await;
    bob.leave(&room).await;
    alice.hears_presence(&room, "join", &bob.user).await;
    alice.hears_presence(&room, "leave", &bob.user).await;
    for number in 0..5 {
        alice.publish(&room, number).await;
        // Then their replica has told it to all who are there.
        alice.hears_message(&room, number).await;
    }
    // What is said meanwhile is in the history, and in nothing else that bob hears.
    assert_eq!(bob.join(&room).await["messages"], json!([]));
    bob.has_heard_everything(&room, &mut alice).await;
}

#[tokio::test]
async fn who_is_in_a_room_can_be_asked_by_whoever_may_join_it() {
    let gatefold = shared().await;
    let room = new_room();
    let mut asker = gatefold.visitor("ws-3").await;
    assert_eq!(asker.presence(&room).await, (0, vec![]));
    let users = User::several::<3>();
    let mut members = Vec::new();
    for (user, replica) in users.iter().zip(["ws-1", "ws-2", "ws-1"]) {
        let mut member = gatefold.visit(user, replica).await;
        member.join(&room).await;
        members.push(member);
    }
    let state = asker.demand("presence_state", json!({"type": "presence", "room": room})).await;
    let mut listed: Vec<Value> = state["users"].as_array().expect("a list").clone();
    listed.sort_by_key(|user| user["id"].as_i64());
    assert_eq!(listed, users.each_ref().map(User::json));
    assert_eq!(asker.presence(&room).await, (3, ids(&json!(listed))));
    // Asking is not joining.
    members[0].hears_presence(&room, "join", &users[1]).await;
    members[0].hears_presence(&room, "join", &users[2]).await;
    let [first, second, _] = &mut members[..] else { panic!("three members") };
    first.has_heard_everything(&room, second).await;
}

#[tokio::test]
async fn what_happens_in_one_room_is_not_heard_in_another() {
    let gatefold = shared().await;
    let (first, second) = (new_room(), new_room());
    let [mut alice, mut bob] = [gatefold.visitor("ws-1").await, gatefold.visitor("ws-1").await];
    alice.join(&first).await;
    alice.join(&second).await;
    bob.join(&second).await;
    alice.hears_presence(&second, "join", &bob.user).await;
    alice.publish(&first, "only here").await;
    alice.typing(&first, true).await;
    alice.publish(&second, "only there").await;
    alice.hears_message(&first, "only here").await;
    alice.hears_message(&second, "only there").await;
    bob.hears_message(&second, "only there").await;
}

#[tokio::test]
async fn a_replica_listens_to_a_room_only_while_somebody_of_its_own_is_in_it() {
    let gatefold = shared().await;
    let room = new_room();
    let listeners = async || {
        let reply = gatefold.redis_command(&format!("PUBSUB SHARDNUMSUB room:{{{room}}}")).await;
        reply.lines().last().and_then(|line| line.strip_prefix(':')?.parse::<u32>().ok()).expect("a number")
    };
    let [mut one, mut other] = [gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await];
    one.presence(&room).await;
    assert_eq!(listeners().await, 0, "asking is not joining");
    one.join(&room).await;
    assert_eq!(listeners().await, 1);
    other.join(&room).await;
    assert_eq!(listeners().await, 2);
    one.leave(&room).await;
    eventually("one replica listens no more", async || listeners().await == 1).await;
    other.cut();
    eventually("nobody listens any more", async || listeners().await == 0).await;
}
