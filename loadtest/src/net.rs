//! Connections: to whom, from which of this machine's addresses, with or without TLS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::failure::Failure;

/// How many of this machine's own addresses connections to it come from: each has some 28,000 ports for them.
const LOOPBACK_SOURCES: u8 = 16;

/// Any connection.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection.
pub(crate) type Wire = Box<dyn Io>;

/// A server, resolved once, so that names cost nothing while it is measured.
pub(crate) struct Endpoint {
    /// For `Host`.
    pub(crate) authority: String,
    /// What stands before each path.
    pub(crate) prefix: String,
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Taken in turn; the system chooses when there are none.
    sources: Vec<IpAddr>,
    next: AtomicUsize,
}

impl Endpoint {
    /// The server at `url`. A PEM file in `ca` is trusted beside what the system trusts.
    pub(crate) async fn resolve(url: &str, ca: Option<&Path>, sources: &[IpAddr]) -> Result<Arc<Self>> {
        let uri: http::Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => bail!("{url} does not begin with http:// or https://"),
        };
        let authority = uri.authority().with_context(|| format!("{url} names no host"))?;
        ensure!(uri.query().is_none(), "the URL of {authority} has a query");
        ensure!(!authority.as_str().contains('@'), "the URL of {} has a user", authority.host());
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let found =
            tokio::net::lookup_host((host.as_str(), port)).await.with_context(|| format!("no such host: {host}"))?;
        // IPv4 first: a loopback network has one IPv6 address, but many others.
        let address = found.min_by_key(SocketAddr::is_ipv6).with_context(|| format!("{host} has no address"))?;
        let tls = if secure { Some((connector(ca)?, ServerName::try_from(host)?)) } else { None };
        Ok(Arc::new(Self {
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            address,
            tls,
            sources: sources_for(address, sources),
            next: AtomicUsize::new(0),
        }))
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Wire, Failure> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if !self.sources.is_empty() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            socket.bind(SocketAddr::new(self.sources[turn % self.sources.len()], 0))?;
        }
        socket.set_nodelay(true)?;
        let stream = socket.connect(self.address).await?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
        }
    }
}

fn sources_for(address: SocketAddr, asked: &[IpAddr]) -> Vec<IpAddr> {
    match address.ip() {
        _ if !asked.is_empty() => asked.to_vec(),
        IpAddr::V4(ip) if ip.is_loopback() => {
            (1..=LOOPBACK_SOURCES).map(|last| Ipv4Addr::new(127, 0, 0, last).into()).collect()
        }
        _ => Vec::new(),
    }
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(ca) = ca {
        let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.with_context(|| format!("{} is not in PEM form", ca.display()))?)?;
        }
    }
    ensure!(!roots.is_empty(), "no certificate is trusted here; name one with --ca");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_to_this_machine_come_from_several_addresses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/below/", listener.local_addr().unwrap());
        let endpoint = Endpoint::resolve(&url, None, &[]).await.unwrap();
        assert_eq!(endpoint.prefix, "/below");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..LOOPBACK_SOURCES {
            let _connection = endpoint.connect().await.unwrap();
            seen.insert(listener.accept().await.unwrap().1.ip());
        }
        assert_eq!(seen.len(), usize::from(LOOPBACK_SOURCES));
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_named() {
        for url in ["localhost", "ftp://localhost", "http://localhost/?token=x", "http://me:secret@localhost"] {
            let Err(error) = Endpoint::resolve(url, None, &[]).await else { panic!("{url} was taken") };
            let said = format!("{error:#}");
            assert!(said.contains("localhost") && !said.contains("token=x") && !said.contains("secret"), "{said}");
        }
    }
}
