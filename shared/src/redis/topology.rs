//! Who the primaries are, and which slots each has.
//!
//! No server is believed when it speaks of itself: one that was frozen still takes itself for the primary when it goes on,
//! though another one was elected. So all Sentinels, or all nodes of a Redis Cluster, are asked, each by a task of its own,
//! and the claim with the highest epoch counts. Of a single server there is nobody to ask.

mod cluster;
mod sentinel;
mod view;
mod witness;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fred::{
    prelude::Config,
    types::config::{Server, ServerConfig},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::info;

pub(super) use self::view::View;
use self::view::{Claim, Testimony};
use super::{RedisError, address::Address, connector::Connector};
use crate::lifecycle::Lifecycle;

/// How long whoever must know waits for a majority of the witnesses, before fewer are enough.
const MAJORITY: Duration = Duration::from_millis(300);
/// For how long witnesses are asked more often after something looked wrong.
const URGENT: Duration = Duration::from_secs(5);
/// What a witness said longer ago counts only if most have not been heard of since.
const FRESH: Duration = Duration::from_mins(1);

enum Kind {
    Single,
    Sentinel { service: String },
    Cluster,
}

/// See the module.
pub(super) struct Topology {
    kind: Kind,
    /// How primaries are connected to.
    pub(super) connector: Connector,
    /// How witnesses are asked, in the order in which it is tried: with credentials or without.
    askers: Vec<Connector>,
    /// Those that are named in the configuration.
    seeds: Vec<Address>,
    witnesses: Mutex<BTreeMap<Address, Option<Testimony>>>,
    view: watch::Sender<Arc<View>>,
    /// Counts answers.
    answers: watch::Sender<u64>,
    urgent_until: watch::Sender<Instant>,
    life: Lifecycle,
}

fn address_of(server: &Server) -> Address {
    Address::new(server.host.to_string(), server.port)
}

impl Topology {
    /// Reads the URL, and begins to ask. The password is used if there is none in the URL.
    pub(super) fn watch(url: &str, password: Option<&str>, life: &Lifecycle) -> Result<Arc<Self>, RedisError> {
        let mut config = Config::from_url(url)?;
        config.password = config.password.or_else(|| password.map(str::to_owned));
        let connector = Connector::new(config.clone());
        let (kind, seeds, askers) = match &config.server {
            ServerConfig::Sentinel { hosts, service_name, username, password } => {
                let mut askers = Vec::new();
                // Those of the servers, unless there are others; Sentinels that know of no password refuse any.
                let (own, shared) = ((username, password), (&config.username, &config.password));
                let credentials = if password.is_some() { vec![own] } else { vec![shared, (&None, &None)] };
                for (username, password) in credentials {
                    let (username, password) = (username.clone(), password.clone());
                    askers.push(Connector::new(Config { username, password, database: None, ..config.clone() }));
                }
                (Kind::Sentinel { service: service_name.clone() }, hosts.clone(), askers)
            }
            ServerConfig::Clustered { hosts, .. } => (Kind::Cluster, hosts.clone(), vec![connector.clone()]),
            ServerConfig::Centralized { server } => (Kind::Single, vec![server.clone()], Vec::new()),
        };
        let seeds: Vec<_> = seeds.iter().map(address_of).collect();
        let view = match (&kind, seeds.first()) {
            (Kind::Single, Some(only)) => View::of(&[Claim::of_everything(only.clone(), 0)]),
            _ => View::default(),
        };
        let topology = Arc::new(Self {
            kind,
            connector,
            askers,
            seeds,
            witnesses: Mutex::default(),
            view: watch::Sender::new(Arc::new(view)),
            answers: watch::Sender::new(0),
            urgent_until: watch::Sender::new(Instant::now() + URGENT),
            life: life.clone(),
        });
        if !topology.is_single() {
            topology.ask_all(topology.seeds.clone());
        }
        Ok(topology)
    }

    pub(super) fn is_single(&self) -> bool {
        matches!(self.kind, Kind::Single)
    }

    /// Who the primaries are, as it becomes known.
    pub(super) fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Something looks wrong: asks more often for a while, beginning now.
    pub(super) fn urge(&self) {
        self.urgent_until.send_replace(Instant::now() + URGENT);
    }

    /// Whether a server is the primary by what witnesses say who are asked from now on: most of them, or those that answer.
    pub(super) async fn confirms(&self, address: &Address, patience: Duration) -> bool {
        if self.is_single() {
            return true;
        }
        let since = Instant::now();
        let mut answers = self.answers.subscribe();
        self.urge();
        let confirmed = timeout(patience, async {
            loop {
                answers.borrow_and_update();
                if self.is_known_since(since) {
                    return self.view.borrow().has(address);
                }
                tokio::select! { _ = answers.changed() => (), () = sleep(MAJORITY / 6) => () }
            }
        });
        confirmed.await.unwrap_or(false)
    }

    fn is_known_since(&self, since: Instant) -> bool {
        let witnesses = self.witnesses();
        let answered = witnesses.values().flatten().filter(|testimony| testimony.asked_at >= since).count();
        answered * 2 > witnesses.len() || (answered > 0 && since.elapsed() >= MAJORITY)
    }

    fn witnesses(&self) -> MutexGuard<'_, BTreeMap<Address, Option<Testimony>>> {
        self.witnesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to ask those who are not asked yet.
    fn ask_all(self: &Arc<Self>, witnesses: Vec<Address>) {
        for address in witnesses {
            let is_new = !self.witnesses().contains_key(&address);
            if is_new {
                self.witnesses().insert(address.clone(), None);
                self.life.spawn(witness::ask_again_and_again(Arc::clone(self), address));
            }
        }
    }

    /// Whether somebody names this witness, if only the configuration.
    fn is_named(&self, address: &Address) -> bool {
        let witnesses = self.witnesses();
        self.seeds.contains(address) || witnesses.values().flatten().any(|testimony| testimony.names(address))
    }

    fn forget(&self, address: &Address) {
        self.witnesses().remove(address);
    }

    /// Takes note of what a witness says.
    fn hear(self: &Arc<Self>, witness: &Address, testimony: Testimony) {
        let named = testimony.others.clone();
        let mut witnesses = self.witnesses();
        let is_news =
            witnesses.get(witness).and_then(Option::as_ref).is_none_or(|before| !before.says_the_same(&testimony));
        witnesses.insert(witness.clone(), Some(testimony));
        if is_news {
            let fresh = |testimony: &&Testimony| testimony.asked_at.elapsed() < FRESH;
            let most_are_fresh = witnesses.values().flatten().filter(fresh).count() * 2 > witnesses.len();
            let counted = witnesses.values().flatten().filter(|it| !most_are_fresh || fresh(it));
            let claims: Vec<_> = counted.flat_map(|testimony| testimony.claims.iter().cloned()).collect();
            let view = View::of(&claims);
            self.view.send_if_modified(|now| {
                let is_change = **now != view;
                if is_change {
                    info!(primaries = %view, "where redis is");
                    *now = Arc::new(view);
                }
                is_change
            });
        }
        drop(witnesses);
        self.answers.send_modify(|answers| *answers = answers.wrapping_add(1));
        self.ask_all(named);
    }
}
