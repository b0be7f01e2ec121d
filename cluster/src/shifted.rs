//! A replica with a clock of its own, as on a machine whose clock is wrong.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::ports;

/// One more replica beside those of a cluster, configured like one of them. It ends when this is dropped. Nginx does not
/// know it.
#[derive(Debug)]
pub struct ShiftedReplica {
    process: Child,
    /// Where it is reached.
    pub url: String,
    /// Where Prometheus reads.
    pub metrics_url: String,
    /// By how many seconds its clock is ahead, for libfaketime.
    shift: PathBuf,
}

impl ShiftedReplica {
    /// Starts a replica like `name`, whose clock is ahead by so many seconds.
    pub fn start(cluster: &Cluster, name: &str, seconds: i64) -> Result<Self> {
        let pid = cluster.process(name)?.pid.with_context(|| format!("{name} does not run"))?;
        let process = Path::new("/proc").join(pid.to_string());
        let environment = fs::read_to_string(process.join("environ"))?;
        let port = ports::free(&HashSet::new())?;
        let metrics_port = ports::free(&HashSet::from([port]))?;
        let shift = cluster.dir().join(format!("shift-{port}"));
        set(&shift, seconds)?;
        let log = fs::File::create(cluster.dir().join(format!("shifted-{port}.log")))?;
        let mut command = Command::new(fs::read_link(process.join("exe"))?);
        command.current_dir(cluster.dir()).env_clear();
        command.envs(environment.split_terminator('\0').filter_map(|variable| variable.split_once('=')));
        command.env("PORT", port.to_string()).env("METRICS_PORT", metrics_port.to_string());
        // Only what tells the time of day, and not what measures how long things take.
        command.env("LD_PRELOAD", library()?).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.env("FAKETIME_TIMESTAMP_FILE", &shift).env("FAKETIME_NO_CACHE", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().context("cannot run the replica")?;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Self { process, url, metrics_url: format!("http://127.0.0.1:{metrics_port}/metrics"), shift })
    }

    /// Sets the clock: from now on it is ahead by so many seconds.
    pub fn shift(&self, seconds: i64) -> Result<()> {
        set(&self.shift, seconds)
    }
}

impl Drop for ShiftedReplica {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Written whole or not at all: it is read at every look at the clock.
fn set(shift: &Path, seconds: i64) -> Result<()> {
    let unfinished = shift.with_extension("unfinished");
    fs::write(&unfinished, format!("{seconds:+}\n"))?;
    Ok(fs::rename(unfinished, shift)?)
}

/// libfaketime, which is in a folder for each architecture.
fn library() -> Result<PathBuf> {
    let folders = ["/usr/lib", "/usr/local/lib"].into_iter().filter_map(|folder| fs::read_dir(folder).ok());
    let found = folders.flatten().filter_map(|entry| {
        let library = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    });
    found.min().context("libfaketime is missing; as root: scripts/install-packages.sh faketime")
}
