//! Data directories for tests: made once for each version of Postgres, kept beside our programs, then copied, which
//! costs a tenth of making one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::run;
use crate::programs;

/// Where the template for the installed Postgres is, or is to be.
pub(super) fn path(folder: &Path) -> Result<PathBuf> {
    let output = Command::new(programs::postgres("initdb")?).arg("-V").output().context("cannot run initdb")?;
    let version: String = String::from_utf8_lossy(&output.stdout).chars().filter(char::is_ascii_alphanumeric).collect();
    Ok(folder.join(format!("template-{version}")))
}

/// Whether there was a template that could be copied; another user's cannot.
pub(super) async fn copy_to(template: &Path, data: &Path) -> bool {
    if !template.exists() {
        return false;
    }
    let copied = copy(template, data, data).await.is_ok();
    if !copied {
        fs::remove_dir_all(data).ok();
    }
    copied
}

/// Keeps a copy of a fresh data directory, unless somebody has done so in the meantime.
pub(super) async fn keep(data: &Path, template: &Path) -> Result<()> {
    let folder = template.parent().context("a template is in a folder")?;
    let copied = tempfile::Builder::new().prefix("template-unfinished-").tempdir_in(folder)?;
    copy(data, &copied.path().join("data"), data).await?;
    fs::rename(copied.path().join("data"), template).ok();
    Ok(())
}

/// Works beside `data`, so that it is known as the cluster's own should its starter be killed.
async fn copy(from: &Path, to: &Path, data: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to).current_dir(data.parent().context("a data directory is in a folder")?);
    run(command).await
}
