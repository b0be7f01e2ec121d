//! Failovers in numbers, under load: no acknowledged log-out is undone, nobody is logged out, and all of it works again soon
//! after the election, however the former primary was lost.
//!
//! `GATEFOLD_FAILOVERS` says how many, 50 unless it is set; half of them under Sentinels and half in a Redis Cluster, of each half
//! by killing and half by freezing, and some more by losing packets.

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use gatefold_cluster::{Cluster, Fault, Kind, RedisSet, Topology};
use serde_json::json;
use tokio::time::sleep;

use super::load::{Load, Outages, register};
use crate::{
    end_to_end::{
        account::{Account, PASSWORD},
        deployment::Deployment,
    },
    harness::{
        Client,
        member::{Member, addresses},
        new_room,
    },
};

/// The key of the leases of the ws replicas: whose primary is lost.
const LEASES: &str = "replicas";
/// After so long nobody waits any more.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Within what service is to be restored after the election.
const TARGET: Duration = Duration::from_secs(3);
const OPERATIONS: [&str; 4] = ["refresh", "login", "publish", "join"];

/// What is tried after each failover, all of it with keys that the lost primary had.
struct Probes {
    refreshing: Account,
    /// Members of a room on different replicas.
    members: Vec<Client>,
    room: String,
    joining: Client,
}

/// A room on the shard of the leases.
async fn room_of(redis: &RedisSet) -> String {
    let lost = redis.primary_name_of(LEASES).await.expect("a primary");
    loop {
        let room = new_room();
        if redis.primary_name_of(&format!("room:{{{room}}}:users")).await.expect("a primary") == lost {
            return room;
        }
    }
}

/// A user whose sessions are on the shard of the leases.
async fn account_of(deployment: &Deployment, redis: &RedisSet) -> Account {
    let lost = redis.primary_name_of(LEASES).await.expect("a primary");
    loop {
        let account = Account::register(deployment).await;
        let keys = redis.ask(&lost, &format!("KEYS family:*:{}", account.session())).await.expect("a reply");
        if keys.contains("family:") {
            return account;
        }
    }
}

async fn socket(url: &str, account: &Account) -> Client {
    let mut client = Client::connect(&format!("{url}?token={}", account.access)).await;
    client.is_greeted().await;
    client
}

impl Probes {
    async fn new(deployment: &Deployment, redis: &RedisSet) -> Self {
        let replicas = deployment.cluster().replicas(Kind::Ws);
        let sockets: Vec<_> = replicas.iter().map(|replica| replica.url.replacen("http", "ws", 1) + "/ws").collect();
        let (refreshing, room) = (account_of(deployment, redis).await, room_of(redis).await);
        let mut members = Vec::new();
        for url in &sockets {
            let mut member = socket(url, &refreshing).await;
            member.say(json!({"type": "join", "room": room})).await;
            member.hear_of("joined").await;
            members.push(member);
        }
        let joining = socket(&sockets[0], &refreshing).await;
        Self { refreshing, members, room, joining }
    }
}

impl Probes {
    /// When each operation succeeded first that began after the fault.
    async fn succeed(&mut self, joined: &str) -> [Instant; 4] {
        let Self { refreshing, members, room, joining } = self;
        let logging_in = refreshing.without_session();
        let refreshed = async {
            while let Err(refusal) = refreshing.refresh().await {
                assert_eq!(refusal, "503 unavailable", "the probe was logged out");
                sleep(Duration::from_millis(20)).await;
            }
            Instant::now()
        };
        let logged_in = async {
            let mut session = logging_in;
            while let Err(refusal) = session.begin("/api/login", PASSWORD, 200).await {
                assert_eq!(refusal, "503 unavailable", "a log-in");
                sleep(Duration::from_millis(20)).await;
            }
            Instant::now()
        };
        let (author, hearer) = members.split_at_mut(1);
        let published = publish_until_heard(&mut author[0], &mut hearer[0], room);
        let joined = join_until_joined(joining, joined);
        let all = async { tokio::join!(refreshed, logged_in, published, joined) };
        let (refreshed, logged_in, published, joined) =
            tokio::time::timeout(TIMEOUT, all).await.expect("everything works again");
        [refreshed, logged_in, published, joined]
    }
}

/// Publishes until another member, on another replica, hears one of these messages.
async fn publish_until_heard(author: &mut Client, hearer: &mut Client, room: &str) -> Instant {
    let mark = new_room();
    let publishing = async {
        loop {
            author.say(json!({"type": "publish", "room": room, "data": mark})).await;
            let answer = author.hear().await;
            if answer["type"] == "message" || answer["type"] == "published" {
                sleep(Duration::from_millis(200)).await;
            } else {
                sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let hearing = async {
        loop {
            let heard = hearer.hear_of("message").await;
            if heard["payload"]["data"] == json!(mark) {
                return Instant::now();
            }
        }
    };
    tokio::select! {
        () = publishing => unreachable!("it goes on"),
        at = hearing => at,
    }
}

async fn join_until_joined(client: &mut Client, room: &str) -> Instant {
    loop {
        client.say(json!({"type": "join", "room": room, "id": room})).await;
        loop {
            let heard = client.hear().await;
            match heard["type"].as_str() {
                Some("joined") if heard["payload"]["room"] == json!(room) => {
                    let at = Instant::now();
                    client.say(json!({"type": "leave", "room": room})).await;
                    return at;
                }
                Some("error") => break,
                _ => {}
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// What was measured of failovers of one kind.
#[derive(Default)]
struct Measured {
    /// From the fault to the election.
    elections: Vec<Duration>,
    /// From the election until each operation succeeded.
    recoveries: [Vec<Duration>; 4],
}

fn median_and_most(durations: &[Duration]) -> String {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let at = |index: usize| sorted.get(index).map_or(0.0, Duration::as_secs_f64);
    format!("{:5.2} / {:5.2}", at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

fn print_table(topology: Topology, measured: &BTreeMap<String, Measured>) {
    println!("\n{topology:?}: seconds, median / longest");
    println!(
        "{:<10} {:>5}  {:<13}  {}",
        "fault",
        "times",
        "election",
        OPERATIONS.map(|name| format!("{name:<13}")).join("  ")
    );
    for (fault, measured) in measured {
        let recoveries = measured.recoveries.iter().map(|recoveries| median_and_most(recoveries)).collect::<Vec<_>>();
        let elections = median_and_most(&measured.elections);
        println!("{fault:<10} {:>5}  {elections}  {}", measured.elections.len(), recoveries.join("  "));
    }
    println!();
}

/// How many failovers of each kind there are to be on one topology.
fn kinds() -> Vec<Fault> {
    #[expect(clippy::disallowed_methods, reason = "a test is no program with a configuration")]
    let all: usize = env::var("GATEFOLD_FAILOVERS").map_or(50, |count| count.parse().expect("GATEFOLD_FAILOVERS"));
    let here = all.div_ceil(2);
    let mut kinds: Vec<_> = (0..here).map(|number| if number % 2 == 0 { Fault::Freeze } else { Fault::Kill }).collect();
    kinds.extend(vec![Fault::BlackHole; here.div_ceil(5)]);
    kinds
}

fn replicas(deployment: &Deployment) -> Vec<String> {
    deployment.cluster().replicas(Kind::Api).into_iter().map(|replica| replica.url).collect()
}

async fn are_survived(topology: Topology) {
    let builder = Cluster::builder().api(2).ws(2).redis_set(topology).redis_cluster_replicas(2).proxy();
    let cheap = builder.env("ARGON2_MEMORY_KIB", "8").env("ARGON2_PASSES", "1").env("REDIS_ACK_REPLICAS", "1");
    // Sockets are to stay open for as long as all of it takes.
    let cheap = cheap.env("ACCESS_TOKEN_EXPIRY", "6h");
    let deployment = Deployment::of(cheap.start().await.expect("a cluster"));
    let (cluster, redis) = (deployment.cluster(), deployment.cluster().redis_set().expect("several servers"));
    let mut probes = Probes::new(&deployment, &redis).await;
    let mut load = Load::new(Outages::Expected);
    for (number, account) in register(&deployment, 8).await.into_iter().enumerate() {
        load.refresh(account, number % 2 == 0);
    }
    for account in register(&deployment, 2).await {
        load.log_in_and_out(account);
    }
    let members = members(&deployment, &redis).await;
    let (mut measured, mut ended) = (BTreeMap::<String, Measured>::new(), 0);
    for (number, fault) in kinds().into_iter().enumerate() {
        load.goes_on(1, TIMEOUT).await;
        redis.await_whole().await.expect("whole");
        let room = room_of(&redis).await;
        let former = redis.primary_name_of(LEASES).await.expect("a primary");
        cluster.fault(&former, fault).await.expect("broken");
        let broken = Instant::now();
        let election = async { redis.await_election(LEASES, &former).await.expect("an election") };
        let (election, succeeded) = tokio::join!(election, probes.succeed(&room));
        let of_kind = measured.entry(fault.to_string()).or_default();
        of_kind.elections.push(election.at - broken);
        let recoveries = succeeded.map(|at| at.saturating_duration_since(election.at));
        of_kind.recoveries.iter_mut().zip(recoveries).for_each(|(all, this)| all.push(this));
        println!(
            "{topology:?} {number}: {fault} of {former}, elected {} after {:.2?}, {OPERATIONS:?} {recoveries:.2?} later",
            election.primary,
            election.at - broken
        );
        load.goes_on(1, TIMEOUT).await;
        cluster.clear(&former).await.expect("cleared");
        redis.await_whole().await.expect("whole again");
        load.goes_on(1, TIMEOUT).await;
        ended += load.ended_stay_dead(&replicas(&deployment)).await;
    }
    load.stop().await;
    ended += load.ended_stay_dead(&replicas(&deployment)).await;
    print_table(topology, &measured);
    println!("{ended} acknowledged log-outs hold; {} requests were told 503", load.told_unavailable());
    for member in &members {
        assert!(member.view().closes.is_empty() && member.view().connections == 1, "sockets stay open");
    }
    for (fault, measured) in &measured {
        for (operation, recoveries) in OPERATIONS.iter().zip(&measured.recoveries) {
            let within_target = recoveries.iter().filter(|recovery| **recovery <= TARGET).count();
            assert!(
                within_target * 2 > recoveries.len(),
                "{fault}: {operation} takes {recoveries:?} after the election"
            );
        }
    }
}

/// Members of rooms, whose sockets are to stay open.
async fn members(deployment: &Deployment, redis: &RedisSet) -> Vec<Member> {
    let (nginx, mut members) = (addresses([deployment.ws_url()]), Vec::new());
    for account in register(deployment, 4).await {
        let (room, member) = (room_of(redis).await, Member::enter(&account.user(), account.access, &nginx));
        member.join(&room);
        member.joined(&room).await;
        members.push(member);
    }
    members
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn under_sentinels_no_failover_undoes_a_log_out_or_logs_anybody_out() {
    are_survived(Topology::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn in_a_redis_cluster_no_failover_undoes_a_log_out_or_logs_anybody_out() {
    are_survived(Topology::Cluster).await;
}
