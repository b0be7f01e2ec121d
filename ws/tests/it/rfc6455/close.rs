//! Case 7: the closing handshake.

use super::{assert_echo, message};
use crate::harness::{
    raw::{CLOSE, CONTINUATION, Heard, PING, TEXT, close, unfinished, whole},
    shared,
};

#[tokio::test]
async fn a_close_frame_without_a_code_is_answered_and_ends_the_connection() {
    let mut raw = shared().await.raw().await;
    raw.send(whole(CLOSE, "")).await;
    let heard = raw.hear().await;
    assert!(matches!(heard, Heard::Close(None | Some(1000), _)), "{heard:?}");
    assert_eq!(raw.hear().await, Heard::End);
}

#[tokio::test]
async fn a_code_that_a_client_may_send_is_answered_with_itself() {
    let gatefold = shared().await;
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999] {
        let mut raw = gatefold.raw().await;
        raw.send(whole(TEXT, message("last words"))).await;
        assert_echo(&mut raw, "last words").await;
        raw.send(close(code, "")).await;
        assert_eq!(raw.closed().await, Some(code));
    }
}

#[tokio::test]
async fn a_code_that_nobody_may_send_is_answered_with_1002() {
    let gatefold = shared().await;
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        let mut raw = gatefold.raw().await;
        raw.send(close(code, "why not")).await;
        assert_eq!(raw.closed().await, Some(1002), "{code}");
    }
}

#[tokio::test]
async fn half_a_code_is_answered_with_1002() {
    let mut raw = shared().await.raw().await;
    raw.send(whole(CLOSE, "a")).await;
    assert_eq!(raw.closed().await, Some(1002));
}

#[tokio::test]
async fn a_reason_may_be_123_bytes_of_utf_8_and_no_more() {
    let gatefold = shared().await;
    for (reason, answer) in [
        (vec![b'x'; 123], 1000),
        ("ü".repeat(61).into_bytes(), 1000),
        (vec![b'x'; 124], 1002),
        (b"\xce\xba\xed\xa0\x80edited".to_vec(), 1007),
        (b"half a euro: \xe2\x82".to_vec(), 1007),
    ] {
        let mut raw = gatefold.raw().await;
        raw.send(close(1000, &reason)).await;
        assert_eq!(raw.closed().await, Some(answer), "{}", String::from_utf8_lossy(&reason));
    }
}

#[tokio::test]
async fn whatever_comes_behind_a_close_frame_is_ignored() {
    let gatefold = shared().await;
    for behind in [
        close(1000, "again"),
        close(1001, "another"),
        whole(PING, "hello?"),
        whole(TEXT, message("hello?")),
        whole(TEXT, b"\xff"),
        vec![0xff; 500],
        vec![b'x'; 256 * 1024],
    ] {
        let frames = [close(1000, ""), behind].concat();
        for segment in [frames.len(), frames.len().div_ceil(50)] {
            let mut raw = gatefold.raw().await;
            for part in frames.chunks(segment) {
                // The server may hang up before all of it is sent.
                let _ = raw.try_send(part).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(raw.closed().await, Some(1000));
        }
    }
}

#[tokio::test]
async fn what_came_before_a_close_frame_is_served_first() {
    let mut raw = shared().await.raw().await;
    raw.send([whole(TEXT, message("before")), whole(PING, "before"), close(1000, "")].concat()).await;
    assert_echo(&mut raw, "before").await;
    assert_eq!(raw.hear().await, Heard::Pong(b"before".to_vec()));
    assert_eq!(raw.closed().await, Some(1000));
}

#[tokio::test]
async fn a_close_frame_between_fragments_ends_the_connection() {
    let mut raw = shared().await.raw().await;
    let frames = [unfinished(TEXT, "{"), close(1000, ""), whole(CONTINUATION, "}")];
    raw.send(frames.concat()).await;
    assert_eq!(raw.closed().await, Some(1000));
}

#[tokio::test]
async fn a_connection_that_ends_without_a_close_frame_is_let_go() {
    let gatefold = shared().await;
    for half in [&b""[..], &[0x81], &[0x81, 0xfe, 0x10]] {
        let mut raw = gatefold.raw().await;
        raw.send(half).await;
        raw.finish().await.expect("finished");
        assert_eq!(raw.hear().await, Heard::End);
    }
}
