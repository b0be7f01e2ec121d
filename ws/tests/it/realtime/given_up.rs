//! What was refused because Redis hung is not done when it goes on.

use gatefold_cluster::Cluster;
use serde_json::json;

use crate::harness::{Gatefold, new_room};

#[tokio::test]
async fn nobody_hears_of_typing_or_arrivals_that_were_given_up_while_redis_hung() {
    let gatefold = Gatefold::start(Cluster::builder().ws(2).redis_through_proxy()).await;
    let room = new_room();
    // Whoever is on the replica that gave up reads the room anew; the others hear each event.
    let (mut member, mut typist) = (gatefold.visitor("ws-2").await, gatefold.visitor("ws-1").await);
    member.join(&room).await;
    typist.join(&room).await;
    member.hears_presence(&room, "join", &typist.user).await;
    // Redis knows the scripts from now on, and runs them as soon as they come.
    typist.typing(&room, true).await;
    member.hears_typing(&room, &typist.user, true).await;
    typist.publish(&room, "before").await;
    member.hears_typing(&room, &typist.user, false).await;
    member.hears_message(&room, "before").await;
    let mut late = gatefold.visitor("ws-1").await;

    let faults = gatefold.cluster.redis_faults().expect("a proxy");
    faults.stall();
    typist.typing(&room, true).await;
    late.say(json!({"type": "join", "room": room})).await;
    // Asked last, and so given up last. It must not take long: in the end the connection itself would be given up.
    assert_eq!(typist.ask(json!({"type": "ping"})).await["type"], "pong");
    let publish = |data| json!({"type": "publish", "room": room, "data": data});
    assert_eq!(typist.error(publish("never")).await, "unavailable");
    assert_eq!(late.event("error").await["code"], "unavailable");
    faults.pass();

    // Scripts over one room run in the order in which they were sent.
    assert_eq!(typist.insist(publish("afterwards")).await["type"], "published");
    member.hears_message(&room, "afterwards").await;
}
