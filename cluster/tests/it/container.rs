//! The Nginx of the containers, as its image starts it, without a container.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use gatefold_cluster::eventually;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::timeout,
};

use crate::harness::{PATIENCE, nobody};

/// The proxy that is believed with `EDGE=proxied`.
pub(crate) const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Nginx as the image starts it, on ports of this test's own.
pub(crate) struct Container {
    process: Child,
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
}

/// What it is started with, beside what is the same for all tests.
pub(crate) struct Options<'a> {
    /// `EDGE`.
    pub(crate) edge: &'a str,
    /// `API_ADDRESS`.
    pub(crate) api: &'a str,
    /// Where Nginx asks for the replicas.
    pub(crate) dns: SocketAddr,
    /// Further variables.
    pub(crate) variables: Vec<(&'a str, String)>,
}

impl Container {
    /// Before one replica, without anything beside Nginx: an address has to be asked for nowhere.
    pub(crate) async fn start(replica: SocketAddr, edge: &str) -> Result<Self> {
        Self::start_with(replica, edge, "/proc/net/if_inet6").await
    }

    /// `if_inet6` is where the kernel lists its IPv6 addresses, if it has IPv6.
    pub(crate) async fn start_with(replica: SocketAddr, edge: &str, if_inet6: &str) -> Result<Self> {
        let variables = vec![("IF_INET6", if_inet6.to_owned()), ("LIMITS", "off".to_owned())];
        Self::with(Options { edge, api: &replica.to_string(), dns: nobody()?, variables }).await
    }

    pub(crate) async fn with(Options { edge, api, dns, variables }: Options<'_>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("gatefold-test-").tempdir()?;
        let source = folder.path().join("nginx");
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a crate is in a workspace")?;
        let copied = Command::new("cp").arg("-r").arg(repository.join("nginx")).arg(&source).status()?;
        ensure!(copied.success(), "cannot copy nginx/");
        let (port, tls_port, status_port) = (nobody()?.port(), nobody()?.port(), nobody()?.port());
        let listeners = [
            ("listen.conf", "8080", port),
            ("redirect.conf", "8080", port),
            ("listen.tls.conf", "8443", tls_port),
            ("servers/status.conf", "8081", status_port),
            ("upstreams.conf", "5300", dns.port()),
        ];
        let log = folder.path().join("access.log");
        for (file, of_image, ours) in listeners {
            let file = source.join("container").join(file);
            let text = fs::read_to_string(&file)?.replace(of_image, &ours.to_string());
            fs::write(&file, text.replace("/dev/stdout", &log.to_string_lossy()))?;
        }
        // As in the image, the workers are the same user as what stands beside them, also where tests are run by root.
        let configuration = source.join("nginx.conf");
        fs::write(&configuration, format!("user root;\n{}", fs::read_to_string(&configuration)?))?;
        let mut nginx = Command::new(source.join("container/entrypoint.sh"));
        nginx.env("GATEFOLD_NGINX", &source).env("GATEFOLD_PREFIX", folder.path().join("run"));
        nginx.env("EDGE", edge).env("TRUSTED_PROXIES", format!("{PROXY}/32")).env("WORKER_CONNECTIONS", "64");
        nginx.env("API_ADDRESS", api).env("GATEFOLD_EDGE", "/bin/true").envs(variables);
        nginx.env("STATUS_URL", format!("http://127.0.0.1:{status_port}/status"));
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        if edge == "tls" {
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]);
            let made = openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).stderr(Stdio::null()).status()?;
            ensure!(made.success(), "openssl makes no certificate");
        }
        nginx.env("ACME_ROOT", folder.path());
        nginx.env("TLS_CERTIFICATE", certificate).env("TLS_KEY", key).env("HTTPS_PORT", "8443");
        let process = nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let container = Self { process, port, folder };
        eventually(PATIENCE, || async { Ok(TcpStream::connect(("127.0.0.1", port)).map(drop)?) }).await?;
        Ok(container)
    }

    /// A request from an address of this machine; the response.
    pub(crate) async fn call(&self, from: impl Into<IpAddr>, path: &str, headers: &str) -> Result<String> {
        let from = from.into();
        let (socket, to) = match from {
            IpAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::LOCALHOST)),
            IpAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::from(Ipv6Addr::LOCALHOST)),
        };
        socket.bind((from, 0).into())?;
        let mut connection = socket.connect((to, self.port).into()).await?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: gatefold.test\r\nConnection: close\r\n{headers}\r\n");
        connection.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        timeout(PATIENCE, connection.read_to_string(&mut answer)).await??;
        Ok(answer)
    }

    /// The lines of the access log so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Its workers end with it.
        Command::new("kill").arg(self.process.id().to_string()).status().ok();
        self.process.wait().ok();
    }
}
