//! How connections are made: one each to one server, which the client library neither chooses nor replaces.

use std::time::Duration;

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::ClientLike,
    prelude::{Builder, Config, TcpConfig},
    types::{
        ConnectHandle,
        config::{Server, ServerConfig},
    },
};
use tokio::{net::lookup_host, time::timeout};

use super::{RedisError, address::Address};

/// How long making a connection may take, and then saying who we are: an address from which nothing comes back must not
/// hold up the next attempt.
const PATIENCE: Duration = Duration::from_secs(1);
/// Calls that may wait to be written to one connection.
const MAX_WAITING: usize = 20_000;

/// Makes connections of one kind.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    /// Messages that may wait to be read, for subscriptions.
    backlog: usize,
}

/// A connection's task, which ends with the connection, and the connection with it.
pub(super) struct Driver(ConnectHandle);

impl Driver {
    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Option<Error> {
        (&mut self.0).await.ok().and_then(Result::err)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connector {
    pub(super) fn new(config: Config) -> Self {
        Self { config, backlog: 1 }
    }

    /// The same for subscriptions.
    pub(super) fn with_backlog(&self, backlog: usize) -> Self {
        Self { config: self.config.clone(), backlog }
    }

    /// Whether connections are encrypted, so that names count.
    pub(super) fn is_tls(&self) -> bool {
        self.config.tls.is_some()
    }

    /// Connects, to whichever of the addresses behind a name answers first in their order.
    pub(super) async fn connect(&self, address: &Address) -> Result<(Client, Driver), RedisError> {
        let nowhere = |error: std::io::Error| Error::new(ErrorKind::IO, format!("{}: {error}", address.host));
        let resolving = timeout(PATIENCE, lookup_host((address.host.as_str(), address.port))).await;
        let found = resolving.map_err(|_| RedisError::Timeout(PATIENCE))?.map_err(nowhere)?;
        let mut result = Err(Error::new(ErrorKind::IO, format!("{}: no such host", address.host)).into());
        for found in found {
            let name = Some(address.host.clone());
            result = self.connect_to(Server::new_with_tls(found.ip().to_string(), found.port(), name)).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn connect_to(&self, server: Server) -> Result<(Client, Driver), RedisError> {
        let mut config = self.config.clone();
        config.server = ServerConfig::Centralized { server };
        config.fail_fast = true;
        let mut builder = Builder::from_config(config);
        builder.with_connection_config(|connection| {
            connection.connection_timeout = PATIENCE;
            connection.internal_command_timeout = PATIENCE;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = MAX_WAITING;
            // What was not sent when a connection is given up is not sent later either.
            connection.tcp = TcpConfig { nodelay: Some(true), linger: Some(Duration::ZERO), ..TcpConfig::default() };
        });
        builder.with_performance_config(|performance| performance.broadcast_channel_capacity = self.backlog);
        // Without a policy for reconnecting its task ends with the connection.
        let client = builder.build()?;
        let mut driver = Driver(client.connect());
        let connected = timeout(PATIENCE * 2, async {
            tokio::select! {
                connected = client.wait_for_connect() => connected,
                error = driver.ended() => Err(error.unwrap_or_else(|| Error::new(ErrorKind::IO, "connection closed"))),
            }
        });
        connected.await.map_err(|_| RedisError::Timeout(PATIENCE * 2))??;
        Ok((client, driver))
    }
}
