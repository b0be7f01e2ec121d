//! Where everything is within a cluster's directory, and whose that directory is.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

/// The paths within one cluster's directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The directory must exist, and be this user's own: what it says is believed, down to which programs to run, and the
    /// default one is in a place where anybody may put one first.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let found = fs::symlink_metadata(dir).with_context(|| format!("no directory {}", dir.display()))?;
        ensure!(
            found.is_dir() && found.uid() == geteuid().as_raw(),
            "{} is not a directory of this user's own; choose another with --dir",
            dir.display()
        );
        let dir = dir.canonicalize().with_context(|| format!("no directory {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Creates the directory where needed. Others may pass through it, since Postgres and the workers of Nginx run as
    /// other users, but not list it.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        match DirBuilder::new().mode(0o711).create(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot create {}", dir.display()));
            }
            _ => {}
        }
        let layout = Self::of(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o711))?;
        create_private(&layout.logs())?;
        Ok(layout)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    pub(crate) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(crate) fn redis(&self) -> PathBuf {
        self.dir.join("redis")
    }

    /// Where the proxy takes commands.
    pub(crate) fn proxy(&self) -> PathBuf {
        self.dir.join("proxy.sock")
    }

    pub(crate) fn tls(&self) -> PathBuf {
        self.dir.join("tls")
    }

    pub(crate) fn nginx(&self) -> PathBuf {
        self.dir.join("nginx")
    }
}

/// A directory for this user alone.
pub(crate) fn create_private(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(dir)
        .with_context(|| format!("cannot create {}", dir.display()))
}

/// Where `gatefold-cluster` keeps the cluster of a working directory, unless told otherwise. It is not within the
/// working directory, which the user that Postgres runs as may not be able to reach.
pub fn default_dir() -> Result<PathBuf> {
    let here = std::env::current_dir()?.canonicalize()?;
    Ok(PathBuf::from(format!("/var/tmp/gatefold-{}-{:016x}", geteuid(), hash(&here))))
}

/// A name for the refresh cookie that belongs to one directory. Browsers do not tell the ports of a host apart: two clusters
/// on one machine would overwrite each other's cookie.
pub(crate) fn cookie_name(dir: &Path) -> String {
    format!("refreshToken-{:08x}", hash(dir) >> 32)
}

/// FNV-1a: the same in every build.
fn hash(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
