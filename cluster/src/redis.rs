//! A private Redis: durable, never evicting, on 127.0.0.1.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::layout::{Layout, create_private};
use crate::programs;
use crate::state::Settings;
use crate::tls;

pub(crate) fn command(layout: &Layout, settings: &Settings, port: u16) -> Result<Command> {
    create_private(&layout.redis())?;
    let mut command = Command::new(programs::system("redis-server", "redis-server")?);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(layout.redis());
    command.args(["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]);
    if let Some(port) = settings.redis_tls_port {
        command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(tls::certificate(layout)).arg("--tls-key-file").arg(tls::key(layout));
    }
    command.current_dir(layout.redis());
    Ok(command)
}

/// It listens before it has read its file, and then answers with an error.
pub(crate) async fn ready(port: u16) -> Result<()> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(b"PING\r\n").await?;
    let mut reply = [0; 64];
    let length = connection.read(&mut reply).await?;
    let reply = reply.get(..length).context("a reply fits its buffer")?;
    ensure!(reply.starts_with(b"+PONG"), "{}", String::from_utf8_lossy(reply).trim());
    Ok(())
}
