//! A Redis of several servers loses its primary, under Sentinels and as a Redis Cluster: for a few seconds there is 503, and
//! then everything goes on by itself. Nobody is logged out, and nobody is seen leaving a room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gatefold_cluster::{Cluster, Topology};
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

/// Kills the primary that has the leases of the ws replicas, and with Sentinels everything else.
async fn survives(topology: Topology) {
    let builder = Cluster::builder().api(2).ws(2).redis_set(topology);
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

    redis.kill_primary_of(LEASES).await.expect("killed");
    let killed = Instant::now();
    refreshers.go_on(PASSES_WITHIN).await;
    println!("{topology:?}: everybody refreshes again {:?} after the kill", killed.elapsed());

    // A message that is refused meanwhile is the author's to repeat.
    let heard = |member: &Member| member.view().rooms[&room].messages.iter().any(|message| message.data == "after");
    let all_heard = async || {
        members[0].publish(&room, "after");
        members.iter().all(heard)
    };
    let left = PASSES_WITHIN.saturating_sub(killed.elapsed());
    within(left, "everybody hears each other again", all_heard).await;
    println!("{topology:?}: rooms work again {:?} after the kill", killed.elapsed());
    // A log-in writes what no refresh has written before.
    let newcomer = Account::register(&deployment).await;
    let member = Member::enter(&newcomer.user(), newcomer.access, &nginx);
    member.join(&room);
    member.joined(&room).await;
    refreshers.go_on(PASSES_WITHIN).await;
    println!("{topology:?}: {} refreshes were told 503", refreshers.turned_away.load(Ordering::SeqCst));
    refreshers.stop().await;
    for member in &members {
        let view = member.view();
        let gone: Vec<_> = view.rooms[&room].gone().collect();
        assert!(gone.is_empty(), "{} heard {gone:?}", member.user.name);
        assert!(view.closes.is_empty() && view.connections == 1, "sockets stay: {:?}", view.closes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_sentinels_the_loss_of_the_primary_logs_nobody_out_and_passes_by_itself() {
    survives(Topology::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_whose_slot_moves_to_another_node_is_heard_again() {
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
    redis.move_slot_of(&format!("room:{{{room}}}:users")).await.expect("moved");
    // Whoever comes to the former node first is refused, and may repeat it.
    let heard = |member: &Member| member.view().rooms[&room].messages.iter().any(|message| message.data == "after");
    let published = async || {
        members[0].publish(&room, "after");
        tokio::time::sleep(Duration::from_millis(200)).await;
        members[0].view().published > 0
    };
    within(PASSES_WITHIN, "something is published", published).await;
    within(PASSES_WITHIN, "everybody hears it", async || members.iter().all(heard)).await;
    assert!(members.iter().all(|member| member.view().connections == 1), "sockets stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_redis_cluster_the_loss_of_a_primary_logs_nobody_out_and_passes_by_itself() {
    survives(Topology::Cluster).await;
}
