//! Where a server is.

use std::fmt;

/// A host, by name or address, and a port. Names are resolved anew for each connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host:port`, as errors of Redis Cluster name a node; without a host it is the one who says it.
    pub(super) fn parse(text: &str, says_it: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::new(if host.is_empty() { &says_it.host } else { host }, port.parse().ok()?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}
