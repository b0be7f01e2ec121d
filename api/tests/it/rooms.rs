//! Rooms over REST: publishing, who is there, and who may.

use gatefold_shared::redis::keys;
use http::{Method, header};
use serde_json::{Value, json};

use crate::harness::{
    Answer, Door, Listener, Requester, TestApp, administer, in_time, send, shared, two_replicas, unique,
};

const DOORS: [Door; 3] = [Door::Nginx, Door::Replica(0), Door::Replica(1)];

/// Publishes with this body.
async fn publish(client: &Requester, room: &str, body: impl Into<String>) -> Answer {
    let request = client.request(Method::POST, &format!("/api/rooms/{room}/messages"));
    send(request.header(header::CONTENT_TYPE, "application/json").body(body.into())).await
}

async fn presence(client: &Requester, room: &str) -> Answer {
    client.get(&format!("/api/rooms/{room}/presence")).await
}

/// The ids, authors and data of a room's history, oldest first.
async fn history(app: &TestApp, room: &str) -> Vec<[String; 3]> {
    let script = "local all = {} for i, e in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do \
                  all[i] = { e[1], e[2][2], e[2][4] } end return #all == 0 and '[]' or cjson.encode(all)";
    let stream = keys::of_room(room).pop().unwrap();
    serde_json::from_str(&app.redis_command(&["EVAL", script, "1", &stream]).await).unwrap()
}

#[tokio::test]
async fn what_is_published_through_any_replica_is_heard_and_kept_as_it_was_sent() {
    let app = shared().await;
    let client = app.signed_in(&unique("rooms.publish")).await;
    let (user, _) = client.session();
    let room = unique("rooms.publish");
    let mut members = Listener::start(app, &format!("SSUBSCRIBE {}", keys::room(&room)), ":1").await;
    let sent = [
        r#"{ "b": 1.50, "a":[1e2, 12345678901234567890123], "a": "twice" }"#,
        r#""\u00e9\ud83d\ude00 é </script>""#,
        "null",
        "0",
        "[]",
        r#"{"deep":[[[[{}]]]]}"#,
    ];
    let mut ids = Vec::new();
    for (data, door) in sent.iter().zip(DOORS.iter().cycle()) {
        let answer = publish(&client.at(*door), &room, format!("{{\"data\":{data}}}")).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(answer.json(), json!({ "id": id }));
        let event = members.until(&id).await.pop().unwrap();
        assert!(event.contains(&format!("\"data\":{data},")), "{event}");
        ids.push(id);
    }
    let kept = history(app, &room).await;
    assert_eq!(kept.iter().map(|[id, ..]| id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    assert_eq!(kept.iter().map(|[.., data]| data.as_str()).collect::<Vec<_>>(), sent);
    for [_, author, _] in kept {
        assert_eq!(serde_json::from_str::<Value>(&author).unwrap()["id"], json!(user));
    }
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_not_published() {
    let app = shared().await;
    let client = app.signed_in(&unique("rooms.refused")).await;
    let room = unique("rooms.refused");
    for (body, detail) in [
        ("{}", "`data` is missing"),
        (r#"{"Data":1}"#, "`data` is missing"),
        (r#"{"data":}"#, "The body is not valid JSON"),
        (r#"{"data":1"#, "The body is not valid JSON"),
        (r#"{"data":1}{}"#, "The body is not valid JSON"),
        (r#"{"data":1,"data":2}"#, "A field is given twice"),
        ("[1]", "The body must be a JSON object"),
        ("", "The body must be a JSON object"),
    ] {
        let answer = publish(&client, &room, body).await;
        answer.assert_problem(400, "invalid_request");
        assert_eq!(answer.json()["detail"].as_str(), Some(detail), "{body}");
    }
    for (data, detail) in [
        (format!("{}{}", "[".repeat(33), "]".repeat(33)), "`data` is nested deeper than 32 levels"),
        (format!("{}{}", "[".repeat(7000), "]".repeat(7000)), "`data` is nested deeper than 32 levels"),
        ("1e999999".to_owned(), "`data` has a number that is too large for a double"),
        (r#"["\ud800"]"#.to_owned(), "`data` has a lone surrogate in a string"),
    ] {
        let answer = publish(&client, &room, format!("{{\"data\":{data}}}")).await;
        answer.assert_problem(400, "invalid_data");
        assert_eq!(answer.json()["detail"].as_str(), Some(detail));
    }
    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(16 * 1024));
    publish(&client.at(Door::Replica(0)), &room, large).await.assert_problem(413, "payload_too_large");
    let untyped = client.request(Method::POST, &format!("/api/rooms/{room}/messages")).body("{\"data\":1}");
    send(untyped).await.assert_problem(415, "unsupported_media_type");
    publish(&app.anonymous(), &room, "{\"data\":1}").await.assert_problem(401, "missing_token");
    presence(&app.anonymous(), &room).await.assert_problem(401, "missing_token");
    assert!(history(app, &room).await.is_empty());
}

#[tokio::test]
async fn a_room_has_a_name_and_some_are_not_for_everybody() {
    let app = shared().await;
    let client = app.signed_in(&unique("rooms.names")).await;
    let (user, _) = client.session();
    let neighbour = user + 1;
    let too_long = "x".repeat(129);
    for door in DOORS {
        let client = client.at(door);
        for room in ["", "a%20b", "a%2Fb", "%C3%A9", "%FF", "a%22", "%7Ba%7D", &too_long] {
            for answer in [publish(&client, room, "{\"data\":1}").await, presence(&client, room).await] {
                answer.assert_problem(400, "invalid_request");
                assert!(answer.json()["detail"].as_str().unwrap().starts_with("`room` must"), "{answer:?}");
            }
        }
        for room in [format!("user:{neighbour}"), "user:".into(), "private:".into(), "private:a".into()] {
            publish(&client, &room, "{\"data\":1}").await.assert_problem(403, "forbidden_room");
            presence(&client, &room).await.assert_problem(403, "forbidden_room");
        }
        for room in [format!("user:{user}"), "private".into(), "x".repeat(128), unique("a:b_c.d")] {
            assert_eq!(publish(&client, &room, "{\"data\":1}").await.status, 202, "{room}");
            assert_eq!(presence(&client, &room).await.status, 200, "{room}");
        }
    }
}

#[tokio::test]
async fn a_private_room_is_open_from_grant_to_revocation_whatever_the_token_says() {
    let app = shared().await;
    let name = unique("rooms.private");
    let mut client = app.signed_in(&name).await;
    let room = format!("private:{}", unique("rooms"));
    administer(app, &["room", "grant", &name, &room], "").await;
    publish(&client, &room, "{\"data\":1}").await.assert_problem(403, "forbidden_room");
    client.refresh().await;
    for door in DOORS {
        assert_eq!(publish(&client.at(door), &room, "{\"data\":1}").await.status, 202);
        assert_eq!(presence(&client.at(door), &room).await.status, 200);
    }
    let mut members = Listener::start(app, &format!("SSUBSCRIBE {}", keys::room(&room)), ":1").await;
    administer(app, &["room", "revoke", &name, &room], "").await;
    for door in DOORS {
        publish(&client.at(door), &room, "{\"data\":1}").await.assert_problem(403, "forbidden_room");
        presence(&client.at(door), &room).await.assert_problem(403, "forbidden_room");
    }
    members.until(&format!("\"expel\":{}}}", client.session().0)).await;
    assert_eq!(history(app, &room).await.len(), 3);

    // Without a copy nothing is granted either.
    administer(app, &["room", "grant", &name, &room], "").await;
    assert_eq!(presence(&client, &room).await.status, 200);
    app.redis_command(&["DEL", &keys::grants(client.session().0)]).await;
    presence(&client, &room).await.assert_problem(403, "forbidden_room");
}

#[tokio::test]
async fn presence_counts_all_and_names_a_thousand_by_id() {
    let app = shared().await;
    let client = app.signed_in(&unique("rooms.presence")).await;
    let room = unique("rooms.presence");
    let users = keys::of_room(&room).swap_remove(2);
    for door in DOORS {
        let nobody = json!({ "room": room, "count": 0, "users": [] });
        assert_eq!(presence(&client.at(door), &room).await.json(), nobody);
    }
    app.redis_command(&["HSET", &users, "10", "1:grace", "9", "2:alice"]).await;
    let both = json!([{ "id": 9, "username": "alice" }, { "id": 10, "username": "grace" }]);
    for door in DOORS {
        let answer = presence(&client.at(door), &room).await;
        assert_eq!(answer.json(), json!({ "room": room, "count": 2, "users": both }));
    }
    let many = "for id = 1, 1001 do redis.call('HSET', KEYS[1], id, '1:user') end return 'done'";
    app.redis_command(&["EVAL", many, "1", &users]).await;
    let answer = presence(&client, &room).await.json();
    assert_eq!((answer["count"].as_u64(), answer["users"].as_array().unwrap().len()), (Some(1001), 1000));
}

#[tokio::test]
async fn without_redis_rooms_are_unavailable_and_what_was_refused_is_not_published_later() {
    let app = TestApp::start(two_replicas().redis_through_proxy()).await;
    administer(&app, &["room", "grant", "first.user", "private:a"], "").await;
    let client = app.logged_in("first.user").await;
    let faults = app.cluster.redis_faults().unwrap();
    assert_eq!(publish(&client.at(Door::Replica(0)), "lobby", "{\"data\":\"before\"}").await.status, 202);
    faults.stall();
    for (room, door) in [("lobby", Door::Replica(0)), ("private:a", Door::Replica(1))] {
        let client = client.at(door);
        in_time("a 503", async || {
            let both = tokio::join!(publish(&client, room, "{\"data\":\"late\"}"), presence(&client, room));
            for answer in [&both.0, &both.1] {
                answer.assert_problem(503, "unavailable");
            }
            both.0.took.max(both.1.took)
        })
        .await;
    }
    // What needs nothing of Redis is refused as ever.
    publish(&client.at(Door::Replica(0)), "private:b", "{\"data\":1}").await.assert_problem(403, "forbidden_room");
    faults.pass();
    app.is_ready().await;
    assert_eq!(publish(&client.at(Door::Replica(0)), "lobby", "{\"data\":\"after\"}").await.status, 202);
    let kept = history(&app, "lobby").await;
    assert_eq!(kept.iter().map(|[.., data]| data.as_str()).collect::<Vec<_>>(), ["\"before\"", "\"after\""]);
    assert!(history(&app, "private:a").await.is_empty());
}
