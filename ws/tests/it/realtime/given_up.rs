//! What was refused because Redis hung is not done when it goes on.

use gatefold_cluster::Cluster;
use serde_json::json;

use crate::harness::{Gatefold, eventually, new_room};

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

#[tokio::test]
async fn what_is_published_while_redis_is_away_does_not_pile_up() {
    const AUTHORS: usize = 200;
    const EACH: usize = 50;
    let gatefold = Gatefold::start(Cluster::builder().ws(1).redis_through_proxy()).await;
    let room = new_room();
    let mut authors = Vec::new();
    for _ in 0..AUTHORS {
        let mut author = gatefold.visitor("ws-1").await;
        author.join(&room).await;
        authors.push(author);
    }
    let before = gatefold.resident_kib("ws-1");
    gatefold.cluster.redis_faults().expect("a proxy").refuse();
    let large = json!({"type": "publish", "room": room, "data": "x".repeat(16_000)}).to_string();
    let saying = authors.iter_mut().map(async |author| {
        for _ in 0..EACH {
            author.client.say(&large).await;
        }
        let mut refused = 0;
        while refused < EACH {
            let heard = author.client.hear().await;
            refused += usize::from(heard["payload"]["code"] == "unavailable");
        }
    });
    futures_util::future::join_all(saying).await;
    let grown = || gatefold.resident_kib("ws-1").saturating_sub(before);
    println!("{} KiB were published, and {} KiB of memory were added", AUTHORS * EACH * 16, grown());
    // What was freed last goes back to the system after a while.
    eventually("nothing of it is kept", async || grown() < 48 * 1024).await;
}
