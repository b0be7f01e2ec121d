//! Redis alone: what a round trip and a script cost it, over one connection without anything in between.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatefold_cluster::Process;

use crate::record::ratio;
use crate::sample::proc;

const TIMES: u32 = 30_000;
/// A hash is read and changed, as when a session is refreshed. What is left of it expires.
const SCRIPT: &str = "local generation = redis.call('HGET', KEYS[1], 'generation') \
                      redis.call('HSET', KEYS[1], 'generation', (tonumber(generation) or 0) + 1, 'at', ARGV[1]) \
                      redis.call('EXPIRE', KEYS[1], 60) return {1, generation}";

/// What it costs Redis, and how long it takes, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trip {
    pub(super) cpu: f64,
    pub(super) wall: f64,
}

/// A `PING` and a short script.
pub(super) fn measure(redis: &Process) -> Result<(Trip, Trip)> {
    let address = redis.url.strip_prefix("redis://").context("a Redis on this machine has a plain URL")?;
    let pid = redis.pid.context("Redis is not running")?;
    let stream = TcpStream::connect(address).context("cannot reach Redis")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut redis = Redis { replies: BufReader::new(stream.try_clone()?), stream };
    let sha = redis.call(&["SCRIPT", "LOAD", SCRIPT])?;
    let ping = trip(&mut redis, pid, &["PING"])?;
    let script = trip(&mut redis, pid, &["EVALSHA", &sha, "1", "{load-test}:limits", "1767268800000"])?;
    Ok((ping, script))
}

fn trip(redis: &mut Redis, pid: i32, command: &[&str]) -> Result<Trip> {
    let spent = || proc::of(pid).cpu_seconds.context("Redis has exited");
    let (before, begun) = (spent()?, std::time::Instant::now());
    for _ in 0..TIMES {
        redis.call(command)?;
    }
    let each = |seconds: f64| seconds * 1e6 / ratio(u64::from(TIMES));
    Ok(Trip { wall: each(begun.elapsed().as_secs_f64()), cpu: each(spent()? - before) })
}

/// The least of a client.
struct Redis {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Redis {
    /// Sends a command and gives the text of its reply, the last one of an array.
    fn call(&mut self, command: &[&str]) -> Result<String> {
        let mut request = format!("*{}\r\n", command.len());
        for part in command {
            write!(request, "${}\r\n{part}\r\n", part.len())?;
        }
        self.stream.write_all(request.as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> Result<String> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).context("an empty reply")?;
        ensure!(kind != "-", "Redis refuses: {rest}");
        match kind {
            "$" if rest != "-1" => self.line(),
            "*" => (0..rest.parse::<u32>()?).try_fold(String::new(), |_, _| self.reply()),
            _ => Ok(rest.to_owned()),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
