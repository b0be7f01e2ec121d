//! Bytes on a connection, for what no HTTP library can be made to send.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything may keep such a connection waiting, but for a client that is slow with its own request.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends the beginning of a connection and says that there will be no more; whatever comes back until the server closes.
pub async fn raw(url: &str, request: &[u8]) -> String {
    exchange(url, request, true).await
}

/// As [`raw`], without saying so.
pub async fn raw_until_closed(url: &str, request: &[u8]) -> String {
    exchange(url, request, false).await
}

async fn exchange(url: &str, request: &[u8], ends: bool) -> String {
    let address = url.strip_prefix("http://").expect("a plain URL");
    let (mut from, mut to) = TcpStream::connect(address).await.expect("somebody listens").into_split();
    let send = async {
        // A server that has heard enough closes: then this fails, and what it said counts.
        to.write_all(request).await.ok();
        if ends {
            to.shutdown().await.ok();
        }
    };
    let mut answer = Vec::new();
    let receive = async {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..length]);
        }
    };
    let both = async { tokio::join!(send, receive) };
    assert!(timeout(PATIENCE, both).await.is_ok(), "no end within {PATIENCE:?}");
    String::from_utf8_lossy(&answer).into_owned()
}
