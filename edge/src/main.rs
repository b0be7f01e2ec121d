//! The program `gatefold-edge`.

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use gatefold_edge::{
    config::{Address, Config},
    connections, dns,
    replicas::Replicas,
    requests,
};
use gatefold_shared::{config, lifecycle::Lifecycle, telemetry};
use tokio::net::{UdpSocket, UnixDatagram, lookup_host};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match start(config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(config: Config) -> anyhow::Result<()> {
    let life = Lifecycle::begin().context("listening for signals")?;
    let metrics = telemetry::init(&config.log.log_level)?;
    let listener = config::listen_everywhere(config.metrics_port).await;
    let listener = listener.with_context(|| format!("METRICS_PORT: cannot listen on port {}", config.metrics_port))?;
    telemetry::serve_metrics(listener, metrics, &life).context("METRICS_PORT")?;

    // One connection for each question: whether a replica still takes any is a part of it.
    let client = reqwest::Client::builder().timeout(config.ready_timeout).pool_max_idle_per_host(0).no_proxy();
    let client = client.build().context("HTTP")?;
    let services: Arc<[Replicas]> =
        [Replicas::new("api", config.api_address, "/api/ready"), Replicas::new("ws", config.ws_address, "/ready")]
            .into();
    for number in 0..services.len() {
        let (services, client) = (Arc::clone(&services), client.clone());
        life.spawn_forever("replicas", async move {
            services[number].watch(client, config.ready_interval, resolve).await;
        });
    }
    let socket = UdpSocket::bind(config.dns_address).await;
    let socket = socket.with_context(|| format!("DNS_ADDRESS: cannot listen on {}", config.dns_address))?;
    life.spawn_forever("dns", dns::serve(socket, services));

    // Of a process before this one.
    match tokio::fs::remove_file(&config.requests_socket).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context("REQUESTS_SOCKET"),
        _ => {}
    }
    let socket = UnixDatagram::bind(&config.requests_socket);
    let socket = socket.with_context(|| format!("REQUESTS_SOCKET: {}", config.requests_socket.display()))?;
    life.spawn_forever("requests", requests::count(socket));
    life.spawn_forever("connections", connections::measure(client, config.status_url, config.nginx_clients));

    // Nothing is in flight that anybody would miss.
    let draining = life.draining().clone();
    Ok(life.run(Duration::ZERO, async move { draining.cancelled().await }).await?)
}

/// The addresses of a name, as the system finds them.
async fn resolve(address: Address) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host((address.host.as_str(), address.port)).await?.collect())
}
