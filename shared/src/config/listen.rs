//! Where a replica listens, and for how long once it is to end.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use clap::Args;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use super::positive_duration;

/// Connections that wait to be accepted, as in tokio.
const BACKLOG: u32 = 1024;

/// Where to listen, and for how long once the replica is to end. The port is in each replica's own configuration, because its default differs.
#[derive(Args, Clone, Debug)]
pub struct ListenConfig {
    /// Address to listen on, for clients and for metrics; without it all, of IPv6 and IPv4 [default: ::]
    #[arg(long, env = "HOST")]
    pub host: Option<IpAddr>,
    /// Connections open at once; further ones wait to be accepted
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "50000", value_parser = max_connections)]
    pub max_connections: usize,
    /// Longest time between SIGTERM and the end of the process
    #[arg(long, env = "DRAIN_SECONDS", default_value = "20s", value_parser = positive_duration)]
    pub drain_seconds: Duration,
}

impl ListenConfig {
    /// Listens on a port of the configured address. Where none is configured it is both kinds: IPv6, which takes IPv4 as well
    /// whatever the system's default is, or IPv4 alone where the kernel has no IPv6.
    pub async fn listen(&self, port: u16) -> io::Result<TcpListener> {
        match self.host {
            Some(host) => TcpListener::bind((host, port)).await,
            None => listen_everywhere(port).await,
        }
    }
}

/// Listens on a port of all addresses.
pub async fn listen_everywhere(port: u16) -> io::Result<TcpListener> {
    match listen_dual_stack(port) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        result => result,
    }
}

fn listen_dual_stack(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    SockRef::from(&socket).set_only_v6(false)?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(BACKLOG)
}

fn max_connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=10_000_000) => Ok(count),
        _ => Err("must be 1 to 10000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::net::TcpStream;

    use super::*;

    #[derive(Parser)]
    struct Example {
        #[command(flatten)]
        listen: ListenConfig,
    }

    fn listen(arguments: &[&str]) -> ListenConfig {
        Example::parse_from(["example"].iter().chain(arguments)).listen
    }

    async fn answers(listener: &TcpListener, address: impl Into<IpAddr>) -> bool {
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((address.into(), port)).await.is_ok()
    }

    #[tokio::test]
    async fn without_an_address_both_kinds_are_served() {
        let listener = listen(&[]).listen(0).await.unwrap();
        assert!(answers(&listener, Ipv4Addr::LOCALHOST).await);
        let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok();
        assert_eq!(answers(&listener, Ipv6Addr::LOCALHOST).await, has_ipv6);
        let taken = listener.local_addr().unwrap().port();
        let error = listen(&[]).listen(taken).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "and not IPv4 alone beside another program");
    }

    #[tokio::test]
    async fn an_address_is_the_only_one() {
        let listener = listen(&["--host", "127.0.0.1"]).listen(0).await.unwrap();
        assert!(answers(&listener, Ipv4Addr::LOCALHOST).await);
        assert!(!answers(&listener, Ipv6Addr::LOCALHOST).await);
    }
}
