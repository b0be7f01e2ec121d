//! A replica that is told to end: it says so at once, lets its sockets go one after the other, and is missed by nobody.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use gatefold_cluster::{Cluster, Signal};

use super::LEASE;
use crate::harness::{Client, Gatefold, PATIENCE, User, member::addresses, new_room, within};

const DRAIN: Duration = Duration::from_secs(8);
const GRACE: Duration = Duration::from_secs(2);
const SOCKETS: usize = 600;

/// When a socket was told, how long it was given, and when it was closed.
struct Goodbye {
    told: Duration,
    after: Duration,
    closed: Duration,
}

/// A client that waits for the very end.
async fn stay(mut client: Client, began: Instant) -> Goodbye {
    let reconnect = client.hear_of("reconnect").await;
    let told = began.elapsed();
    let after = Duration::from_millis(reconnect["payload"]["after"].as_u64().expect("milliseconds"));
    if after > Duration::from_secs(1) {
        // Until then it is served as always.
        client.is_served().await;
    }
    let (heard, code, reason) = client.hear_out().await;
    assert!(heard.is_empty(), "{heard:?}");
    assert_eq!((code, reason.as_str()), (1012, "service_restart"));
    Goodbye { told, after, closed: began.elapsed() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_told_at_once_and_closed_in_turn_and_members_who_come_back_are_not_missed() {
    let builder = Cluster::builder().ws(2).env("DRAIN_SECONDS", "8s").env("PRESENCE_GRACE", "2s");
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
    let mut staying = Vec::new();
    for _ in 0..SOCKETS {
        staying.push(gatefold.client().await);
    }

    let began = Instant::now();
    gatefold.cluster.signal("ws-1", Signal::SIGTERM).expect("signalled");
    let goodbyes = join_all(staying.into_iter().map(|client| stay(client, began))).await;
    drop(lost);
    gatefold.cluster.await_exit("ws-1", PATIENCE).await.expect("ended in time");
    let ended = began.elapsed();
    println!("{SOCKETS} sockets and 51 members were let go within {ended:?}");
    assert!(ended < DRAIN, "it took {ended:?}");

    for Goodbye { told, after, closed } in &goodbyes {
        assert!(*told < Duration::from_secs(2), "told after {told:?}");
        assert!(*after <= DRAIN * 3 / 4, "told to wait for {after:?}");
        let announced = *told + *after;
        assert!(
            closed.abs_diff(announced) < Duration::from_secs(2),
            "closed after {closed:?} instead of {announced:?}"
        );
    }
    let mut closed: Vec<_> = goodbyes.iter().map(|goodbye| goodbye.closed).collect();
    closed.sort();
    let window = closed[SOCKETS - 1].saturating_sub(closed[0]);
    // Nowhere in the window is there a rush: in no tenth of it more than a third is let go.
    let busiest =
        closed.iter().map(|begin| closed.iter().filter(|at| (*begin..*begin + window / 10).contains(*at)).count());
    let busiest = busiest.max().expect("some");
    println!("in a window of {window:?}, at most {busiest} within a tenth of it");
    assert!(busiest < SOCKETS / 3, "{closed:?}");

    within(PATIENCE, "they are all back", async || returning.iter().all(|member| member.view().is_settled())).await;
    // Only the one who did not come back is missed, when the lease of the replica has run out.
    within(LEASE + GRACE + Duration::from_secs(4), "the lost one is missed", async || {
        watcher.view().rooms[&room].gone().count() > 0
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    {
        let view = watcher.view();
        assert_eq!(view.rooms[&room].gone().count(), 1, "only one was lost");
        assert_eq!(view.rooms[&room].present.len(), 51);
    }
    gatefold.has_evicted(["ws-2"], "stopped").await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let gatefold = Gatefold::start(Cluster::builder().ws(1).env("DRAIN_SECONDS", "40s")).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(gatefold.client().await);
    }
    gatefold.cluster.signal("ws-1", Signal::SIGTERM).expect("signalled");
    for client in &mut clients {
        assert_eq!(client.hear().await["type"], "reconnect");
    }
    gatefold.cluster.signal("ws-1", Signal::SIGTERM).expect("signalled");
    gatefold.cluster.await_exit("ws-1", Duration::from_secs(3)).await.expect("ended at once");
}
