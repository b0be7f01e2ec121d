//! A Redis of several servers loses its primary, which is killed or frozen, under Sentinels and as a Redis Cluster: for a few seconds there is 503, and
//! then everything goes on by itself. Nobody is logged out, and nobody is seen leaving a room.

mod unavailable;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use gatefold_cluster::{Cluster, Election, Fault, RedisSet, Topology};
use tokio::task::JoinSet;

use crate::{
    end_to_end::{account::Account, deployment::Deployment},
    harness::{
        Gatefold, User,
        member::{Member, addresses},
        new_room, within,
    },
};

/// How long a fail-over may take, with everything that follows from it, on a slow machine: the servers agree after some two
/// seconds, and the replicas judge no replay for another three.
const PASSES_WITHIN: Duration = Duration::from_secs(40);
/// How soon after an election everybody must be served again. It takes well under a second; a machine that is busy with
/// other tests needs longer, and a replica that waits for the former primary would need as long as that is frozen.
const RESTORED_WITHIN: Duration = Duration::from_secs(15);
/// Users in as many partitions, so that each primary of a cluster has some of them.
const USERS: usize = 12;
/// The key of the leases of the ws replicas.
const LEASES: &str = "replicas";

/// Users who refresh again and again, and ask again when they are told 503. Any other answer ends the test.
struct Refreshers {
    over: Arc<AtomicBool>,
    served: Vec<Arc<AtomicU64>>,
    turned_away: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Refreshers {
    async fn start(deployment: &Deployment) -> Self {
        let (over, turned_away) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (mut served, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..USERS {
            let mut account = Account::register(deployment).await;
            let mine = Arc::<AtomicU64>::default();
            served.push(Arc::clone(&mine));
            let (over, turned_away) = (Arc::clone(&over), Arc::clone(&turned_away));
            tasks.spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    match account.refresh().await {
                        Ok(()) => mine.fetch_add(1, Ordering::SeqCst),
                        Err(refusal) if refusal == "503 unavailable" => turned_away.fetch_add(1, Ordering::SeqCst),
                        Err(refusal) => panic!("{} was logged out: {refusal}", account.name),
                    };
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        Self { over, served, turned_away, tasks }
    }

    /// Waits until each was served three times more.
    async fn go_on(&self, patience: Duration) {
        let before: Vec<_> = self.served.iter().map(|served| served.load(Ordering::SeqCst)).collect();
        let all = || self.served.iter().zip(&before).all(|(now, before)| now.load(Ordering::SeqCst) >= before + 3);
        within(patience, "everybody is served again", async || all()).await;
    }

    async fn stop(mut self) {
        self.over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("nobody is logged out");
        }
    }
}

/// How the primary fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    /// Its connections stay open, and nothing is answered on them, until it is thawed.
    Frozen,
    /// The network drops whatever comes from it or goes to it, for clients, Sentinels and replicas.
    CutOff,
}

/// Fails the primary that has the leases of the ws replicas, and tells its name and who was elected.
async fn fail(cluster: &Cluster, redis: &RedisSet, end: End) -> (String, Election) {
    let former = match end {
        End::CutOff => {
            let former = redis.primary_name_of(LEASES).await.expect("a primary");
            cluster.fault(&former, Fault::BlackHole).await.expect("cut off");
            former
        }
        End::Killed => redis.kill_primary_of(LEASES).await.expect("killed"),
        End::Frozen => redis.freeze_primary_of(LEASES).await.expect("frozen"),
    };
    let election = redis.await_election(LEASES, &former).await.expect("another primary");
    (former, election)
}

/// Loses the primary that has the leases of the ws replicas, and with Sentinels everything else.
async fn survives(topology: Topology, end: End) {
    let mut builder = Cluster::builder().api(2).ws(2).redis_set(topology);
    if end == End::CutOff {
        builder = builder.proxy();
    }
    let cheap = builder.env("ARGON2_MEMORY_KIB", "8").env("ARGON2_PASSES", "1");
    let deployment = Deployment::of(cheap.start().await.expect("a cluster"));
    let redis = deployment.cluster().redis_set().expect("several servers");
    let (nginx, mut room) = (addresses([deployment.ws_url()]), new_room());
    // One that is lost together with the leases.
    let lost = redis.primary_of(LEASES).await.expect("a primary");
    while redis.primary_of(&format!("room:{{{room}}}:users")).await.expect("a primary") != lost {
        room = new_room();
    }
    let mut members = Vec::new();
    for _ in 0..4 {
        let account = Account::register(&deployment).await;
        let member = Member::enter(&account.user(), account.access, &nginx);
        member.join(&room);
        member.joined(&room).await;
        members.push(member);
    }
    let everybody = async || members.iter().all(|member| member.view().rooms[&room].present.len() == members.len());
    within(PASSES_WITHIN, "everybody sees everybody", everybody).await;
    let refreshers = Refreshers::start(&deployment).await;
    refreshers.go_on(PASSES_WITHIN).await;

    let (former, election) = fail(deployment.cluster(), &redis, end).await;
    refreshers.go_on(PASSES_WITHIN).await;
    let restored = election.at.elapsed();
    println!("{topology:?}, {end:?}: everybody has refreshed three times {restored:?} after the election");
    assert!(restored < RESTORED_WITHIN, "{restored:?}");

    // A message that is refused meanwhile is the author's to repeat.
    let heard = |member: &Member| member.view().rooms[&room].messages.iter().any(|message| message.data == "after");
    let all_heard = async || {
        members[0].publish(&room, "after");
        members.iter().all(heard)
    };
    within(PASSES_WITHIN, "everybody hears each other again", all_heard).await;
    let restored = election.at.elapsed();
    println!("{topology:?}, {end:?}: rooms work again {restored:?} after the election");
    assert!(restored < RESTORED_WITHIN, "{restored:?}");
    if end != End::Killed {
        match end {
            End::CutOff => deployment.cluster().clear(&former).await.expect("whole again"),
            _ => redis.thaw(&former).expect("thawed"),
        }
        nothing_acknowledged_is_lost(&members, &room).await;
    }
    // A log-in writes what no refresh has written before.
    let newcomer = Account::register(&deployment).await;
    let member = Member::enter(&newcomer.user(), newcomer.access, &nginx);
    member.join(&room);
    member.joined(&room).await;
    refreshers.go_on(PASSES_WITHIN).await;
    println!("{topology:?}, {end:?}: {} refreshes were told 503", refreshers.turned_away.load(Ordering::SeqCst));
    refreshers.stop().await;
    for member in &members {
        let view = member.view();
        let gone: Vec<_> = view.rooms[&room].gone().collect();
        assert!(gone.is_empty(), "{} heard {gone:?}", member.user.name);
        assert!(view.closes.is_empty() && view.connections == 1, "sockets stay: {:?}", view.closes);
    }
}

/// The former primary goes on, and takes itself for the primary until it is told otherwise. Whatever is acknowledged from then
/// on must be heard by everybody, so it cannot have been written there.
async fn nothing_acknowledged_is_lost(members: &[Member], room: &str) {
    for number in 0..40 {
        let (text, before) = (format!("thawed {number}"), members[0].view().published);
        members[0].publish(room, text.as_str());
        let acknowledged = async || members[0].view().published > before;
        within(PASSES_WITHIN, "a message is acknowledged", acknowledged).await;
        let heard = |member: &Member| member.view().rooms[room].messages.iter().any(|message| message.data == text);
        within(PASSES_WITHIN, "what is acknowledged is heard", async || members.iter().all(heard)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_sentinels_a_frozen_primary_is_given_up_and_nothing_is_written_to_it_when_it_thaws() {
    survives(Topology::Sentinel, End::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_redis_cluster_a_frozen_primary_is_given_up_and_nothing_is_written_to_it_when_it_thaws() {
    survives(Topology::Cluster, End::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_sentinels_the_loss_of_the_primary_logs_nobody_out_and_passes_by_itself() {
    survives(Topology::Sentinel, End::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_whose_slot_moves_to_another_node_and_back_is_heard_again() {
    let gatefold =
        Gatefold::start(Cluster::builder().ws(2).redis_set(Topology::Cluster).env("BACKEND_TIMEOUT", "10s")).await;
    let room = new_room();
    let mut members = Vec::new();
    for replica in ["ws-1", "ws-2"] {
        let member = gatefold.member(&User::new(), &addresses([gatefold.socket_url(replica)]));
        member.join(&room);
        member.joined(&room).await;
        members.push(member);
    }
    let redis = gatefold.cluster.redis_set().expect("several servers");
    let key = format!("room:{{{room}}}:users");
    let origin = redis.primary_name_of(&key).await.expect("a primary");
    redis.move_slot_of(&key).await.expect("moved");
    is_heard(&members, &room, "there").await;
    // Its subscriptions end when it goes, and it is back before anybody may have looked.
    redis.move_slot_to(&key, &origin).await.expect("moved back");
    is_heard(&members, &room, "back").await;
    redis.move_slot_of(&key).await.expect("moved");
    redis.move_slot_to(&key, &origin).await.expect("moved back");
    is_heard(&members, &room, "there and back").await;
    assert!(members.iter().all(|member| member.view().connections == 1), "sockets stay");
}

/// Publishes until it is acknowledged once, and waits until everybody has heard it.
async fn is_heard(members: &[Member], room: &str, text: &str) {
    let before = members[0].view().published;
    // Whoever comes to the former node first is refused, and may repeat it.
    let heard = |member: &Member| member.view().rooms[room].messages.iter().any(|message| message.data == text);
    let published = async || {
        members[0].publish(room, text);
        tokio::time::sleep(Duration::from_millis(200)).await;
        members[0].view().published > before
    };
    within(PASSES_WITHIN, "something is published", published).await;
    within(PASSES_WITHIN, "everybody hears it", async || members.iter().all(heard)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_redis_cluster_the_loss_of_a_primary_logs_nobody_out_and_passes_by_itself() {
    survives(Topology::Cluster, End::Killed).await;
}

mod long {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "long: ./test.sh --long"]
    async fn under_sentinels_a_primary_whose_packets_are_dropped_is_given_up() {
        survives(Topology::Sentinel, End::CutOff).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "long: ./test.sh --long"]
    async fn in_a_redis_cluster_a_primary_whose_packets_are_dropped_is_given_up() {
        survives(Topology::Cluster, End::CutOff).await;
    }
}
