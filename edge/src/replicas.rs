//! Which replicas there are, and which of them are ready.
//!
//! ```text
//!              200                  another answer
//! unknown ------------->  ready  ---------------->  not ready
//!    |                    |   ^                       |    ^
//!    | no answer in time, |   | 200                   |    | another answer
//!    | or refused         v   |                       v    |
//!    +------------------> silent <---------------------+---+
//! ```
//!
//! Nginx gets those that are ready. If none is, those that answer at least: what they say (503, and why) is better than what
//! Nginx would. If none does that either, all of them.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use metrics::gauge;
use reqwest::Client;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::config::Address;

/// What a replica has last said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    NotReady,
    Silent,
}

const STATES: [(State, &str); 3] = [(State::Ready, "ready"), (State::NotReady, "not_ready"), (State::Silent, "silent")];

/// All replicas of one kind.
pub struct Replicas {
    /// The kind: `api` or `ws`.
    pub service: &'static str,
    /// Where they are.
    pub address: Address,
    /// The path that says whether they are ready.
    ready_path: &'static str,
    states: Mutex<BTreeMap<IpAddr, State>>,
}

impl Replicas {
    /// Nothing is known of them yet.
    pub fn new(service: &'static str, address: Address, ready_path: &'static str) -> Self {
        Self { service, address, ready_path, states: Mutex::default() }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<IpAddr, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where requests should go; nowhere, if the name has not been resolved yet.
    pub fn to_use(&self) -> Vec<IpAddr> {
        let states = self.states();
        let of = |wanted| states.iter().filter(|(_, state)| **state == wanted).map(|(address, _)| *address).collect();
        STATES
            .into_iter()
            .map(|(state, _)| of(state))
            .find(|addresses: &Vec<_>| !addresses.is_empty())
            .unwrap_or_default()
    }

    /// Finds and asks them again and again. What `resolve` has last said holds while it fails.
    pub async fn watch<R>(&self, client: Client, every: Duration, resolve: impl Fn(Address) -> R)
    where
        R: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut addresses = Vec::new();
        let mut was_resolved = true;
        loop {
            tick.tick().await;
            let resolved = resolve(self.address.clone()).await;
            let is_resolved = resolved.is_ok();
            match resolved {
                Ok(found) => addresses = found,
                Err(error) if was_resolved => {
                    warn!(service = self.service, host = self.address.host, %error, "replicas cannot be found; those known last are kept");
                }
                Err(_) => {}
            }
            was_resolved = is_resolved;
            let asked = join_all(addresses.iter().map(async |at| (at.ip(), self.ask(&client, *at).await)));
            self.learn(asked.await.into_iter().collect());
        }
    }

    async fn ask(&self, client: &Client, at: SocketAddr) -> State {
        match client.get(format!("http://{at}{}", self.ready_path)).send().await {
            Ok(response) if response.status().is_success() => State::Ready,
            Ok(_) => State::NotReady,
            Err(_) => State::Silent,
        }
    }

    fn learn(&self, now: BTreeMap<IpAddr, State>) {
        let mut states = self.states();
        for (address, state) in &now {
            let before = states.get(address);
            let service = self.service;
            match state {
                _ if before == Some(state) => {}
                State::Ready => info!(service, %address, "a replica is ready"),
                State::NotReady => warn!(service, %address, "a replica is not ready"),
                State::Silent => warn!(service, %address, "a replica does not answer"),
            }
        }
        for address in states.keys().filter(|address| !now.contains_key(address)) {
            info!(service = self.service, %address, "a replica is gone");
        }
        for (state, label) in STATES {
            let count = now.values().filter(|it| **it == state).count();
            #[expect(clippy::cast_precision_loss, reason = "replicas are few")]
            gauge!("gatefold_edge_replicas", "service" => self.service, "state" => label).set(count as f64);
        }
        *states = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowing(states: &[(u8, State)]) -> Vec<u8> {
        let replicas = Replicas::new("api", Address { host: "api".to_owned(), port: 3000 }, "/api/ready");
        replicas.learn(states.iter().map(|(last, state)| (IpAddr::from([10, 0, 0, *last]), *state)).collect());
        let last = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        };
        replicas.to_use().into_iter().map(last).collect()
    }

    #[test]
    fn the_ready_ones_are_used_or_those_that_answer_or_all() {
        let (ready, not_ready, silent) = (State::Ready, State::NotReady, State::Silent);
        assert_eq!(knowing(&[(1, ready), (2, not_ready), (3, silent), (4, ready)]), [1, 4]);
        assert_eq!(knowing(&[(1, silent), (2, not_ready), (3, silent)]), [2]);
        assert_eq!(knowing(&[(1, silent), (2, silent)]), [1, 2]);
        assert_eq!(knowing(&[]), [0; 0]);
    }
}
