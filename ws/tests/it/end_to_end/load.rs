//! Clients who go on and on, until one of them gets an answer that it should not.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Account, Deployment, account::PASSWORD};
use crate::harness::{new_room, within};

/// Between the calls of a client: the machine has the replicas to run as well.
const PAUSE: Duration = Duration::from_millis(25);

/// What clients do; each does one of them.
#[derive(Clone, Copy, Debug)]
enum Habit {
    Refresh,
    LogIn,
    Ask,
    List,
    Ticket,
    Publish,
    Presence,
}

const HABITS: [Habit; 9] = [
    Habit::Refresh,
    Habit::Refresh,
    Habit::LogIn,
    Habit::Ask,
    Habit::Ask,
    Habit::List,
    Habit::Ticket,
    Habit::Publish,
    Habit::Presence,
];

#[derive(Default)]
struct Tally {
    over: AtomicBool,
    /// By client.
    served: [AtomicU64; HABITS.len()],
    failures: Mutex<Vec<String>>,
}

pub struct Load {
    tally: Arc<Tally>,
    clients: JoinSet<()>,
}

impl Load {
    pub async fn start(deployment: &Deployment) -> Self {
        let (tally, mut clients) = (Arc::<Tally>::default(), JoinSet::new());
        for (number, habit) in HABITS.into_iter().enumerate() {
            let (account, tally) = (Account::register(deployment).await, Arc::clone(&tally));
            clients.spawn(async move { tally.live(account, number, habit).await });
        }
        Self { tally, clients }
    }

    /// Waits until every client has been served three times more, so that none is left with a call from before.
    pub async fn goes_on(&self) {
        let before = self.tally.served.each_ref().map(|served| served.load(Ordering::SeqCst));
        let all = || {
            let now = self.tally.served.iter().map(|served| served.load(Ordering::SeqCst));
            now.zip(before).all(|(now, before)| now >= before + 3)
        };
        let failed = || !self.failures().is_empty();
        within(Duration::from_secs(30), "every client is served", async || failed() || all()).await;
        assert!(!failed(), "after {} requests: {:#?}", self.served(), self.failures());
    }

    /// Ends it; how many calls were served, all of them.
    pub async fn stop(mut self) -> u64 {
        self.tally.over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client that ends");
        }
        assert!(self.failures().is_empty(), "{:#?}", self.failures());
        self.served()
    }

    fn served(&self) -> u64 {
        self.tally.served.iter().map(|served| served.load(Ordering::SeqCst)).sum()
    }

    fn failures(&self) -> Vec<String> {
        self.tally.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tally {
    async fn live(&self, mut account: Account, number: usize, habit: Habit) {
        let room = new_room();
        while !self.over.load(Ordering::SeqCst) {
            match habit.act(&mut account, &room).await {
                Ok(()) => self.served[number].fetch_add(1, Ordering::SeqCst),
                Err(failure) => {
                    let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                    failures.push(format!("{habit:?}: {failure}"));
                    return;
                }
            };
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Habit {
    async fn act(self, account: &mut Account, room: &str) -> Result<(), String> {
        let (method, path, body) = match self {
            Self::Refresh => return account.refresh().await,
            Self::LogIn => return account.begin("/api/login", PASSWORD, 200).await,
            Self::Ask => (Method::GET, "/api/protected".to_owned(), Value::Null),
            Self::List => (Method::GET, "/api/sessions".to_owned(), Value::Null),
            Self::Ticket => (Method::POST, "/api/ws-ticket".to_owned(), Value::Null),
            Self::Publish => (Method::POST, format!("/api/rooms/{room}/messages"), json!({"data": "Hello"})),
            Self::Presence => (Method::GET, format!("/api/rooms/{room}/presence"), Value::Null),
        };
        match account.ask(method, &path, body).await {
            Ok((200..=299, _)) => Ok(()),
            Ok((status, problem)) => Err(format!("{status} {}", problem["code"])),
            Err(error) => Err(format!("{error:?}")),
        }
    }
}
