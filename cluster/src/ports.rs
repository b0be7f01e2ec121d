//! Ports: free ones, and who listens on one.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};
use rand::RngExt;
use tokio::net::TcpSocket;

/// Below the ports that the kernel hands out to outgoing connections, so that none of those is ever in the way.
const RANGE: std::ops::Range<u16> = 10_000..32_768;

/// A port that nobody listens on, and that is not among `taken`. Somebody else may take it before it is used: whoever
/// uses it must be ready to ask for another.
pub(crate) fn free(taken: &HashSet<u16>) -> Result<u16> {
    let mut random = rand::rng();
    for _ in 0..1_000 {
        let port = random.random_range(RANGE);
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", RANGE.start, RANGE.end)
}

/// Where Nginx listens: on 127.0.0.1, where it is asked whether it is ready; and on the address that was asked for, or else
/// on `[::1]` where there is IPv6.
pub fn listen_addresses(asked_for: Option<IpAddr>) -> Vec<IpAddr> {
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    match asked_for {
        None if has_ipv6() => vec![loopback, Ipv6Addr::LOCALHOST.into()],
        None => vec![loopback],
        // It includes 127.0.0.1.
        Some(address) if address == loopback || address == IpAddr::from(Ipv4Addr::UNSPECIFIED) => vec![address],
        Some(address) => vec![loopback, address],
    }
}

/// Whether this user may listen on a port of these addresses, and nobody else does. It does not listen itself, or two who ask
/// at once would be in each other's way.
pub fn available(addresses: &[IpAddr], port: u16) -> std::io::Result<()> {
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind((*address, port).into())?;
    }
    Ok(())
}

fn has_ipv6() -> bool {
    TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).is_ok()
}

/// Whether that very process, which must be of this user's own, listens on the port. An answer from the port alone would not
/// tell: it may be another cluster's, while the process is about to find its port taken.
pub(crate) fn listens(pid: i32, port: u16) -> bool {
    let listeners = listeners(port);
    if listeners.is_empty() {
        return false;
    }
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| listeners.contains(target)))
}

/// The sockets that listen on a port, as the descriptors of their owners name them.
fn listeners(port: u16) -> HashSet<String> {
    const LISTENING: &str = "0A";
    let wanted = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listening = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == LISTENING;
            listening.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
        })
        .collect()
}
