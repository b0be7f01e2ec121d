//! What can be asked for on the command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::scenario::{Mix, Scenario};
use crate::threshold::{MaxErrors, MaxP99};

/// Loads a Gatefold deployment through its public contract, and tells how it did and what it cost.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run scenarios, one after the other; exits with 1 when a threshold is missed, and with 2 when there was no run
    Run(Box<Run>),
    /// Compare what a cluster on this machine costs with what the bare operations cost here and now; see --check
    Limits(Limits),
    /// Serve `/hello` and `/sign` and nothing else until standard input ends
    #[command(hide = true)]
    BareServer,
}

#[derive(Args)]
pub(crate) struct Run {
    /// What to do
    #[arg(required = true, value_name = "SCENARIO")]
    pub(crate) scenarios: Vec<Scenario>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) users: Users,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) sizes: Sizes,
    #[command(flatten)]
    pub(crate) verdict: Verdict,
}

#[derive(Args)]
pub(crate) struct Limits {
    /// The directory of the cluster, built in release, without rate limits and with two REST replicas or more [default:
    /// that of this working directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) cluster: Option<PathBuf>,
    /// How long each of its scenarios is measured, but for `revoke`, which takes five times as long, and each of the bare
    /// servers
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// How often all of it is measured: what counts are the medians
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) runs: u8,
    /// Idle sockets to weigh, in rooms, after the WebSocket replicas were restarted
    #[arg(long, default_value_t = 5_000, value_name = "N", value_parser = at_least_one)]
    pub(crate) sockets: usize,
    /// Exit with 1 if anything is beyond its bound
    #[arg(long)]
    pub(crate) check: bool,
    /// Write the figures to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Args)]
#[command(next_help_heading = "Target")]
pub(crate) struct Target {
    /// Where clients find the deployment [default: the cluster that runs for this working directory]
    #[arg(long = "target", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The directory of a cluster on this machine (`gatefold-cluster --dir`)
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub(crate) cluster: Option<PathBuf>,
    /// A REST replica, without the proxy: for `revoke` and --direct; may be repeated [default: those of the cluster]
    #[arg(long = "api", value_name = "URL")]
    pub(crate) api: Vec<String>,
    /// A WebSocket replica, without the proxy: for `revoke` and --direct; may be repeated [default: those of the cluster]
    #[arg(long = "ws", value_name = "URL")]
    pub(crate) ws: Vec<String>,
    /// Where a replica tells its metrics, as NAME=URL; may be repeated [default: /proc, for a cluster on this machine]
    #[arg(long, value_name = "NAME=URL", value_parser = named_url)]
    pub(crate) metrics: Vec<(String, String)>,
    /// Go to the replicas in turn rather than through the proxy
    #[arg(long)]
    pub(crate) direct: bool,
    /// The target has the API of the original system: no registration, no tokens in headers, no rooms
    #[arg(long)]
    pub(crate) original: bool,
    /// Certificates to trust beside those of the system, in PEM form
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// An address of this machine for connections to come from, in turn [default: 127.0.0.1 to 127.0.0.16 for a target
    /// on this machine]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Vec<IpAddr>,
}

#[derive(Args)]
#[command(next_help_heading = "Users")]
pub(crate) struct Users {
    /// Virtual users, each with a session of their own
    #[arg(long = "users", default_value_t = 50, value_name = "N", value_parser = at_least_one)]
    pub(crate) count: usize,
    /// Their names are this and a number; they are registered where they do not exist
    #[arg(long = "user-prefix", default_value = "load", value_name = "TEXT")]
    pub(crate) prefix: String,
    /// The password of them all
    #[arg(long = "user-password", default_value = "load test password", value_name = "TEXT")]
    pub(crate) password: String,
    /// The account that all share where nobody can be registered
    #[arg(long, default_value = "testuser:password123", value_name = "NAME:PASSWORD", value_parser = account)]
    pub(crate) account: (String, String),
}

#[derive(Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct Load {
    /// How long each scenario is measured
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// How long each is run before that
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Duration,
    /// Open loop: operations a second, whatever becomes of them; latencies count from when each should have started. Not
    /// of `reconnect`
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Closed loop: operations at once, each started when another ends. Not of `reconnect`
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: Option<u32>,
    /// For choices by chance, so that they can be made again
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// How long an operation may take, and each step of getting ready
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Sizes")]
pub(crate) struct Sizes {
    /// Sockets of `connect`, `ping` and `reconnect` [default: one for each user]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) sockets: Option<usize>,
    /// Rooms of `fanout`, `typing`, `presence` and `mixed`
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rooms: u16,
    /// Sockets in each room of `fanout`, `typing` and `presence`
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) members: u16,
    /// Rooms that the sockets of `connect` join, one each
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) joined_rooms: u16,
    /// How long a day takes in `mixed`, over which the rate rises and falls; 0 for an even rate
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) day: Duration,
    /// What `mixed` does how often, as OPERATION=WEIGHT,…; those not named keep their weight
    #[arg(long, default_value = "", value_name = "WEIGHTS")]
    pub(crate) mix: Mix,
}

#[derive(Args)]
#[command(next_help_heading = "Verdict")]
pub(crate) struct Verdict {
    /// The most that the 99th percentile of an operation may be (refresh=50ms), or of all (50ms), where what failed took
    /// for ever; may be repeated
    #[arg(long, value_name = "[OPERATION=]DURATION")]
    pub(crate) max_p99: Vec<MaxP99>,
    /// The most errors of an operation (refresh=0), or of each (0, or 0.1%); may be repeated
    #[arg(long, value_name = "[OPERATION=]COUNT")]
    pub(crate) max_errors: Vec<MaxErrors>,
    /// Write everything that was measured to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report with plots to a file that needs no other
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Plain lines even on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "expected a number from 1 on".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.01 to 1000000".to_owned()),
    }
}

fn account(text: &str) -> Result<(String, String), String> {
    let (name, password) = text.split_once(':').ok_or("expected NAME:PASSWORD")?;
    Ok((name.to_owned(), password.to_owned()))
}

fn named_url(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, url)) if !name.contains('/') => Ok((name.to_owned(), url.to_owned())),
        _ => Err("expected NAME=URL".to_owned()),
    }
}
