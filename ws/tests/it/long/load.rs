//! Users who go on with what users do, and remember what they were told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Method;
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

use crate::{
    end_to_end::{
        account::{Account, PASSWORD},
        deployment::Deployment,
    },
    harness::{member::lock, within},
};

/// Between two requests of a user.
const PAUSE: Duration = Duration::from_millis(50);
/// What may be answered while a store is away. Everything else ends the test.
const UNAVAILABLE: &str = "503 unavailable";

/// Whether requests may be told 503.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outages {
    Expected,
    Failures,
}

/// Users who refresh, with an `Idempotency-Key` and without, and users who log in and out again.
pub struct Load {
    over: Arc<AtomicBool>,
    outages: Outages,
    refreshed: Vec<Arc<AtomicU64>>,
    unavailable: Arc<AtomicU64>,
    /// What one of them saw that must not be.
    failure: Arc<Mutex<Option<String>>>,
    /// Sessions whose log-out was acknowledged, since they were last looked at.
    ended: Arc<Mutex<Vec<Account>>>,
    tasks: JoinSet<()>,
}

impl Load {
    pub fn new(outages: Outages) -> Self {
        Self {
            over: Arc::default(),
            outages,
            refreshed: Vec::new(),
            unavailable: Arc::default(),
            failure: Arc::default(),
            ended: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    fn watch(&self) -> Watch {
        Watch {
            over: Arc::clone(&self.over),
            outages: self.outages,
            unavailable: Arc::clone(&self.unavailable),
            failure: Arc::clone(&self.failure),
        }
    }

    /// Has a session refreshed again and again. With a key, a refresh that failed is repeated with the same one.
    pub fn refresh(&mut self, mut account: Account, with_key: bool) {
        let (watch, served) = (self.watch(), Arc::<AtomicU64>::default());
        self.refreshed.push(Arc::clone(&served));
        self.tasks.spawn(async move {
            let mut key = Uuid::new_v4();
            while watch.goes_on() {
                let refreshed = if with_key { account.refresh_with_key(key).await } else { account.refresh().await };
                if watch.succeeded(refreshed, || format!("{} refreshes (with a key: {with_key})", account.name)) {
                    served.fetch_add(1, Ordering::SeqCst);
                    key = Uuid::new_v4();
                }
                sleep(PAUSE).await;
            }
        });
    }

    /// Has a user log in and out again and again.
    pub fn log_in_and_out(&mut self, account: Account) {
        let (watch, ended) = (self.watch(), Arc::clone(&self.ended));
        self.tasks.spawn(async move {
            while watch.goes_on() {
                sleep(PAUSE * 2).await;
                let mut session = account.without_session();
                let begun = session.begin("/api/login", PASSWORD, 200).await;
                if !watch.succeeded(begun, || format!("{} logs in", account.name)) {
                    continue;
                }
                let answer = match session.try_log_out().await {
                    Ok(200) => Ok(()),
                    Ok(503) => Err(UNAVAILABLE.to_owned()),
                    Ok(status) => Err(status.to_string()),
                    Err(error) => Err(error),
                };
                if watch.succeeded(answer, || format!("{} logs out", account.name)) {
                    lock(&ended).push(session);
                }
            }
        });
    }

    /// Has an access token accepted by all these replicas again and again, whatever becomes of its session's cookie.
    pub fn present_everywhere(&mut self, account: &Account, replicas: &[String]) {
        let (watch, presented) = (self.watch(), replicas.iter().map(|url| account.at(url)).collect::<Vec<_>>());
        self.tasks.spawn(async move {
            while watch.goes_on() {
                for account in &presented {
                    // One that is being replaced does not answer.
                    let answer = account.ask(Method::GET, "/api/protected", Value::Null).await;
                    if let Some((status, body)) = answer.ok().filter(|(status, _)| *status != 200) {
                        watch.fail(format!("{}'s access token is told {status} {body}", account.name));
                    }
                }
                sleep(PAUSE).await;
            }
        });
    }

    /// Waits until each session was refreshed so many times more.
    pub async fn goes_on(&self, times: u64, timeout: Duration) {
        let before: Vec<_> = self.refreshed.iter().map(|served| served.load(Ordering::SeqCst)).collect();
        within(timeout, "everybody refreshes", async || {
            self.has_not_failed();
            self.refreshed.iter().zip(&before).all(|(now, before)| now.load(Ordering::SeqCst) >= before + times)
        })
        .await;
    }

    /// Ends the test if one of the users has seen what must not be.
    fn has_not_failed(&self) {
        let failure = lock(&self.failure).clone();
        assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    }

    /// That all sessions whose log-out was acknowledged are dead at these replicas, their access tokens too; how many.
    pub async fn ended_stay_dead(&self, replicas: &[String]) -> usize {
        let ended = std::mem::take(&mut *lock(&self.ended));
        for (number, session) in ended.iter().enumerate() {
            for url in replicas {
                let presented = session.at(url);
                let (status, body) =
                    presented.ask(Method::GET, "/api/protected", Value::Null).await.expect("an answer");
                assert_eq!(status, 401, "the access token of an ended session lives at {url}: {body}");
            }
            let mut presented = session.at(&replicas[number % replicas.len()]);
            let refused = presented.refresh().await.expect_err("an ended session was refreshed");
            assert!(refused.starts_with("401 "), "an ended session was answered {refused}");
        }
        ended.len()
    }

    /// How many requests were told 503.
    pub fn told_unavailable(&self) -> u64 {
        self.unavailable.load(Ordering::SeqCst)
    }

    /// Ends all of it; fails if anybody saw what must not be.
    pub async fn stop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a user");
        }
        self.has_not_failed();
    }
}

/// What a user needs to know of the whole.
struct Watch {
    over: Arc<AtomicBool>,
    outages: Outages,
    unavailable: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Watch {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    fn fail(&self, what: String) {
        lock(&self.failure).get_or_insert(what);
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether a request succeeded. One that was told 503 while that may be may be repeated.
    fn succeeded(&self, outcome: Result<(), String>, what: impl Fn() -> String) -> bool {
        match outcome {
            Ok(()) => return true,
            Err(refusal) if refusal == UNAVAILABLE && self.outages == Outages::Expected => {
                self.unavailable.fetch_add(1, Ordering::SeqCst);
            }
            Err(refusal) => self.fail(format!("{}: {refusal}", what())),
        }
        false
    }
}

/// Users of whom each has one session.
pub async fn register(deployment: &Deployment, count: usize) -> Vec<Account> {
    let mut accounts = Vec::new();
    for _ in 0..count {
        accounts.push(Account::register(deployment).await);
    }
    accounts
}
