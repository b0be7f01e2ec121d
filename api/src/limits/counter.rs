//! The counts that all replicas share, in Redis.
//!
//! A limit must never be the reason for an outage: when Redis does not answer soon, nothing is counted there, and the
//! request goes on to whatever else guards it. The one exception is [`Counter::take_for_sure`], for guesses.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatefold_shared::{
    lifecycle::Lifecycle,
    redis::{Redis, Script, Value, keys},
};
use metrics::counter;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{Refused, Rule, Standing};

static GCRA: Script = Script::new("gcra", &[include_str!("gcra.lua")]);

/// After Redis was too slow for a limit, nobody waits for it again for this long: a request meets more than one limit, and
/// together they may not wait longer than one.
const PAUSE: Duration = Duration::from_millis(250);

/// See the module.
pub struct Counter {
    redis: Redis,
    /// The longest that a request waits, a part of `BACKEND_TIMEOUT` that the stores do not get.
    wait: Duration,
    paused_until: Mutex<Option<Instant>>,
    life: Lifecycle,
}

impl Counter {
    pub fn new(redis: Redis, wait: Duration, life: &Lifecycle) -> Self {
        Self { redis, wait, paused_until: Mutex::default(), life: life.clone() }
    }

    /// Counts one, unless it is too many; nothing if that cannot be known.
    pub async fn take(&self, rule: Rule, key: impl Display) -> Result<Option<Standing>, Refused> {
        match self.ask(rule, &key, 1, false).await {
            Some((true, standing)) => Ok(Some(standing)),
            Some((false, standing)) => Err(Refused(standing)),
            None => Ok(None),
        }
    }

    /// As [`Self::take`], but waits as long as any call to Redis may take.
    pub async fn take_for_sure(&self, rule: Rule, key: impl Display) -> Result<Option<Standing>, Refused> {
        match self.run(rule, &key, 1, false, self.redis.deadline()).await {
            Some((true, standing)) => Ok(Some(standing)),
            Some((false, standing)) => Err(Refused(standing)),
            None => Ok(None),
        }
    }

    /// Counts what has come already, too many or not.
    pub async fn charge(&self, rule: Rule, key: impl Display, units: u32) -> Option<Standing> {
        self.ask(rule, &key, units.into(), true).await.map(|(_, standing)| standing)
    }

    /// Takes back what one [`Self::take`] counted.
    pub async fn give_back(self: &Arc<Self>, rule: Rule, key: &str) -> Option<Standing> {
        self.settle(rule, key, -1).await
    }

    /// Forgets all that was taken.
    pub async fn clear(self: &Arc<Self>, rule: Rule, key: &str) -> Option<Standing> {
        self.settle(rule, key, -i64::from(rule.limit.burst())).await
    }

    /// Says of what was counted that it should not have been, and waits for that as for any count. But it happens however
    /// slow Redis is, and if nobody waits any more: what stays counted locks somebody out. Nothing overtakes it: commands
    /// about one key keep their order.
    async fn settle(self: &Arc<Self>, rule: Rule, key: &str, units: i64) -> Option<Standing> {
        let (tell, told) = oneshot::channel();
        let (counter, key) = (Arc::clone(self), key.to_owned());
        self.life.spawn(async move {
            let answer = counter.run(rule, &key, units, true, counter.redis.deadline()).await;
            if answer.is_none() {
                count(rule, "skipped");
            }
            let _ = tell.send(answer);
        });
        if self.is_paused(Instant::now()) {
            return None;
        }
        let Ok(answer) = timeout(self.wait, told).await else {
            self.pause();
            return None;
        };
        answer.ok().flatten().map(|(_, standing)| standing)
    }

    async fn ask(&self, rule: Rule, key: &impl Display, units: i64, always: bool) -> Option<(bool, Standing)> {
        let now = Instant::now();
        let answer = if self.is_paused(now) { None } else { self.run(rule, key, units, always, now + self.wait).await };
        if answer.is_none() {
            count(rule, "skipped");
        }
        answer
    }

    async fn run(
        &self,
        rule: Rule,
        key: &impl Display,
        units: i64,
        always: bool,
        until: Instant,
    ) -> Option<(bool, Standing)> {
        let keys = [keys::rate_limit(rule.policy.name(), key)];
        let interval = i64::try_from(rule.limit.interval_micros()).unwrap_or(i64::MAX);
        let arguments: Vec<Value> =
            vec![interval.into(), i64::from(rule.limit.burst()).into(), units.into(), i64::from(always).into()];
        let reply = self.redis.run::<Vec<u64>>(&GCRA, &keys, arguments, until).await;
        if let Ok(&[counted, micros]) = reply.as_deref() {
            return Some((counted == 1, Standing::new(rule, Duration::from_micros(micros))));
        }
        self.pause();
        None
    }

    fn pause(&self) {
        let pause = Instant::now() + PAUSE;
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(pause);
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

/// Counts what became of a request, under names that no client can make up.
pub fn count(rule: Rule, outcome: &'static str) {
    counter!("rate_limits_total", "policy" => rule.policy.name(), "outcome" => outcome).increment(1);
}
