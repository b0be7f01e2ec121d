//! Single commands to a Redis server or a Sentinel, past any proxy.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::READY_TIMEOUT;
use crate::poll::eventually;

/// How long a server may take to reply. A frozen one never does.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// The reply to a command without arguments that need quoting: the lines of it, as the protocol has them, of an array those of
/// its elements.
pub(crate) async fn ask(port: u16, command: &str) -> Result<String> {
    let asking = async {
        let mut connection = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
        connection.write_all(format!("{command}\r\n").as_bytes()).await?;
        read_reply(&mut connection).await
    };
    timeout(REPLY_TIMEOUT, asking).await.with_context(|| format!("no reply from port {port}"))?
}

async fn read_reply(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let (mut reply, mut awaited) = (String::new(), 1_i64);
    while awaited > 0 {
        awaited -= 1;
        let mut line = String::new();
        ensure!(connection.read_line(&mut line).await? > 0, "the connection was closed");
        reply += &line;
        match line.split_at_checked(1) {
            Some(("*", count)) => awaited += count.trim().parse::<i64>()?.max(0),
            Some(("$", length)) => {
                if let Ok(length) = length.trim().parse::<usize>() {
                    let mut text = vec![0; length + 2];
                    connection.read_exact(&mut text).await?;
                    reply += &String::from_utf8_lossy(&text);
                }
            }
            _ => {}
        }
    }
    Ok(reply)
}

/// As [`ask`], of a command that must succeed.
pub(crate) async fn order(port: u16, command: &str) -> Result<String> {
    let reply = ask(port, command).await?;
    ensure!(!reply.starts_with('-'), "port {port} replies to {command} with {}", reply.trim());
    Ok(reply)
}

/// Waits until a server replies to a command with a text that has this in it.
pub(crate) async fn await_reply(port: u16, command: &str, expected: &str) -> Result<()> {
    eventually(READY_TIMEOUT, || async {
        let reply = ask(port, command).await?;
        ensure!(reply.contains(expected), "port {port} replies to {command} with {reply}");
        Ok(())
    })
    .await
}
