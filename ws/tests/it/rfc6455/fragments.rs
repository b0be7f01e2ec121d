//! Case 5: fragments, alone and with control frames in between.

use super::{assert_echo, assert_served, message, message_of};
use crate::harness::{
    raw::{CLOSE, CONTINUATION, Heard, PING, PONG, TEXT, unfinished, whole},
    shared,
};

/// A message in fragments of so many bytes, with `between` behind each but the last.
fn in_fragments(message: &[u8], size: usize, between: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = message.chunks(size).collect();
    let last = parts.len() - 1;
    let fragment = |(index, part): (usize, &&[u8])| {
        let opcode = if index == 0 { TEXT } else { CONTINUATION };
        let frame = if index == last { whole(opcode, part) } else { unfinished(opcode, part) };
        if index == last { frame } else { [frame, between.to_vec()].concat() }
    };
    parts.iter().enumerate().flat_map(fragment).collect()
}

#[tokio::test]
async fn a_message_in_fragments_of_any_size_is_one() {
    let gatefold = shared().await;
    for size in [1, 2, 7, 30] {
        let mut raw = gatefold.raw().await;
        raw.send(in_fragments(&message("in pieces"), size, &[])).await;
        assert_echo(&mut raw, "in pieces").await;
        raw.send_chopped(in_fragments(&message("in crumbs"), size, &[])).await;
        assert_echo(&mut raw, "in crumbs").await;
        assert_served(&mut raw).await;
    }
}

#[tokio::test]
async fn sixteen_kibibytes_byte_by_byte_are_one_message() {
    let mut raw = shared().await.raw().await;
    let message = message_of(16 * 1024);
    raw.send(in_fragments(&message, 1, &[])).await;
    let Heard::Text(text) = raw.hear().await else { panic!("no answer") };
    assert!(text.len() > 16_000 && text.contains("xxx"));
    assert_served(&mut raw).await;
}

#[tokio::test]
async fn fragments_may_be_empty() {
    let mut raw = shared().await.raw().await;
    let empty = unfinished(CONTINUATION, "");
    let frames =
        [unfinished(TEXT, ""), empty.clone(), empty.clone(), unfinished(CONTINUATION, message("x")), empty].concat();
    raw.send([frames, whole(CONTINUATION, "")].concat()).await;
    assert_echo(&mut raw, "x").await;
    // Nothing in three parts is a message that is not JSON.
    raw.send([unfinished(TEXT, ""), unfinished(CONTINUATION, ""), whole(CONTINUATION, "")].concat()).await;
    assert_eq!(raw.json().await["payload"]["code"], "invalid_message");
    assert_served(&mut raw).await;
}

#[tokio::test]
async fn pings_between_fragments_are_answered_before_the_message_is_whole() {
    let mut raw = shared().await.raw().await;
    let message = message("interrupted");
    let (begin, end) = message.split_at(9);
    raw.send([unfinished(TEXT, begin), whole(PING, "first")].concat()).await;
    assert_eq!(raw.hear().await, Heard::Pong(b"first".to_vec()));
    raw.send_chopped([whole(PONG, "unasked"), whole(PING, "second"), whole(CONTINUATION, end)].concat()).await;
    assert_eq!(raw.hear().await, Heard::Pong(b"second".to_vec()));
    assert_echo(&mut raw, "interrupted").await;
}

#[tokio::test]
async fn a_ping_between_any_two_bytes_of_a_message_disturbs_nothing() {
    let gatefold = shared().await;
    let message = message("ü");
    for chopped in [false, true] {
        let mut raw = gatefold.raw().await;
        let frames = in_fragments(&message, 1, &whole(PING, "?"));
        if chopped {
            raw.send_chopped(frames).await;
        } else {
            raw.send(frames).await;
        }
        for _ in 1..message.len() {
            assert_eq!(raw.hear().await, Heard::Pong(b"?".to_vec()));
        }
        assert_echo(&mut raw, "ü").await;
    }
}

#[tokio::test]
async fn control_frames_in_fragments_close_the_socket() {
    let gatefold = shared().await;
    for opcode in [PING, PONG, CLOSE] {
        let mut raw = gatefold.raw().await;
        raw.send([unfinished(opcode, "frag"), whole(CONTINUATION, "ment")].concat()).await;
        assert_eq!(raw.closed().await, Some(1002), "{opcode}");
    }
}

#[tokio::test]
async fn a_continuation_of_nothing_closes_the_socket() {
    let gatefold = shared().await;
    for frame in [whole(CONTINUATION, "x"), unfinished(CONTINUATION, "x"), whole(CONTINUATION, "")] {
        let mut raw = gatefold.raw().await;
        raw.send([frame.clone(), whole(TEXT, message("never served"))].concat()).await;
        assert_eq!(raw.closed().await, Some(1002));

        let mut raw = gatefold.raw().await;
        raw.send_chopped(in_fragments(&message("whole"), 10, &[])).await;
        assert_echo(&mut raw, "whole").await;
        raw.send_chopped(frame).await;
        assert_eq!(raw.closed().await, Some(1002));
    }
}

#[tokio::test]
async fn a_new_message_within_one_that_is_not_finished_closes_the_socket() {
    let gatefold = shared().await;
    for second in [whole(TEXT, "}"), unfinished(TEXT, "}")] {
        let mut raw = gatefold.raw().await;
        raw.send([unfinished(TEXT, "{"), second].concat()).await;
        assert_eq!(raw.closed().await, Some(1002));
    }
}
