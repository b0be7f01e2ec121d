//! Case 6: text is UTF-8, wherever it is cut.

use super::{assert_echo, assert_served};
use crate::harness::{
    raw::{CONTINUATION, Raw, TEXT, unfinished, whole},
    shared,
};

/// The first and the last character of each length, those around the surrogates, and what is no character but valid.
const VALID: [&str; 12] = [
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fffd}",
    "\u{fffe}\u{ffff}",
    "\u{10000}",
    "\u{10ffff}",
    "\u{1fffe}\u{fdd0}",
    "κόσμε",
    "Hello-µ@ßöäüàá-UTF-8!!",
];

const INVALID: [(&str, &[u8]); 24] = [
    ("a lone continuation", b"\x80"),
    ("another", b"\xbf"),
    ("many of them", b"\x80\xbf\x80\xbf\x80\xbf"),
    ("a lone start of two", b"\xc0 "),
    ("starts of two without continuations", b"\xc2 \xdf "),
    ("a lone start of three", b"\xe2 "),
    ("three without the last", b"\xe2\x82 "),
    ("four without the last", b"\xf0\x90\x80 "),
    ("two starts", b"\xe2\xe2\x82\xac"),
    ("bytes that never occur", b"\xfe"),
    ("the other one", b"\xff"),
    ("five bytes", b"\xf8\x88\x80\x80\x80"),
    ("six bytes", b"\xfc\x84\x80\x80\x80\x80"),
    ("a slash in two", b"\xc0\xaf"),
    ("a slash in three", b"\xe0\x80\xaf"),
    ("a slash in four", b"\xf0\x80\x80\xaf"),
    ("the longest overlong of two", b"\xc1\xbf"),
    ("the longest overlong of three", b"\xe0\x9f\xbf"),
    ("the longest overlong of four", b"\xf0\x8f\xbf\xbf"),
    ("nothing in two", b"\xc0\x80"),
    ("the first surrogate", b"\xed\xa0\x80"),
    ("the last surrogate", b"\xed\xbf\xbf"),
    ("a pair of them", b"\xed\xa0\x80\xed\xb0\x80"),
    ("more than Unicode has", b"\xf4\x90\x80\x80"),
];

fn with(bytes: &[u8]) -> Vec<u8> {
    [br#"{"type":"ping","id":""#, bytes, br#""}"#].concat()
}

/// A message in two fragments, cut before this byte.
fn cut_at(message: &[u8], cut: usize) -> Vec<u8> {
    [unfinished(TEXT, &message[..cut]), whole(CONTINUATION, &message[cut..])].concat()
}

/// Where the id begins.
const START: usize = r#"{"type":"ping","id":""#.len();

async fn assert_refused(mut raw: Raw, what: &str) {
    assert_eq!(raw.closed().await, Some(1007), "{what}");
}

#[tokio::test]
async fn every_valid_character_comes_back_however_it_was_cut() {
    let gatefold = shared().await;
    for text in VALID {
        let mut raw = gatefold.raw().await;
        let message = with(text.as_bytes());
        raw.send(whole(TEXT, &message)).await;
        assert_echo(&mut raw, text).await;
        for cut in START..START + text.len() {
            raw.send(cut_at(&message, cut)).await;
            assert_echo(&mut raw, text).await;
        }
        raw.send_chopped(whole(TEXT, &message)).await;
        assert_echo(&mut raw, text).await;
    }
}

#[tokio::test]
async fn every_invalid_sequence_closes_the_socket() {
    let gatefold = shared().await;
    for (what, bytes) in INVALID {
        let mut raw = gatefold.raw().await;
        raw.send(whole(TEXT, with(bytes))).await;
        assert_refused(raw, what).await;
    }
}

#[tokio::test]
async fn every_invalid_sequence_closes_the_socket_wherever_it_is_cut() {
    let gatefold = shared().await;
    for (what, bytes) in INVALID {
        for cut in START..=START + bytes.len() {
            let mut raw = gatefold.raw().await;
            raw.send(cut_at(&with(bytes), cut)).await;
            assert_refused(raw, &format!("{what}, cut at {}", cut - START)).await;
        }
    }
}

#[tokio::test]
async fn what_turns_bad_in_a_later_fragment_closes_the_socket_after_good_messages() {
    let gatefold = shared().await;
    let mut raw = gatefold.raw().await;
    raw.send(whole(TEXT, with("ü".as_bytes()))).await;
    assert_echo(&mut raw, "ü").await;
    let parts = [unfinished(TEXT, with(b"")), unfinished(CONTINUATION, "κόσμε"), unfinished(CONTINUATION, "")];
    raw.send(parts.concat()).await;
    raw.send([unfinished(CONTINUATION, b"\xf4\x90"), whole(CONTINUATION, b"\x80\x80")].concat()).await;
    assert_refused(raw, "the fourth fragment").await;
}

#[tokio::test]
async fn text_that_ends_within_a_character_closes_the_socket() {
    let gatefold = shared().await;
    for character in ["ü", "€", "\u{10348}"] {
        for end in 1..character.len() {
            let half = &character.as_bytes()[..end];
            for frames in [whole(TEXT, half), [unfinished(TEXT, half), whole(CONTINUATION, "")].concat()] {
                let mut raw = gatefold.raw().await;
                raw.send(frames).await;
                assert_refused(raw, character).await;
            }
        }
    }
}

#[tokio::test]
async fn control_characters_are_valid_text_and_invalid_json() {
    let mut raw = shared().await.raw().await;
    for text in [&b"\0"[..], b"\x7f", b"\x01\x02"] {
        raw.send(whole(TEXT, text)).await;
        assert_eq!(raw.json().await["payload"]["code"], "invalid_message");
    }
    assert_served(&mut raw).await;
}
