//! The commands of `gatefold-api` beside serving: they look after the data, from a shell.

mod migrate;
mod user;

use clap::{Parser, Subcommand};

pub use self::{migrate::migrate, user::user};
use crate::config::Config;

/// Gatefold's REST replica: log-in, refresh and log-out over HTTP
///
/// Without a command it serves. Every setting is a flag and an environment variable; durations are 900 (seconds), 90s, 15m,
/// 12h or 7d.
#[derive(Parser)]
#[command(name = "gatefold-api", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub config: Config,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve requests until told to end (the default)
    Serve,
    /// Bring the database's schema up to date
    Migrate(MigrateArguments),
    /// Look after users
    #[command(subcommand)]
    User(UserCommand),
}

#[derive(clap::Args)]
pub struct MigrateArguments {
    /// Take the newest migration back instead
    #[arg(long)]
    pub revert: bool,
}

#[derive(Subcommand)]
pub enum UserCommand {
    /// Add a user; the password is asked for, or read from standard input
    Add {
        /// 3 to 64 letters, digits, `_`, `.` or `-`; unique without regard to case
        name: String,
    },
}
