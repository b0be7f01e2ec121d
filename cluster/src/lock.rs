//! One command at a time changes a cluster: a lock on a file in its directory, freed by the kernel if its holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::Report;
use crate::layout::Layout;

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) async fn acquire(layout: &Layout, report: &Report) -> Result<Self> {
        let path = layout.lock();
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let mut waiting = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if waiting => {}
                Err(TryLockError::WouldBlock) => {
                    report(&format!("Waiting for another command that works on {}", layout.dir().display()));
                    waiting = true;
                }
                Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the cluster's directory"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
