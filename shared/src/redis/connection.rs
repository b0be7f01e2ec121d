//! One connection, and whether what comes out of it can be believed.
//!
//! A server that is frozen, or to which the network is cut, closes nothing. So a connection on which something is awaited
//! and nothing is read for [`SUSPICION`] is *doubted*: nothing more is sent, and what is read then counts only once it is
//! confirmed that this server is still the primary, since another one may have been elected meanwhile.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::{ClientLike, EventInterface, PubsubInterface},
    types::{ClusterHash, CustomCommand, Message, Value, config::Options},
};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, timeout_at},
};

use super::{
    RedisError,
    address::Address,
    connector::{Connector, Driver},
};

/// How long something may be awaited with nothing read before a connection is doubted.
pub(super) const SUSPICION: Duration = Duration::from_secs(1);

/// Whether replies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Trusted,
    /// Only after the server was confirmed to be the primary.
    Doubted,
    /// Not any more.
    Closed,
}

#[derive(Default)]
struct Activity {
    in_flight: usize,
    /// Since when something is awaited with nothing read.
    silent_since: Option<Instant>,
    /// Until when Redis was asked to say nothing.
    excused_until: Option<Instant>,
    read_at: Option<Instant>,
}

impl Activity {
    fn silence(&self, now: Instant) -> Duration {
        let since = self.silent_since.map(|since| since.max(self.excused_until.unwrap_or(since)));
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// See the module.
pub(super) struct Connection {
    client: Client,
    pub(super) address: Address,
    activity: Mutex<Activity>,
    trust: watch::Sender<Trust>,
    messages: Mutex<Option<broadcast::Receiver<Message>>>,
}

/// Something that was sent, until it is answered or given up.
struct InFlight<'a>(&'a Connection);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.activity().in_flight -= 1;
    }
}

impl Connection {
    /// Connects. Nothing is believed before [`Self::trust`].
    pub(super) async fn open(connector: &Connector, address: &Address) -> Result<(Arc<Self>, Driver), RedisError> {
        let (client, driver) = connector.connect(address).await?;
        let messages = Mutex::new(Some(client.message_rx()));
        let (address, activity, trust) = (address.clone(), Mutex::default(), watch::Sender::new(Trust::Doubted));
        Ok((Arc::new(Self { client, address, activity, trust, messages }), driver))
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long something is awaited with nothing read.
    pub(super) fn silence(&self) -> Duration {
        self.activity().silence(Instant::now())
    }

    /// For how long nothing was read, awaited or not.
    pub(super) fn unread_for(&self) -> Duration {
        self.activity().read_at.map_or(Duration::MAX, |at| at.elapsed())
    }

    /// This process has slept: what was not read meanwhile says nothing of the server. But it may have lost its office.
    pub(super) fn forgive(&self) {
        let mut activity = self.activity();
        if activity.silent_since.is_some() {
            activity.silent_since = Some(Instant::now());
        }
        drop(activity);
        self.doubt();
    }

    /// Something was read.
    pub(super) fn has_read(&self) {
        let now = Instant::now();
        let mut activity = self.activity();
        let silence = activity.silence(now);
        activity.silent_since = (activity.in_flight > 0).then_some(now);
        activity.read_at = Some(now);
        drop(activity);
        if silence >= SUSPICION {
            self.doubt();
        }
    }

    pub(super) fn trust(&self) {
        self.move_to(Trust::Trusted);
    }

    pub(super) fn doubt(&self) {
        self.move_to(Trust::Doubted);
    }

    pub(super) fn close(&self) {
        self.move_to(Trust::Closed);
    }

    fn move_to(&self, trust: Trust) {
        self.trust.send_if_modified(|now| {
            let is_change = *now != Trust::Closed && *now != trust;
            if is_change {
                *now = trust;
            }
            is_change
        });
    }

    pub(super) fn state(&self) -> Trust {
        *self.trust.borrow()
    }

    /// Waits until it is trusted, or tells that it never will be again.
    pub(super) async fn is_trusted(&self) -> bool {
        let mut trust = self.trust.subscribe();
        trust.wait_for(|trust| *trust != Trust::Doubted).await.is_ok_and(|trust| *trust == Trust::Trusted)
    }

    /// Waits for its end.
    pub(super) async fn closed(&self) {
        let mut trust = self.trust.subscribe();
        let _ = trust.wait_for(|trust| *trust == Trust::Closed).await;
    }

    /// What is published on its subscriptions; there is one who may hear it.
    pub(super) fn take_messages(&self) -> Option<broadcast::Receiver<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sends one command, with the first poll, and waits for an answer that counts.
    pub(super) async fn call(
        &self,
        command: &'static str,
        arguments: Vec<Value>,
        until: Instant,
    ) -> Result<Value, RedisError> {
        let reply = self.exchange(command, arguments, until).await;
        if self.state() == Trust::Trusted {
            return reply;
        }
        let reply = reply?;
        match timeout_at(until, self.is_trusted()).await {
            Ok(true) => Ok(reply),
            Ok(false) => Err(self.lost()),
            Err(_) => Err(RedisError::Unconfirmed(self.address.to_string())),
        }
    }

    /// Waits until so many replicas have what this connection wrote. Meanwhile nothing else is answered.
    pub(super) async fn wait(&self, replicas: i64, milliseconds: i64, until: Instant) -> Result<Value, RedisError> {
        self.excuse(until);
        self.call("WAIT", vec![replicas.into(), milliseconds.into()], until).await
    }

    /// Sends one command, with the first poll, and waits for the answer, whatever it is worth. What was not sent by then
    /// never is: the client library must know for how long it matters.
    pub(super) async fn exchange(
        &self,
        command: &'static str,
        arguments: Vec<Value>,
        until: Instant,
    ) -> Result<Value, RedisError> {
        let patience = until.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            // To the client library it would mean for ever.
            return Err(RedisError::Timeout(patience));
        }
        let options = Options { timeout: Some(patience), ..Options::default() };
        let client = self.client.with_options(&options);
        let command = CustomCommand::new_static(command, ClusterHash::Random, false);
        let reply = Box::pin(client.custom::<Value, Value>(command, arguments));
        let _in_flight = self.begin();
        let reply = tokio::select! {
            biased;
            reply = reply => reply,
            () = self.closed() => return Err(self.lost()),
        };
        match &reply {
            Ok(_) => self.has_read(),
            Err(error) if is_from_server(error) => {
                self.has_read();
                if is_of_connection(error) {
                    self.close();
                }
            }
            Err(_) => {}
        }
        reply.map_err(|error| match error.kind() {
            ErrorKind::Timeout => RedisError::Timeout(patience),
            ErrorKind::Canceled | ErrorKind::IO => self.lost(),
            _ => error.into(),
        })
    }

    fn excuse(&self, until: Instant) {
        let mut activity = self.activity();
        activity.excused_until = activity.excused_until.max(Some(until));
    }

    fn begin(&self) -> InFlight<'_> {
        let mut activity = self.activity();
        activity.in_flight += 1;
        activity.silent_since.get_or_insert_with(Instant::now);
        InFlight(self)
    }

    /// Ends a subscription. There is no answer.
    pub(super) async fn unsubscribe(&self, channel: &str) {
        let _ = self.client.sunsubscribe(channel).await;
    }

    pub(super) fn lost(&self) -> RedisError {
        RedisError::Lost(self.address.to_string())
    }
}

/// Whether the server said it, and not the client library.
fn is_from_server(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Canceled | ErrorKind::Backpressure | ErrorKind::Protocol
    )
}

/// Whether it says that this server is not, or not yet, one to write to: every other call would get the same answer.
fn is_of_connection(error: &Error) -> bool {
    let said = error.details();
    let prefixes = ["READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN"];
    prefixes.iter().any(|prefix| said.starts_with(prefix)) || said.contains("readonly replica")
}
