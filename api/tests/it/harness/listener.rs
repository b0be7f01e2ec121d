//! What Redis says to somebody who listens.

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::{PATIENCE, TestApp};

/// A connection to Redis that listens.
pub struct Listener {
    heard: Lines<BufReader<OwnedReadHalf>>,
    /// Kept open as long as it listens.
    _said: OwnedWriteHalf,
}

impl Listener {
    /// Says `command`, `MONITOR` or `SSUBSCRIBE`, whose confirmation contains `confirmed`.
    pub async fn start(app: &TestApp, command: &str, confirmed: &str) -> Self {
        let address = app.cluster.redis_url().replacen("redis://", "", 1);
        let connection = TcpStream::connect(address.trim_end_matches('/')).await.expect("redis is there");
        let (heard, mut said) = connection.into_split();
        said.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        let mut listener = Self { heard: BufReader::new(heard).lines(), _said: said };
        listener.until(confirmed).await;
        listener
    }

    /// All lines up to the first one that contains `text`, which is the last.
    pub async fn until(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.contains(text)) {
            let line =
                timeout(PATIENCE, self.heard.next_line()).await.unwrap_or_else(|_| panic!("no {text}: {lines:?}"));
            lines.push(line.unwrap().expect("redis goes on"));
        }
        lines
    }
}
