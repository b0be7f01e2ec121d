//! What the tests have in common: requests written byte by byte, servers that behave as told, a cluster run by the
//! command line.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, available};
use rand::RngExt;
use serde_json::Value;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What came back, with repeated headers kept apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &str) -> Result<Self> {
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no head in {text:?}"))?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status line")?.parse()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Ok(Self { status, headers, body: body.to_owned() })
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that must be there once.
    pub(crate) fn header(&self, name: &str) -> Result<&str> {
        let values = self.all(name);
        ensure!(values.len() == 1, "{name} is there {} times in {self:?}", values.len());
        values.first().copied().context("unreachable: there is one")
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON in {self:?}"))
    }
}

pub(crate) fn address(url: &str) -> Result<SocketAddr> {
    Ok(url.trim_start_matches("http://").parse()?)
}

/// Sends bytes as they are and reads until the other side closes or has sent what it announced.
pub(crate) fn exchange(url: &str, request: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(address(url)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request).ok(); // a server may well refuse before it has read everything
    let mut received = Vec::new();
    let outcome = stream.read_to_end(&mut received);
    if received.is_empty() {
        outcome?;
    }
    Answer::parse(&String::from_utf8_lossy(&received))
}

/// A request without a body; `headers` are whole lines, each with its end.
pub(crate) fn request(url: &str, method: &str, target: &str, headers: &str) -> Result<Answer> {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: gatefold.test\r\nConnection: close\r\n{headers}\r\n");
    exchange(url, head.as_bytes())
}

pub(crate) fn get(url: &str, target: &str) -> Result<Answer> {
    request(url, "GET", target, "")
}

/// How a [`Stub`] treats a request that it has read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// With a whole response.
    Answer(&'static str),
    /// By closing the connection.
    Die,
}

/// A server that stands in for a replica, and remembers the heads of the requests that it got.
#[derive(Debug)]
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    pub(crate) fn start(manner: Manner) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if !matches!(connection.read(&mut byte), Ok(1)) {
                            return;
                        }
                        head.extend(byte);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(head);
                    if let Manner::Answer(answer) = manner {
                        connection.write_all(answer.as_bytes()).ok();
                        connection.shutdown(Shutdown::Write).ok();
                        connection.read_to_end(&mut Vec::new()).ok(); // a body unread would turn this into a reset
                    }
                });
            }
        });
        Ok(Self { address, heads })
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The headers of the only request so far.
    pub(crate) fn only(&self) -> Result<HashMap<String, Vec<String>>> {
        let heads = self.heads();
        ensure!(heads.len() == 1, "the stub got {} requests", heads.len());
        let mut headers: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in heads.iter().flat_map(|head| head.lines()).filter_map(|line| line.split_once(": ")) {
            headers.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
        }
        Ok(headers)
    }
}

/// What `redis-cli` says, which gives up after a moment where nobody replies.
pub(crate) fn redis_cli(port: u16, arguments: &[&str]) -> Result<String> {
    let output = Command::new("timeout").args(["3", "redis-cli", "-p", &port.to_string()]).args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// An address where nobody listens. It is below those that outgoing connections are given, or one of them might soon be
/// in the way.
pub(crate) fn nobody() -> Result<SocketAddr> {
    let mut ports = std::iter::repeat_with(|| rand::rng().random_range(10_000..32_768)).take(1_000);
    let port = ports.find(|port| available(&[Ipv4Addr::UNSPECIFIED.into()], *port).is_ok()).context("no free port")?;
    Ok(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A cluster as people run it. A guard of its own sweeps it away if the test cannot.
pub(crate) struct CommandLine {
    dir: PathBuf,
    guard: Child,
}

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_gatefold-cluster");

impl CommandLine {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("gatefold-test-").tempdir()?.keep();
        let mut guard = Command::new(PROGRAM);
        guard.args(["guard", "--dir"]).arg(&dir).stdin(Stdio::piped());
        Ok(Self { guard: guard.spawn()?, dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        command.current_dir(repository).arg("--dir").arg(&self.dir).args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    /// Starts Postgres, Redis and Nginx.
    pub(crate) fn up(&self, port: u16) -> Result<()> {
        let output = self.run(&["up", "--api", "0", "--ws", "0", "--no-proxy", "--port", &port.to_string()])?;
        ensure!(output.status.success(), "up failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    pub(crate) fn cluster(&self) -> Result<Cluster> {
        Cluster::open(&self.dir)
    }
}

impl Drop for CommandLine {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        self.guard.wait().ok();
    }
}

/// The processes that work in or below a directory, or were started with it on their command line.
pub(crate) fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    pids.filter_map(|entry| {
        let line = String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
        (cwd.starts_with(&dir) || line.contains(&dir)).then(|| format!("{} {line}", entry.file_name().display()))
    })
    .collect()
}
