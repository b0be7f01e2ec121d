//! The lock file of Postgres: what the server itself says of itself, whoever it runs as.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::process;

/// The file, of which each line is one thing.
fn path(data: &Path) -> std::path::PathBuf {
    data.join("postmaster.pid")
}

/// Fails until that very process takes connections on the port. It writes so once it listens and has recovered.
pub(super) fn says_ready(data: &Path, pid: i32, port: u16) -> Result<()> {
    let text = fs::read_to_string(path(data)).context("it is starting")?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let (pid, port) = (pid.to_string(), port.to_string());
    let is_its_own = lines.first() == Some(&pid.as_str()) && lines.get(3) == Some(&port.as_str());
    ensure!(is_its_own && lines.get(7) == Some(&"ready"), "it is recovering");
    Ok(())
}

/// Takes the lock from a server that was killed. Fails while its children live, as they do a moment longer: until they end
/// no new one can start. They are known by the shared memory that they are attached to, which the kernel lists for
/// everybody.
pub(super) fn take_from_the_dead(data: &Path) -> Result<()> {
    let Ok(text) = fs::read_to_string(path(data)) else { return Ok(()) }; // it ended as it should
    let memory = text.lines().nth(6).and_then(memory);
    let list = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let attached = memory.map_or(0, |memory| attached(&list, memory));
    ensure!(attached == 0, "{attached} processes of a killed server still work in {}", data.display());
    let pid = text.lines().next().and_then(|pid| pid.trim().parse().ok());
    if pid.is_some_and(process::is_zombie) {
        // To Postgres it lives. It stays so for ever in a container whose first process waits for nobody.
        fs::remove_file(path(data)).context("cannot remove the lock of a killed server")?;
    }
    Ok(())
}

/// Key and id, as the lock file has them. It has the key without its sign.
fn memory(line: &str) -> Option<(i64, i64)> {
    let mut numbers = line.split_whitespace();
    let key: u64 = numbers.next()?.parse().ok()?;
    Some((key.cast_signed(), numbers.next()?.parse().ok()?))
}

/// How many processes are attached to it.
fn attached(list: &str, (key, id): (i64, i64)) -> u64 {
    let rows = list.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let number = |row: &[&str], column: usize| row.get(column).and_then(|number| number.parse::<i64>().ok());
    let row = rows.into_iter().find(|row| number(row, 0) == Some(key) && number(row, 1) == Some(id));
    row.and_then(|row| row.get(6)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
   2621577          3   600                    56 31855 32023     11   105   110   105   110 1795809428 1795809429 1795809427                  4096                     0
-294967296          4   600                    56 31855 32023      2   105   110   105   110 1795809428 1795809429 1795809427                  4096                     0
";

    #[test]
    fn who_is_attached_is_found_by_key_and_id() {
        assert_eq!(attached(LIST, memory("  2621577         3").unwrap()), 11);
        assert_eq!(attached(LIST, memory("  18446744073414584320         4").unwrap()), 2);
        for other in ["2621577 4", "2621578 3"] {
            assert_eq!(attached(LIST, memory(other).unwrap()), 0, "{other}");
        }
        assert!(memory("").is_none() && memory("2621577").is_none());
    }
}
