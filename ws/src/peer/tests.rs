//! Peers behind a pipe that takes only so much.

use std::{future::poll_fn, sync::Arc};

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;

fn peer(pipe: usize) -> (Arc<Peer>, DuplexStream) {
    let (ours, theirs) = duplex(pipe);
    (Arc::new(Peer::new(ours)), theirs)
}

fn bytes(length: usize) -> Bytes {
    vec![b'x'; length].into()
}

/// How the peer is to end, as far as is known now.
fn ending(peer: &Peer) -> Option<Ending> {
    poll_fn(|context| peer.poll(context)).now_or_never()
}

async fn read(pipe: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut read = vec![0; length];
    pipe.read_exact(&mut read).await.expect("so much");
    read
}

#[tokio::test]
async fn what_is_sent_arrives_without_anybody_waiting() {
    let (peer, mut pipe) = peer(64);
    peer.send(&Bytes::from_static(b"one"));
    peer.deliver(&Bytes::from_static(b"two"));
    assert_eq!(read(&mut pipe, 6).await, b"onetwo");
}

#[tokio::test]
async fn what_the_network_does_not_take_is_sent_by_the_connection_in_order() {
    let (peer, mut pipe) = peer(4);
    for part in [&b"abcdef"[..], b"gh", b"ijklm"] {
        peer.send(&Bytes::from_static(part));
    }
    let connection = Arc::clone(&peer);
    let sending = poll_fn(move |context| connection.poll(context));
    let read = async { read(&mut pipe, 13).await };
    let read = tokio::select! { read = read => read, _ = sending => panic!("it has ended") };
    assert_eq!(read, b"abcdefghijklm");
    assert_eq!(peer.deadline(), None, "nothing waits any more");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_too_slow_after_a_mebibyte_or_1024_messages() {
    for (message, most) in [(bytes(64 * 1024), 16), (bytes(1), 1024)] {
        let (peer, _pipe) = peer(1);
        peer.send(&bytes(1));
        (0..most).for_each(|_| peer.send(&message));
        assert_eq!(ending(&peer), None);
        peer.send(&message);
        assert_eq!(ending(&peer), Some(CloseReason::SlowConsumer.into()));
    }
}

#[tokio::test]
async fn a_long_history_is_no_reason_to_be_too_slow() {
    let (peer, _pipe) = peer(4);
    peer.deliver(&bytes(2 * MAX_UNSENT));
    assert_eq!(ending(&peer), None);
    peer.deliver(&bytes(1));
    assert_eq!(ending(&peer), Some(CloseReason::SlowConsumer.into()));
}

#[tokio::test(start_paused = true)]
async fn time_is_only_counted_while_the_network_takes_nothing() {
    let (peer, mut pipe) = peer(4);
    peer.send(&bytes(12));
    assert_eq!(ending(&peer), None);
    let first = peer.deadline().expect("something waits");
    tokio::time::advance(Duration::from_secs(9)).await;
    read(&mut pipe, 4).await;
    assert_eq!(ending(&peer), None);
    assert_eq!(peer.deadline(), Some(first + Duration::from_secs(9)));
}

#[tokio::test]
async fn nothing_of_rooms_is_delivered_while_it_is_held_and_everything_afterwards() {
    let (peer, mut pipe) = peer(64);
    peer.hold();
    peer.deliver(&Bytes::from_static(b"room"));
    peer.send(&Bytes::from_static(b"pong"));
    peer.hold();
    assert_eq!(read(&mut pipe, 4).await, b"pong");
    peer.release();
    peer.deliver(&Bytes::from_static(b"more"));
    assert_eq!(read(&mut pipe, 8).await, b"roommore");
}

#[tokio::test]
async fn what_is_held_is_bounded_too() {
    let (peer, _pipe) = peer(64);
    peer.hold();
    (0..1024).for_each(|_| peer.deliver(&bytes(1)));
    assert_eq!(ending(&peer), None);
    peer.deliver(&bytes(1));
    assert_eq!(ending(&peer), Some(CloseReason::SlowConsumer.into()));
}

#[tokio::test]
async fn the_first_reason_to_end_stays_and_nothing_is_sent_after_it_but_the_last_word() {
    let (peer, mut pipe) = peer(64);
    peer.end(CloseReason::ServiceRestart);
    peer.end(Ending::Lost);
    peer.send(&Bytes::from_static(b"late"));
    peer.deliver(&Bytes::from_static(b"late"));
    peer.send_last(&Bytes::from_static(b"bye"));
    assert_eq!(ending(&peer), Some(CloseReason::ServiceRestart.into()));
    assert_eq!(read(&mut pipe, 3).await, b"bye");
    peer.hang_up();
    assert_eq!(pipe.read(&mut [0; 8]).await.expect("the end"), 0);
}

#[tokio::test]
async fn a_frame_under_way_is_finished_before_the_last_word() {
    let (peer, mut pipe) = peer(4);
    peer.send(&Bytes::from_static(b"abcdef"));
    peer.send(&Bytes::from_static(b"ghi"));
    peer.forget_unsent();
    peer.send_last(&Bytes::from_static(b"bye"));
    let sending = poll_fn(|context| peer.poll_flush(context));
    let (sent, read) = tokio::join!(sending, read(&mut pipe, 9));
    sent.expect("sent");
    assert_eq!(read, b"abcdefbye");
}

#[tokio::test]
async fn a_network_that_is_gone_ends_the_connection() {
    let (peer, pipe) = peer(4);
    drop(pipe);
    peer.send(&bytes(1));
    assert_eq!(ending(&peer), Some(Ending::Lost));
}

#[test]
fn a_connection_is_in_at_most_100_rooms() {
    let peer = Peer::new(tokio::io::sink());
    let room = |n: usize| RoomName::parse(&format!("room-{n}")).expect("a name");
    assert!((0..100).all(|n| peer.joins(&room(n)).is_ok()));
    assert_eq!(peer.joins(&room(100)), Err(TooManyRooms));
    assert_eq!(peer.joins(&room(99)), Ok(false), "it is in that one");
    assert!(peer.leaves(&room(0)) && !peer.leaves(&room(0)));
    assert_eq!(peer.joins(&room(100)), Ok(true));
    assert_eq!(peer.leave_all().len(), 100);
    assert!(!peer.is_in(&room(1)));
}
