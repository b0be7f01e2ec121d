//! What was refused because Redis hung is not done when it goes on.

use gatefold_cluster::Cluster;
use serde_json::json;

use crate::harness::{Gatefold, new_room};

#[tokio::test]
async fn nobody_hears_of_typing_or_arrivals_that_were_given_up_while_redis_hung() {
    let gatefold = Gatefold::start(Cluster::builder().ws(1).redis_through_proxy()).await;
    let room = new_room();
    let (mut member, mut typist) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-1").await);
    member.join(&room).await;
    typist.join(&room).await;
    member.hears_presence(&room, "join", &typist.user).await;
    let mut late = gatefold.visitor("ws-1").await;

    let faults = gatefold.cluster.redis_faults().expect("a proxy");
    faults.stall();
    typist.typing(&room, true).await;
    assert_eq!(late.error(json!({"type": "join", "room": room})).await, "unavailable");
    // Asked last, and so given up last.
    let publish = |data| json!({"type": "publish", "room": room, "data": data});
    assert_eq!(typist.error(publish("never")).await, "unavailable");
    faults.pass();

    // Scripts over one room run in the order in which they were sent.
    assert_eq!(typist.insist(publish("afterwards")).await["type"], "published");
    member.hears_message(&room, "afterwards").await;
}
