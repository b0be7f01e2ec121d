//! `gatefold-cluster`: the command line of the library beside it, and nothing more.

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gatefold-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}
