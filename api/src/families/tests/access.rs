//! Whoever may be given an access token is known to have one: until when it may be valid stands in Redis before it is signed,
//! so that whatever ends the session ends the token for all of its life.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, prop_oneof},
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::*;

/// What may happen to a session.
#[derive(Clone, Debug)]
enum Step {
    /// So many milliseconds pass.
    Wait(i64),
    /// The token of so many generations before the newest known one is presented, with one of a few keys or none.
    Rotate { back: u32, key: u8, same_attempt: bool },
    /// The last rotation's answer was lost, and Redis is told so.
    Reopen,
    /// The session ends, by a command that knows of no access tokens.
    Revoke,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..400_000i64).prop_map(Step::Wait),
        8 => (0..3u32, 0..3u8, proptest::bool::weighted(0.2))
            .prop_map(|(back, key, same_attempt)| Step::Rotate { back, key, same_attempt }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Revoke),
    ];
    vec(step, 1..25)
}

impl Bench {
    /// Has it be so much later for a session: all its times were so much earlier.
    pub(super) async fn wait(&self, token: &RefreshToken, milliseconds: i64) {
        for field in ["access_until", "last_used_at", "rotated_at", "reopened_until", "created_at"] {
            let is_there = self.family(token, &["HEXISTS", field]).await.as_i64() == Some(1);
            if is_there {
                self.family(token, &["HINCRBY", field, &(-milliseconds).to_string()]).await;
            }
        }
    }

    pub(super) async fn number(&self, token: &RefreshToken, field: &str) -> i64 {
        self.family(token, &["HGET", field]).await.as_i64().unwrap()
    }

    /// Until when the log says that tokens of the session are of interest.
    async fn logged_until(&self, token: &RefreshToken) -> i64 {
        let log = self.command(keys::revocations(self.user_id), &["XRANGE", "-", "+"]).await;
        let lines: Vec<(String, HashMap<String, String>)> = log.convert().unwrap();
        let of_family = lines.iter().filter(|(_, fields)| fields["family"] == token.family.to_string());
        of_family.map(|(_, fields)| fields["until"].parse().unwrap()).max().unwrap()
    }

    /// One story of one session. Answers the number of tokens that were given out.
    async fn live_through(&self, steps: &[Step]) -> u32 {
        let first = self.issue().await;
        let lifetime = millis(MINUTE);
        // Until when the token that was given out last may be valid, in the time that the session has.
        let mut given_until = self.number(&first, "created_at").await + lifetime;
        let (mut newest, mut given) = (0u32, 0);
        let from = Origin { address: IpAddr::from([192, 0, 2, 3]), user_agent: "a test" };
        let mut attempt = Attempt::new(&first, from);
        for step in steps {
            match step {
                Step::Wait(milliseconds) => {
                    self.wait(&first, *milliseconds).await;
                    given_until -= milliseconds;
                }
                Step::Rotate { back, key, same_attempt } => {
                    if !same_attempt {
                        attempt = Attempt::new(&first, from);
                    }
                    let token = first.at_generation(newest.saturating_sub(*back));
                    let digest = if *key == 0 { String::new() } else { sha256_hex(&[*key])[..32].to_owned() };
                    let reply = self.families.ask_to_rotate(&token, &digest, &attempt, soon()).await.unwrap();
                    let Ok(Reading::Done(rotation)) = self.families.read_rotation(&token, &reply, soon()) else {
                        continue;
                    };
                    if let Some(session) = rotation.session() {
                        let now = reply[1].as_i64().unwrap();
                        let until = self.number(&first, "access_until").await;
                        assert!(until >= now + lifetime, "{rotation:?} after {steps:?}: {until} < {now} + {lifetime}");
                        newest = self.opened(session).generation;
                        given_until = given_until.max(now + lifetime);
                        given += 1;
                    }
                }
                Step::Reopen => drop(self.reopen(&attempt).await),
                Step::Revoke => break,
            }
        }
        let ender = SessionEnder::new(self.redis.clone(), Duration::ZERO);
        ender.revoke(self.user_id, first.family, None, Why::Disabled).await.unwrap();
        if self.family(&first, &["HGET", "revoked_why"]).await.as_str().as_deref() == Some("disabled") {
            let until = self.logged_until(&first).await;
            assert!(
                until >= given_until,
                "after {steps:?}: the end is forgotten at {until}, and a token lives until {given_until}"
            );
        }
        given
    }
}

#[tokio::test]
async fn every_answer_that_lets_a_token_be_signed_has_noted_how_long_it_may_live() {
    let bench = Bench::of(1_041).await;
    let seed = Uuid::new_v4();
    println!("seed {seed}");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[*seed.as_bytes(), *seed.as_bytes()].concat());
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut given = 0;
    for _ in 0..150 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        given += Box::pin(bench.live_through(&steps)).await;
    }
    assert!(given > 150, "{given}");
}

/// Version 0.1.0 gave out a token on a retry and did not say so, and commands may run with shorter lifetimes than replicas.
#[tokio::test]
async fn the_end_of_a_session_covers_what_a_replica_may_have_given_out_without_a_word() {
    let bench = Bench::of(1_042).await;
    let token = bench.issue().await;
    rotated(bench.rotate(&token, Some("a")).await);
    bench.wait(&token, millis(MINUTE) - 1).await;
    let now = bench.redis.time().at(Instant::now());
    let brief = SessionEnder::new(bench.redis.clone(), Duration::from_millis(1));
    brief.revoke(bench.user_id, token.family, None, Why::Disabled).await.unwrap();
    assert!(bench.logged_until(&token).await >= now + millis(MINUTE));
}
