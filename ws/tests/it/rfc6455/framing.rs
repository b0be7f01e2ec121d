//! Cases 1 to 4: lengths, pings and pongs, reserved bits, reserved opcodes.

use super::{assert_echo, assert_served, message, message_of};
use crate::harness::{
    raw::{BINARY, CLOSE, CONTINUATION, Heard, PING, PONG, Raw, TEXT, frame_with, masked, unfinished, whole},
    shared,
};

const MAX: usize = 16 * 1024;

/// A frame whose length is said in more bytes than it needs.
fn long_winded(bytes: usize, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_be_bytes();
    let marker = if bytes == 2 { 126 } else { 127 };
    [0x80 | TEXT, 0x80 + marker].into_iter().chain(length[8 - bytes..].iter().copied()).chain(masked(payload)).collect()
}

#[tokio::test]
async fn every_form_of_a_length_is_understood_at_once_or_byte_by_byte() {
    let gatefold = shared().await;
    for size in [30, 125, 126, 127, 128, 255, 256, 4095, 4096, 4097, MAX - 1, MAX] {
        let mut raw = gatefold.raw().await;
        let text = "x".repeat(size - message("").len());
        raw.send(whole(TEXT, message_of(size))).await;
        assert_echo(&mut raw, &text).await;
        raw.send_chopped(whole(TEXT, message_of(size))).await;
        assert_echo(&mut raw, &text).await;
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused_by_its_length_alone() {
    let gatefold = shared().await;
    for size in [MAX as u64 + 1, 65_535, 65_536, 1 << 32, i64::MAX as u64] {
        let head = match u16::try_from(size) {
            Ok(size) => [&[0x81, 0xfe][..], &size.to_be_bytes()].concat(),
            Err(_) => [&[0x81, 0xff][..], &size.to_be_bytes()].concat(),
        };
        let mut raw = gatefold.raw().await;
        // Not one byte of the payload ever comes.
        raw.send([head, vec![0; 4]].concat()).await;
        assert_eq!(raw.closed_without_waiting().await, Some(1009), "{size}");
    }
    // The highest bit of a length must not be set at all.
    let mut raw = gatefold.raw().await;
    raw.send([&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat()).await;
    let code = raw.closed_without_waiting().await;
    assert!(matches!(code, Some(1002 | 1009)), "{code:?}");
}

#[tokio::test]
async fn fragments_may_be_sixteen_kibibytes_together_and_not_one_byte_more() {
    let gatefold = shared().await;
    let message = message_of(MAX);
    let (begin, end) = message.split_at(MAX - 10);
    let mut raw = gatefold.raw().await;
    raw.send([unfinished(TEXT, begin), whole(CONTINUATION, end)].concat()).await;
    assert!(matches!(raw.hear().await, Heard::Text(_)));
    raw.send([unfinished(TEXT, begin), whole(CONTINUATION, [b" ", end].concat())].concat()).await;
    assert_eq!(raw.closed_without_waiting().await, Some(1009));
}

#[tokio::test]
async fn a_length_in_more_bytes_than_it_needs_is_served_or_refused_but_never_misread() {
    let gatefold = shared().await;
    for bytes in [2, 8] {
        let mut raw = gatefold.raw().await;
        raw.send(long_winded(bytes, &message("short"))).await;
        match raw.hear().await {
            Heard::Text(text) => {
                assert!(text.contains(r#""id":"short""#), "{text}");
                assert_served(&mut raw).await;
            }
            heard => assert_eq!(heard, Heard::Close(Some(1002), "protocol_error".into())),
        }
    }
}

#[tokio::test]
async fn a_mask_may_be_all_zeros_but_must_be_there() {
    let gatefold = shared().await;
    let text = message("bare");
    let length = u8::try_from(text.len()).expect("a short message");
    let mut raw = gatefold.raw().await;
    raw.send([&[0x81, 0x80 | length, 0, 0, 0, 0][..], &text].concat()).await;
    assert_echo(&mut raw, "bare").await;
    for first in [0x81, 0x89, 0x88] {
        let mut raw = gatefold.raw().await;
        raw.send([&[first, length][..], &text].concat()).await;
        assert_eq!(raw.closed().await, Some(1002), "{first:#x}");
    }
}

#[tokio::test]
async fn a_hundred_ways_to_cut_the_same_frames_into_segments_are_one() {
    let frames = [whole(TEXT, message("one")), whole(PING, "two"), whole(TEXT, message_of(200))].concat();
    let gatefold = shared().await;
    let mut raw = gatefold.raw().await;
    for cut in (1..frames.len()).step_by(13) {
        raw.send(&frames[..cut]).await;
        tokio::task::yield_now().await;
        raw.send(&frames[cut..]).await;
        assert_echo(&mut raw, "one").await;
        assert_eq!(raw.hear().await, Heard::Pong(b"two".to_vec()));
        assert!(matches!(raw.hear().await, Heard::Text(_)));
        // Another socket before this one has said too much.
        raw = gatefold.raw().await;
    }
}

#[tokio::test]
async fn many_frames_in_one_segment_are_all_served_in_their_order() {
    let mut raw = shared().await.raw().await;
    let names: Vec<_> = (0..50).map(|number| format!("message {number}")).collect();
    raw.send(names.iter().flat_map(|name| whole(TEXT, message(name))).collect::<Vec<_>>()).await;
    for name in &names {
        assert_echo(&mut raw, name).await;
    }
}

#[tokio::test]
async fn frames_right_behind_the_handshake_are_not_lost() {
    let gatefold = shared().await;
    let mut raw = Raw::open_with(
        &gatefold.replica_url("ws-1"),
        &gatefold.token(),
        &[whole(TEXT, message("early")), whole(PING, "bird")].concat(),
    )
    .await;
    assert_eq!(raw.json().await["type"], "connected");
    assert_echo(&mut raw, "early").await;
    assert_eq!(raw.hear().await, Heard::Pong(b"bird".to_vec()));
}

#[tokio::test]
async fn a_ping_is_answered_with_its_own_payload_whatever_that_is() {
    let gatefold = shared().await;
    for payload in [&b""[..], b"Hello, world!", &[0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff], &[0xfe; 125]] {
        let mut raw = gatefold.raw().await;
        raw.send(whole(PING, payload)).await;
        assert_eq!(raw.hear().await, Heard::Pong(payload.to_vec()));
        raw.send_chopped(whole(PING, payload)).await;
        assert_eq!(raw.hear().await, Heard::Pong(payload.to_vec()));
        assert_served(&mut raw).await;
    }
}

#[tokio::test]
async fn ten_pings_are_ten_pongs_in_their_order() {
    let mut raw = shared().await.raw().await;
    let pings: Vec<_> = (0..10).flat_map(|number: u8| whole(PING, [b'p', number])).collect();
    raw.send(&pings).await;
    raw.send_chopped(&pings).await;
    for number in (0..10).chain(0..10) {
        assert_eq!(raw.hear().await, Heard::Pong(vec![b'p', number]));
    }
}

#[tokio::test]
async fn a_pong_that_nobody_asked_for_is_not_answered() {
    let mut raw = shared().await.raw().await;
    raw.send([whole(PONG, ""), whole(PONG, "unsolicited"), whole(PING, "asked")].concat()).await;
    assert_eq!(raw.hear().await, Heard::Pong(b"asked".to_vec()));
    assert_served(&mut raw).await;
}

#[tokio::test]
async fn a_control_frame_of_126_bytes_closes_the_socket() {
    let gatefold = shared().await;
    for opcode in [PING, PONG, CLOSE] {
        let mut raw = gatefold.raw().await;
        raw.send(whole(opcode, vec![b'x'; 126])).await;
        assert_eq!(raw.closed().await, Some(1002), "{opcode}");
    }
}

#[tokio::test]
async fn reserved_bits_close_the_socket_in_every_kind_of_frame() {
    let gatefold = shared().await;
    for bits in 1..8 {
        for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
            let mut raw = gatefold.raw().await;
            raw.send(whole(TEXT, message("before"))).await;
            assert_echo(&mut raw, "before").await;
            raw.send([frame_with(8 | bits, opcode, b"{}"), whole(PING, "never read")].concat()).await;
            assert_eq!(raw.closed().await, Some(1002), "bits {bits} in {opcode}");
        }
    }
}

#[tokio::test]
async fn reserved_opcodes_close_the_socket_after_what_came_before_was_served() {
    let gatefold = shared().await;
    for opcode in (3..8).chain(11..16) {
        for payload in ["", "payload"] {
            let mut raw = gatefold.raw().await;
            raw.send(whole(TEXT, message("before"))).await;
            assert_echo(&mut raw, "before").await;
            raw.send([whole(opcode, payload), whole(PING, "never read")].concat()).await;
            assert_eq!(raw.closed().await, Some(1002), "{opcode}");
        }
    }
}
