//! Shared counts of which each replica keeps a copy, for requests that must not wait for a limit.
//!
//! A refresh is one round trip to Redis, and most other calls are none. So whether such a request is too many is decided
//! from memory, and Redis is told behind its back; the reply brings what the other replicas counted. While one count is on
//! its way the next ones gather, so that a flood from one address is a trickle at Redis. The price: a client that meets
//! several replicas at full speed gets through what was not yet known to the others, about one request for each of them.
//! That is counted too, and so is owed: over any longer time the limit holds to the request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gatefold_shared::lifecycle::Lifecycle;
use tokio::time::Instant;

use super::{Counter, Network, Policy, Refused, Rule, Standing};

/// What is known of one address.
struct Account {
    /// When all will be as if nothing had come.
    recovers: Instant,
    /// Counted here, and not yet on its way to Redis.
    owed: u32,
    /// Whether a count is on its way to Redis.
    is_telling: bool,
}

type Accounts = HashMap<(Policy, Network), Account>;

/// See the module.
pub struct Tally {
    counter: Arc<Counter>,
    accounts: Arc<Mutex<Accounts>>,
    life: Lifecycle,
}

impl Tally {
    pub fn new(counter: Arc<Counter>, life: &Lifecycle) -> Self {
        Self { counter, accounts: Arc::default(), life: life.clone() }
    }

    /// Counts one request, unless it is too many. Never waits.
    pub fn take(&self, rule: Rule, network: Network) -> Result<Standing, Refused> {
        let now = Instant::now();
        let interval = rule.limit.interval();
        let mut accounts = lock(&self.accounts);
        let fresh = Account { recovers: now, owed: 0, is_telling: false };
        let account = accounts.entry((rule.policy, network)).or_insert(fresh);
        let was = account.recovers.max(now);
        if was + interval > now + interval * rule.limit.burst() {
            return Err(Refused(Standing::new(rule, was - now)));
        }
        account.recovers = was + interval;
        account.owed = account.owed.saturating_add(1);
        let standing = Standing::new(rule, account.recovers - now);
        if !std::mem::replace(&mut account.is_telling, true) {
            self.life.spawn(tell(Arc::clone(&self.counter), Arc::clone(&self.accounts), rule, network));
        }
        Ok(standing)
    }

    /// Forgets addresses of which nothing was heard.
    pub fn evict(&self) {
        let now = Instant::now();
        let mut accounts = lock(&self.accounts);
        accounts.retain(|_, account| account.is_telling || account.recovers > now);
        accounts.shrink_to_fit();
    }
}

/// Tells Redis what was counted, until there is nothing more to tell.
async fn tell(counter: Arc<Counter>, accounts: Arc<Mutex<Accounts>>, rule: Rule, network: Network) {
    let key = (rule.policy, network);
    loop {
        let units = {
            let mut accounts = lock(&accounts);
            let Some(account) = accounts.get_mut(&key) else { return };
            account.is_telling = account.owed > 0;
            std::mem::take(&mut account.owed)
        };
        if units == 0 {
            return;
        }
        // Without an answer the copy goes on alone.
        if let Some(standing) = counter.charge(rule, network, units).await
            && let Some(account) = lock(&accounts).get_mut(&key)
        {
            account.recovers = Instant::now() + standing.recovers_in() + rule.limit.interval() * account.owed;
        }
    }
}

fn lock(accounts: &Mutex<Accounts>) -> MutexGuard<'_, Accounts> {
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}
