//! Processes of this machine, from `/proc`.

use std::collections::HashMap;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::Usage;
use crate::record::ratio;

/// What the kernel has counted for one process.
struct Counted {
    group: i32,
    /// Its own, in ticks.
    ticks: u64,
    /// Of children that have exited, in ticks.
    ticks_of_children: u64,
    pages: u64,
}

/// What the processes of each group use together. Whoever leads a group answers for the children that have exited; pages
/// that several share (as those of Postgres) count for each.
pub(super) fn groups() -> HashMap<i32, Usage> {
    let (tick, page) = (unit(SysconfVar::CLK_TCK, 100), unit(SysconfVar::PAGE_SIZE, 4096));
    let mut groups: HashMap<i32, Usage> = HashMap::new();
    for pid in pids() {
        let Some(counted) = counted(pid) else { continue };
        let ticks = counted.ticks + if pid == counted.group { counted.ticks_of_children } else { 0 };
        let group = groups.entry(counted.group).or_default();
        *group.cpu_seconds.get_or_insert(0.0) += ratio(ticks) / ratio(tick);
        *group.memory_bytes.get_or_insert(0) += counted.pages * page;
        *group.open_files.get_or_insert(0) += open_files(pid).unwrap_or(0);
    }
    groups
}

/// What one process has used, all threads of it.
pub(crate) fn of(pid: i32) -> Usage {
    let (tick, page) = (unit(SysconfVar::CLK_TCK, 100), unit(SysconfVar::PAGE_SIZE, 4096));
    counted(pid).map_or_else(Usage::default, |counted| Usage {
        cpu_seconds: Some(ratio(counted.ticks) / ratio(tick)),
        memory_bytes: Some(counted.pages * page),
        open_files: open_files(pid),
    })
}

fn open_files(pid: i32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

/// How long the machine's cores were busy and how long they were idle, in ticks.
pub(super) fn machine() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?; // idle, and idle while waiting for a disk
    Some((ticks.iter().take(8).sum::<u64>() - idle, idle))
}

fn counted(pid: i32) -> Option<Counted> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything: blanks and parentheses too.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok());
    Some(Counted {
        group: fields.get(2)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        ticks_of_children: number(13)? + number(14)?,
        pages: number(21)?,
    })
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn unit(which: SysconfVar, usual: u64) -> u64 {
    sysconf(which).ok().flatten().and_then(|value| value.try_into().ok()).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_belongs_to_a_group_that_used_no_less() {
        let pid = std::process::id().try_into().unwrap();
        let usage = of(pid);
        assert!(usage.memory_bytes.unwrap() > 100_000 && usage.open_files.unwrap() > 2);
        let group = &groups()[&counted(pid).unwrap().group];
        assert!(group.memory_bytes >= usage.memory_bytes && group.cpu_seconds >= usage.cpu_seconds);
    }
}
