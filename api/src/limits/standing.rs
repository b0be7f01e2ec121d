//! How a client stands with a limit, and how it is told.
//!
//! The fields of draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` lists every limit that applies (`q` so many in
//! `w` seconds), `RateLimit` the one of them that is closest: `r` more may come now, and in `t` seconds there will be one
//! more, so that `t` and `Retry-After` of a refusal agree.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Rule;

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    rule: Rule,
    /// When all will be as if nothing had come, from now.
    recovers_in: Duration,
}

/// A request that is too many, and how its client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Too many requests: try again later")]
pub struct Refused(pub Standing);

impl Standing {
    /// With this long to go until all is as if nothing had come.
    pub fn new(rule: Rule, recovers_in: Duration) -> Self {
        Self { rule, recovers_in }
    }

    /// Nothing may come for this long.
    pub fn nothing_for(rule: Rule, wait: Duration) -> Self {
        Self { rule, recovers_in: rule.limit.interval() * (rule.limit.burst() - 1) + wait }
    }

    /// How long until all is as if nothing had come.
    pub fn recovers_in(&self) -> Duration {
        self.recovers_in
    }

    /// How many may come now.
    pub fn remaining(&self) -> u32 {
        let interval = self.rule.limit.interval().as_micros();
        let free = (interval * u128::from(self.rule.limit.burst())).saturating_sub(self.recovers_in.as_micros());
        u32::try_from(free / interval).unwrap_or(u32::MAX)
    }

    /// How long until there may be one more than now.
    pub fn until_one_more(&self) -> Duration {
        let after_that = self.rule.limit.burst().saturating_sub(self.remaining() + 1);
        self.recovers_in.saturating_sub(self.rule.limit.interval() * after_that)
    }
}

/// Tells a client how it stands.
pub fn tell(headers: &mut HeaderMap, standings: &[Standing]) {
    let Some(closest) = standings.iter().min_by_key(|standing| standing.remaining()) else { return };
    let policies: Vec<String> = standings.iter().map(|standing| policy(&standing.rule)).collect();
    let seconds = seconds(closest.until_one_more());
    let limit = format!("\"{}\";r={};t={seconds}", closest.rule.policy.name(), closest.remaining());
    for (name, value) in [(RATELIMIT_POLICY, policies.join(", ")), (RATELIMIT, limit)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

fn policy(rule: &Rule) -> String {
    format!("\"{}\";q={};w={}", rule.policy.name(), rule.limit.count(), rule.limit.seconds())
}

/// Rounded up: nobody is told to come back too early.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Policy, *};

    fn rule(policy: Policy, limit: &str) -> Rule {
        Rule { policy, limit: limit.parse().unwrap() }
    }

    fn login(recovers_in_ms: u64) -> Standing {
        Standing::new(rule(Policy::LoginAddress, "30/1m:10"), Duration::from_millis(recovers_in_ms))
    }

    fn told(standings: &[Standing]) -> (String, String) {
        let mut headers = HeaderMap::new();
        tell(&mut headers, standings);
        let field = |name| headers.get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap()).to_owned();
        (field(RATELIMIT_POLICY), field(RATELIMIT))
    }

    #[test]
    fn a_client_is_told_how_many_may_come_now_and_when_one_more() {
        let policy = r#""login-ip";q=30;w=60"#.to_owned();
        for (recovers_in, limit) in [
            (0, r#""login-ip";r=10;t=0"#),
            (2000, r#""login-ip";r=9;t=2"#),
            (1999, r#""login-ip";r=9;t=2"#),
            (1000, r#""login-ip";r=9;t=1"#),
            (18_001, r#""login-ip";r=0;t=1"#),
            (20_000, r#""login-ip";r=0;t=2"#),
            (23_000, r#""login-ip";r=0;t=5"#),
        ] {
            assert_eq!(told(&[login(recovers_in)]), (policy.clone(), limit.to_owned()), "{recovers_in}");
        }
    }

    #[test]
    fn of_two_limits_both_are_named_and_the_closest_is_counted() {
        let account = Standing::new(rule(Policy::LoginAccount, "10/15m"), Duration::from_secs(270));
        let (policies, limit) = told(&[login(2000), account]);
        assert_eq!(policies, r#""login-ip";q=30;w=60, "login-account";q=10;w=900"#);
        assert_eq!(limit, r#""login-account";r=7;t=90"#);
        assert_eq!(told(&[]), (String::new(), String::new()));
    }

    #[test]
    fn whoever_must_wait_is_told_how_long() {
        let standing = Standing::nothing_for(rule(Policy::RegisterAddress, "10/1h:5"), Duration::from_millis(1500));
        assert_eq!((standing.remaining(), standing.until_one_more()), (0, Duration::from_millis(1500)));
    }

    proptest! {
        #[test]
        fn after_that_time_there_is_one_more_and_not_before(
            count in 1..10_000u64, seconds in 1..100_000u64, burst in 1..100u32, recovers_in in 0..10_000_000_000u64,
        ) {
            let Ok(limit) = format!("{count}/{seconds}:{burst}").parse() else { return Ok(()) };
            let rule = Rule { policy: Policy::ApiAddress, limit };
            let now = Standing::new(rule, Duration::from_micros(recovers_in));
            let after = |wait| Standing::new(rule, Duration::from_micros(recovers_in).saturating_sub(wait)).remaining();
            prop_assert!(now.remaining() <= burst);
            if now.remaining() < burst {
                prop_assert_eq!(after(now.until_one_more()), now.remaining() + 1);
                prop_assert_eq!(after(now.until_one_more().saturating_sub(Duration::from_micros(1))), now.remaining());
            }
        }
    }
}
