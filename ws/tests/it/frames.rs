//! Frames as RFC 6455 has them, and as it does not.

use futures_util::SinkExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        CloseFrame, Frame, FrameHeader,
        coding::{CloseCode, Control, Data, OpCode},
    },
};

use crate::harness::{Client, shared};

const MAX: usize = 16 * 1024;

async fn send(client: &mut Client, frames: impl IntoIterator<Item = Frame>) {
    for frame in frames {
        client.stream.feed(Message::Frame(frame)).await.expect("sent");
    }
    // A server that has heard enough may be gone already.
    let _ = client.stream.flush().await;
}

fn text(payload: impl Into<Vec<u8>>, is_final: bool) -> Frame {
    Frame::message(payload.into(), OpCode::Data(Data::Text), is_final)
}

fn more(payload: impl Into<Vec<u8>>, is_final: bool) -> Frame {
    Frame::message(payload.into(), OpCode::Data(Data::Continue), is_final)
}

/// A ping of exactly so many bytes.
fn ping_of(size: usize) -> String {
    let empty = json!({"type": "ping", "padding": ""}).to_string();
    json!({"type": "ping", "padding": "x".repeat(size - empty.len())}).to_string()
}

#[tokio::test]
async fn binary_frames_close_the_socket() {
    let mut client = shared().await.client().await;
    client.stream.send(Message::binary(br#"{"type":"ping"}"#.to_vec())).await.expect("sent");
    assert_eq!(client.closed().await, (1003, "unsupported_data".to_owned()));
}

#[tokio::test]
async fn sixteen_kibibytes_are_served_and_one_byte_more_closes_the_socket() {
    let gatefold = shared().await;
    for url in gatefold.everywhere() {
        let mut client = Client::connect(&format!("{url}?token={}", gatefold.token())).await;
        assert_eq!(client.hear().await["type"], "connected");
        assert_eq!(client.ask(ping_of(MAX)).await["type"], "pong");
        client.say(ping_of(MAX + 1)).await;
        assert_eq!(client.closed().await, (1009, "message_too_big".to_owned()));
    }
}

#[tokio::test]
async fn many_fragments_that_are_too_big_together_close_the_socket() {
    let mut client = shared().await.client().await;
    let fragments = (0..=16).map(|_| more(vec![b'x'; 1024], false));
    send(&mut client, [text("x", false)].into_iter().chain(fragments)).await;
    assert_eq!(client.closed().await, (1009, "message_too_big".to_owned()));
}

#[tokio::test]
async fn the_reason_arrives_although_megabytes_are_still_under_way() {
    let gatefold = shared().await;
    for url in gatefold.everywhere() {
        let mut client = Client::connect(&format!("{url}?token={}", gatefold.token())).await;
        assert_eq!(client.hear().await["type"], "connected");
        let _ = client.stream.send(Message::text("x".repeat(4 << 20))).await;
        assert_eq!(client.closed().await, (1009, "message_too_big".to_owned()), "{url}");
    }
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_the_socket() {
    let gatefold = shared().await;
    for frames in [vec![text([b'"', 0xff, b'"'], true)], vec![text([0xc3], false), more([0x28], true)]] {
        let mut client = gatefold.client().await;
        send(&mut client, frames).await;
        assert_eq!(client.closed().await, (1007, "invalid_utf8".to_owned()));
    }
}

#[tokio::test]
async fn a_message_may_come_in_fragments_with_pings_in_between_and_characters_cut_in_half() {
    let mut client = shared().await.client().await;
    let message = r#"{"type":"ping","id":"ü"}"#.as_bytes();
    let cut = message.iter().position(|&byte| byte >= 0x80).expect("a long character") + 1;
    let frames = [
        text(&message[..5], false),
        Frame::ping("are you there?"),
        more("", false),
        more(&message[5..cut], false),
        Frame::pong("nobody asked"),
        more(&message[cut..], true),
    ];
    send(&mut client, frames).await;
    assert_eq!(client.hear().await["id"], "ü");
}

#[tokio::test]
async fn frames_that_break_the_protocol_close_the_socket() {
    let gatefold = shared().await;
    let changed = |mut frame: Frame, change: fn(&mut FrameHeader)| {
        change(frame.header_mut());
        vec![frame]
    };
    for frames in [
        changed(text("{}", true), |header| header.rsv1 = true),
        changed(Frame::ping(""), |header| header.opcode = OpCode::Control(Control::Reserved(11))),
        changed(Frame::ping(""), |header| header.is_final = false),
        vec![Frame::ping(vec![b'x'; 126])],
        vec![more("{}", true)],
        vec![text("{", false), text("}", true)],
    ] {
        let mut client = gatefold.client().await;
        send(&mut client, frames).await;
        assert_eq!(client.closed().await, (1002, "protocol_error".to_owned()));
    }
    let mut client = gatefold.client().await;
    let unmasked = [0x81, 2, b'{', b'}'];
    client.stream.get_mut().write_all(&unmasked).await.expect("sent");
    assert_eq!(client.closed().await, (1002, "protocol_error".to_owned()));
}

#[tokio::test]
async fn a_client_that_closes_is_answered_with_its_own_code() {
    let mut client = shared().await.client().await;
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    client.stream.send(Message::Close(Some(goodbye))).await.expect("sent");
    assert_eq!(client.closed().await.0, 1000);
}
