//! Somebody who does not read what they are sent.

use std::time::{Duration, Instant};

use serde_json::json;

use super::shared;
use crate::harness::{
    PATIENCE, User,
    member::addresses,
    new_room,
    raw::{Heard, Raw, TEXT, whole},
    within,
};

/// Together more than 1 MiB and all that the kernel keeps for a connection, on both sides.
const AUTHORS: usize = 10;
const MESSAGES: usize = 50;
const SIZE: usize = 15_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_read_is_cut_and_nobody_else_waits() {
    let gatefold = shared().await;
    let (loud, quiet) = (new_room(), new_room());
    let deaf = User::new();
    let mut raw = Raw::open_narrow(&gatefold.replica_url("ws-1"), &gatefold.token_of_user(&deaf)).await;
    raw.send(whole(TEXT, json!({"type": "join", "room": loud}).to_string())).await;
    assert_eq!(raw.json().await["type"], "connected");
    assert_eq!(raw.json().await["type"], "joined");
    let places = gatefold.socket_urls();
    let mut authors = Vec::new();
    for number in 0..AUTHORS {
        let author = gatefold.member(&User::new(), &addresses([places[number % 3].clone()]));
        author.join(&loud);
        author.joined(&loud).await;
        authors.push(author);
    }
    // On the same replica, and on another one.
    let (mut reader, mut teller) = (gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await);
    reader.join(&quiet).await;
    teller.join(&quiet).await;
    reader.hears_presence(&quiet, "join", &teller.user).await;

    let filler = "x".repeat(SIZE);
    let mut slowest = Duration::ZERO;
    for number in 0..MESSAGES {
        for author in &authors {
            author.publish(&loud, filler.clone());
        }
        let told = Instant::now();
        teller.publish(&quiet, number).await;
        reader.hears_message(&quiet, number).await;
        slowest = slowest.max(told.elapsed());
    }
    println!("while one did not read, others heard after at most {slowest:?}");
    assert!(slowest < Duration::from_secs(8), "others waited for {slowest:?}");
    within(Duration::from_secs(30), "everybody who reads hears everything", async || {
        authors.iter().all(|author| author.view().rooms[&loud].messages.len() == AUTHORS * MESSAGES)
    })
    .await;
    within(Duration::from_secs(30), "whoever did not read is gone", async || {
        authors.iter().all(|author| author.view().rooms[&loud].gone().any(|event| event.user == deaf.id))
    })
    .await;
    let is_counted = async || gatefold.metrics_of("ws-1").await.contains(r#"gatefold_ws_closed_total{code="1013"}"#);
    within(PATIENCE, "its end is counted", is_counted).await;
    // Whatever is still on its way is whole; behind it there is the reason, if it found room, and the end.
    loop {
        match raw.hear_or_half().await {
            Some(Heard::Text(_) | Heard::Ping(_)) => {}
            Some(Heard::Close(code, reason)) => {
                assert_eq!((code, reason.as_str()), (Some(1013), "slow_consumer"));
                break;
            }
            Some(Heard::End) | None => break,
            Some(other) => panic!("unexpected {other:?}"),
        }
    }
    assert!(authors.iter().all(|author| author.view().connections == 1));
}
