//! What can be asked for on the command line, and how the answers look.

mod fault;

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use gatefold_cluster::{
    Cluster, Kind, Plan, ProcessState, Signal, Status, Topology, available, default_dir, guard, listen_addresses, logs,
    proxy,
};

/// What `status` exits with when nothing runs.
const NOT_UP: u8 = 3;

/// Runs a whole Gatefold cluster from local programs: Postgres, Redis, Nginx, and replicas of both kinds.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// The cluster's directory: data, logs, state [default: one in /var/tmp for each working directory]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the cluster and leave it running; if it runs, start only what has exited
    Up(Up),
    /// Stop everything that `up` and `add` have started, and nothing else; data is kept
    Down,
    /// Show what runs, and where; exits with 3 when nothing does
    Status {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the logs of all processes, or of one
    Logs {
        /// As `status` names it, or nginx-access
        name: Option<String>,
        /// Go on with what is added
        #[arg(short, long)]
        follow: bool,
        /// How many of the last lines of each
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: usize,
    },
    /// Signal a process; nothing starts it again but `up` and `restart`
    Kill {
        /// As `status` names it
        name: String,
        /// TERM, KILL, STOP, CONT, …
        #[arg(long, default_value = "KILL", value_parser = signal)]
        signal: Signal,
    },
    /// Break a part of a running cluster on purpose; without a verb, show what is broken
    Fault {
        #[command(subcommand)]
        verb: Option<fault::Verb>,
    },
    /// Start one more replica, and have Nginx use it
    Add {
        /// Which kind
        kind: Replica,
    },
    /// Stop a process gracefully, if it runs, and start it on the same ports
    Restart {
        /// As `status` names it
        name: String,
    },
    /// Stand between the replicas and the stores
    #[command(hide = true)]
    Proxy,
    /// Take the cluster down when standard input ends, and remove its directory
    #[command(hide = true)]
    Guard,
}

#[derive(Args)]
struct Up {
    /// REST replicas
    #[arg(long, default_value_t = 2, value_name = "N")]
    api: u16,
    /// WebSocket replicas
    #[arg(long, default_value_t = 2, value_name = "N")]
    ws: u16,
    /// One server of Redis; a primary with two replicas and three Sentinels; or a Redis Cluster of three primaries with a
    /// replica each. Each has data of its own
    #[arg(long, value_enum, default_value_t = Redis::Standalone)]
    redis: Redis,
    /// One server of Postgres, or a primary with a standby
    #[arg(long, value_enum, default_value_t = Postgres::Standalone)]
    postgres: Postgres,
    /// Have the replicas reach the stores without a proxy in between, as for load tests: then `fault` cannot cut, blackhole
    /// or delay connections, nor fail over Postgres
    #[arg(long)]
    no_proxy: bool,
    /// Where Nginx listens
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// On which address of this machine, besides 127.0.0.1: 0.0.0.0 is every one of IPv4, for others to reach it [default: ::1]
    #[arg(long, env = "HTTP_ADDRESS", value_parser = address)]
    address: Option<IpAddr>,
    /// Taken where --port cannot be had
    #[arg(long, value_name = "PORT")]
    or_port: Option<u16>,
    /// The folder of private.pem, public.pem and refresh.key
    #[arg(long, default_value = "keys", value_name = "DIR")]
    keys: PathBuf,
    /// The folder of gatefold-api and gatefold-ws [default: that of this program]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// The folder of nginx.conf
    #[arg(long, default_value = "nginx", value_name = "DIR")]
    nginx: PathBuf,
    /// The folder of the web page
    #[arg(long, default_value = "client", value_name = "DIR")]
    client: PathBuf,
    /// A variable of the replicas' environment, beside those of their configuration that are set here
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Have neither Nginx nor the replicas limit anything, as for load tests; a LIMIT_* variable holds all the same
    #[arg(long)]
    no_rate_limits: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Redis {
    Standalone,
    Sentinel,
    Cluster,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Postgres {
    Standalone,
    Replica,
}

#[derive(Clone, Copy, ValueEnum)]
enum Replica {
    Api,
    Ws,
}

fn signal(name: &str) -> Result<Signal, String> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    Signal::from_str(&format!("SIG{name}")).map_err(|_| "no such signal".to_owned())
}

/// IPv6 may stand in brackets, as Docker Compose wants it.
fn address(text: &str) -> Result<IpAddr, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.unwrap_or(text).parse().map_err(|_| "expected an address such as 127.0.0.1, 0.0.0.0 or [::]".to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Does what was asked for.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode> {
    let dir = cli.dir.map_or_else(default_dir, Ok)?;
    if let Command::Up(options) = cli.command {
        let cluster = Cluster::create(&dir)?.reporting(say);
        return up(&cluster, options).await;
    }
    let open = || Ok::<_, anyhow::Error>(Cluster::open(&dir).context("no cluster was started here")?.reporting(say));
    match cli.command {
        Command::Up(_) => {}
        Command::Down if dir.exists() => open()?.down().await?,
        Command::Down => say("Nothing was started here."),
        Command::Status { json } => {
            let status = if dir.exists() { open()?.status_with_roles().await? } else { Status::default() };
            show(&status, json)?;
            return Ok(if status.is_up() { ExitCode::SUCCESS } else { ExitCode::from(NOT_UP) });
        }
        Command::Logs { name, follow, lines } => {
            let logs = logs::find(&open()?.dir().join("logs"), name.as_deref())?;
            ignore_closed_pipe(logs::print(&logs, lines, follow, &mut std::io::stdout().lock()))?;
        }
        Command::Kill { name, signal } => match signal {
            Signal::SIGKILL => open()?.kill(&name).await?,
            signal => open()?.signal(&name, signal)?,
        },
        Command::Fault { verb } => fault::run(&open()?, verb).await?,
        Command::Add { kind } => {
            let kind = if matches!(kind, Replica::Api) { Kind::Api } else { Kind::Ws };
            open()?.add(kind).await?;
        }
        Command::Restart { name } => open()?.restart(&name).await?,
        Command::Proxy => proxy::run(&dir).await?,
        Command::Guard => guard::guard(&dir).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn up(cluster: &Cluster, options: Up) -> Result<ExitCode> {
    let program = std::env::current_exe()?;
    let here = program.parent().context("a program is in a folder")?.to_owned();
    let is_up = || Ok::<_, anyhow::Error>(cluster.status()?.is_up());
    let addresses = listen_addresses(options.address);
    let port = if is_up()? {
        options.port
    } else {
        match choose_port(&addresses, options.port, options.or_port) {
            // Another `up` has begun meanwhile, and has the port.
            Err(_) if is_up()? => options.port,
            chosen => chosen?,
        }
    };
    let plan = Plan {
        api: options.api,
        ws: options.ws,
        redis: match options.redis {
            Redis::Standalone => None,
            Redis::Sentinel => Some(Topology::Sentinel),
            Redis::Cluster => Some(Topology::Cluster),
        },
        postgres_replica: options.postgres == Postgres::Replica,
        proxy: !options.no_proxy,
        port,
        addresses,
        keys: options.keys,
        binaries: options.bin_dir.unwrap_or(here),
        nginx: options.nginx,
        client: options.client,
        env: options.env,
        rate_limits: !options.no_rate_limits,
    };
    cluster.up(&plan).await?;
    show(&cluster.status_with_roles().await?, false)?;
    say(&listens(&plan.addresses));
    Ok(ExitCode::SUCCESS)
}

/// For whom it can be reached, and how that is changed.
fn listens(addresses: &[IpAddr]) -> String {
    let names: Vec<String> = addresses.iter().map(|address| SocketAddr::new(*address, 0).to_string()).collect();
    let names: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(":0")).collect();
    let where_to = names.join(" and ");
    if addresses.iter().all(IpAddr::is_loopback) {
        format!("It listens on {where_to}: for this machine only. --address 0.0.0.0 (HTTP_ADDRESS) opens it to others.")
    } else {
        format!("It listens on {where_to}: others can reach it, without TLS.")
    }
}

fn choose_port(addresses: &[IpAddr], port: u16, or_port: Option<u16>) -> Result<u16> {
    let Err(error) = available(addresses, port) else { return Ok(port) };
    let why = match error.kind() {
        ErrorKind::PermissionDenied => format!("this user may not listen on port {port}"),
        ErrorKind::AddrInUse => format!("port {port} is taken by another program"),
        _ => format!("cannot listen on port {port}: {error}"),
    };
    match or_port {
        Some(other) if available(addresses, other).is_ok() => {
            say(&format!("{why}: taking {other} instead"));
            Ok(other)
        }
        Some(other) => bail!("{why}, and {other} cannot be had either; choose another with --port"),
        None => bail!("{why}; choose another with --port"),
    }
}

/// Progress is not the result, so it does not go where the result goes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn show(status: &Status, json: bool) -> Result<()> {
    let mut text = String::new();
    if json {
        text = serde_json::to_string_pretty(status)? + "\n";
    } else if status.processes.is_empty() {
        text += "Nothing was started here.\n";
    } else {
        writeln!(text, "NAME       STATE         PID  ROLE     URL")?;
        for process in &status.processes {
            let state = if process.state == ProcessState::Running { "running" } else { "exited" };
            let pid = process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let role = process.role.as_deref().unwrap_or_default();
            let line = format!("{:<10} {state:<8} {pid:>8}  {role:<8} {}", process.name, process.url);
            let faults =
                if process.faults.is_empty() { String::new() } else { format!("  [{}]", process.faults.join(", ")) };
            writeln!(text, "{}{faults}", line.trim_end())?;
        }
        text += &status.url.as_ref().map_or_else(String::new, |url| format!("\n{url}/\n"));
    }
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    ignore_closed_pipe(written.map_err(Into::into))
}

/// Whoever reads may have seen enough.
fn ignore_closed_pipe(written: Result<()>) -> Result<()> {
    match written {
        Err(error)
            if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}
