//! A member whose token has expired: nothing of rooms is delivered until there is a new one, and then all of it.

use std::time::Duration;

use serde_json::json;

use super::{GRACE, shared};
use crate::harness::{User, new_room};

#[tokio::test]
async fn nothing_of_rooms_is_heard_until_there_is_a_new_token_and_then_everything_in_its_order() {
    let gatefold = shared().await;
    let room = new_room();
    let user = User::new();
    let mut expired = gatefold.visit(&user, "ws-1").await;
    expired.join(&room).await;
    let mut other = gatefold.visitor("ws-2").await;
    other.join(&room).await;
    expired.hears_presence(&room, "join", &other.user).await;
    other.publish(&room, "in time").await;
    expired.hears_message(&room, "in time").await;
    // One may have expired on its way.
    while {
        let access = gatefold.short_token_of_user(&user, Duration::from_secs(3));
        expired.ask(json!({"type": "reauth", "access": access})).await["type"] != "reauth_success"
    } {}
    assert_eq!(expired.hear().await["type"], "token_expiring");
    assert_eq!(expired.event("error").await["code"], "token_expired");

    // All of this happens meanwhile, and is known on the same replica too.
    let mut witness = gatefold.visitor("ws-1").await;
    witness.join(&room).await;
    other.publish(&room, "meanwhile").await;
    other.typing(&room, true).await;
    witness.hears_message(&room, "meanwhile").await;
    witness.hears_typing(&room, &other.user, true).await;
    for refused in [
        json!({"type": "publish", "room": room, "data": 1}),
        json!({"type": "typing", "room": room, "typing": true}),
        json!({"type": "presence", "room": room}),
        json!({"type": "join", "room": new_room()}),
        json!({"type": "leave", "room": room}),
    ] {
        let answer = expired.ask(refused.clone()).await;
        assert_eq!(
            (&answer["payload"]["code"], &answer["payload"]["requireReauth"]),
            (&json!("token_expired"), &json!(true))
        );
    }
    assert_eq!(expired.ask(json!({"type": "ping"})).await["type"], "pong");
    expired.hears_nothing_for(GRACE + Duration::from_millis(500)).await;
    // They are still there for everybody else.
    assert_eq!(witness.presence(&room).await.0, 3);

    let access = gatefold.token_of_user(&user);
    expired.demand("reauth_success", json!({"type": "reauth", "access": access})).await;
    expired.hears_presence(&room, "join", &witness.user).await;
    expired.hears_message(&room, "meanwhile").await;
    expired.hears_typing(&room, &other.user, true).await;
    // The typing may have ended by now, which is then heard too.
    expired.publish(&room, "back again").await;
    loop {
        let heard = expired.hear().await;
        if heard["type"] == "message" {
            assert_eq!(heard["payload"]["data"], "back again");
            break;
        }
        assert_eq!((&heard["type"], &heard["payload"]["typing"]), (&json!("typing"), &json!(false)));
    }
}
