//! Private rooms: open from a grant to its end, and then closed at once. And what REST says and hears of rooms.

use gatefold_cluster::Builder;
use gatefold_shared::jwt::Subject;
use http::Method;
use serde_json::json;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::harness::{Gatefold, Login, User, eventually, many_sessions, new_room, unhurried, visitor::Visitor};

fn builder() -> Builder {
    many_sessions().api(1).ws(2)
}

async fn shared() -> &'static Gatefold {
    static SHARED: OnceCell<Gatefold> = OnceCell::const_new();
    SHARED.get_or_init(|| Gatefold::start(unhurried(builder()))).await
}

/// A socket of somebody who has logged in.
async fn visit(gatefold: &Gatefold, name: &str, login: &Login, replica: &str) -> Visitor {
    let user = User { id: login.user_id, name: name.to_owned(), family: login.family() };
    gatefold.visit_with(&user, &login.access_token, replica).await
}

/// Somebody with a grant, the room, and a socket on each replica, both in the room.
async fn members(gatefold: &Gatefold) -> (String, Login, String, [Visitor; 2]) {
    let name = gatefold.new_user().await;
    let room = format!("private:{}", new_room());
    gatefold.admin(&["room", "grant", &name, &room]).await;
    let login = gatefold.log_in(&name).await;
    let mut sockets = [visit(gatefold, &name, &login, "ws-1").await, visit(gatefold, &name, &login, "ws-2").await];
    for socket in &mut sockets {
        assert_eq!(socket.join(&room).await["count"], 1);
    }
    (name, login, room, sockets)
}

#[tokio::test]
async fn a_private_room_opens_with_the_grant_in_the_next_token() {
    let gatefold = shared().await;
    let name = gatefold.new_user().await;
    let room = format!("private:{}", new_room());
    let mut login = gatefold.log_in(&name).await;
    let mut socket = visit(gatefold, &name, &login, "ws-1").await;
    let join = json!({"type": "join", "room": room});
    assert_eq!(socket.error(join.clone()).await, "forbidden_room");
    gatefold.admin(&["room", "grant", &name, &room]).await;
    assert_eq!(socket.error(join.clone()).await, "forbidden_room");
    let access = gatefold.refresh(&mut login).await;
    socket.demand("reauth_success", json!({"type": "reauth", "access": access})).await;
    assert_eq!(socket.join(&room).await["count"], 1);
    assert_eq!(socket.presence(&room).await, (1, vec![login.user_id]));
    let mut other = gatefold.visitor("ws-1").await;
    assert_eq!(other.error(join).await, "forbidden_room");
    assert_eq!(other.error(json!({"type": "presence", "room": room})).await, "forbidden_room");
}

/// As after a restore of Postgres: the number, and with it the grant, is somebody else's.
#[tokio::test]
async fn the_grant_of_a_numbers_next_owner_opens_no_room_to_the_former_one() {
    let gatefold = shared().await;
    let (_, login, room, _sockets) = members(gatefold).await;
    let owner = login.claims()["uid"].as_str().and_then(|uid| uid.parse().ok());
    for (uid, may_enter) in [(owner, true), (Some(Uuid::new_v4()), false)] {
        let token = gatefold.token_for_room(Subject { id: login.user_id, uid }, &room);
        let user = User { id: login.user_id, ..User::new() };
        let mut socket = gatefold.visit_with(&user, &token, "ws-1").await;
        for kind in ["join", "presence"] {
            let answer = socket.ask(json!({"type": kind, "room": room})).await;
            let code = if may_enter { None } else { Some("forbidden_room") };
            assert_eq!(answer["payload"]["code"].as_str(), code, "{uid:?}: {answer}");
        }
    }
}

/// Nobody is counted in a private room before their grant was found: so it is read before anything has happened there.
#[tokio::test]
async fn who_comes_back_into_a_private_room_where_nothing_was_said_has_missed_nothing() {
    let gatefold = shared().await;
    let name = gatefold.new_user().await;
    let room = format!("private:{}", new_room());
    gatefold.admin(&["room", "grant", &name, &room]).await;
    let login = gatefold.log_in(&name).await;
    let mut first = visit(gatefold, &name, &login, "ws-1").await;
    let last = first.join(&room).await["last"].as_str().expect("an id").to_owned();
    for replica in ["ws-1", "ws-2"] {
        let mut again = visit(gatefold, &name, &login, replica).await;
        let joined = again.join_since(&room, &last).await;
        assert_eq!((&joined["recovered"], &joined["messages"]), (&json!(true), &json!([])), "{last} at {replica}");
    }
    first.publish(&room, "now").await;
    for replica in ["ws-1", "ws-2"] {
        let joined = visit(gatefold, &name, &login, replica).await.join_since(&room, &last).await;
        assert_eq!((&joined["recovered"], &joined["messages"][0]["data"]), (&json!(true), &json!("now")), "{joined}");
    }
}

#[tokio::test]
async fn when_a_grant_is_taken_away_its_user_is_put_out_of_the_room_everywhere_and_nobody_else_is() {
    let gatefold = shared().await;
    let (name, _, room, sockets) = members(gatefold).await;
    let other_name = gatefold.new_user().await;
    gatefold.admin(&["room", "grant", &other_name, &room]).await;
    let other_login = gatefold.log_in(&other_name).await;
    let mut stays = visit(gatefold, &other_name, &other_login, "ws-1").await;
    assert_eq!(stays.join(&room).await["count"], 2);
    let mut sockets = sockets;
    for socket in &mut sockets {
        socket.hears_presence(&room, "join", &stays.user).await;
    }
    gatefold.admin(&["room", "revoke", &name, &room]).await;
    let user = sockets[0].user.clone();
    for socket in &mut sockets {
        assert_eq!(socket.hear().await, json!({"type": "left", "payload": {"room": room}}));
    }
    stays.hears_presence(&room, "leave", &user).await;
    assert_eq!(stays.presence(&room).await, (1, vec![other_login.user_id]));
    for socket in &mut sockets {
        // The token still says that it may.
        for kind in ["join", "presence"] {
            assert_eq!(socket.error(json!({"type": kind, "room": room})).await, "forbidden_room", "{kind}");
        }
        assert_eq!(socket.error(json!({"type": "publish", "room": room, "data": 1})).await, "not_joined");
    }
    stays.publish(&room, "in private").await;
    stays.hears_message(&room, "in private").await;
    for socket in &mut sockets {
        // In another room, everything is as before; of this one, nothing was heard.
        let elsewhere = new_room();
        socket.join(&elsewhere).await;
        socket.publish(&elsewhere, "here").await;
        socket.hears_message(&elsewhere, "here").await;
    }
}

#[tokio::test]
async fn a_grant_that_is_taken_away_while_a_replica_cannot_hear_of_it_ends_as_soon_as_it_can() {
    let gatefold = Gatefold::start(builder().redis_through_proxy()).await;
    let (name, _, room, mut sockets) = members(&gatefold).await;
    let faults = gatefold.cluster.redis_faults().expect("a proxy");
    faults.refuse();
    gatefold.admin(&["room", "revoke", &name, &room]).await;
    faults.pass();
    for socket in &mut sockets {
        assert_eq!(socket.hear().await, json!({"type": "left", "payload": {"room": room}}));
        let answer = socket.insist(json!({"type": "join", "room": room})).await;
        assert_eq!(answer["payload"]["code"], "forbidden_room");
    }
    eventually("nobody is in the room", async || gatefold.users_in_redis(&room).await.is_empty()).await;
}

#[tokio::test]
async fn what_is_published_over_rest_is_heard_on_every_replica_and_rest_knows_who_is_there() {
    let gatefold = shared().await;
    let room = new_room();
    let name = gatefold.new_user().await;
    let login = gatefold.log_in(&name).await;
    let (mut first, mut second) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await);
    first.join(&room).await;
    second.join(&room).await;
    first.hears_presence(&room, "join", &second.user).await;
    let path = format!("rooms/{room}/messages");
    let (status, body) =
        gatefold.call("api-1", Method::POST, &path, &login, json!({"data": {"text": "by post"}})).await;
    assert_eq!(status, 202, "{body}");
    for member in [&mut first, &mut second] {
        let message = member.hears_message(&room, json!({"text": "by post"})).await;
        assert_eq!(message["id"], body["id"]);
        assert_eq!(message["user"], json!({"id": login.user_id, "username": name}));
    }
    // It ends nobody's typing but its author's, and is in the history like any other.
    let since = first.publish(&room, "by socket").await;
    gatefold.call("api-1", Method::POST, &path, &login, json!({"data": "again"})).await;
    assert_eq!(second.join_since(&room, &since).await["messages"][0]["data"], "again");

    let path = format!("rooms/{room}/presence");
    let (status, body) = gatefold.call("api-1", Method::GET, &path, &login, json!(null)).await;
    let users = [first.user.json(), second.user.json()];
    assert_eq!((status, body), (200, json!({"room": room, "count": 2, "users": users})));
}
