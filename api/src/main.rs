//! The program `gatefold-api`: the REST replica, and the commands that look after its data.

use std::process::ExitCode;

use anyhow::Context;
use gatefold_api::{
    Keys, Stores,
    commands::{self, Cli, Command},
    config::Config,
    run,
};
use gatefold_shared::{config, lifecycle::Lifecycle, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli: Cli = config::parse();
    let json = cli.json;
    match Box::pin(start(cli)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            commands::report(&error, json);
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: Cli) -> anyhow::Result<()> {
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(cli.config).await,
        Command::Migrate(arguments) => commands::migrate(&cli.config.database, &arguments).await,
        Command::Keys(command) => commands::keys(&cli.config, &command, cli.json),
        Command::Administer(command) => Box::pin(commands::administer(cli.config, command, cli.json)).await,
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let life = Lifecycle::begin().context("listening for signals")?;
    let metrics = telemetry::init(&config.log.log_level).map_err(|error| vec![error.to_string()]);
    let keys = Keys::live(&config.tokens, &config.public_keys);
    let stores = Stores::connect(&config, config.store.call_timeout(), &life);
    let (metrics, keys, stores) = match (config.check(), metrics, keys, stores) {
        (Ok(()), Ok(metrics), Ok(keys), Ok(stores)) => (metrics, keys, stores),
        (unfit, metrics, keys, stores) => {
            let problems = [unfit.err(), metrics.err(), keys.err(), stores.err()];
            let problems: Vec<_> = problems.into_iter().flatten().flatten().collect();
            config::exit_with(problems.iter().map(String::as_str))
        }
    };
    let listener = config.listen.listen(config.metrics_port).await;
    let listener = listener.with_context(|| format!("METRICS_PORT: cannot listen on port {}", config.metrics_port))?;
    telemetry::serve_metrics(listener, metrics, &life).context("METRICS_PORT")?;
    run(config, keys, stores, life).await
}
