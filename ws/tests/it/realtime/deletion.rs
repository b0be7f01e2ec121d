//! A user who is deleted while they are connected.

use serde_json::json;

use crate::harness::{Gatefold, User, eventually, many_sessions, new_room, unhurried};

#[tokio::test]
async fn who_is_deleted_is_put_off_every_socket_and_seen_to_leave_and_redis_forgets_the_name() {
    let gatefold = Gatefold::start(unhurried(many_sessions()).api(1).ws(2).env("PRESENCE_GRACE", "1s")).await;
    let (name, room) = (gatefold.new_user().await, new_room());
    let login = gatefold.log_in(&name).await;
    let user = User { id: login.user_id, name: name.clone(), family: login.family() };
    let mut observer = gatefold.visitor("ws-2").await;
    observer.join(&room).await;
    let mut sockets = gatefold.sockets(&login).await;
    for socket in &mut sockets {
        socket.say(json!({"type": "join", "room": room})).await;
        socket.hear_of("joined").await;
    }
    observer.hears_presence(&room, "join", &user).await;

    gatefold.admin(&["user", "delete", &name, "--erase-events", "--yes"]).await;
    for socket in &mut sockets {
        let (_, code, reason) = socket.hear_out().await;
        assert_eq!((code, reason.as_str()), (4503, "disabled"));
    }
    observer.hears_presence(&room, "leave", &user).await;
    let present = format!("HGETALL room:{{{room}}}:users");
    eventually("only the observer is there", async || !gatefold.redis_command(&present).await.contains(&name)).await;
    let session = format!("HGETALL {}", gatefold_shared::redis::keys::family(user.id, user.family));
    let left = gatefold.redis_command(&session).await;
    assert!(left.contains("revoked") && !left.contains(&name) && !left.contains("127.0.0.1"), "{left}");
}
