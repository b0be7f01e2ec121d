//! Asking one Sentinel, or one node of a Redis Cluster, again and again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Address, Kind, Topology, cluster, sentinel, view::Testimony};
use crate::redis::{
    RedisError,
    connection::Connection,
    connector::{Connector, Driver},
};

/// How often it is asked when all is well.
const CALM: Duration = Duration::from_secs(1);
/// The same when something looked wrong.
const URGENT: Duration = Duration::from_millis(150);
/// The least time between two questions.
const LEAST: Duration = Duration::from_millis(20);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Asks as long as anybody names it.
pub(super) async fn ask_again_and_again(topology: Arc<Topology>, address: Address) {
    let mut urgent_until = topology.urgent_until.subscribe();
    let mut connection = None;
    let mut attempts = topology.askers.iter().cycle();
    while topology.is_named(&address) {
        urgent_until.borrow_and_update();
        if connection.is_none() {
            let Some(connector) = attempts.next() else { return };
            connection = Connection::open(connector, &address).await.ok().map(|it| (it, connector));
        }
        let answer = match &connection {
            Some((connection, connector)) => ask(&topology, connection, connector).await.ok(),
            None => None,
        };
        match answer {
            Some(testimony) => topology.hear(&address, testimony),
            None => connection = None,
        }
        sleep(LEAST).await;
        let is_urgent = *urgent_until.borrow() > Instant::now();
        let pause = if is_urgent { URGENT } else { CALM };
        tokio::select! { () = sleep(pause) => (), _ = urgent_until.changed() => () }
    }
    topology.forget(&address);
}

async fn ask(
    topology: &Topology,
    (connection, _driver): &(Arc<Connection>, Driver),
    connector: &Connector,
) -> Result<Testimony, RedisError> {
    let until = Instant::now() + PATIENCE;
    match &topology.kind {
        Kind::Sentinel { service } => sentinel::ask(connection, service, until).await,
        Kind::Cluster | Kind::Single => cluster::ask(connection, connector.is_tls(), until).await,
    }
}
