//! The previous release is replaced by this version, replica by replica, and then the other way round, under load: nobody is
//! logged out, what either has given out is accepted by both, and what either has ended stays dead.

use std::{
    cell::Cell,
    env,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gatefold_cluster::{Cluster, Kind};
use serde_json::json;

use super::{
    load::{Load, Outages, register},
    release::Release,
};
use crate::{
    end_to_end::{account::Account, deployment::Deployment},
    harness::{
        member::{Member, addresses},
        new_room, unhurried, within,
    },
};

/// How long a replica may take to do what it should do at once.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Refreshes of each session while old and new replicas run side by side.
const SIDE_BY_SIDE: u64 = 10;
const MEMBERS: usize = 6;

/// Members of a room, one of whom publishes numbers.
struct Room {
    members: Vec<Member>,
    name: String,
}

impl Room {
    async fn fill(deployment: &Deployment) -> Self {
        let (name, nginx) = (new_room(), addresses([deployment.ws_url()]));
        let mut members = Vec::new();
        for account in register(deployment, MEMBERS).await {
            let member = Member::enter(&account.user(), account.access.clone(), &nginx);
            member.join(&name);
            member.joined(&name).await;
            members.push(member);
        }
        Self { members, name }
    }

    /// Publishes the next number until its author hears it, so that it is known to have been published.
    async fn publish(&self, number: u64) {
        let author = &self.members[usize::try_from(number).expect("few") % MEMBERS];
        let asked = Cell::new(None::<Instant>);
        within(TIMEOUT, "a message is published", async || {
            let is_due = asked.get().is_none_or(|asked| asked.elapsed() > Duration::from_secs(2));
            if is_due && author.view().is_settled() {
                author.publish(&self.name, json!(number));
                asked.set(Some(Instant::now()));
            }
            numbers(author, &self.name).contains(&number)
        })
        .await;
    }

    /// That everybody has heard each number, in the same order, and nobody was seen leaving.
    async fn check(&self, published: u64) {
        let all = async || self.members.iter().all(|member| numbers(member, &self.name).contains(&(published - 1)));
        within(TIMEOUT, "everybody hears the last message", all).await;
        for member in &self.members {
            let heard = numbers(member, &self.name);
            let view = member.view();
            let room = &view.rooms[&self.name];
            assert!((0..published).all(|number| heard.contains(&number)), "{} heard {heard:?}", member.user.name);
            assert!(heard.is_sorted(), "{} heard in another order: {heard:?}", member.user.name);
            let gone: Vec<_> = room.gone().collect();
            assert!(gone.is_empty(), "{} saw leaving: {gone:?}", member.user.name);
            assert!(view.closes.iter().all(|(code, _)| *code == 1012), "{:?}", view.closes);
            assert!(room.gaps == 0 && room.contradictions.is_empty(), "{:?}", room.contradictions);
        }
    }
}

fn numbers(member: &Member, room: &str) -> Vec<u64> {
    let view = member.view();
    let messages = view.rooms.get(room).map(|room| room.messages.as_slice()).unwrap_or_default();
    messages.iter().filter_map(|message| message.data.as_u64()).collect()
}

fn replicas(deployment: &Deployment) -> Vec<String> {
    deployment.cluster().replicas(Kind::Api).into_iter().map(|replica| replica.url).collect()
}

/// Sessions that nobody uses meanwhile: what they hold was given out by one version and is presented to the other.
async fn resume(sleeping: Vec<Account>) {
    for mut account in sleeping {
        account.refresh().await.unwrap_or_else(|refusal| panic!("{} was logged out: {refusal}", account.name));
    }
}

/// Replaces all replicas, kinds taking turns, and has everybody go on before the next one is.
async fn replace(deployment: &Deployment, load: &Load, binaries: &std::path::Path) {
    for name in ["api-1", "ws-1", "ws-2", "api-2"] {
        let started = Instant::now();
        deployment.cluster().replace(name, binaries).await.expect("replaced");
        println!("{name} runs from {} after {:?}", binaries.display(), started.elapsed());
        load.goes_on(SIDE_BY_SIDE, TIMEOUT).await;
        println!("{} ended sessions are dead everywhere", load.ended_stay_dead(&replicas(deployment)).await);
    }
}

fn own_binaries() -> PathBuf {
    let test = env::current_exe().expect("a program");
    test.parent().and_then(|deps| deps.parent()).expect("a folder").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn the_previous_release_and_this_version_replace_each_other_under_load() {
    let previous = Release::previous().await;
    let started = Instant::now();
    let builder = unhurried(Cluster::builder()).api(2).ws(2).earlier_binaries(&previous.binaries);
    let builder = builder.env("DRAIN_SECONDS", "20s").env("PRESENCE_GRACE", "10s").env("ACCESS_TOKEN_EXPIRY", "2h");
    let cheap = builder.env("ARGON2_MEMORY_KIB", "8").env("ARGON2_PASSES", "1");
    let deployment = Deployment::of(cheap.start().await.expect("a cluster"));
    println!("{} runs after {:?}", previous.version, started.elapsed());

    let mut load = Load::new(Outages::Failures);
    for (number, account) in register(&deployment, 8).await.into_iter().enumerate() {
        load.refresh(account, number % 2 == 0);
    }
    for account in register(&deployment, 2).await {
        load.log_in_and_out(account);
    }
    let old_tokens = register(&deployment, 2).await;
    for account in &old_tokens {
        load.present_everywhere(account, &replicas(&deployment));
    }
    let old_cookies = register(&deployment, 4).await;
    let room = Room::fill(&deployment).await;
    let over = Arc::<AtomicBool>::default();
    let publishing = {
        let (room, over) = (&room, Arc::clone(&over));
        async move {
            let mut number = 0;
            while !over.load(Ordering::SeqCst) {
                room.publish(number).await;
                number += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            number
        }
    };
    let updating = async {
        load.goes_on(3, TIMEOUT).await;
        deployment.cluster().run_api(Some(&own_binaries()), &["migrate"], "").await.expect("migrated");
        load.goes_on(3, TIMEOUT).await;
        println!("this version's migrations are applied under {} after {:?}", previous.version, started.elapsed());
        replace(&deployment, &load, &own_binaries()).await;
        resume(old_cookies).await;
        let new_cookies = register(&deployment, 4).await;
        let new_tokens = register(&deployment, 2).await;
        for account in &new_tokens {
            load.present_everywhere(account, &replicas(&deployment));
        }
        println!("all run this version after {:?}", started.elapsed());
        replace(&deployment, &load, &previous.binaries).await;
        resume(new_cookies).await;
        println!("all run {} again after {:?}", previous.version, started.elapsed());
        over.store(true, Ordering::SeqCst);
    };
    let ((), published) = tokio::join!(updating, publishing);
    room.check(published).await;
    load.stop().await;
    let ended = load.ended_stay_dead(&replicas(&deployment)).await;
    println!(
        "{published} messages; {ended} more ended sessions are dead; the update and back took {:?}",
        started.elapsed()
    );
}
