//! A replica that is told to end: it says so at once, lets its sockets go one after the other, and is missed by nobody.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all, stream};
use gatefold_cluster::{Cluster, Signal};

use super::LEASE;
use crate::harness::{Client, Gatefold, PATIENCE, User, member::addresses, new_room, unhurried, within};

/// Far longer than it takes to let everybody go.
const DRAIN: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(8);
/// At 200 a second, six seconds.
const SOCKETS: usize = 1200;
const LAST: Duration = Duration::from_millis((SOCKETS as u64 + 51) * 1000 / 200);
/// Who has so much time is told long before.
const LATE: Duration = Duration::from_secs(5);
/// How much earlier than announced a socket may be closed.
const EARLY: Duration = Duration::from_millis(50);

/// When a socket was to be closed, and when that was heard.
struct Goodbye {
    after: Duration,
    closed: Duration,
}

/// A client that waits for the very end.
async fn stay(mut client: Client, began: Instant) -> Goodbye {
    let reconnect = client.hear_of("reconnect").await;
    let after = Duration::from_millis(reconnect["payload"]["after"].as_u64().expect("milliseconds"));
    if after > LATE {
        // Until then it is served as always.
        client.is_served().await;
    }
    let (heard, code, reason) = client.hear_out().await;
    assert!(heard.is_empty(), "{heard:?}");
    assert_eq!((code, reason.as_str()), (1012, "service_restart"));
    Goodbye { after, closed: began.elapsed() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_told_at_once_and_closed_in_turn_and_members_who_come_back_are_not_missed() {
    let builder = unhurried(Cluster::builder()).ws(2).env("DRAIN_SECONDS", "30s").env("PRESENCE_GRACE", "8s");
    let gatefold = Gatefold::start(builder).await;
    let room = new_room();
    let watcher = gatefold.member(&User::new(), &addresses([gatefold.socket_url("ws-2")]));
    watcher.join(&room);
    watcher.joined(&room).await;
    let everywhere = addresses([gatefold.socket_url("ws-1")]);
    let returning: Vec<_> = (0..50).map(|_| gatefold.member(&User::new(), &everywhere)).collect();
    for member in &returning {
        member.join(&room);
        member.joined(&room).await;
    }
    *crate::harness::member::lock(&everywhere) = gatefold.socket_urls();
    let mut lost = gatefold.visitor("ws-1").await;
    lost.join(&room).await;
    let staying = stream::iter(0..SOCKETS).map(|_| gatefold.client()).buffer_unordered(50);
    let staying: Vec<_> = staying.collect().await;

    let began = Instant::now();
    gatefold.cluster.signal("ws-1", Signal::SIGTERM).expect("signalled");
    let goodbyes = join_all(staying.into_iter().map(|client| stay(client, began))).await;
    drop(lost);
    gatefold.cluster.await_exit("ws-1", PATIENCE).await.expect("ended in time");
    let ended = began.elapsed();
    println!("{SOCKETS} sockets and 51 members were let go within {ended:?}");
    assert!(ended < DRAIN, "it took {ended:?}");

    for Goodbye { after, closed } in &goodbyes {
        assert!(*closed + EARLY >= *after, "closed after {closed:?} instead of {after:?}");
    }
    let mut announced: Vec<_> = goodbyes.iter().map(|goodbye| goodbye.after).collect();
    announced.sort();
    let window = announced[SOCKETS - 1].saturating_sub(announced[0]);
    assert!(window > LATE && announced[SOCKETS - 1] <= LAST, "{announced:?}");
    // Nowhere in the window is there a rush: in no tenth of it more than a third is let go.
    let busiest = announced
        .iter()
        .map(|begin| announced.iter().filter(|at| (*begin..*begin + window / 10).contains(*at)).count());
    let busiest = busiest.max().expect("some");
    println!("in a window of {window:?}, at most {busiest} within a tenth of it");
    assert!(busiest < SOCKETS / 3, "{announced:?}");

    within(PATIENCE, "they are all back", async || returning.iter().all(|member| member.view().is_settled())).await;
    // Only the one who did not come back is missed, when the lease of the replica has run out.
    within(LEASE + GRACE + PATIENCE, "the lost one is missed", async || watcher.view().rooms[&room].gone().count() > 0)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    {
        let view = watcher.view();
        assert_eq!(view.rooms[&room].gone().count(), 1, "only one was lost");
        assert_eq!(view.rooms[&room].present.len(), 51);
    }
    gatefold.has_evicted(["ws-2"], "stopped").await;
}

/// After the first one it waits here for a Redis that does not answer, for nearly a minute.
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let builder = Cluster::builder().ws(1).redis_through_proxy();
    let gatefold = Gatefold::start(builder.env("DRAIN_SECONDS", "60s").env("BACKEND_TIMEOUT", "60s")).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(gatefold.client().await);
    }
    gatefold.cluster.redis_faults().expect("a proxy").stall();
    gatefold.cluster.signal("ws-1", Signal::SIGTERM).expect("signalled");
    for client in &mut clients {
        assert_eq!(client.hear().await["type"], "reconnect");
    }
    gatefold.cluster.signal("ws-1", Signal::SIGTERM).expect("signalled");
    gatefold.cluster.await_exit("ws-1", PATIENCE).await.expect("ended at once");
}

#[tokio::test]
async fn whoever_does_not_say_goodbye_is_waited_for_no_longer_than_the_deadline() {
    let gatefold = Gatefold::start(unhurried(Cluster::builder()).ws(1).env("DRAIN_SECONDS", "2s")).await;
    // They read nothing, and so do not answer when they are told that it is the end.
    let silent = [gatefold.client().await, gatefold.client().await];
    gatefold.cluster.signal("ws-1", Signal::SIGTERM).expect("signalled");
    gatefold.cluster.await_exit("ws-1", PATIENCE).await.expect("ended");
    drop(silent);
}
