//! Finds the programs that a cluster is made of, and says what to do where one is missing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A program of the system, from the search path or where Debian keeps servers.
pub(crate) fn system(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("{name} is not installed; as root: apt-get install --no-install-recommends {package}"))
}

/// A program of Postgres: the newest version that Debian's packages have put beside each other, or the search path's.
pub(crate) fn postgres(name: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin").join(name)))
        })
        .filter(|(_, program)| program.is_file())
        .max_by_key(|(version, _)| *version);
    match newest {
        Some((_, program)) => Ok(program),
        None => system(name, "postgresql"),
    }
}

/// One of ours.
pub(crate) fn ours(folder: &Path, name: &str) -> Result<PathBuf> {
    let program = folder.join(name);
    if program.is_file() {
        return Ok(program);
    }
    let profile = if folder.ends_with("release") { " --release" } else { "" };
    anyhow::bail!(
        "{} does not exist; run: cargo build --workspace{profile} (or say where it is: --bin-dir)",
        program.display()
    )
}
