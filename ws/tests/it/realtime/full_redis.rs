//! Redis's memory is full: what users say is refused, and nothing else.

use gatefold_cluster::Cluster;
use serde_json::json;

use crate::harness::{Client, Gatefold, PASSWORD, new_room, unhurried};

#[tokio::test]
async fn when_redis_is_full_nothing_can_be_published_but_sessions_and_presence_go_on() {
    let gatefold = Gatefold::start(unhurried(Cluster::builder()).api(1).ws(2)).await;
    let name = gatefold.new_user().await;
    let mut login = gatefold.log_in(&name).await;
    let [mut alice, mut bob] = [gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await];
    let room = new_room();
    bob.join(&room).await;
    alice.join(&room).await;
    bob.hears_presence(&room, "join", &alice.user).await;
    alice.publish(&room, "before").await;
    bob.hears_message(&room, "before").await;

    assert_eq!(gatefold.redis_command("CONFIG SET maxmemory 1").await, "+OK\r\n");
    let refused = alice.error(json!({"type": "publish", "room": room, "data": "meanwhile"})).await;
    assert_eq!(refused, "unavailable");
    // Who comes back does so with a token that was refreshed or with a new session, into a room where others are seen to go.
    let access = gatefold.refresh(&mut login).await;
    let mut socket = Client::connect(&format!("{}?token={access}", gatefold.direct())).await;
    socket.is_greeted().await;
    let answer = socket.ask(json!({"type": "join", "room": room})).await;
    assert_eq!(answer["payload"]["messages"], json!([]), "{answer}");
    assert_eq!(bob.event("presence").await["user"]["username"], json!(name));
    alice.leave(&room).await;
    bob.hears_presence(&room, "leave", &alice.user).await;
    let credentials = json!({"username": name, "password": PASSWORD});
    assert_eq!(gatefold.call("api-1", http::Method::POST, "login", &login, credentials).await.0, 200);
    gatefold.log_out_at("api-1", &login).await;
    assert_eq!(socket.hear_out().await.1, 4503);

    assert_eq!(gatefold.redis_command("CONFIG SET maxmemory 0").await, "+OK\r\n");
    alice.join(&room).await;
    alice.publish(&room, "afterwards").await;
    loop {
        let heard = bob.hear().await;
        if heard["type"] == "message" {
            assert_eq!(heard["payload"]["data"], "afterwards", "{heard}");
            break;
        }
    }
}
