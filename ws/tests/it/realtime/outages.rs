//! Redis goes away, forgets everything, or hangs; a replica sleeps: sockets stay, and afterwards everything is as it is.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gatefold_cluster::{Cluster, Signal};
use serde_json::json;

use super::LEASE;
use crate::harness::{
    Gatefold, PATIENCE, User,
    member::{Member, addresses},
    new_room,
    visitor::{Visitor, ids},
    within,
};

const GRACE: Duration = Duration::from_secs(2);
/// How long a replica may take to notice, to ask Redis, and to put things right.
const MENDED: Duration = Duration::from_secs(30);

/// A room with members on both replicas, and what they must all believe.
struct Scene {
    gatefold: Gatefold,
    room: String,
    members: Vec<Member>,
    visitors: [Visitor; 2],
}

impl Scene {
    async fn begin() -> Self {
        let builder = Cluster::builder().ws(2).redis_through_proxy().env("PRESENCE_GRACE", "2s");
        let gatefold = Gatefold::start(builder).await;
        let room = new_room();
        let mut members = Vec::new();
        for number in 0..20 {
            members.push(Self::member(&gatefold, &room, ["ws-1", "ws-2"][number % 2]).await);
        }
        let visitors = [gatefold.visitor("ws-1").await, gatefold.visitor("ws-2").await];
        Self { gatefold, room, members, visitors }
    }

    async fn member(gatefold: &Gatefold, room: &str, replica: &str) -> Member {
        let member = gatefold.member(&User::new(), &addresses([gatefold.socket_url(replica)]));
        member.join(room);
        member.joined(room).await;
        member
    }

    /// While Redis is away, whoever needs it is told so in time, and everything else is served.
    async fn is_unavailable(&mut self) {
        for visitor in &mut self.visitors {
            for room in [self.room.clone(), new_room()] {
                let message = json!({"type": "join", "room": room});
                let asked = Instant::now();
                assert_eq!(visitor.error(message).await, "unavailable");
                // A machine that does nothing for some seconds may be the reason, too.
                assert!(asked.elapsed() < Duration::from_secs(10), "told after {:?}", asked.elapsed());
            }
            // Of a room that it follows, a replica tells what it knows until it finds that it cannot know any more.
            let deadline = Instant::now() + PATIENCE;
            while visitor.ask(json!({"type": "presence", "room": self.room})).await["payload"]["code"] != "unavailable"
            {
                assert!(Instant::now() < deadline, "it still knows");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(visitor.ask(json!({"type": "ping"})).await["type"], "pong");
        }
        // Members cannot publish either.
        self.members[0].publish(&self.room, "never published");
        let told = async || self.members[0].view().errors.contains(&"unavailable".to_owned());
        within(Duration::from_secs(10), "publishing is refused", told).await;
    }

    /// Everybody is there again who is there, for everybody and in Redis; and what is published arrives.
    async fn is_mended(&mut self) {
        let truth: BTreeSet<_> = self.members.iter().map(|member| member.user.id).collect();
        let room = &self.room;
        within(MENDED, "Redis has the truth", async || self.gatefold.users_in_redis(room).await == truth).await;
        for visitor in &mut self.visitors {
            let deadline = Instant::now() + MENDED;
            loop {
                let state = visitor.insist(json!({"type": "presence", "room": room})).await;
                let users: BTreeSet<_> = ids(&state["payload"]["users"]).into_iter().collect();
                if users == truth && state["payload"]["count"] == truth.len() {
                    break;
                }
                assert!(Instant::now() < deadline, "{users:?} instead of {truth:?}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let agree = async || self.members.iter().all(|member| member.view().rooms[room].present == truth);
        within(MENDED, "every member has the truth", agree).await;
        for author in [&self.members[0], &self.members[1]] {
            let marker = format!("mended {}", author.user.id);
            author.publish(room, marker.clone());
            let heard = |member: &Member| {
                member.view().rooms[room].messages.last().is_some_and(|message| message.data == marker.as_str())
            };
            within(MENDED, "a message reaches everybody", async || self.members.iter().all(heard)).await;
        }
        for member in &self.members {
            let view = member.view();
            assert!(view.is_settled() && view.closes.is_empty(), "{:?}", view.closes);
            assert!(view.rooms[room].messages.iter().all(|message| message.data != "never published"));
        }
    }

    /// Nobody had to connect again.
    fn sockets_stayed(&self) {
        assert!(self.members.iter().all(|member| member.view().connections == 1));
    }

    /// Somebody ends without a word; whom the others must come to miss.
    fn loses(&mut self, index: usize) -> i64 {
        self.members.remove(index).user.id
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stops_and_starts_and_nobody_is_lost_and_nobody_is_a_ghost() {
    let mut scene = Scene::begin().await;
    scene.gatefold.cluster.stop("redis").await.expect("stopped");
    scene.is_unavailable().await;
    // Whoever ends meanwhile cannot be taken out of Redis, and whoever comes cannot be put in.
    scene.loses(5);
    scene.loses(4);
    let late = scene.gatefold.member(&User::new(), &addresses([scene.gatefold.socket_url("ws-2")]));
    late.join(&scene.room);
    within(MENDED, "the late one is told", async || late.view().errors.contains(&"unavailable".to_owned())).await;
    scene.members.push(late);
    scene.gatefold.cluster.start_process("redis").await.expect("started");
    scene.gatefold.cluster.wait_ready("redis").await.expect("ready");
    scene.is_mended().await;
    scene.sockets_stayed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_forgets_everything_and_everybody_is_there_all_the_same() {
    let mut scene = Scene::begin().await;
    let room = scene.room.clone();
    for text in ["seen", "forgotten"] {
        scene.members[0].publish(&room, text);
    }
    let heard = |member: &Member| member.view().rooms[&room].messages.len() == 2;
    within(MENDED, "everybody hears it", async || scene.members.iter().all(heard)).await;
    let seen = scene.members[0].view().rooms[&room].messages[0].id.clone();

    assert!(scene.gatefold.redis_command("FLUSHALL").await.starts_with("+OK"));
    scene.is_mended().await;
    scene.sockets_stayed();
    // What was there cannot be told any more, and nobody says that it could.
    let mut back = scene.gatefold.visitor("ws-1").await;
    assert_eq!(back.join_since(&room, &seen).await["recovered"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_hangs_and_what_was_refused_meanwhile_is_not_done_afterwards() {
    let mut scene = Scene::begin().await;
    let gone = scene.loses(7);
    let faults = scene.gatefold.cluster.redis_faults().expect("a proxy").clone();
    faults.stall();
    scene.is_unavailable().await;
    scene.loses(6);
    faults.pass();
    scene.is_mended().await;
    scene.sockets_stayed();
    let left = |member: &Member| member.view().rooms[&scene.room].gone().filter(|event| event.user == gone).count();
    assert!(scene.members.iter().all(|member| left(member) <= 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_sleeps_for_longer_than_its_lease_takes_its_members_back_when_it_wakes() {
    let mut scene = Scene::begin().await;
    let room = scene.room.clone();
    let on = |replica: usize| scene.members.iter().skip(replica).step_by(2);
    let asleep: BTreeSet<_> = on(1).map(|member| member.user.id).collect();
    scene.gatefold.cluster.signal("ws-2", Signal::SIGSTOP).expect("signalled");
    within(LEASE + GRACE + PATIENCE, "its members are missed", async || {
        on(0).all(|member| member.view().rooms[&room].present.is_disjoint(&asleep))
    })
    .await;
    scene.gatefold.cluster.signal("ws-2", Signal::SIGCONT).expect("signalled");
    scene.is_mended().await;
    scene.sockets_stayed();
}
