//! `gatefold-loadtest`: loads a Gatefold deployment through its public contract, and tells how it did.
//!
//! It speaks REST and WebSocket as any client does and depends on nothing of the replicas, so that it measures what
//! clients get, and any system with the same contract.

mod bench;
mod cli;
mod crowd;
mod failure;
mod hall;
mod limits;
mod net;
mod pace;
mod progress;
mod record;
mod report;
mod rest;
mod run;
mod sample;
mod scenario;
mod setup;
mod socket;
mod target;
mod threshold;
mod user;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// What a run exits with that could not be made, as distinct from one that has missed its thresholds.
const UNUSABLE: u8 = 2;

/// That of the replicas, so that the bare server beside them is compared by what it does and not by how it allocates.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run::run(&options).await,
        Command::Limits(options) => limits::run(&options).await,
        Command::BareServer => limits::serve_bare().await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gatefold-loadtest: {error:#}");
            ExitCode::from(UNUSABLE)
        }
    }
}
