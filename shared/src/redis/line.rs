//! A connection to one server that is made again whenever it is lost, and the calls that wait for it meanwhile.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use fred::types::Value;
use futures_util::{future::join, poll};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    RedisError,
    address::Address,
    away::LastAway,
    connection::{Connection, SUSPICION, Trust},
    connector::{Connector, Driver},
    topology::Topology,
};

/// How long something may be awaited with nothing read before a connection is given up: longer than a call may take by
/// default, so that no answer is lost for which anybody still waits.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(2);
/// When nothing was read for so long, something is asked, to know whether an answer comes.
const ASKED_AFTER: Duration = Duration::from_millis(500);
/// How often this is looked at.
const TICK: Duration = Duration::from_millis(200);
/// A tick that is later than this was not missed by the server.
const OVERSLEPT: Duration = Duration::from_millis(700);
/// How long confirming the primary may take.
const CONFIRMATION: Duration = Duration::from_secs(1);
/// The pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Calls that may wait for a connection; more fail at once.
const MAX_WAITING: usize = 20_000;

/// See the module.
pub(super) struct Line {
    pub(super) address: Address,
    /// Calls are sent in the order in which they came, also when they had to wait.
    gate: Mutex<()>,
    waiting: AtomicUsize,
    current: watch::Sender<Option<Arc<Connection>>>,
    /// Its server is no primary any more.
    gone: CancellationToken,
}

/// Why a call has no answer.
pub(super) enum Failure {
    /// It was not sent: another server has taken over.
    Gone,
    Redis(RedisError),
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    pub(super) fn new(address: Address, gone: CancellationToken) -> Arc<Self> {
        let current = watch::Sender::new(None);
        Arc::new(Self { address, gate: Mutex::default(), waiting: AtomicUsize::new(0), current, gone })
    }

    /// Whether calls are answered, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.current.borrow().as_ref().is_some_and(|connection| connection.state() == Trust::Trusted)
    }

    /// Its connections, as they come and go.
    pub(super) fn connections(&self) -> watch::Receiver<Option<Arc<Connection>>> {
        self.current.subscribe()
    }

    /// Its server is no primary any more.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Closes the connection that there is; another one is made.
    pub(super) fn renew(&self) {
        if let Some(connection) = &*self.current.borrow() {
            connection.close();
        }
    }

    /// Sends one command after all that came before it, and returns the answer with the connection that it came through.
    /// `asking`: as the server to which a slot is on its way.
    pub(super) async fn call(
        &self,
        command: &'static str,
        arguments: Vec<Value>,
        asking: bool,
        until: Instant,
    ) -> Result<(Arc<Connection>, Value), Failure> {
        let waiting = self.wait().map_err(Failure::Redis)?;
        let patience = until.saturating_duration_since(Instant::now());
        let turn = timeout_at(until, async { (self.gate.lock().await, self.connection().await) });
        let (turn, connection) = tokio::select! {
            biased;
            () = self.gone.cancelled() => return Err(Failure::Gone),
            turn = turn => turn.map_err(|_| Failure::Redis(RedisError::Timeout(patience)))?,
        };
        drop(waiting);
        let answer = {
            let mut reply = pin!(async {
                let call = connection.call(command, arguments, until);
                if asking { join(connection.exchange("ASKING", Vec::new(), until), call).await.1 } else { call.await }
            });
            // It is sent with the first poll, and whoever comes next may send then.
            let first = poll!(reply.as_mut());
            drop(turn);
            match first {
                Poll::Ready(answer) => answer,
                Poll::Pending => reply.await,
            }
        };
        answer.map(|answer| (connection, answer)).map_err(Failure::Redis)
    }

    fn wait(&self) -> Result<Waiting<'_>, RedisError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if before < MAX_WAITING { Ok(waiting) } else { Err(RedisError::TooMuch) }
    }

    /// Waits for one that is trusted.
    async fn connection(&self) -> Arc<Connection> {
        let mut current = self.current.subscribe();
        let mut closed: Option<Arc<Connection>> = None;
        loop {
            let is_another =
                |connection: &Arc<Connection>| closed.as_ref().is_none_or(|it| !Arc::ptr_eq(it, connection));
            let connection = match current.wait_for(|it| it.as_ref().is_some_and(is_another)).await {
                Ok(connection) => connection.clone(),
                // Its sender is here.
                Err(_) => None,
            };
            let Some(connection) = connection else { continue };
            if connection.is_trusted().await {
                return connection;
            }
            closed = Some(connection);
        }
    }
}

/// What keeps a line.
pub(super) struct Keeper {
    pub(super) line: Arc<Line>,
    pub(super) topology: Arc<Topology>,
    pub(super) connector: Connector,
    pub(super) away: LastAway,
    /// Its first connection is no return from anywhere.
    pub(super) is_first: bool,
}

impl Keeper {
    /// Keeps it, until its server is no primary any more.
    pub(super) async fn run(self) {
        let gone = self.line.gone.clone();
        let _ = gone.run_until_cancelled(self.keep()).await;
        if let Some(connection) = self.line.current.send_replace(None) {
            connection.close();
        }
    }

    async fn keep(&self) {
        let (mut pause, mut is_told, mut is_first) = (FIRST_PAUSE, false, self.is_first);
        loop {
            let error = match Connection::open(&self.connector, &self.line.address).await {
                Ok((connection, driver)) => {
                    // Whoever confirms it has also made sure that it answers.
                    if self.confirm(&connection).await {
                        (pause, is_told) = (FIRST_PAUSE, false);
                        self.line.current.send_replace(Some(Arc::clone(&connection)));
                        if !std::mem::replace(&mut is_first, false) {
                            self.away.note();
                        }
                        let end = self.watch(&connection, driver).await;
                        connection.close();
                        self.line.current.send_replace(None);
                        warn!(server = %self.line.address, "a connection to redis has ended: {end}");
                        self.away.note();
                        self.topology.urge();
                        continue;
                    }
                    "it is not the primary".to_owned()
                }
                Err(error) => error.to_string(),
            };
            if !std::mem::replace(&mut is_told, true) {
                warn!(server = %self.line.address, error, "no connection to redis; trying again until there is");
            }
            self.away.note();
            self.topology.urge();
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Makes sure that the server is the primary, by what it says itself and by what others say of it.
    async fn confirm(&self, connection: &Connection) -> bool {
        let role = connection.exchange("ROLE", Vec::new(), Instant::now() + CONFIRMATION);
        let (role, is_confirmed) = join(role, self.topology.confirms(&self.line.address, CONFIRMATION)).await;
        let is_primary = match role {
            Ok(Value::Array(role)) => role.first().and_then(Value::as_str).is_some_and(|role| role == "master"),
            _ => false,
        };
        let is_good = is_primary && is_confirmed;
        if is_good {
            connection.trust();
        }
        is_good
    }

    /// Watches a connection until its end, and tells what that was.
    async fn watch(&self, connection: &Connection, mut driver: Driver) -> String {
        tokio::select! {
            error = driver.ended() => error.map_or_else(|| "it was closed".to_owned(), |error| error.to_string()),
            end = self.judge(connection) => end,
            () = ask(connection) => String::new(),
        }
    }

    async fn judge(&self, connection: &Connection) -> String {
        let mut looked_at = Instant::now();
        loop {
            let pause = if connection.state() == Trust::Trusted { TICK } else { TICK / 4 };
            tokio::select! { () = connection.closed() => (), () = sleep(pause) => () }
            if looked_at.elapsed() >= OVERSLEPT {
                connection.forgive();
            }
            let silence = connection.silence();
            match connection.state() {
                Trust::Closed => return "the server refuses what a primary takes, or was given up".to_owned(),
                Trust::Trusted if silence < SUSPICION => {}
                Trust::Trusted => {
                    connection.doubt();
                    self.topology.urge();
                }
                Trust::Doubted if silence >= GIVEN_UP_AFTER => return format!("nothing was read for {silence:?}"),
                Trust::Doubted if silence >= SUSPICION => self.topology.urge(),
                Trust::Doubted if self.confirm(connection).await => {
                    info!(server = %self.line.address, "redis was silent for a moment, and is still the primary");
                    self.away.note();
                }
                Trust::Doubted => return "it could not be confirmed that the server is still the primary".to_owned(),
            }
            looked_at = Instant::now();
        }
    }
}

/// Asks something whenever nothing was read for a while, for ever.
async fn ask(connection: &Connection) {
    loop {
        let unread_for = connection.unread_for();
        if unread_for < ASKED_AFTER {
            sleep(ASKED_AFTER.saturating_sub(unread_for)).await;
        } else {
            // Whatever comes back was read.
            let _ = connection.exchange("PING", Vec::new(), Instant::now() + GIVEN_UP_AFTER * 2).await;
            sleep(TICK).await;
        }
    }
}
