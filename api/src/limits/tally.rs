//! Shared counts of which each replica keeps a copy, for requests that must not wait for a limit.
//!
//! A refresh is one round trip to Redis, and most other calls are none. So whether such a request is too many is decided
//! from memory, and Redis is told behind its back; the reply brings what the other replicas counted. Of an address that is
//! far from its limit Redis is told ten times a second at most, because nobody needs to know sooner; then at once, but while one count is on
//! its way the next ones gather, so that a flood from one address is a trickle at Redis. The price: a client that meets
//! several replicas at full speed gets through what was not yet known to the others, an eighth of the burst and one
//! request for each of them at most as long as Redis answers at once. That is counted too, and so is owed: over any longer
//! time the limit holds to the request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gatefold_shared::lifecycle::Lifecycle;
use tokio::time::{Instant, interval};

use super::{Count, Counter, Network, Policy, Rule, Standing};

/// How often Redis is told of those who are far from their limit.
const GATHER: Duration = Duration::from_millis(100);
/// Far from its limit is who has used no more than this part of the burst.
const FAR: u32 = 8;

/// What is known of one address.
struct Account {
    /// When all will be as if nothing had come.
    recovers: Instant,
    /// Counted here, and not yet on its way to Redis.
    owed: u32,
    telling: Telling,
}

impl Account {
    fn is_far(&self, rule: Rule, now: Instant) -> bool {
        self.recovers <= now + rule.limit.interval() * (rule.limit.burst() / FAR)
    }
}

/// Whether Redis hears of an account.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// There is nothing to tell.
    No,
    /// In its time.
    Later,
    /// A count is on its way.
    Now,
}

#[derive(Default)]
struct Accounts {
    known: HashMap<(Policy, Network), Account>,
    /// Those of which Redis is to be told in its time.
    waiting: Vec<(Rule, Network)>,
}

/// See the module.
pub struct Tally {
    counter: Arc<Counter>,
    accounts: Arc<Mutex<Accounts>>,
    life: Lifecycle,
}

impl Tally {
    pub fn start(counter: Arc<Counter>, life: &Lifecycle) -> Self {
        let accounts = Arc::default();
        let later = tell_later(Arc::clone(&counter), Arc::clone(&accounts), life.clone());
        life.spawn_forever("tell redis of requests", later);
        Self { counter, accounts, life: life.clone() }
    }

    /// Counts one request, unless it is too many. Never waits.
    pub fn take(&self, rule: Rule, network: Network) -> Count {
        let now = Instant::now();
        let interval = rule.limit.interval();
        let mut guard = lock(&self.accounts);
        let accounts = &mut *guard;
        let fresh = Account { recovers: now, owed: 0, telling: Telling::No };
        let account = accounts.known.entry((rule.policy, network)).or_insert(fresh);
        let was = account.recovers.max(now);
        if was + interval > now + interval * rule.limit.burst() {
            return Count::Refused(Standing::new(rule, was - now));
        }
        account.recovers = was + interval;
        account.owed = account.owed.saturating_add(1);
        let standing = Standing::new(rule, account.recovers - now);
        let is_far = account.is_far(rule, now);
        match account.telling {
            Telling::No if is_far => {
                account.telling = Telling::Later;
                accounts.waiting.push((rule, network));
            }
            Telling::No | Telling::Later if !is_far => {
                account.telling = Telling::Now;
                drop(guard);
                self.life.spawn(tell(Arc::clone(&self.counter), Arc::clone(&self.accounts), rule, network));
            }
            _ => {}
        }
        Count::Counted(standing)
    }

    /// Forgets addresses of which nothing was heard.
    pub fn evict(&self) {
        let now = Instant::now();
        let mut accounts = lock(&self.accounts);
        accounts.known.retain(|_, account| account.telling != Telling::No || account.recovers > now);
        accounts.known.shrink_to_fit();
    }
}

/// Tells Redis of those of whom it need not hear at once.
async fn tell_later(counter: Arc<Counter>, accounts: Arc<Mutex<Accounts>>, life: Lifecycle) {
    let mut tick = interval(GATHER);
    loop {
        tick.tick().await;
        let waiting = std::mem::take(&mut lock(&accounts).waiting);
        for (rule, network) in waiting {
            let is_waiting = |account: &&mut Account| account.telling == Telling::Later;
            let mut guard = lock(&accounts);
            if let Some(account) = guard.known.get_mut(&(rule.policy, network)).filter(is_waiting) {
                account.telling = Telling::Now;
                drop(guard);
                life.spawn(tell(Arc::clone(&counter), Arc::clone(&accounts), rule, network));
            }
        }
    }
}

/// Tells Redis what was counted, until there is nothing more to tell soon.
async fn tell(counter: Arc<Counter>, accounts: Arc<Mutex<Accounts>>, rule: Rule, network: Network) {
    let key = (rule.policy, network);
    let owed = || lock(&accounts).known.get_mut(&key).map(|account| std::mem::take(&mut account.owed));
    while let Some(units) = owed() {
        let standing = counter.charge(rule, network, units).await;
        let mut guard = lock(&accounts);
        let Accounts { known, waiting } = &mut *guard;
        let Some(account) = known.get_mut(&key) else { return };
        let now = Instant::now();
        // Without an answer the copy goes on alone.
        if let Some(standing) = standing {
            account.recovers = now + standing.recovers_in() + rule.limit.interval() * account.owed;
        }
        if account.owed == 0 {
            account.telling = Telling::No;
            return;
        }
        if account.is_far(rule, now) {
            account.telling = Telling::Later;
            waiting.push((rule, network));
            return;
        }
    }
}

fn lock(accounts: &Mutex<Accounts>) -> MutexGuard<'_, Accounts> {
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}
