//! The program `gatefold-ws`: the WebSocket replica.

use std::process::ExitCode;

use anyhow::Context;
use gatefold_shared::{config, lifecycle::Lifecycle, live_keys::LiveKeys, redis::Redis, telemetry};
use gatefold_ws::{config::Config, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
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
    let keys = LiveKeys::verifying(&config.public_keys).map_err(|problems| problems.join("; "));
    let redis = Redis::connect(&config.store, &life).map_err(|error| format!("REDIS_URL: {error}"));
    let metrics = telemetry::init(&config.log.log_level).map_err(|error| error.to_string());
    let (keys, redis, metrics) = match (keys, redis, metrics) {
        (Ok(keys), Ok(redis), Ok(metrics)) => (keys, redis, metrics),
        (keys, redis, metrics) => {
            let problems: Vec<_> = [keys.err(), redis.err(), metrics.err()].into_iter().flatten().collect();
            config::exit_with(problems.iter().map(String::as_str))
        }
    };
    let listener = config.listen.listen(config.metrics_port).await;
    let listener = listener.with_context(|| format!("METRICS_PORT: cannot listen on port {}", config.metrics_port))?;
    telemetry::serve_metrics(listener, metrics, &life).context("METRICS_PORT")?;
    run(config, keys, redis, life).await
}
