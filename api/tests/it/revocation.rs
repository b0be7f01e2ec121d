//! The end of a session, as the REST replicas learn of it: at once, whatever is broken, and for good.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use gatefold_cluster::{Builder, Cluster, Kind, Signal, faults::Faults};
use gatefold_shared::redis::keys;
use http::header;

use crate::harness::{Door, PASSWORD, Requester, TestApp, administer, eventually, unhurried};

const NAME: &str = "alice";
/// How soon after the return of Redis, or of the way to it, a replica must have caught up: two seconds, on a machine that
/// has nothing else to do.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(15);

/// Replicas that are asked directly, and one user. They hash cheaply: sessions are many, and passwords of no value.
struct Replicas(TestApp);

fn replicas(count: u16) -> Builder {
    Cluster::builder().api(count).env("ARGON2_MEMORY_KIB", "8").env("ARGON2_PASSES", "1")
}

impl Replicas {
    async fn start(builder: Builder) -> Self {
        let app = TestApp::start(builder).await;
        app.add_user(NAME).await;
        Self(app)
    }

    async fn log_in(&self, replica: usize) -> Requester {
        let mut session = self.0.anonymous().at(Door::Replica(replica));
        assert_eq!(session.login(NAME, PASSWORD).await.status, 200);
        session
    }

    /// Whether a replica says that revocations reach it.
    async fn is_ready(&self, replica: usize) -> bool {
        let answer = self.0.anonymous().at(Door::Replica(replica)).get("/api/ready").await;
        let hears = answer.json()["checks"]["revocations"] == "ok";
        assert!(hears || answer.status == 503, "{answer:?}");
        hears && answer.status == 200
    }

    async fn are_ready_within(&self, patience: Duration) {
        let begun = Instant::now();
        self.0.is_ready().await;
        assert!(begun.elapsed() < patience, "ready only after {:?}", begun.elapsed());
    }

    /// Ends a session with the command line, which asks the stores directly.
    async fn revoke_as_administrator(&self, session: &Requester) {
        administer(&self.0, &["session", "revoke", NAME, &session.session().1.to_string()], "").await;
    }

    /// `active`, `revoked` or nothing.
    async fn state_in_redis(&self, session: &Requester) -> String {
        self.0.redis_command(&["HGET", &session.family_key(), "state"]).await
    }

    /// How many revocations all replicas together have put back.
    fn reasserted(&self) -> usize {
        let logs = (0..self.0.cluster.replicas(Kind::Api).len()).map(|replica| self.0.log_of(replica));
        logs.map(|log| log.matches("redis had forgotten a revocation").count()).sum()
    }
}

/// What a replica answers to the session's access token.
async fn protected(session: &Requester, replica: usize) -> String {
    session.at(Door::Replica(replica)).get("/api/protected").await.summary()
}

async fn log_out(session: &Requester, replica: usize) {
    assert_eq!(session.at(Door::Replica(replica)).logout().await.status, 200);
}

/// Waits until a replica refuses the session's access token, and tells how long that took.
async fn refused(session: &Requester, replica: usize) -> Duration {
    let begun = Instant::now();
    loop {
        match protected(session, replica).await.as_str() {
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
            assert_eq!(protected(&session, replica).await, "200");
        }
        rounds.push(asked.elapsed());
        log_out(&session, (run + 1) % 4).await;
        let (a, b, c, d) =
            tokio::join!(refused(&session, 0), refused(&session, 1), refused(&session, 2), refused(&session, 3),);
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
            replicas.0.redis_command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let logging_out = async {
        eventually("a replica without subscription is not ready", async || !replicas.is_ready(1).await).await;
        log_out(&session, 0).await;
    };
    tokio::join!(killing, logging_out);
    for replica in 0..2 {
        let took = refused(&session, replica).await;
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
        let faults = replicas.0.cluster.redis_faults().unwrap();
        break_it(faults);
        eventually("a replica that is cut off is not ready", async || !replicas.is_ready(0).await).await;
        replicas.revoke_as_administrator(&session).await;
        faults.pass();
        let caught_up = tokio::join!(refused(&session, 0), refused(&session, 1));
        println!("connections were {how}; after the return the replicas refuse the token within {caught_up:?}");
        assert!(caught_up.0.max(caught_up.1) < CAUGHT_UP_WITHIN, "{how}");
        replicas.are_ready_within(CAUGHT_UP_WITHIN).await;
    }
}

#[tokio::test]
async fn after_a_pause_of_redis_everything_goes_on() {
    let replicas = Replicas::start(replicas(2)).await;
    let session = replicas.log_in(0).await;
    replicas.0.cluster.signal("redis", Signal::SIGSTOP).unwrap();
    eventually("a replica that hears nothing is not ready", async || !replicas.is_ready(0).await).await;
    assert_eq!(protected(&session, 0).await, "200", "what is known is recent enough");
    replicas.0.cluster.signal("redis", Signal::SIGCONT).unwrap();
    replicas.are_ready_within(CAUGHT_UP_WITHIN).await;
    log_out(&session, 1).await;
    refused(&session, 0).await;
}

#[tokio::test]
async fn when_nothing_could_be_read_for_too_long_nobody_is_let_in_until_it_can() {
    let replicas = Replicas::start(replicas(1).env("REVOCATION_STALENESS_LIMIT", "10s")).await;
    let session = replicas.log_in(0).await;
    replicas.0.cluster.kill("redis").await.unwrap();
    assert_eq!(protected(&session, 0).await, "200", "not yet too long");
    eventually("it is too long", async || protected(&session, 0).await == "503 unavailable").await;
    assert_eq!(session.at(Door::Replica(0)).get("/api/protected").await.header(header::RETRY_AFTER), Some("1"));
    replicas.0.cluster.start_process("redis").await.unwrap();
    eventually("everything resumes", async || protected(&session, 0).await == "200").await;
    replicas.are_ready_within(CAUGHT_UP_WITHIN).await;
}

#[tokio::test]
async fn a_redis_that_starts_from_an_older_state_is_told_again_what_was_revoked() {
    let replicas = Replicas::start(replicas(2)).await;
    let (session, living) = (replicas.log_in(0).await, replicas.log_in(0).await);
    let (now, before) = (replicas.0.cluster.dir().join("redis"), replicas.0.cluster.dir().join("redis-before"));
    replicas.0.cluster.stop("redis").await.unwrap();
    copy(&now, &before);
    replicas.0.cluster.start_process("redis").await.unwrap();
    replicas.are_ready_within(Duration::from_secs(20)).await;
    log_out(&session, 0).await;
    refused(&session, 1).await;

    replicas.0.cluster.kill("redis").await.unwrap();
    std::fs::remove_dir_all(&now).unwrap();
    copy(&before, &now);
    replicas.0.cluster.start_process("redis").await.unwrap();
    replicas.0.cluster.wait_ready("redis").await.unwrap();
    eventually("it is re-asserted", async || replicas.state_in_redis(&session).await == "revoked").await;
    replicas.are_ready_within(CAUGHT_UP_WITHIN).await;
    // Not only in the memory of those who were there: also for one that starts now, and for a refresh.
    replicas.0.cluster.restart("api-2").await.unwrap();
    assert_eq!(protected(&session, 1).await, "401 session_revoked");
    assert_eq!(session.at(Door::Replica(1)).refresh().await.summary(), "401 session_revoked");
    assert_eq!(protected(&living, 1).await, "200");
    assert_eq!(living.at(Door::Replica(1)).refresh().await.summary(), "200");
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
        log_out(session, 1).await;
    }
    for session in &sessions {
        refused(session, 0).await;
        refused(session, 1).await;
    }
    // The last two never happened, as far as Redis knows; the one before them is only missing in the log.
    let log = keys::revocations(sessions[0].session().0);
    let undo = "local ids = redis.call('XRANGE', KEYS[1], '-', '+') \
        for last = 0, 2 do redis.call('XDEL', KEYS[1], ids[#ids - last][1]) end \
        for family = 2, 3 do redis.call('HSET', KEYS[family], 'state', 'active') end \
        return #ids";
    let undone = ["EVAL", undo, "3", &log, &sessions[3].family_key(), &sessions[4].family_key()];
    assert_eq!(replicas.0.redis_command(&undone).await, "5");

    eventually("all of it is back", async || {
        let revoked = async |session: &Requester| replicas.state_in_redis(session).await == "revoked";
        revoked(&sessions[3]).await
            && revoked(&sessions[4]).await
            && replicas.0.redis_command(&["XLEN", &log]).await == "5"
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(replicas.0.redis_command(&["XLEN", &log]).await, "5", "no replica puts back what another has put back");
    assert_eq!(replicas.reasserted(), 3);
}

#[tokio::test]
async fn a_log_that_is_trimmed_is_not_taken_for_one_that_was_lost() {
    // With all that a token may live longer, an entry is of interest for 15 s.
    let replicas = Replicas::start(replicas(2).env("ACCESS_TOKEN_EXPIRY", "1s")).await;
    let log = keys::revocations(replicas.log_in(0).await.session().0);
    let ended = Cell::new(0);
    eventually("the log is trimmed", async || {
        let session = replicas.log_in(0).await;
        log_out(&session, 1).await;
        ended.set(ended.get() + 1);
        let length: u32 = replicas.0.redis_command(&["XLEN", &log]).await.parse().unwrap();
        length + 20 < ended.get()
    })
    .await;
    println!("{} sessions ended", ended.get());
    assert_eq!(replicas.reasserted(), 0);
    eventually("what is of no interest is forgotten", async || {
        replicas.0.metrics_of(0).await.lines().any(|line| line == "gatefold_revocations_held 0")
    })
    .await;
}

#[tokio::test]
async fn a_log_that_is_too_long_for_the_time_of_one_call_is_read_with_several() {
    const OTHERS: u64 = 60_000;
    let replicas = Replicas::start(replicas(2).redis_through_proxy()).await;
    let session = replicas.log_in(0).await;
    log_out(&session, 0).await;
    let user_id = session.session().0;
    let until = gatefold_shared::clock::unix_millis() + 3_600_000;
    let others = format!(
        "for other = 1, {OTHERS} do redis.call('XADD', KEYS[1], '*', 'why', 'logout', 'at', 0, 'until', {until}, \
         'user', {user_id}, 'family', string.format('00000000-0000-4000-8000-%012x', other)) end return 0"
    );
    replicas.0.redis_command(&["EVAL", &others, "1", &keys::revocations(user_id)]).await;

    // As from another continent.
    let cluster = &replicas.0.cluster;
    cluster.redis_faults().unwrap().delay(Duration::from_millis(50));
    cluster.stop("api-2").await.unwrap();
    cluster.start_process("api-2").await.unwrap();
    cluster.wait_ready("api-2").await.unwrap();
    assert_eq!(protected(&session, 1).await, "401 session_revoked");
    let all = format!("gatefold_revocations_held {}", OTHERS + 1);
    eventually("all is known", async || replicas.0.metrics_of(1).await.lines().any(|line| line == all)).await;
}
