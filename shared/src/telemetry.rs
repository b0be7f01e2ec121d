//! Logs and metrics: JSON lines on standard output, Prometheus on a port of its own.
//!
//! Neither ever holds a token, a cookie, a password or a hash of one, at any level; logs name routes, not URLs.

mod described;
mod process;

use std::{io, time::Duration};

use axum::{Router, routing::get};
use metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, time::interval};
use tracing::{Level, info};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{self, format::JsonFields},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{http_server, lifecycle::Lifecycle, trace::log::WithTraceId};

/// Upper bounds of the buckets of every `*_seconds` histogram: a protected call takes tens of microseconds, a log-in tens
/// of milliseconds, and a store that is away [`crate::config::StoreConfig::backend_timeout`].
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
const VERSION: &str = env!("CARGO_PKG_VERSION");
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
    let lines = fmt::format().json().flatten_event(true).with_current_span(false).with_span_list(false);
    let json = fmt::layer().fmt_fields(JsonFields::new()).event_format(WithTraceId(lines));
    let json = json.with_filter(filter_fn(|event| is_ours(event.target()) || *event.level() <= Level::DEBUG));
    tracing_subscriber::registry().with(filter).with(json).init();
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?;
    let metrics = recorder.install_recorder()?;
    described::describe();
    gauge!("gatefold_build_info", "version" => VERSION).set(1);
    info!(version = VERSION, "starting");
    Ok(metrics)
}

/// At the level of `trace` libraries print what passes through them: frames with tokens, buffers with passwords. Nobody who
/// turns that on for our own sake should get it.
fn is_ours(target: &str) -> bool {
    target.starts_with("gatefold")
}

/// Listens for scrapers on `address`. A port of its own, because what it tells is not for clients.
pub fn serve_metrics(listener: TcpListener, metrics: PrometheusHandle, life: &Lifecycle) -> io::Result<()> {
    info!(address = %listener.local_addr()?, "serving metrics");
    let render = metrics.clone();
    let render = async move || {
        process::measure();
        process::with_true_types(&render.render())
    };
    let router = Router::new().route("/metrics", get(render));
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
