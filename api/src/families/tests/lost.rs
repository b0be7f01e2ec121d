//! One attempt that asks again, because its answer was lost: what it is told, and what is looked after when it gave up.

use super::*;
use crate::families::reopen::REOPEN;

impl Bench {
    /// What the script answers to an attempt.
    async fn ask(&self, token: &RefreshToken, attempt: &Attempt) -> i64 {
        let reply = self.families.ask_to_rotate(token, "", attempt, soon()).await.unwrap();
        reply[0].as_i64().unwrap()
    }

    pub(super) async fn reopen(&self, attempt: &Attempt) -> Vec<Value> {
        let arguments = vec![attempt.id.to_string().into(), 30_000.into()];
        self.redis.run(&REOPEN, &[attempt.family_key()], arguments, soon()).await.unwrap()
    }
}

fn attempt(token: &RefreshToken) -> Attempt {
    Attempt::new(token, Origin { address: IpAddr::from([192, 0, 2, 3]), user_agent: "a test" })
}

#[tokio::test]
async fn a_replay_that_asks_again_is_told_the_same_and_known_afterwards() {
    let bench = Bench::of(1_015).await;
    let token = bench.issue().await;
    rotated(bench.rotate(&token, None).await);
    let (replay, later) = (attempt(&token), attempt(&token));
    assert_eq!((bench.ask(&token, &replay).await, bench.ask(&token, &replay).await), (4, 4));
    assert_eq!(bench.ask(&token, &later).await, 5);
    assert_eq!(bench.reopen(&replay).await, [2.into(), "192.0.2.2".into()]);
    assert_eq!(bench.reopen(&later).await, [0.into()]);
}

/// Its answer was lost, and before it asks again the user logs out.
#[tokio::test]
async fn a_rotation_whose_session_was_ended_meanwhile_is_no_replay() {
    let bench = Bench::of(1_016).await;
    let token = bench.issue().await;
    let rotation = attempt(&token);
    assert_eq!(bench.ask(&token, &rotation).await, 1);
    bench.families.end(&token, Why::Logout).await.unwrap();
    let before = bench.family(&token, &["HGETALL"]).await;
    assert_eq!(bench.ask(&token, &rotation).await, 5);
    assert_eq!(bench.reopen(&rotation).await, [0.into()]);
    assert_eq!(bench.family(&token, &["HGETALL"]).await, before);
}

#[tokio::test]
async fn of_two_attempts_only_the_one_that_replayed_is_a_replay() {
    let bench = Bench::of(1_017).await;
    let token = bench.issue().await;
    let (rotation, replay) = (attempt(&token), attempt(&token));
    assert_eq!((bench.ask(&token, &rotation).await, bench.ask(&token, &replay).await), (1, 4));
    assert_eq!((bench.ask(&token, &rotation).await, bench.ask(&token, &replay).await), (5, 4));
    assert_eq!(bench.reopen(&rotation).await, [0.into()]);
}
