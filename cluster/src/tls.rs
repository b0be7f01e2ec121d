//! Certificates for stores that are spoken to over TLS: an authority for one cluster, made with openssl, and what it vouches for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::layout::Layout;

/// What an authority signs: a server at the address where all of a cluster's processes listen.
const SERVER: &str = "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n";

/// Whom the replicas believe.
pub(crate) fn authority(layout: &Layout) -> PathBuf {
    layout.tls().join("authority.pem")
}

/// What the stores show.
pub(crate) fn certificate(layout: &Layout) -> PathBuf {
    layout.tls().join("server.pem")
}

/// And its key.
pub(crate) fn key(layout: &Layout) -> PathBuf {
    layout.tls().join("server.key")
}

/// Makes all of it. The directory may be passed through, since Postgres runs as another user.
pub(crate) async fn prepare(layout: &Layout) -> Result<()> {
    let dir = layout.tls();
    fs::create_dir(&dir)?;
    make_authority(&dir).await?;
    fs::write(dir.join("server.ext"), SERVER)?;
    openssl(&dir, "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=store -keyout server.key -out server.csr")
        .await?;
    openssl(&dir, "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 30 -extfile server.ext -out server.pem")
        .await
}

/// An authority that nobody has heard of, `authority.pem` in a directory.
pub async fn make_authority(dir: &Path) -> Result<()> {
    openssl(dir, "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=authority -days 30 -keyout authority.key -out authority.pem").await
}

async fn openssl(dir: &Path, arguments: &str) -> Result<()> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().await;
    let output = output.context("cannot run openssl; apt-get install --no-install-recommends openssl")?;
    ensure!(output.status.success(), "openssl {arguments} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
