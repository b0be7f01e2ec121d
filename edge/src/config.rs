//! Configuration of the program.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::Parser;
use gatefold_shared::config::{LogConfig, positive_duration};

/// What stands beside Nginx: tells it which replicas are ready (DNS), and Prometheus what it does (/metrics).
///
/// Every setting is a flag and an environment variable; the flag wins. Durations are 900 (seconds), 90s, 15m, 12h or 7d.
#[derive(Parser, Clone, Debug)]
#[command(name = "gatefold-edge", version, max_term_width = 100)]
pub struct Config {
    /// Name and port of the REST replicas; all addresses of the name are asked
    #[arg(long, env = "API_ADDRESS", default_value = "api:3000")]
    pub api_address: Address,
    /// Name and port of the WebSocket replicas
    #[arg(long, env = "WS_ADDRESS", default_value = "ws:3001")]
    pub ws_address: Address,
    /// How often each replica is asked whether it is ready
    #[arg(long, env = "READY_INTERVAL", default_value = "1s", value_parser = positive_duration)]
    pub ready_interval: Duration,
    /// A replica that has not answered for so long hangs
    #[arg(long, env = "READY_TIMEOUT", default_value = "2s", value_parser = positive_duration)]
    pub ready_timeout: Duration,
    /// Where Nginx asks for the replicas (DNS over UDP)
    #[arg(long, env = "DNS_ADDRESS", default_value = "127.0.0.1:5300")]
    pub dns_address: SocketAddr,
    /// Unix socket to which Nginx sends a line for each request
    #[arg(long, env = "REQUESTS_SOCKET", default_value = "/run/gatefold/run/requests.sock")]
    pub requests_socket: PathBuf,
    /// Nginx's own page of figures (`stub_status`)
    #[arg(long, env = "STATUS_URL", default_value = "http://127.0.0.1:8081/status")]
    pub status_url: String,
    /// Connections of clients that Nginx can hold
    #[arg(long, env = "NGINX_CLIENTS", default_value_t = 32_768)]
    pub nginx_clients: u32,
    /// Port for Prometheus (/metrics); not for clients
    #[arg(long, env = "METRICS_PORT", default_value_t = 9102)]
    pub metrics_port: u16,
    #[command(flatten)]
    pub log: LogConfig,
}

/// Where replicas of one kind are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name that DNS knows, or an address.
    pub host: String,
    /// The port of all of them.
    pub port: u16,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match address {
            Some((host, port)) if !host.is_empty() => {
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                Ok(Self { host, port })
            }
            _ => Err("expected a name and a port, such as api:3000".to_owned()),
        }
    }
}
