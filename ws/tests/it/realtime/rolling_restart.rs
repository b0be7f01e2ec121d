//! Every ws replica is replaced, one after the other, under a thousand members: nobody is seen leaving.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gatefold_cluster::Cluster;

use super::LEASE;
use crate::harness::{Gatefold, User, member::addresses, new_room, unhurried, within};

const ROOMS: usize = 10;
const IN_EACH: usize = 100;
const GRACE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_a_thousand_members_shows_nobody_leaving() {
    let gatefold =
        Gatefold::start(unhurried(Cluster::builder()).ws(3).env("DRAIN_SECONDS", "20s").env("PRESENCE_GRACE", "10s"))
            .await;
    let nginx = addresses([gatefold.cluster.ws_url()]);
    let rooms: Vec<_> = (0..ROOMS).map(|_| new_room()).collect();
    let mut members = Vec::new();
    for number in 0..ROOMS * IN_EACH {
        let member = gatefold.member(&User::new(), &nginx);
        member.join(&rooms[number % ROOMS]);
        members.push(member);
        if number % 50 == 49 {
            let last = members.last().expect("a member");
            last.joined(&rooms[number % ROOMS]).await;
        }
    }
    let settled = async || members.iter().all(|member| member.view().is_settled());
    within(Duration::from_secs(30), "everybody is there", settled).await;

    let started = Instant::now();
    for replica in ["ws-1", "ws-2", "ws-3"] {
        gatefold.cluster.restart(replica).await.expect("restarted");
        println!("{replica} was replaced after {:?}", started.elapsed());
    }
    within(Duration::from_secs(30), "everybody is there again", settled).await;
    // What the old replicas held is evicted by then, which must not be noticed either.
    tokio::time::sleep(LEASE + GRACE + Duration::from_secs(2)).await;

    let mut connections = 0;
    for (number, member) in members.iter().enumerate() {
        let view = member.view();
        let room = &view.rooms[&rooms[number % ROOMS]];
        let gone: Vec<_> = room.gone().collect();
        assert!(gone.is_empty(), "{} heard {gone:?}", member.user.name);
        let there: BTreeSet<_> = members[number % ROOMS..].iter().step_by(ROOMS).map(|there| there.user.id).collect();
        assert_eq!(room.present, there);
        assert!(view.is_settled() && view.closes.iter().all(|(code, _)| *code == 1012), "{:?}", view.closes);
        connections += view.connections;
    }
    println!("{} members connected {connections} times", members.len());
    assert!(connections >= 2 * members.len(), "everybody was on a replica that was replaced");
    for room in &rooms {
        let (members, leases) = gatefold.replicas_in_redis(room).await;
        assert!(members.is_subset(&leases) && leases.len() == 3, "{members:?} {leases:?}");
    }
}
