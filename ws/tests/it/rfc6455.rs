//! What RFC 6455 asks of a server without extensions, case by case as the Autobahn test suite has them. What that suite
//! has echoed comes back here as the `id` of a `ping`.

mod close;
mod fragments;
mod framing;
mod utf8;

use serde_json::{Value, json};

use crate::harness::raw::{Heard, PING, Raw, TEXT, whole};

/// A message whose answer holds `text`.
fn message(text: &str) -> Vec<u8> {
    json!({"type": "ping", "id": text}).to_string().into_bytes()
}

/// A message of exactly so many bytes.
fn message_of(size: usize) -> Vec<u8> {
    message(&"x".repeat(size - message("").len()))
}

fn is_echo(heard: &Value, text: &str) -> bool {
    heard["type"] == "pong" && heard["id"] == text
}

async fn assert_echo(raw: &mut Raw, text: &str) {
    let heard = raw.json().await;
    assert!(is_echo(&heard, text), "{text:?} came back as {heard}");
}

/// That the socket still serves messages and pings.
async fn assert_served(raw: &mut Raw) {
    raw.send([whole(TEXT, message("still there")), whole(PING, "here")].concat()).await;
    assert_echo(raw, "still there").await;
    assert_eq!(raw.hear().await, Heard::Pong(b"here".to_vec()));
}
