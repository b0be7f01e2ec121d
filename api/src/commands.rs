//! The commands of `gatefold-api` beside serving: they look after the data, from a shell.

mod admin;
mod audit;
mod export;
mod keys;
mod migrate;
mod output;
mod privileges;
mod room;
mod session;
mod user;

use std::time::Duration;

use clap::{Parser, Subcommand};
use gatefold_shared::config::positive_duration;
use uuid::Uuid;

use self::{admin::Admin, output::Output};
pub use self::{keys::keys, migrate::migrate, output::report};
use crate::config::Config;

/// Runs a command of an administrator.
pub async fn administer(config: Config, command: AdminCommand, json: bool) -> anyhow::Result<()> {
    let (admin, output) = (Admin::new(config).await?, Output::new(json));
    match command {
        AdminCommand::User(command) => user::user(&admin, command, output).await,
        AdminCommand::Session(command) => session::session(&admin, command, output).await,
        AdminCommand::Room(command) => room::room(&admin, command, output).await,
        AdminCommand::Audit(arguments) => audit::audit(&admin, arguments, output).await,
    }
}

/// Gatefold's REST replica: log-in, refresh and log-out over HTTP
///
/// Without a command it serves. Every setting is a flag and an environment variable; durations are 900 (seconds), 90s, 15m,
/// 12h or 7d. Options come before `--`, and names after it: older usernames may begin with `-`.
#[derive(Parser)]
#[command(name = "gatefold-api", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub config: Config,
    /// Print JSON instead of words (administrator's commands)
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve requests until told to end (the default)
    Serve,
    /// Bring the database's schema up to date
    Migrate(MigrateArguments),
    /// Look at the keys
    #[command(subcommand)]
    Keys(KeysCommand),
    #[command(flatten)]
    Administer(AdminCommand),
}

/// What administrators do. What they change is recorded in the audit, and that they exported what is kept of a user.
#[derive(Subcommand)]
pub enum AdminCommand {
    /// Look after users
    #[command(subcommand)]
    User(UserCommand),
    /// Look after sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// Say who may enter private rooms
    #[command(subcommand)]
    Room(RoomCommand),
    /// Show what happened to accounts and sessions, newest first
    Audit(AuditArguments),
}

#[derive(clap::Args)]
pub struct MigrateArguments {
    /// Take the newest migration back instead, with what is kept in the columns and tables that it has added
    #[arg(long)]
    pub revert: bool,
    /// Do not ask
    #[arg(long, requires = "revert")]
    pub yes: bool,
}

#[derive(Subcommand)]
pub enum KeysCommand {
    /// List the keys that a replica with these settings reads: which there are, and which signs
    List,
}

#[derive(Subcommand)]
pub enum UserCommand {
    /// Add a user; the password is asked for, or read from standard input
    Add {
        /// 3 to 64 letters, digits, `_`, `.`, `-`, `@` or `+`, the first a letter or digit; unique without regard to case
        name: String,
        /// Add the user even if the name is reserved, such as admin or support
        #[arg(long)]
        allow_reserved: bool,
    },
    /// List all users
    List,
    /// Show a user
    Show {
        /// The username, in any case
        name: String,
    },
    /// Print all that is kept of a user, as JSON: account, private rooms, sessions and events; recorded in the audit
    Export {
        /// The username, in any case
        name: String,
    },
    /// Let a user in no more, and end all of their sessions at once
    Disable {
        /// The username, in any case
        name: String,
    },
    /// Let a user in again
    Enable {
        /// The username, in any case
        name: String,
    },
    /// Give a user a new password, and end all of their sessions; it is asked for, or read from standard input
    Passwd {
        /// The username, in any case
        name: String,
    },
    /// Delete a user, and end all of their sessions at once
    Delete {
        /// The username, in any case
        name: String,
        /// Erase what the audit says of them, too; that they were deleted stays, under their number
        #[arg(long)]
        erase_events: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub enum SessionCommand {
    /// List a user's living sessions, newest first
    List {
        /// The username, in any case
        user: String,
    },
    /// End one session of a user, or all of them
    Revoke {
        /// The username, in any case
        #[arg(required_unless_present = "user_id")]
        user: Option<String>,
        /// The session's id, as `session list` shows it
        #[arg(required_unless_present_any = ["all", "user_id"])]
        id: Option<Uuid>,
        /// End all of the user's sessions
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// End all sessions of the user with this number, who may be deleted already
        #[arg(long, conflicts_with_all = ["user", "id"])]
        user_id: Option<i64>,
    },
}

#[derive(Subcommand)]
pub enum RoomCommand {
    /// Let a user into a private room, from their next refresh on
    Grant {
        /// The username, in any case
        user: String,
        /// `private:` and a name of letters, digits, `_`, `.`, `:` or `-`; 128 characters at most
        room: String,
    },
    /// Let a user into a private room no more, and end their membership of it at once
    Revoke {
        /// The username, in any case
        user: String,
        /// The room
        room: String,
    },
    /// List the private rooms that a user may enter
    List {
        /// The username, in any case
        user: String,
    },
}

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AuditArguments {
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
    /// Only what concerns this user; --user=NAME if the name begins with `-`
    #[arg(long)]
    pub user: Option<String>,
    /// How many events at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    pub limit: i64,
}

#[derive(Subcommand)]
pub enum AuditCommand {
    /// Erase events for good; that it was done is an event itself
    Erase {
        /// Those older than this, such as 365d
        #[arg(long, value_parser = positive_duration, required_unless_present = "user_id")]
        older_than: Option<Duration>,
        /// Those of the user with this number, who may be deleted already
        #[arg(long, conflicts_with = "older_than")]
        user_id: Option<i64>,
    },
}
