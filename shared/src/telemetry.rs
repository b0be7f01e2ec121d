//! Logs and metrics: JSON lines on standard output, Prometheus on a port of its own.
//!
//! Neither ever holds a token, a cookie, a password or a hash of one; logs name routes, not URLs.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, time::interval};
use tracing::{Level, Metadata, info};
use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{http_server, lifecycle::Lifecycle};

/// Upper bounds of the buckets of every `*_seconds` histogram: a protected call takes tens of microseconds, a log-in tens
/// of milliseconds, and a store that is away [`crate::config::StoreConfig::backend_timeout`].
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Libraries that print the messages of clients, access tokens among them, when they are let.
const TALKATIVE: &[&str] = &["tungstenite", "tokio_tungstenite"];
/// Scrapers are few; a limit all the same.
const MAX_SCRAPERS: usize = 64;

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `LOG_LEVEL` is neither a level nor a list of directives.
    #[error("LOG_LEVEL: {0}")]
    LogLevel(#[from] tracing_subscriber::filter::ParseError),
    /// The recorder of metrics could not be installed.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Starts logging to standard output and recording metrics. Once a process.
pub fn init(log_level: &str) -> Result<PrometheusHandle, TelemetryError> {
    let filter = EnvFilter::builder().parse(log_level)?;
    let json = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    tracing_subscriber::registry().with(filter).with(filter_fn(is_harmless)).with(json).init();
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?;
    Ok(recorder.install_recorder()?)
}

/// Whether what is logged there can hold no secret: below `info`, some libraries print whatever passes through them.
fn is_harmless(event: &Metadata<'_>) -> bool {
    let crate_name = event.target().split("::").next().unwrap_or_default();
    *event.level() <= Level::INFO || !TALKATIVE.contains(&crate_name)
}

/// Listens for scrapers on `address`. A port of its own, because what it tells is not for clients.
pub async fn serve_metrics(address: SocketAddr, metrics: PrometheusHandle, life: &Lifecycle) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    info!(address = %listener.local_addr()?, "serving metrics");
    let render = metrics.clone();
    let router = Router::new().route("/metrics", get(async move || render.render()));
    life.spawn_forever("metrics", http_server::serve(listener, router, MAX_SCRAPERS, life.clone()));
    life.spawn_forever("metrics upkeep", async move {
        let mut tick = interval(Duration::from_secs(5));
        loop {
            tick.tick().await;
            metrics.run_upkeep();
        }
    });
    Ok(())
}
