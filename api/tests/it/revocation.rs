//! The end of a session, as the REST replicas learn of it: at once, whatever is broken, and for good.

mod session;

use std::time::{Duration, Instant};

use gatefold_cluster::{Builder, Cluster, Signal, faults::Faults};
use gatefold_shared::redis::keys;

use self::session::{Replicas, Session, eventually};
use crate::harness::unhurried;

/// How soon after the return of Redis, or of the way to it, a replica must have caught up: two seconds, on a machine that
/// has nothing else to do.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(15);

/// They hash cheaply: sessions are many, and passwords of no value.
fn replicas(count: u16) -> Builder {
    Cluster::builder().api(count).env("ARGON2_MEMORY_KIB", "8").env("ARGON2_PASSES", "1")
}

/// Waits until a replica refuses the session's access token, and tells how long that took.
async fn refused(replicas: &Replicas, replica: usize, session: &Session) -> Duration {
    let begun = Instant::now();
    loop {
        match replicas.protected(replica, session).await.as_str() {
            "401 session_revoked" => return begun.elapsed(),
            "200" if begun.elapsed() < Duration::from_secs(20) => tokio::time::sleep(Duration::from_millis(2)).await,
            other => panic!("replica {replica} answers {other} after {:?}", begun.elapsed()),
        }
    }
}

#[tokio::test]
async fn from_the_answer_to_a_log_out_every_replica_refuses_the_access_token() {
    const RUNS: usize = 300;
    let replicas = Replicas::start(unhurried(replicas(4))).await;
    let (mut times, mut rounds) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let session = replicas.log_in(run % 4).await;
        let asked = Instant::now();
        for replica in 0..4 {
            assert_eq!(replicas.protected(replica, &session).await, "200");
        }
        rounds.push(asked.elapsed());
        assert_eq!(replicas.log_out((run + 1) % 4, &session).await, "200");
        let (a, b, c, d) = tokio::join!(
            refused(&replicas, 0, &session),
            refused(&replicas, 1, &session),
            refused(&replicas, 2, &session),
            refused(&replicas, 3, &session),
        );
        times.push(a.max(b).max(c).max(d));
    }
    times.sort();
    rounds.sort();
    let (median, p99) = (times[RUNS / 2], times[RUNS * 99 / 100]);
    println!(
        "from the answer to a log-out to the refusal by all of 4 replicas, {RUNS} runs: p50 {median:?}, p99 {p99:?}"
    );
    // A replica that heard of it only when it looks by itself would take half a second, and the last of four longer. What a
    // busy machine adds, it adds to asking as well.
    let bound = Duration::from_millis(100) + rounds[RUNS / 2] * 2;
    assert!(median < bound, "{median:?} is not below {bound:?}: {times:?}");
}

#[tokio::test]
async fn subscriptions_that_are_killed_all_the_time_hide_nothing() {
    let replicas = Replicas::start(replicas(2)).await;
    let session = replicas.log_in(0).await;
    let killing = async {
        for _ in 0..100 {
            replicas.redis("CLIENT KILL TYPE pubsub").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let logging_out = async {
        eventually("a replica without subscription is not ready", async || !replicas.is_ready(1).await).await;
        assert_eq!(replicas.log_out(0, &session).await, "200");
    };
    tokio::join!(killing, logging_out);
    for replica in 0..2 {
        let took = refused(&replicas, replica, &session).await;
        assert!(took < CAUGHT_UP_WITHIN, "{took:?}");
    }
    replicas.are_ready_within(CAUGHT_UP_WITHIN).await;
}

#[tokio::test]
async fn a_replica_that_was_cut_off_says_so_and_catches_up_when_it_is_back() {
    type Break = fn(&Faults);
    let breaks: [(&str, Break); 3] =
        [("refused", Faults::refuse), ("silent", Faults::black_hole), ("stalled", Faults::stall)];
    for (how, break_it) in breaks {
        let replicas = Replicas::start(replicas(2).redis_through_proxy()).await;
        let session = replicas.log_in(0).await;
        let faults = replicas.cluster.redis_faults().unwrap();
        break_it(faults);
        eventually("a replica that is cut off is not ready", async || !replicas.is_ready(0).await).await;
        replicas.revoke_as_administrator(&session).await;
        faults.pass();
        let caught_up = tokio::join!(refused(&replicas, 0, &session), refused(&replicas, 1, &session));
        println!("connections were {how}; after the return the replicas refuse the token within {caught_up:?}");
        assert!(caught_up.0.max(caught_up.1) < CAUGHT_UP_WITHIN, "{how}");
        replicas.are_ready_within(CAUGHT_UP_WITHIN).await;
    }
}

#[tokio::test]
async fn after_a_pause_of_redis_everything_goes_on() {
    let replicas = Replicas::start(replicas(2)).await;
    let session = replicas.log_in(0).await;
    replicas.cluster.signal("redis", Signal::SIGSTOP).unwrap();
    eventually("a replica that hears nothing is not ready", async || !replicas.is_ready(0).await).await;
    assert_eq!(replicas.protected(0, &session).await, "200", "what is known is recent enough");
    replicas.cluster.signal("redis", Signal::SIGCONT).unwrap();
    replicas.are_ready_within(CAUGHT_UP_WITHIN).await;
    assert_eq!(replicas.log_out(1, &session).await, "200");
    refused(&replicas, 0, &session).await;
}

#[tokio::test]
async fn when_nothing_could_be_read_for_too_long_nobody_is_let_in_until_it_can() {
    let replicas = Replicas::start(replicas(1).env("REVOCATION_STALENESS_LIMIT", "10s")).await;
    let session = replicas.log_in(0).await;
    replicas.cluster.kill("redis").await.unwrap();
    assert_eq!(replicas.protected(0, &session).await, "200", "not yet too long");
    eventually("it is too long", async || replicas.protected(0, &session).await == "503 unavailable").await;
    assert_eq!(replicas.protected_headers(0, &session).await["retry-after"], "1");
    replicas.cluster.start_process("redis").await.unwrap();
    eventually("everything resumes", async || replicas.protected(0, &session).await == "200").await;
    replicas.are_ready_within(CAUGHT_UP_WITHIN).await;
}

#[tokio::test]
async fn a_redis_that_starts_from_an_older_state_is_told_again_what_was_revoked() {
    let replicas = Replicas::start(replicas(2)).await;
    let (session, living) = (replicas.log_in(0).await, replicas.log_in(0).await);
    let (now, before) = (replicas.cluster.dir().join("redis"), replicas.cluster.dir().join("redis-before"));
    replicas.cluster.stop("redis").await.unwrap();
    copy(&now, &before);
    replicas.cluster.start_process("redis").await.unwrap();
    replicas.are_ready_within(Duration::from_secs(20)).await;
    assert_eq!(replicas.log_out(0, &session).await, "200");
    refused(&replicas, 1, &session).await;

    replicas.cluster.kill("redis").await.unwrap();
    std::fs::remove_dir_all(&now).unwrap();
    copy(&before, &now);
    replicas.cluster.start_process("redis").await.unwrap();
    replicas.cluster.wait_ready("redis").await.unwrap();
    eventually("it is re-asserted", async || replicas.state_in_redis(&session).await == "revoked").await;
    replicas.are_ready_within(CAUGHT_UP_WITHIN).await;
    // Not only in the memory of those who were there: also for one that starts now, and for a refresh.
    replicas.cluster.restart("api-2").await.unwrap();
    assert_eq!(replicas.protected(1, &session).await, "401 session_revoked");
    assert_eq!(replicas.refresh(1, &session).await, "401 session_revoked");
    assert_eq!(replicas.protected(1, &living).await, "200");
    assert_eq!(replicas.refresh(1, &living).await, "200");
    assert_eq!(replicas.reasserted(), 1, "by one of them, once");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[tokio::test]
async fn a_lost_tail_of_the_log_is_put_back_and_nothing_twice() {
    let replicas = Replicas::start(replicas(2)).await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(replicas.log_in(0).await);
    }
    for session in &sessions {
        assert_eq!(replicas.log_out(1, session).await, "200");
    }
    for session in &sessions {
        refused(&replicas, 0, session).await;
        refused(&replicas, 1, session).await;
    }
    // The last two never happened, as far as Redis knows; the one before them is only missing in the log.
    let log = keys::revocations(sessions[0].user_id);
    let ids = replicas.redis(&format!("XRANGE {log} - +")).await;
    let ids: Vec<_> =
        ids.lines().filter(|line| line.contains('-') && !line.contains("-4")).map(str::to_owned).collect();
    let ids: Vec<_> = ids.iter().filter(|id| id.split('-').all(|part| part.parse::<u64>().is_ok())).collect();
    assert_eq!(ids.len(), 5, "{ids:?}");
    let family = |session: &Session| keys::family(session.user_id, session.family);
    let undo = sessions[3..].iter().map(|session| format!("HSET {} state active", family(session)));
    let all: Vec<_> = std::iter::once(format!("XDEL {log} {} {} {}", ids[2], ids[3], ids[4])).chain(undo).collect();
    replicas.redis_transaction(&all).await;

    eventually("all of it is back", async || {
        let revoked = async |session: &Session| replicas.state_in_redis(session).await == "revoked";
        revoked(&sessions[3]).await
            && revoked(&sessions[4]).await
            && replicas.redis(&format!("XLEN {log}")).await == ":5"
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(replicas.redis(&format!("XLEN {log}")).await, ":5", "no replica puts back what another has put back");
    assert_eq!(replicas.reasserted(), 3);
}

#[tokio::test]
async fn a_log_that_is_trimmed_is_not_taken_for_one_that_was_lost() {
    // With the leeway, an entry is of interest for 6 s.
    let replicas = Replicas::start(replicas(2).env("ACCESS_TOKEN_EXPIRY", "1s")).await;
    let begun = Instant::now();
    let mut ended = 0;
    while begun.elapsed() < Duration::from_secs(15) {
        let session = replicas.log_in(0).await;
        assert_eq!(replicas.log_out(1, &session).await, "200");
        ended += 1;
    }
    let log = keys::revocations(replicas.user_id().await);
    let length: u32 = replicas.redis(&format!("XLEN {log}")).await.trim_start_matches(':').parse().unwrap();
    println!("{ended} sessions ended; {length} entries are left in the log");
    assert!(length < ended, "the log is trimmed");
    assert_eq!(replicas.reasserted(), 0);
    eventually("what is of no interest is forgotten", async || replicas.metric(0, "revocations_held").await == Some(0))
        .await;
}
