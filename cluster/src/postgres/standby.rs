//! A second server that follows the first: copied from it, promoted in its place.

use std::path::Path;

use anyhow::Result;

use super::{OWNER, SECOND, data, program, run};
use crate::layout::Layout;
use crate::state::Node;

/// Whether a data directory is that of a standby. A server that was promoted, or was the primary, has to be copied again.
pub(super) fn follows(data: &Path) -> bool {
    data.join("standby.signal").exists()
}

/// Copies the primary, which must run, and has the copy follow it.
pub(super) async fn copy(layout: &Layout, primary: &Node, to: &Path) -> Result<()> {
    let mut copy = program("pg_basebackup", layout)?;
    copy.args(["--write-recovery-conf", "--no-sync", "--checkpoint=fast", "--wal-method=stream", "-h", "127.0.0.1"]);
    copy.args(["-p", &primary.announced_port().to_string(), "-U", OWNER, "-D"]).arg(to);
    run(copy).await
}

/// Makes a standby the primary, and waits until it takes writes.
pub(crate) async fn promote(layout: &Layout, node: &Node) -> Result<()> {
    let mut promote = program("pg_ctl", layout)?;
    promote.args(["promote", "--wait", "--timeout=30", "-D"]).arg(data(layout, node));
    run(promote).await
}

/// Gives the first server the data of the second, should that have been promoted, and forgets the rest: its ports, which
/// the standby has been told, are those of a cluster that was stopped.
pub(crate) fn keep_only_primary(layout: &Layout, primary: Option<&str>) -> Result<()> {
    let (first, second) = (layout.postgres().join("data"), layout.postgres().join("data-2"));
    if !second.exists() {
        return Ok(());
    }
    if primary == Some(SECOND) {
        std::fs::remove_dir_all(&first)?;
        std::fs::rename(second, first)?;
    } else {
        std::fs::remove_dir_all(second)?;
    }
    Ok(())
}
