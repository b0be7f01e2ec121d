//! The proxy between the replicas and the stores, and between the servers of Redis: a process of its own, which does to
//! connections what the kernel does not without root.
//!
//! What it is to do stands in the state of the cluster, so that it survives the proxy; a command that has changed the state
//! tells it to read that again, and is answered once that is in force.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::faults::connection::serve;
use crate::faults::{Control, Mode};
use crate::layout::Layout;
use crate::programs;
use crate::redis::source;
use crate::state::{Node, Settings, State};

/// What the proxy does to all connections of a store, those to it, and of servers of Redis also those that come from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "milliseconds")]
pub(crate) enum NetworkFault {
    /// Resets them, and refuses new ones.
    Cut,
    /// Swallows what they carry. Neither side is told.
    BlackHole,
    /// Delivers what the store says so many milliseconds later.
    Delay(u64),
}

impl fmt::Display for NetworkFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => formatter.write_str("cut"),
            Self::BlackHole => formatter.write_str("blackhole"),
            Self::Delay(milliseconds) => write!(formatter, "delay {milliseconds} ms"),
        }
    }
}

/// One address that the proxy listens on.
#[derive(Debug, Clone)]
enum Link {
    /// Of the store of this name.
    Clients(String),
    /// Of its bus.
    Bus(String),
    /// Of the primary of Postgres, whichever that is.
    Database,
}

fn links(state: &State) -> Vec<(Link, u16)> {
    let of_nodes = state.nodes.iter().flat_map(|node| {
        let clients = node.proxy_port.map(|port| (Link::Clients(node.name.clone()), port));
        [clients, node.proxy_bus_port.map(|port| (Link::Bus(node.name.clone()), port))]
    });
    let database = state.database_port.map(|port| (Link::Database, port));
    of_nodes.chain([database]).flatten().collect()
}

impl Link {
    /// The store behind it, and its port.
    fn target<'a>(&self, state: &'a State) -> Option<(&'a Node, u16)> {
        match self {
            Self::Clients(name) => state.node(name).ok().map(|node| (node, node.port)),
            Self::Bus(name) => state.node(name).ok().and_then(|node| Some((node, node.bus_port?))),
            Self::Database => state.postgres_primary().map(|node| (node, node.port)),
        }
    }
}

/// What happens to a connection between two stores, or between a replica and one: the worse of what each is to suffer.
fn mode(state: &State, ends: &[&str]) -> Mode {
    let faults = ends.iter().filter_map(|name| state.network_faults.get(*name));
    let severity = |fault: &&NetworkFault| match fault {
        NetworkFault::Cut => u64::MAX,
        NetworkFault::BlackHole => u64::MAX - 1,
        NetworkFault::Delay(milliseconds) => *milliseconds,
    };
    match faults.max_by_key(severity) {
        None => Mode::Pass,
        Some(NetworkFault::Cut) => Mode::Refuse,
        Some(NetworkFault::BlackHole) => Mode::BlackHole,
        Some(NetworkFault::Delay(milliseconds)) => Mode::Delay(Duration::from_millis(*milliseconds)),
    }
}

/// Its command line: of this program, or, where a test runs, of the one beside it.
pub(crate) fn command(layout: &Layout, settings: &Settings) -> Result<Command> {
    const PROGRAM: &str = "gatefold-cluster";
    let own = std::env::current_exe()?;
    let program = if own.ends_with(PROGRAM) { own } else { programs::ours(&settings.binaries, PROGRAM)? };
    let mut command = Command::new(program);
    command.args(["proxy", "--dir"]).arg(layout.dir()).current_dir(layout.dir());
    Ok(command)
}

/// Has the proxy do what the state says now.
pub(crate) async fn reload(layout: &Layout) -> Result<()> {
    say(layout, "reload").await
}

/// Whether it takes commands.
pub(crate) async fn ready(layout: &Layout) -> Result<()> {
    say(layout, "ping").await
}

async fn say(layout: &Layout, word: &str) -> Result<()> {
    let asking = async {
        let mut control = UnixStream::connect(layout.proxy()).await.context("the proxy does not listen")?;
        control.write_all(format!("{word}\n").as_bytes()).await?;
        let mut reply = String::new();
        control.read_to_string(&mut reply).await?;
        ensure!(reply == "ok\n", "the proxy replies {}", reply.trim());
        Ok(())
    };
    timeout(Duration::from_secs(5), asking).await.context("the proxy does not reply")?
}

/// The proxy's own part: serves until it is ended.
pub async fn run(dir: &Path) -> Result<()> {
    // What tells it from other commands of the same program, should it have to be found and ended.
    nix::sys::prctl::set_name(c"gatefold-proxy")?;
    let layout = Layout::of(dir)?;
    let state = watch::Sender::new(Arc::new(State::load(&layout)?));
    let links = links(&state.borrow());
    let control = Control::new();
    let mut tasks = JoinSet::new();
    for (link, port) in links {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        tasks.spawn(accept(listener, link, state.subscribe(), Arc::clone(&control)));
    }
    let socket = layout.proxy();
    fs::remove_file(&socket).ok(); // of one that was killed
    let listener = UnixListener::bind(&socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    loop {
        let (stream, _) = listener.accept().await?;
        if let Err(error) = obey(stream, &layout, &state).await {
            eprintln!("gatefold-cluster proxy: {error:#}");
        }
    }
}

async fn obey(stream: UnixStream, layout: &Layout, state: &watch::Sender<Arc<State>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut word = String::new();
    timeout(Duration::from_secs(5), stream.read_line(&mut word)).await.context("nothing was said")??;
    if word.trim() == "reload" {
        let new = State::load(layout)?;
        for (name, fault) in &new.network_faults {
            println!("{name}: {fault}");
        }
        state.send_replace(Arc::new(new));
    }
    stream.write_all(b"ok\n").await?;
    Ok(())
}

async fn accept(listener: TcpListener, link: Link, state: watch::Receiver<Arc<State>>, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, peer)) => {
                    connections.spawn(connect(client, peer.ip(), link.clone(), state.clone(), Arc::clone(&control)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await, // no descriptor is free
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves a connection, and has it follow what the state says of its two ends.
async fn connect(
    client: TcpStream,
    from: IpAddr,
    link: Link,
    mut state: watch::Receiver<Arc<State>>,
    control: Arc<Control>,
) {
    let current = Arc::clone(&state.borrow_and_update());
    let Some((target, port)) = link.target(&current) else { return };
    let sender = current.nodes.iter().find(|node| source(node).map(IpAddr::V4) == Some(from));
    let ends: Vec<&str> = [Some(target), sender].into_iter().flatten().map(|node| node.name.as_str()).collect();
    let modes = watch::Sender::new(mode(&current, &ends));
    let follow = async {
        while state.changed().await.is_ok() {
            let new = mode(&state.borrow_and_update(), &ends);
            modes.send_if_modified(|mode| std::mem::replace(mode, new) != new);
        }
    };
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    tokio::select! {
        () = serve(client, target, Arc::downgrade(&control), modes.subscribe()) => {}
        () = follow => {}
    }
}
