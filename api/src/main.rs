//! The program `gatefold-api`: the REST replica, and the commands that look after its data.

use std::process::ExitCode;

use gatefold_api::{
    Keys,
    commands::{self, Cli, Command},
    run,
};
use gatefold_shared::{config, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(start(config::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: Cli) -> anyhow::Result<()> {
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            let metrics = telemetry::init(&cli.config.log.log_level)?;
            let keys = cli.config.check().and_then(|()| Keys::live(&cli.config.tokens, &cli.config.public_keys));
            let keys = keys.unwrap_or_else(|problems| config::exit_with(problems.iter().map(String::as_str)));
            run(cli.config, keys, metrics).await
        }
        Command::Migrate(arguments) => commands::migrate(&cli.config.database, &arguments).await,
        Command::Keys(command) => commands::keys(&cli.config, &command, cli.json),
        Command::Administer(command) => Box::pin(commands::administer(cli.config, command, cli.json)).await,
    }
}
