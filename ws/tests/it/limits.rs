//! Clients that ask too much.

use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::harness::{
    Client,
    raw::{CONTINUATION, PONG, TEXT, unfinished, whole},
    shared,
};

async fn flood(client: &mut Client, messages: usize, message: Message) {
    for _ in 0..messages {
        // The server may have had enough already.
        if client.stream.feed(message.clone()).await.is_err() {
            return;
        }
    }
    let _ = client.stream.flush().await;
}

#[tokio::test]
async fn a_burst_is_served_then_refused_then_the_socket_is_closed() {
    let mut client = shared().await.client().await;
    flood(&mut client, 1000, Message::text(json!({"type": "ping", "id": 1}).to_string())).await;
    let (heard, code, reason) = client.hear_out().await;
    assert_eq!((code, reason.as_str()), (4429, "rate_limited"));
    let served = heard.iter().filter(|message| message["type"] == "pong").count();
    let refused: Vec<_> = heard.iter().filter(|message| message["payload"]["code"] == "rate_limited").collect();
    // As many at once; and thirty more for each second that all of it has taken.
    assert!((60..400).contains(&served), "{served} served");
    assert_eq!(refused.len(), 60);
    assert_eq!(refused[0]["payload"]["requireReauth"], false);
    assert_eq!(refused[0]["id"], 1);
}

#[tokio::test]
async fn a_flood_of_protocol_pings_closes_the_socket_too() {
    let mut client = shared().await.client().await;
    flood(&mut client, 1000, Message::Ping(Bytes::new())).await;
    assert_eq!(client.closed().await, (4429, "rate_limited".to_owned()));
}

#[tokio::test]
async fn the_twentieth_invalid_message_closes_the_socket() {
    let mut client = shared().await.client().await;
    flood(&mut client, 20, Message::text("garbage")).await;
    let (heard, code, reason) = client.hear_out().await;
    assert_eq!((code, reason.as_str()), (4500, "protocol_error"));
    assert_eq!(heard.iter().filter(|message| message["payload"]["code"] == "invalid_message").count(), 19);
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_hold_up_others() {
    let gatefold = shared().await;
    let mut deaf = gatefold.client().await;
    flood(&mut deaf, 50, Message::text(json!({"type": "ping", "id": "x".repeat(15_000)}).to_string())).await;
    gatefold.client().await.is_served().await;
}

#[tokio::test]
async fn frames_without_a_message_close_the_socket() {
    let gatefold = shared().await;
    let empty = unfinished(CONTINUATION, "");
    let between = [empty.clone(), whole(PONG, ""), empty.clone()].concat();
    for frames in [empty, between] {
        let mut raw = gatefold.raw().await;
        raw.send(unfinished(TEXT, "{")).await;
        // Whoever is not stopped goes on with these for as long as they come.
        let (batch, mut sent) = (frames.repeat(1000), 0);
        while sent < 100_000 && raw.try_send(&batch).await.is_ok() {
            sent += 1000;
        }
        assert_eq!(raw.closed().await, Some(4429));
    }
    gatefold.client().await.is_served().await;
}

#[tokio::test]
async fn two_of_the_longest_messages_in_frames_of_one_byte_are_served() {
    let mut raw = shared().await.raw().await;
    let message = json!({"type": "ping", "padding": "x".repeat(16_000)}).to_string();
    for _ in 0..2 {
        let (first, rest) = message.as_bytes().split_at(1);
        raw.send(unfinished(TEXT, first)).await;
        let frames = rest.iter().flat_map(|byte| unfinished(CONTINUATION, [*byte])).collect::<Vec<_>>();
        raw.send([frames, whole(CONTINUATION, "")].concat()).await;
        assert_eq!(raw.json().await["type"], "pong");
    }
}
