//! The scripts over families alone, against a real Redis: each outcome, and what each leaves behind.

mod access;
mod late_retry;
mod lost;
mod vouched;

use std::{collections::HashMap, process::Command};

use clap::Parser;
use gatefold_cluster::Cluster;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::*;
use crate::{commands::Cli, postgres};

const MINUTE: Duration = Duration::from_mins(1);
const LIFETIMES: Lifetimes =
    Lifetimes { refresh: MINUTE, absolute: MINUTE.saturating_mul(2), reuse_grace: Duration::ZERO, most: MOST };
/// Sessions that a user may have here.
const MOST: u32 = 5;

/// Runs any one command: KEYS 1 its key, ARGV its name and what comes after the key.
static COMMAND: Script =
    Script::new("command", &["local name = table.remove(ARGV, 1) return redis.call(name, KEYS[1], unpack(ARGV))"]);

/// A Redis, and keys of all kinds.
async fn stores() -> (Cluster, TempDir) {
    let folder = TempDir::new().unwrap();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../generate-keys.sh");
    let made = Command::new(program).arg("--dir").arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let cluster = Cluster::builder().start().await.unwrap();
    let postgres = sqlx::PgPool::connect(&cluster.database_url()).await.unwrap();
    postgres::migrator().run(&postgres).await.unwrap();
    (cluster, folder)
}

struct Bench {
    redis: Redis,
    families: Families,
    user_id: i64,
}

impl Bench {
    /// Families in the Redis of all these tests, of a user whom no other test has.
    async fn of(user_id: i64) -> Self {
        static STORES: OnceCell<(Cluster, TempDir)> = OnceCell::const_new();
        let (stores, keys) = STORES.get_or_init(stores).await;
        let life = Lifecycle::begin().unwrap();
        let key = |name| keys.path().join(name).display().to_string();
        let (private, public, refresh) = (key("private.pem"), key("public.pem"), key("refresh.key"));
        let arguments = ["gatefold-api", "--private-key-path", &private, "--public-key-path", &public];
        let arguments = arguments.into_iter().chain(["--refresh-key-path", &refresh, "--backend-timeout", "10s"]);
        let (redis, database) = (stores.redis_url(), stores.database_url());
        let stores = ["--redis-url", redis.as_str(), "--database-url", database.as_str()];
        let config = Cli::parse_from(arguments.chain(stores)).config;
        let redis = Redis::connect(&config.store, &life).unwrap();
        redis.check_writable().await.unwrap();
        let keys = Keys::live(&config.tokens, &config.public_keys).unwrap();
        let ender = SessionEnder::new(redis.clone(), MINUTE);
        let postgres = postgres::connect(&config.database, MINUTE).unwrap();
        let audit = Audit::start(postgres.clone(), MINUTE, &life);
        let stores = Stores { redis: redis.clone(), postgres };
        let marks = Marks::start(&stores, ender.clone(), audit.clone(), LIFETIMES.absolute, &life);
        marks.vouched(MINUTE).await;
        let families = Families::new(&stores, keys, LIFETIMES, ender, audit, marks, &life);
        Self { redis, families, user_id }
    }

    async fn issue(&self) -> RefreshToken {
        let session = self.issue_with(&Grants::default()).await;
        assert_eq!((session.user_id, &*session.username, session.expires_in), (self.user_id, "alice", MINUTE));
        self.opened(&session)
    }

    async fn issue_with(&self, grants: &Grants) -> Session {
        let from = Origin { address: IpAddr::from([192, 0, 2, 1]), user_agent: "a test" };
        self.families.issue(&self.owner(), "alice".into(), grants, from).await.unwrap().session
    }

    /// The account, which is old.
    fn owner(&self) -> Owner {
        let uid = Uuid::from_u128(self.user_id.unsigned_abs().into());
        Owner { id: self.user_id, uid, created_at: time::OffsetDateTime::UNIX_EPOCH }
    }

    fn opened(&self, session: &Session) -> RefreshToken {
        self.families.open(session.refresh_token.expose_secret()).unwrap()
    }

    async fn rotate(&self, token: &RefreshToken, key: Option<&str>) -> Rotation {
        let from = Origin { address: IpAddr::from([192, 0, 2, 2]), user_agent: "a test" };
        self.families.rotate(token, key, from).await.unwrap()
    }

    /// The outcome of the script itself, which is told to do nothing after `too_late` and whether it may judge.
    async fn outcome(&self, token: &RefreshToken, too_late: i64, may_judge: bool) -> i64 {
        self.outcome_with_key(token, "", too_late, may_judge).await
    }

    async fn outcome_with_key(&self, token: &RefreshToken, key: &str, too_late: i64, may_judge: bool) -> i64 {
        let digest = if key.is_empty() { String::new() } else { sha256_hex(key.as_bytes())[..32].to_owned() };
        let user = self.user_id;
        let keys = [
            keys::family(user, token.family),
            keys::families(user),
            keys::revocations(user),
            keys::grants(user),
            keys::identity(user),
            keys::mark(user),
        ];
        let arguments: Vec<Value> = vec![
            token.family.to_string().into(),
            self.user_id.into(),
            token.secret_digest().into(),
            i64::from(token.generation).into(),
            digest.into(),
            Uuid::new_v4().to_string().into(),
            too_late.into(),
            millis(MINUTE).into(),
            0.into(),
            millis(MINUTE).into(),
            i64::from(may_judge).into(),
            "192.0.2.2".into(),
        ];
        let reply: Vec<Value> = self.redis.run(&ROTATE, &keys, arguments, soon()).await.unwrap();
        reply[0].as_i64().unwrap()
    }

    /// One command about the family of a token.
    async fn family(&self, token: &RefreshToken, command: &[&str]) -> Value {
        self.command(keys::family(self.user_id, token.family), command).await
    }

    async fn command(&self, key: String, command: &[&str]) -> Value {
        let arguments = command.iter().map(|argument| (*argument).into()).collect();
        self.redis.run(&COMMAND, &[key], arguments, soon()).await.unwrap()
    }

    /// All that Redis has of the family of a token.
    async fn fields(&self, token: &RefreshToken) -> HashMap<String, String> {
        let list: Vec<String> = self.family(token, &["HGETALL"]).await.convert().unwrap();
        list.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    /// How many families the user's list has, and for how long it lives.
    async fn listed(&self) -> (i64, i64) {
        let list = keys::families(self.user_id);
        let count = self.command(list.clone(), &["ZCARD"]).await.as_i64().unwrap();
        (count, self.command(list, &["PTTL"]).await.as_i64().unwrap())
    }

    /// The entries of the revocation log about the family of a token.
    async fn logged(&self, token: &RefreshToken) -> usize {
        let log = self.command(keys::revocations(self.user_id), &["XRANGE", "-", "+"]).await;
        format!("{log:?}").matches(&token.family.to_string()).count()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn rotated(rotation: Rotation) -> Session {
    match rotation {
        Rotation::Rotated(session) => session,
        _ => panic!("not rotated"),
    }
}

#[tokio::test]
async fn each_generation_is_traded_once_and_then_replayed() {
    let bench = Bench::of(1_001).await;
    let first = bench.issue().await;
    let second = bench.opened(&rotated(bench.rotate(&first, None).await));
    assert_eq!((second.generation, second.family), (1, first.family));
    let third = bench.opened(&rotated(bench.rotate(&second, None).await));
    assert!(matches!(bench.rotate(&second, None).await, Rotation::Replayed { .. }));
    assert!(matches!(bench.rotate(&third, None).await, Rotation::Revoked));
    assert!(matches!(bench.rotate(&first, None).await, Rotation::Revoked));
    assert_eq!((bench.logged(&first).await, bench.listed().await.0), (1, 0));
    let why = bench.family(&first, &["HGET", "revoked_why"]).await;
    assert_eq!(why.as_str().as_deref(), Some("refresh_token_reused"));
}

#[tokio::test]
async fn a_retry_has_the_key_of_the_rotation_and_changes_only_when_and_from_where_the_session_was_used() {
    let bench = Bench::of(1_002).await;
    let token = bench.issue().await;
    let session = rotated(bench.rotate(&token, Some("a")).await);
    let before = bench.fields(&token).await;
    bench.family(&token, &["HSET", "ip", "192.0.2.9", "last_used_at", "1", "access_until", "1"]).await;
    let Rotation::Retried(again) = bench.rotate(&token, Some("a")).await else { panic!("not retried") };
    assert_eq!(bench.opened(&session).generation, bench.opened(&again).generation);
    let mut after = bench.fields(&token).await;
    for field in ["last_used_at", "access_until"] {
        assert!(after[field].parse::<i64>().unwrap() >= before[field].parse::<i64>().unwrap(), "{field}");
        after.insert(field.to_owned(), before[field].clone());
    }
    assert_eq!(after, before, "the address, too, is that of the retry");
    assert!(matches!(bench.rotate(&token, Some("b")).await, Rotation::Replayed { .. }));
}

#[tokio::test]
async fn a_late_duplicate_has_the_key_of_its_own_rotation_and_changes_nothing() {
    let bench = Bench::of(1_011).await;
    let mut token = bench.issue().await;
    for key in ["a", "b", "c"] {
        token = bench.opened(&rotated(bench.rotate(&token, Some(key)).await));
    }
    let before = bench.family(&token, &["HGETALL"]).await;
    for (generation, key) in [(0, "a"), (1, "b"), (0, "a")] {
        let late = bench.rotate(&token.at_generation(generation), Some(key)).await;
        assert!(matches!(late, Rotation::Superseded), "{generation}");
    }
    assert_eq!(bench.family(&token, &["HGETALL"]).await, before);
    assert!(matches!(bench.rotate(&token.at_generation(2), Some("c")).await, Rotation::Retried(_)));
    rotated(bench.rotate(&token, None).await);
}

#[tokio::test]
async fn the_key_of_another_rotation_or_none_is_a_replay() {
    let bench = Bench::of(1_012).await;
    for key in [Some("b"), Some("c"), None] {
        let first = bench.issue().await;
        let mut token = bench.opened(&rotated(bench.rotate(&first, Some("a")).await));
        for key in [Some("b"), None] {
            token = bench.opened(&rotated(bench.rotate(&token, key).await));
        }
        assert!(matches!(bench.rotate(&first, key).await, Rotation::Replayed { .. }), "{key:?}");
    }
}

/// A session that lives for a month is refreshed thousands of times.
#[tokio::test]
async fn of_the_last_four_rotations_the_keys_are_known_and_of_no_others() {
    let bench = Bench::of(1_013).await;
    let mut token = bench.issue().await;
    for round in 0..9 {
        token = bench.opened(&rotated(bench.rotate(&token, Some(&format!("key {round}"))).await));
    }
    let texts = async |command| bench.family(&token, &[command]).await.convert::<Vec<String>>().unwrap();
    let kept = texts("HKEYS").await.into_iter().filter(|field| field.starts_with("key:")).count();
    assert_eq!(kept, 4, "the session does not grow");
    assert!(texts("HVALS").await.iter().all(|value| value.len() <= 64), "nor leaves Redis's small form of a hash");
    assert!(matches!(bench.rotate(&token.at_generation(5), Some("key 5")).await, Rotation::Superseded));

    // Those of generations that Redis has lost are of no use.
    let Rotation::RolledForward(_) = bench.rotate(&token.at_generation(4_000_000_000), None).await else { panic!() };
    assert!(matches!(bench.rotate(&token.at_generation(3_999_999_999), None).await, Rotation::Replayed { .. }));
}

#[tokio::test]
async fn the_key_of_a_rotation_before_the_last_four_is_a_replay() {
    let bench = Bench::of(1_014).await;
    let mut token = bench.issue().await;
    for round in 0..9 {
        token = bench.opened(&rotated(bench.rotate(&token, Some(&format!("key {round}"))).await));
    }
    assert!(matches!(bench.rotate(&token.at_generation(4), Some("key 4")).await, Rotation::Replayed { .. }));
}

#[tokio::test]
async fn a_generation_that_redis_has_lost_is_rolled_forward() {
    let bench = Bench::of(1_003).await;
    let token = bench.issue().await.at_generation(6);
    let Rotation::RolledForward(session) = bench.rotate(&token, None).await else { panic!("not rolled forward") };
    assert_eq!(bench.opened(&session).generation, 7);
}

#[tokio::test]
async fn what_is_not_there_or_has_another_secret_is_unknown_and_leaves_no_trace() {
    let bench = Bench::of(1_004).await;
    let stranger = RefreshToken::first(1_004, Uuid::new_v4()).unwrap();
    let forged = RefreshToken::first(1_004, bench.issue().await.family).unwrap();
    for token in [stranger, forged] {
        assert!(matches!(bench.rotate(&token, None).await, Rotation::Unknown));
        bench.families.end(&token, Why::Logout).await.unwrap();
        assert_eq!(bench.logged(&token).await, 0);
    }
    assert_eq!(bench.listed().await.0, 1);
}

#[tokio::test]
async fn a_family_is_revoked_once_by_any_of_its_generations() {
    let bench = Bench::of(1_005).await;
    let token = bench.issue().await;
    rotated(bench.rotate(&token, None).await);
    for generation in [0, 1, 9] {
        bench.families.end(&token.at_generation(generation), Why::Logout).await.unwrap();
    }
    assert_eq!((bench.logged(&token).await, bench.listed().await.0), (1, 0));
    assert!(matches!(bench.rotate(&token.at_generation(1), None).await, Rotation::Revoked));
}

#[tokio::test]
async fn a_script_that_is_called_too_late_does_nothing() {
    let bench = Bench::of(1_006).await;
    let token = bench.issue().await;
    let before = bench.family(&token, &["HGETALL"]).await;
    let now = bench.redis.time().at(Instant::now());
    for (too_late, outcome) in [(0, 6), (now - 1, 6), (now + 5_000, 1)] {
        assert_eq!(bench.outcome(&token, too_late, true).await, outcome, "{too_late}");
        assert_eq!(bench.family(&token, &["HGETALL"]).await == before, outcome == 6, "{too_late}");
    }
    let other = Uuid::new_v4();
    let grants = keys::grants(1_006);
    let scripts = [
        keys::family(1_006, other),
        keys::families(1_006),
        keys::revocations(1_006),
        grants.clone(),
        keys::identity(1_006),
        keys::mark(1_006),
    ];
    let prefix = keys::family_prefix(1_006);
    let arguments =
        ["f", "1006", "alice", "digest", "0", "60000", "60000", "192.0.2.1", "a test", "5", "60000", &prefix];
    let arguments =
        arguments.into_iter().chain(["1", "[\"private:a\"]", "an identity", "0"]).map(Value::from).collect();
    let reply: Vec<i64> = bench.redis.run(&ISSUE, &scripts, arguments, soon()).await.unwrap();
    assert_eq!(reply[0], 2);
    for key in [keys::family(1_006, other), grants] {
        assert_eq!(bench.command(key, &["EXISTS"]).await.as_i64(), Some(0));
    }
}

/// The other replica's answer may have been lost, and it may be about to say so.
#[tokio::test]
async fn a_replay_that_must_not_be_judged_leaves_the_family_alone() {
    let bench = Bench::of(1_007).await;
    let token = bench.issue().await;
    rotated(bench.rotate(&token, None).await);
    let before = bench.family(&token, &["HGETALL"]).await;
    let soon = bench.redis.time().at(soon());
    assert_eq!(bench.outcome(&token, soon, false).await, 7);
    assert_eq!(bench.family(&token, &["HGETALL"]).await, before);
}

#[tokio::test]
async fn the_list_of_a_user_holds_living_families_and_goes_with_the_last_of_them() {
    let bench = Bench::of(1_008).await;
    let (first, second) = (bench.issue().await, bench.issue().await);
    let (count, lives) = bench.listed().await;
    assert_eq!(count, 2);
    let absolute = millis(LIFETIMES.absolute);
    assert!((absolute - 10_000..=absolute).contains(&lives), "as long as any of them could live: {lives}");

    // One that has expired is taken off when the next session begins.
    bench.family(&first, &["DEL"]).await;
    bench.issue().await;
    assert_eq!(bench.listed().await.0, 2);
    assert!(bench.command(keys::families(1_008), &["ZSCORE", &first.family.to_string()]).await.is_null());

    // A refresh prolongs the family and leaves the list alone.
    bench.family(&second, &["PEXPIRE", "1000"]).await;
    let list = bench.command(keys::families(1_008), &["ZRANGE", "0", "-1", "WITHSCORES"]).await;
    rotated(bench.rotate(&second, None).await);
    assert_eq!(bench.command(keys::families(1_008), &["ZRANGE", "0", "-1", "WITHSCORES"]).await, list);
    let family = bench.family(&second, &["PTTL"]).await.as_i64().unwrap();
    assert!((50_000..=60_000).contains(&family), "{family}");
}

#[tokio::test]
async fn one_family_too_many_evicts_the_one_that_was_not_used_for_longest() {
    let bench = Bench::of(1_009).await;
    let mut all = Vec::new();
    for _ in 0..MOST {
        all.push(bench.issue().await);
    }
    // As if a second had passed between each of them and the next.
    let now = bench.redis.time().at(Instant::now());
    for (seconds, token) in (1..).zip(&all) {
        let then = (now - 60_000 + seconds * 1000).to_string();
        bench.family(token, &["HSET", "last_used_at", &then]).await;
    }
    rotated(bench.rotate(&all[0], None).await);
    bench.issue().await;
    let why = bench.family(&all[1], &["HGET", "revoked_why"]).await;
    assert_eq!(why.as_str().as_deref(), Some("evicted"));
    assert_eq!((bench.logged(&all[1]).await, bench.listed().await.0), (1, i64::from(MOST)));
}

#[tokio::test]
async fn grants_count_by_their_version_and_not_by_when_they_come() {
    let bench = Bench::of(1_010).await;
    let grants = |version, rooms: &[&str]| Grants {
        uid: None,
        version,
        rooms: rooms.iter().map(|room| (*room).into()).collect(),
    };
    let copy = keys::grants(1_010);
    assert!(bench.issue_with(&grants(0, &[])).await.rooms.is_empty());
    assert_eq!(bench.command(copy.clone(), &["EXISTS"]).await.as_i64(), Some(0), "who never had any has no copy");

    let first = grants(1, &["private:a"]);
    let session = bench.issue_with(&first).await;
    assert_eq!(session.rooms, first.rooms);
    let session = rotated(bench.rotate(&bench.opened(&session), None).await);
    assert_eq!(session.rooms, first.rooms);

    // A log-in reads the grants, they are taken away, and only then it opens its session.
    grants::write(&bench.redis, 1_010, &grants(2, &[]), soon()).await.unwrap();
    let late = bench.issue_with(&first).await;
    assert!(late.rooms.is_empty());
    grants::write(&bench.redis, 1_010, &first, soon()).await.unwrap();
    assert!(rotated(bench.rotate(&bench.opened(&late), None).await).rooms.is_empty());
    let next = bench.opened(&session);
    assert!(rotated(bench.rotate(&next, Some("a")).await).rooms.is_empty());

    // A copy that was lost, or was never written, grants nothing until the same or a newer version comes.
    let third = grants(3, &["private:a", "private:b"]);
    grants::write(&bench.redis, 1_010, &third, soon()).await.unwrap();
    let Rotation::Retried(again) = bench.rotate(&next, Some("a")).await else { panic!("not retried") };
    assert_eq!(again.rooms, third.rooms);
    bench.command(copy, &["DEL"]).await;
    let bare = rotated(bench.rotate(&bench.opened(&again), None).await);
    assert!(bare.rooms.is_empty());
    assert_eq!(bench.issue_with(&third).await.rooms, third.rooms);
}

#[tokio::test]
async fn an_end_stays_in_the_log_for_its_own_time_whatever_the_lifetime_of_those_who_end_others() {
    let bench = Bench::of(1_031).await;
    let log = keys::revocations(bench.user_id);
    let ends = async |until| {
        let family = Uuid::new_v4().to_string();
        let entry = ["XADD", "*", "family", &family, "user", "1031", "why", "logout", "at", "0", "until", until];
        bench.command(log.clone(), &entry).await;
    };
    for _ in 0..3 {
        ends("1").await;
    }
    // Where Redis may remove about so many, it removes them by the hundred.
    for _ in 0..250 {
        ends("9000000000000").await;
    }
    ends("1").await;
    let token = bench.issue().await;
    let brief = SessionEnder::new(bench.redis.clone(), Duration::from_millis(1));
    brief.revoke(bench.user_id, token.family, None, Why::Logout).await.unwrap();
    let length = bench.command(log, &["XLEN"]).await;
    assert_eq!(length.as_i64(), Some(250 + 1 + 1), "what is over goes, from the head");
    assert_eq!(bench.logged(&token).await, 1);
}
