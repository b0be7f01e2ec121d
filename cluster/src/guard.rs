//! The guard of a test's cluster: a process that sweeps it away once its owner is gone, however it went.
//!
//! The guard reads from a pipe that only the owner holds open. A destructor, a forgotten static, an abort and SIGKILL
//! all look the same from there: the pipe ends.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::layout::Layout;
use crate::poll::eventually;
use crate::programs;

/// Keeps the directory of a test's cluster, with its logs, when set.
pub const KEEP: &str = "GATEFOLD_KEEP";

/// The owner's end: the cluster lives for as long as this does.
#[derive(Debug)]
pub(crate) struct Guard {
    process: Child,
}

impl Guard {
    pub(crate) fn start(layout: &Layout, binaries: &Path) -> Result<Self> {
        let mut command = Command::new(programs::ours(binaries, "gatefold-cluster")?);
        command.args(["guard", "--dir"]).arg(layout.dir()).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(layout.log("guard"))?);
        command.process_group(0); // a Ctrl-C for the owner is none for its guard
        Ok(Self { process: command.spawn().context("cannot start the guard of the cluster")? })
    }

    /// Has the cluster swept away and waits for the end of it.
    fn dismiss(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// The guard's own part: waits for the end of the pipe on standard input, stops the cluster, removes its directory.
pub async fn guard(dir: &Path) -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    if !dir.exists() {
        return Ok(());
    }
    let cluster = Cluster::open(dir)?;
    cluster.down().await?;
    if std::env::var_os(KEEP).is_none() {
        // What was killed a moment ago may still be writing.
        eventually(Duration::from_secs(10), || async { Ok(fs::remove_dir_all(dir)?) }).await?;
    }
    Ok(())
}
