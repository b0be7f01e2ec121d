//! Reading the logs of a cluster's processes.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> Result<Vec<String>> {
    let file = File::open(log).with_context(|| format!("there is no log {}", log.display()))?;
    let mut kept = VecDeque::new();
    for line in BufReader::new(file).split(b'\n') {
        kept.push_back(String::from_utf8_lossy(&line?).into_owned());
        if kept.len() > lines {
            kept.pop_front();
        }
    }
    Ok(kept.into())
}

/// The logs in a folder, or only those of `name` and what belongs to it.
pub fn find(folder: &Path, name: Option<&str>) -> Result<Vec<PathBuf>> {
    let mut logs: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    logs.retain(|log| log.extension().is_some_and(|extension| extension == "log"));
    logs.retain(|log| name.is_none_or(|name| log.file_stem().is_some_and(|stem| stem == name)));
    logs.sort();
    match name {
        Some(name) if logs.is_empty() => Err(anyhow::anyhow!("there is no log of {name} in {}", folder.display())),
        _ => Ok(logs),
    }
}

/// Writes the last lines of each log, with the name of the log before each line if there are several, and then, if
/// wanted, what is added to them, for ever.
pub fn print(logs: &[PathBuf], lines: usize, follow: bool, out: &mut impl Write) -> Result<()> {
    let prefix = |log: &Path| match log.file_stem() {
        Some(stem) if logs.len() > 1 => format!("{} | ", stem.display()),
        _ => String::new(),
    };
    let mut ends = Vec::new();
    for log in logs {
        ends.push(fs::metadata(log)?.len());
        for line in tail(log, lines)? {
            writeln!(out, "{}{line}", prefix(log))?;
        }
    }
    if !follow {
        return Ok(());
    }
    loop {
        for (log, end) in logs.iter().zip(&mut ends) {
            let mut added = Vec::new();
            let mut file = File::open(log)?;
            file.seek(SeekFrom::Start(*end))?;
            file.read_to_end(&mut added)?;
            let whole = added.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            for line in String::from_utf8_lossy(added.get(..whole).unwrap_or_default()).lines() {
                writeln!(out, "{}{line}", prefix(log))?;
            }
            *end += u64::try_from(whole)?;
        }
        out.flush()?;
        thread::sleep(Duration::from_millis(200));
    }
}
