//! Processes of the operating system: started detached, recognised for certain, signalled, ended.
//!
//! A process is known by its id and the time of its start, so that a reused id is never signalled. Postgres and the workers
//! of Nginx may be other users', of whose `/proc/<pid>` this one may see only what everybody may (`stat`, `cmdline`) and
//! neither links nor descriptors: not even root, in a container without `CAP_SYS_PTRACE`.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

const POLL: Duration = Duration::from_millis(20);

/// A process that was started once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// In clock ticks since boot, as the kernel counts.
    started: u64,
    /// What it executes, as the kernel calls it: tells its left-over children from strangers.
    program: String,
}

/// What `/proc/<pid>/stat` says of a process.
struct Stat {
    /// What it executes: the name of the file, cut off after 15 bytes.
    program: String,
    state: char,
    group: i32,
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything: blanks and parentheses too.
        let (name, fields) = text.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        Some(Self {
            program: name.to_owned(),
            state: fields.first()?.chars().next()?,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// A zombie has exited; only its parent has not noticed.
    fn is_running(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

impl Identity {
    pub(crate) fn is_running(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.started && stat.is_running())
    }

    /// Whether it was stopped by a signal, and can go on.
    pub(crate) fn is_frozen(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.started && stat.state == 'T')
    }

    /// Signals that end or freeze a process at once reach its children too: a dead Nginx whose workers answer, or a
    /// frozen one whose workers do, would be no fault at all. A process that has exited is past all signals.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid);
        let sent = match signal {
            Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGCONT => killpg(pid, signal),
            _ => kill(pid, signal),
        };
        match sent {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Whether it exited in time.
    pub(crate) async fn await_exit(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    /// Asks it to end, then makes it and whatever it has left behind.
    pub(crate) async fn end(&self, ask: Signal, patience: Duration) -> Result<()> {
        self.signal(ask)?;
        if ask != Signal::SIGKILL {
            self.signal(Signal::SIGCONT)?; // a frozen one could not hear
        }
        if !self.await_exit(patience).await {
            self.signal(Signal::SIGKILL)?;
            if !self.await_exit(Duration::from_secs(10)).await {
                bail!("process {} survives SIGKILL", self.pid);
            }
        }
        self.end_children();
        Ok(())
    }

    /// Ends those of its group which outlived it. The group's number is not given to another while one of them lives,
    /// and the program tells them from strangers.
    fn end_children(&self) {
        let is_child = |stat: &Stat| {
            stat.group == self.pid && stat.started >= self.started && stat.program == self.program && stat.is_running()
        };
        for pid in pids().into_iter().filter(|pid| *pid != self.pid) {
            if Stat::of(pid).as_ref().is_some_and(is_child) {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
    }
}

/// Ends what was started for a directory without having become known: its starter was killed in between. Whatever the
/// cluster starts works in or below the directory and executes one of these; nobody else's process does both.
pub(crate) fn end_strays(dir: &Path) {
    const PROGRAMS: [&str; 10] = [
        "postgres",
        "initdb",
        "pg_basebackup",
        "cp",
        "redis-server",
        "redis-check-rdb",
        "nginx",
        "gatefold-api",
        "gatefold-ws",
        "gatefold-proxy",
    ];
    for pid in pids() {
        let Some(stat) = Stat::of(pid).filter(|stat| PROGRAMS.contains(&stat.program.as_str())) else { continue };
        if works_in(pid, dir) {
            let (pid, leads) = (Pid::from_raw(pid), stat.group == pid);
            // With the workers of Nginx, of whom nothing tells where they work.
            let _ = if leads { killpg(pid, Signal::SIGKILL) } else { kill(pid, Signal::SIGKILL) };
        }
    }
}

/// Whether it works in or below a directory. Of another user's process that may not be seen; Postgres and `initdb` were
/// told of it on their command lines.
fn works_in(pid: i32, dir: &Path) -> bool {
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => cwd.starts_with(dir),
        Err(_) => fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            line.split(|byte| *byte == 0).any(|argument| Path::new(OsStr::from_bytes(argument)).starts_with(dir))
        }),
    }
}

/// Whether it has exited, and its parent has not noticed.
pub(crate) fn is_zombie(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.is_running())
}

/// Every process that there is.
fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Starts a program which outlives its starter, with its output at the end of `log`.
pub(crate) fn spawn(mut command: Command, log: &Path) -> Result<Identity> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let pid = i32::try_from(child.id())?;
    let stat = Stat::of(pid).with_context(|| format!("{program} vanished"))?;
    // Unless somebody waits for it, it stays a zombie for as long as we live. Not the runtime's business: a test's
    // runtime ends before its cluster.
    thread::Builder::new().name("reaper".into()).spawn(move || child.wait())?;
    Ok(Identity { pid, started: stat.started, program: stat.program })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Identity {
        let mut command = Command::new("sleep");
        command.arg("1000");
        spawn(command, Path::new("/dev/null")).unwrap()
    }

    #[tokio::test]
    async fn a_process_that_got_a_reused_id_is_left_alone() {
        let process = started();
        let earlier = Identity { started: process.started - 1, ..process.clone() };
        assert!(!earlier.is_running());
        earlier.signal(Signal::SIGKILL).unwrap();
        earlier.end(Signal::SIGKILL, Duration::ZERO).await.unwrap();
        assert!(process.is_running(), "it was signalled");
        process.end(Signal::SIGKILL, Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_ignores_being_asked_is_made_to_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; while true; do sleep 0.1; done"]);
        let process = spawn(command, Path::new("/dev/null")).unwrap();
        process.end(Signal::SIGTERM, Duration::from_millis(200)).await.unwrap();
        assert!(!process.is_running());
    }
}
