//! A client that lives by itself, as the documentation asks for one: it comes back after what it may come back from, with
//! full jitter or when it was told to, rejoins its rooms from the last message that it saw, and builds its own view.
//!
//! A member is one task and one connection, so that a test can have a thousand.

mod connection;
pub mod view;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use self::connection::{Connection, End};
pub use self::view::View;
use super::{Gatefold, PATIENCE, User, within};

/// The first delay is at most this, and each further one may be twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(20);

/// Where a member may connect, now and later: tests take out what they kill, as a load balancer does.
pub type Addresses = Arc<Mutex<Vec<String>>>;

/// The addresses of these sockets.
pub fn addresses(urls: impl IntoIterator<Item = String>) -> Addresses {
    Arc::new(Mutex::new(urls.into_iter().collect()))
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a test has a member do.
enum Order {
    Join(String),
    Leave(String),
    Say(Value),
    /// Lose the connection, and come back no earlier than after so long.
    Cut(Duration),
}

/// The handle of a member. Without it, the member is gone: a tab that was closed, a machine that crashed.
pub struct Member {
    pub user: User,
    view: Arc<Mutex<View>>,
    orders: UnboundedSender<Order>,
    _life: JoinSet<()>,
}

impl Gatefold {
    /// One more client of a user's.
    pub fn member(&self, user: &User, addresses: &Addresses) -> Member {
        Member::enter(user, self.token_of_user(user), addresses)
    }
}

impl Member {
    /// A client with a token of the user's, of whatever deployment.
    pub fn enter(user: &User, token: String, addresses: &Addresses) -> Self {
        let (orders, ordered) = unbounded_channel();
        let view = Arc::<Mutex<View>>::default();
        let life = Life { token, addresses: Arc::clone(addresses), view: Arc::clone(&view), ordered };
        let mut task = JoinSet::new();
        task.spawn(life.live());
        Self { user: user.clone(), view, orders, _life: task }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("a member that lives");
    }

    pub fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    /// Becomes a member of a room, and does so again whenever it comes back.
    pub fn join(&self, room: &str) {
        self.order(Order::Join(room.to_owned()));
    }

    pub fn leave(&self, room: &str) {
        self.order(Order::Leave(room.to_owned()));
    }

    pub fn say(&self, message: Value) {
        self.order(Order::Say(message));
    }

    pub fn publish(&self, room: &str, data: impl Into<Value>) {
        self.say(json!({"type": "publish", "room": room, "data": data.into()}));
    }

    pub fn typing(&self, room: &str, typing: bool) {
        self.say(json!({"type": "typing", "room": room, "typing": typing}));
    }

    pub fn cut(&self, away: Duration) {
        self.order(Order::Cut(away));
    }

    /// Waits until it is a member of a room.
    pub async fn joined(&self, room: &str) {
        within(PATIENCE, "a member has joined", async || self.view().is_in(room)).await;
    }
}

/// The member's own side.
struct Life {
    token: String,
    addresses: Addresses,
    view: Arc<Mutex<View>>,
    ordered: UnboundedReceiver<Order>,
}

impl Life {
    async fn live(mut self) {
        let mut attempt = 0;
        let mut delay = Duration::ZERO;
        let mut last_url = None;
        while self.wait(delay).await {
            let url = self.choose(last_url.as_deref());
            let end = match Connection::open(&url, &self.token, Arc::clone(&self.view)).await {
                Ok(connection) => self.serve(connection).await,
                Err(_) => End::Lost,
            };
            let greeted = {
                let mut view = lock(&self.view);
                let greeted = std::mem::take(&mut view.connected);
                view.rooms.values_mut().for_each(|room| room.joined = false);
                if let End::Closed(code, reason) = &end {
                    view.closes.push((*code, reason.clone()));
                }
                greeted
            };
            attempt = if greeted { 0 } else { attempt + 1 };
            delay = match end {
                End::Forgotten | End::Closed(1000..=1011 | 4500..=4999, _) => return,
                End::Told | End::Closed(1012, _) => Duration::ZERO,
                End::Cut(away) => away + full_jitter(attempt),
                End::Lost | End::Closed(..) => full_jitter(attempt),
            };
            last_url = Some(url);
        }
    }

    /// Another address than last time, if there is any.
    fn choose(&self, last: Option<&str>) -> String {
        let addresses = lock(&self.addresses);
        let others: Vec<_> = addresses.iter().filter(|url| Some(url.as_str()) != last).collect();
        match others[..] {
            [] => addresses.first().expect("an address").clone(),
            _ => others[rand::rng().random_range(0..others.len())].clone(),
        }
    }

    /// Waits, and remembers what it is to do then; whether to go on at all.
    async fn wait(&mut self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        loop {
            match timeout_at(until, self.ordered.recv()).await {
                Err(_) => return true,
                Ok(Some(Order::Join(room))) => drop(lock(&self.view).wanted.insert(room)),
                Ok(Some(Order::Leave(room))) => drop(lock(&self.view).wanted.remove(&room)),
                Ok(Some(Order::Say(_) | Order::Cut(_))) => {} // nobody there to hear it
                Ok(None) => return false,
            }
        }
    }

    async fn serve(&mut self, mut connection: Connection) -> End {
        loop {
            let done = tokio::select! {
                heard = connection.next() => heard,
                order = self.ordered.recv() => match order {
                    Some(Order::Join(room)) => connection.join(room).await,
                    Some(Order::Leave(room)) => connection.leave(&room).await,
                    Some(Order::Say(message)) => connection.say(message).await,
                    Some(Order::Cut(away)) => {
                        connection.cut();
                        Err(End::Cut(away))
                    }
                    None => return End::Forgotten,
                },
            };
            if let Err(end) = done {
                return end;
            }
        }
    }
}

fn full_jitter(attempt: u32) -> Duration {
    let most = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST_DELAY);
    rand::rng().random_range(Duration::ZERO..=most)
}
