//! The scenarios: what virtual users do. One file each.

mod attendance;
pub(crate) mod connect;
mod fanout;
mod login;
mod logout;
mod mix;
mod mixed;
mod ping;
mod presence;
mod protected;
mod reconnect;
mod refresh;
mod revoke;
mod typing;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::bench::Bench;
use crate::cli::Sizes;
use crate::pace::{Load, Schedule};
use crate::target::Target;

pub(crate) use self::mix::Mix;

/// What is done in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Log in, with a password
    Login,
    /// Trade the refresh token; each user has a chain of cookies
    Refresh,
    /// Ask for what only users may see
    Protected,
    /// Log out; each time from a new session
    Logout,
    /// Open sockets up to --sockets, then hold them for --duration
    Connect,
    /// Ping over sockets
    Ping,
    /// Publish into rooms; each message is delivered to every member
    Fanout,
    /// Begin and end typing, until everybody else in the room has heard
    Typing,
    /// Join and leave rooms, until everybody in the room has heard
    Presence,
    /// Log out at one REST replica, and wait until every other one refuses the session and every WebSocket replica has
    /// closed its sockets
    Revoke,
    /// Break all sockets and open them again, everybody at once
    Reconnect,
    /// All of it in the proportions of --mix
    Mixed,
}

impl Scenario {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The operation that server CPU is divided by.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Protected => "protected",
            Self::Logout => "logout",
            Self::Revoke => "revoke",
            Self::Connect => "connect",
            Self::Ping => "ping",
            Self::Fanout => "delivery",
            Self::Typing => "typing_heard",
            Self::Presence => "presence_heard",
            Self::Reconnect => "reconnect",
            Self::Mixed => "operation",
        }
    }

    /// What else the servers do for each operation, so that their CPU for it is not the operation's alone.
    pub(crate) fn includes(self) -> Option<&'static str> {
        match self {
            Self::Logout => Some("the log-in that each log-out needs"),
            Self::Fanout => Some("a share of the publish"),
            Self::Typing => Some("a share of what the typist sends"),
            Self::Presence => Some("a share of the join or leave"),
            Self::Revoke => Some("the log-in, the sockets and the asking"),
            Self::Connect => Some("what it costs to hold them"),
            Self::Mixed => Some("deliveries; only runs of one --mix can be compared"),
            _ => None,
        }
    }

    /// Whether there is a rate or a number at once to be asked for. What breaks all sockets has none: one wave follows the
    /// other.
    pub(crate) fn is_paced(self) -> bool {
        self != Self::Reconnect
    }

    /// The load where none was asked for; of no meaning for one that is not paced.
    pub(crate) fn usual_load(self) -> Load {
        match self {
            Self::Login | Self::Logout | Self::Refresh | Self::Protected | Self::Ping => {
                Load::Closed { concurrency: 8 }
            }
            Self::Revoke => Load::Closed { concurrency: 2 },
            Self::Connect => Load::Open(Schedule::even(500.0)),
            Self::Fanout => Load::Open(Schedule::even(20.0)),
            Self::Typing | Self::Presence | Self::Mixed | Self::Reconnect => Load::Open(Schedule::even(50.0)),
        }
    }

    /// Whether a system with the original's API has what it takes.
    pub(crate) fn is_original(self) -> bool {
        !matches!(self, Self::Fanout | Self::Typing | Self::Presence | Self::Revoke)
    }

    /// Says so if it cannot be run with these sizes.
    pub(crate) fn check(self, users: usize, sizes: &Sizes, target: &Target) -> Result<()> {
        let members = usize::from(sizes.members);
        match self {
            Self::Typing => {
                ensure!(users >= members && members >= 2, "typing needs at least 2 --members, and as many --users");
            }
            Self::Presence => ensure!(users > members, "presence needs more --users than --members"),
            Self::Revoke => ensure!(
                !target.api.is_empty() && !target.ws.is_empty(),
                "revoke needs to know the replicas: name them with --api and --ws"
            ),
            _ => {}
        }
        Ok(())
    }

    pub(crate) async fn run(self, bench: &Bench<'_>) -> Result<()> {
        match self {
            Self::Login => login::run(bench).await,
            Self::Refresh => refresh::run(bench).await,
            Self::Protected => protected::run(bench).await,
            Self::Logout => logout::run(bench).await,
            Self::Connect => connect::run(bench).await,
            Self::Ping => ping::run(bench).await,
            Self::Fanout => fanout::run(bench).await,
            Self::Typing => typing::run(bench).await,
            Self::Presence => presence::run(bench).await,
            Self::Revoke => revoke::run(bench).await,
            Self::Reconnect => reconnect::run(bench).await,
            Self::Mixed => mixed::run(bench).await,
        }
    }
}
