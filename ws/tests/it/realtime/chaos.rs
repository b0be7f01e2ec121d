//! A minute in which everything happens at random, and afterwards everybody agrees on who is where.

mod mob;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gatefold_cluster::{Cluster, Kind};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::mob::Mob;
use super::LEASE;
use crate::harness::{
    Gatefold, PATIENCE, User,
    member::{Member, addresses, lock},
    unhurried, within,
};

const GRACE: Duration = Duration::from_secs(2);
const TYPING: Duration = Duration::from_secs(2);
const USERS: usize = 300;
const CHAOS: Duration = Duration::from_mins(1);
const WATCHERS: usize = 6;

/// What is done to replicas, and when.
const DISRUPTIONS: [(u64, Disruption); 6] = [
    (10, Disruption::Kill("ws-2")),
    (18, Disruption::Add),
    (26, Disruption::Kill("ws-3")),
    (34, Disruption::Add),
    (42, Disruption::Kill("ws-4")),
    (48, Disruption::Add),
];

#[derive(Clone, Copy)]
enum Disruption {
    Kill(&'static str),
    Add,
}

/// Members who are never touched, on a replica that is never touched: their views are made of a minute's events.
async fn watchers(gatefold: &Gatefold, rooms: &[String]) -> Vec<Member> {
    let places = addresses([gatefold.socket_url("ws-1")]);
    let watchers: Vec<_> = (0..WATCHERS).map(|_| gatefold.member(&User::new(), &places)).collect();
    for watcher in &watchers {
        for room in rooms {
            watcher.join(room);
        }
    }
    within(Duration::from_secs(30), "the watchers watch", async || {
        watchers.iter().all(|watcher| watcher.view().connected && rooms.iter().all(|room| watcher.view().is_in(room)))
    })
    .await;
    watchers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_minute_of_chaos_every_replica_and_redis_and_every_member_know_the_truth() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let builder = unhurried(Cluster::builder()).ws(3).env("PRESENCE_GRACE", "2s").env("TYPING_EXPIRY", "2s");
    let gatefold = Gatefold::start(builder).await;
    let places = addresses(gatefold.socket_urls());
    let mut mob = Mob::new(&gatefold, places.clone(), StdRng::seed_from_u64(seed));
    let watchers = watchers(&gatefold, &mob.rooms).await;
    mob.gather(USERS).await;

    let started = Instant::now();
    let mut disruptions = DISRUPTIONS.into_iter().peekable();
    while started.elapsed() < CHAOS {
        mob.riot();
        if let Some((_, disruption)) = disruptions.next_if(|(at, _)| started.elapsed().as_secs() >= *at) {
            match disruption {
                Disruption::Kill(replica) => {
                    let url = gatefold.socket_url(replica);
                    gatefold.cluster.kill(replica).await.expect("killed");
                    lock(&places).retain(|place| *place != url);
                }
                Disruption::Add => {
                    let replica = gatefold.cluster.add(Kind::Ws).await.expect("added");
                    lock(&places).push(gatefold.socket_url(&replica));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{mob}");

    within(Duration::from_secs(30), "everybody is where they want to be", async || mob.is_settled()).await;
    let ended = Instant::now();
    let deadline = LEASE + GRACE + PATIENCE;
    for room in &mob.rooms {
        let mut truth = mob.users_in(room);
        truth.extend(watchers.iter().map(|watcher| watcher.user.id));
        let left = deadline.saturating_sub(ended.elapsed());
        within(left, "Redis knows the truth", async || gatefold.users_in_redis(room).await == truth).await;
        for member in mob.members().chain(&watchers).filter(|member| member.view().wanted.contains(room)) {
            let agrees = async || member.view().rooms[room].present == truth;
            let left = deadline.saturating_sub(ended.elapsed());
            within(left, &format!("{} knows who is in {room}", member.user.name), agrees).await;
        }
        let survivors = ["ws-1", "ws-5", "ws-6"];
        for replica in survivors {
            let mut asker = gatefold.visitor(replica).await;
            let (count, users) = asker.presence(room).await;
            let users: BTreeSet<_> = users.into_iter().collect();
            assert_eq!((users, count), (truth.clone(), truth.len() as u64), "{replica}");
        }
        let left = deadline.saturating_sub(ended.elapsed());
        within(left, "Redis knows the survivors only", async || {
            let (members, leases) = gatefold.replicas_in_redis(room).await;
            members.is_subset(&leases) && leases.len() == survivors.len()
        })
        .await;
        let nobody_types = async || mob.members().chain(&watchers).all(|member| member.view().nobody_types());
        within(TYPING + PATIENCE, "nobody types any more", nobody_types).await;
    }
    println!("everybody agreed {:?} after everybody was back", ended.elapsed());
    for watcher in &watchers {
        let view = watcher.view();
        assert_eq!(view.connections, 1);
        for room in view.rooms.values() {
            assert_eq!(room.contradictions, [""; 0], "nobody comes who is there, or goes who is not");
            assert_eq!(room.duplicates, 0);
        }
    }
}
