//! What each user may do in rooms: budgets that hold across connections and replicas.
//!
//! Each replica counts in memory, so that no message costs a round trip. Of users who have used more than an eighth of a
//! budget Redis is told four times a second, and the reply brings what the other replicas counted. So a user who spreads their
//! messages over several replicas gets an eighth more through for each of them, and what comes within a quarter of a second;
//! it is counted, and owed. While Redis is away each replica counts alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use metrics::counter;
use tokio::time::{Instant, interval};

use crate::{
    lifecycle::Lifecycle,
    limit::{GCRA, Limit},
    redis::{Redis, Value, keys},
};

/// How often Redis is told.
const TOLD_EVERY: Duration = Duration::from_millis(250);
/// Whoever has used no more than this part of a budget is far from its end: Redis need not know.
const FAR: u32 = 8;
/// Users of whom Redis is told at once.
const TOLD_AT_ONCE: usize = 16;
/// A user who was charged for what had happened already owes at most so many bursts.
const MOST_OWED: u32 = 2;

/// Something that users may do so often.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// In keys and metrics.
    pub name: &'static str,
    /// How often.
    pub limit: Limit,
}

/// See the module; clones are the same.
#[derive(Clone)]
pub struct Budgets {
    redis: Redis,
    accounts: Arc<Mutex<Accounts>>,
}

/// By the name of the budget and the user.
type Accounts = HashMap<(&'static str, i64), Account>;

struct Account {
    limit: Limit,
    /// When all will be as if nothing had been used.
    recovers: Instant,
    /// Used here, and Redis was not told.
    owed: u32,
}

impl Account {
    /// The account of a user, which is new if nothing was used lately.
    fn of(accounts: &mut Accounts, budget: Budget, user_id: i64, now: Instant) -> &mut Self {
        let fresh = || Self { limit: budget.limit, recovers: now, owed: 0 };
        accounts.entry((budget.name, user_id)).or_insert_with(fresh)
    }

    fn is_far(&self, now: Instant) -> bool {
        self.recovers <= now + self.limit.interval() * (self.limit.burst() / FAR)
    }

    fn bound(&mut self, now: Instant) {
        let most = now + self.limit.interval() * self.limit.burst().saturating_mul(MOST_OWED);
        self.recovers = self.recovers.min(most);
    }
}

impl Budgets {
    /// Begins to tell Redis.
    pub fn start(redis: Redis, life: &Lifecycle) -> Self {
        let budgets = Self { redis, accounts: Arc::default() };
        life.spawn_forever("tell redis of budgets", budgets.clone().tell());
        budgets
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses so much of a user's budget, unless it is too much; then tells how long until it will not be. With 0 it tells
    /// whether there is anything left.
    pub fn take(&self, budget: Budget, user_id: i64, units: usize) -> Result<(), Duration> {
        let (now, limit) = (Instant::now(), budget.limit);
        // What is more than a whole burst may come when nothing else has.
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(limit.burst());
        let mut accounts = self.accounts();
        let account = Account::of(&mut accounts, budget, user_id, now);
        let recovers = account.recovers.max(now) + limit.interval() * units;
        let excess = recovers.saturating_duration_since(now + limit.interval() * limit.burst());
        if !excess.is_zero() {
            drop(accounts);
            counter!("gatefold_room_budget_refusals_total", "budget" => budget.name).increment(1);
            return Err(excess);
        }
        account.recovers = recovers;
        account.owed = account.owed.saturating_add(units);
        Ok(())
    }

    /// Uses so much of a user's budget for what has happened already.
    pub fn charge(&self, budget: Budget, user_id: i64, units: usize) {
        let (now, limit) = (Instant::now(), budget.limit);
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(limit.burst());
        let mut accounts = self.accounts();
        let account = Account::of(&mut accounts, budget, user_id, now);
        account.recovers = account.recovers.max(now) + limit.interval() * units;
        account.bound(now);
        account.owed = account.owed.saturating_add(units);
    }

    /// Tells Redis of those who are not far from the end of a budget, forever, and forgets those who have used nothing lately.
    async fn tell(self) {
        let mut tick = interval(TOLD_EVERY);
        loop {
            tick.tick().await;
            let now = Instant::now();
            let owing: Vec<_> = {
                let mut accounts = self.accounts();
                accounts.retain(|_, account| account.recovers > now);
                let near = accounts.iter_mut().filter(|(_, account)| account.owed > 0 && !account.is_far(now));
                let owed = near.map(|(&(name, user_id), account)| {
                    (Budget { name, limit: account.limit }, user_id, std::mem::take(&mut account.owed))
                });
                owed.collect()
            };
            let telling = owing.into_iter().map(|(budget, user_id, units)| self.tell_of(budget, user_id, units));
            stream::iter(telling).buffer_unordered(TOLD_AT_ONCE).collect::<()>().await;
        }
    }

    async fn tell_of(&self, budget: Budget, user_id: i64, units: u32) {
        let Budget { name, limit } = budget;
        let keys = [keys::rate_limit(name, user_id)];
        let interval = i64::try_from(limit.interval_micros()).unwrap_or(i64::MAX);
        let arguments: Vec<Value> =
            vec![interval.into(), i64::from(limit.burst()).into(), i64::from(units).into(), 1.into()];
        let reply = self.redis.run::<Vec<u64>>(&GCRA, &keys, arguments, self.redis.deadline()).await;
        // Without an answer this replica's own count stands.
        let Ok([_, micros]) = reply.as_deref() else { return };
        if let Some(account) = self.accounts().get_mut(&(name, user_id)) {
            let now = Instant::now();
            account.recovers = now + Duration::from_micros(*micros) + limit.interval() * account.owed;
            account.bound(now);
        }
    }
}
