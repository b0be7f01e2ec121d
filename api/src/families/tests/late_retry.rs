//! A retry that comes long after its rotation: the same bearer, or one who has found cookie and key.

use super::*;

const LONG_AGO: i64 = 121_000;

fn traded_anew(rotation: Rotation) -> Session {
    match rotation {
        Rotation::TradedAnew(session) => session,
        other => panic!("{other:?}"),
    }
}

impl Bench {
    /// A session that was refreshed long ago: the token that was traded, and its successor.
    async fn refreshed_long_ago(&self, key: &str) -> (RefreshToken, RefreshToken) {
        let first = self.issue().await;
        let second = self.opened(&rotated(self.rotate(&first, Some(key)).await));
        self.wait(&first, LONG_AGO).await;
        (first, second)
    }

    async fn generation(&self, token: &RefreshToken) -> i64 {
        self.number(token, "gen").await
    }
}

#[tokio::test]
async fn for_two_minutes_a_retry_gets_the_same_successor_and_later_another_one() {
    let bench = Bench::of(1_051).await;
    let first = bench.issue().await;
    rotated(bench.rotate(&first, Some("a")).await);
    bench.wait(&first, 100_000).await;
    let Rotation::Retried(same) = bench.rotate(&first, Some("a")).await else { panic!("not retried") };
    assert_eq!(bench.opened(&same).generation, 1);
    bench.wait(&first, 30_000).await;
    let another = bench.opened(&traded_anew(bench.rotate(&first, Some("a")).await));
    assert_eq!(another.generation, 2);
    // The answer to that may be lost as well, by Nginx or by the client.
    let Rotation::Retried(same) = bench.rotate(&first, Some("a")).await else { panic!("not retried") };
    assert_eq!(bench.opened(&same).generation, 2);
    bench.wait(&first, LONG_AGO).await;
    let third = bench.opened(&traded_anew(bench.rotate(&first, Some("a")).await));
    rotated(bench.rotate(&third, Some("b")).await);
}

/// The owner has the first successor and a thief the second, or the other way round.
#[tokio::test]
async fn the_successor_that_was_superseded_is_a_replay() {
    let bench = Bench::of(1_052).await;
    for key in [None, Some("a"), Some("b")] {
        let (first, second) = bench.refreshed_long_ago("a").await;
        let third = bench.opened(&traded_anew(bench.rotate(&first, Some("a")).await));
        assert!(matches!(bench.rotate(&second, key).await, Rotation::Replayed { .. }), "{key:?}");
        assert!(matches!(bench.rotate(&third, None).await, Rotation::Revoked));
    }
    // Also when the new one was used meanwhile.
    let (first, second) = bench.refreshed_long_ago("a").await;
    let third = bench.opened(&traded_anew(bench.rotate(&first, Some("a")).await));
    rotated(bench.rotate(&third, Some("c")).await);
    assert!(matches!(bench.rotate(&second, Some("d")).await, Rotation::Replayed { .. }));
}

#[tokio::test]
async fn a_retry_whose_successor_was_used_changes_nothing_however_late_and_often_it_comes() {
    let bench = Bench::of(1_053).await;
    let (first, second) = bench.refreshed_long_ago("a").await;
    let third = bench.opened(&rotated(bench.rotate(&second, Some("b")).await));
    assert!(matches!(bench.rotate(&first, Some("a")).await, Rotation::Superseded));
    // The same for one that was traded anew.
    bench.wait(&first, LONG_AGO).await;
    let fourth = bench.opened(&traded_anew(bench.rotate(&second, Some("b")).await));
    let fifth = bench.opened(&rotated(bench.rotate(&fourth, Some("c")).await));
    bench.wait(&first, LONG_AGO).await;
    let before = bench.fields(&first).await;
    for (token, key) in [(&first, "a"), (&second, "b")] {
        assert!(matches!(bench.rotate(token, Some(key)).await, Rotation::Superseded), "{key}");
    }
    assert_eq!(bench.fields(&first).await, before);
    rotated(bench.rotate(&fifth, None).await);
    assert!(matches!(bench.rotate(&third, None).await, Rotation::Replayed { .. }));
}

#[tokio::test]
async fn only_the_key_makes_a_late_retry() {
    let bench = Bench::of(1_054).await;
    for key in [None, Some("b")] {
        let (first, _) = bench.refreshed_long_ago("a").await;
        assert!(matches!(bench.rotate(&first, key).await, Rotation::Replayed { .. }), "{key:?}");
    }
}

#[tokio::test]
async fn a_late_retry_is_not_judged_while_it_may_have_been_given_up() {
    let bench = Bench::of(1_055).await;
    let (first, second) = bench.refreshed_long_ago("a").await;
    let before = bench.fields(&first).await;
    let soon = bench.redis.time().at(soon());
    assert_eq!(bench.outcome_with_key(&first, "a", soon, false).await, 7);
    assert_eq!(bench.fields(&first).await, before);
    rotated(bench.rotate(&second, None).await);
}

#[tokio::test]
async fn the_key_of_another_rotation_trades_nothing_and_ends_nothing() {
    let bench = Bench::of(1_056).await;
    let first = bench.issue().await;
    let mut token = first.clone();
    for key in ["a", "b", "c"] {
        token = bench.opened(&rotated(bench.rotate(&token, Some(key)).await));
    }
    let before = bench.fields(&first).await;
    for key in ["a", "b", "c"] {
        assert!(matches!(bench.rotate(&token, Some(key)).await, Rotation::KeyReused), "{key}");
        assert!(matches!(bench.rotate(&token.at_generation(9), Some(key)).await, Rotation::KeyReused), "{key}");
    }
    assert_eq!(bench.fields(&first).await, before);
    rotated(bench.rotate(&token, Some("d")).await);
}

/// Replicas of version 0.1.0 know nothing of `traded`, and leave it as it is.
#[tokio::test]
async fn what_an_older_replica_has_traded_since_counts() {
    let bench = Bench::of(1_057).await;
    let (first, _) = bench.refreshed_long_ago("a").await;
    let third = bench.opened(&traded_anew(bench.rotate(&first, Some("a")).await));
    // As one writes it that trades generation 2 for generation 3.
    let digest = &sha256_hex(b"b")[..32];
    let now = bench.redis.time().at(Instant::now()).to_string();
    let mark = format!("2:{digest}");
    bench.family(&first, &["HSET", "gen", "3", "key:2", &mark, "rotated_at", &now, "last_used_at", &now]).await;
    let Rotation::Retried(same) = bench.rotate(&third, Some("b")).await else { panic!("not retried") };
    assert_eq!(bench.opened(&same).generation, 3);
    assert!(matches!(bench.rotate(&first, Some("a")).await, Rotation::Superseded));
    assert_eq!(bench.generation(&first).await, 3);
}
