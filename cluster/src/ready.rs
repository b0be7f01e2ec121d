//! Whether a process is ready: it lives, it and nobody else listens on its port, and it says so itself.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::layout::Layout;
use crate::state::{Kind, Node};
use crate::{logs, ports, postgres, proxy, redis, replica};

/// How waiting for a process ended, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ready,
    /// It exited because somebody else has its port.
    PortTaken,
}

/// Asks once; the error says what it is waiting for.
async fn ask(node: &Node, layout: &Layout, pid: i32) -> Result<()> {
    // Postgres, whose descriptors may not be seen, says itself on which port it is. The proxy has many.
    if !matches!(node.kind, Kind::Postgres | Kind::Proxy) {
        ensure!(ports::listens(pid, node.port), "it does not listen on port {}", node.port);
    }
    match node.kind {
        Kind::Proxy => proxy::ready(layout).await,
        Kind::Postgres => postgres::ready(layout, pid, node),
        Kind::Redis | Kind::Sentinel => redis::ready(node.port).await,
        Kind::Nginx => answers(&format!("http://127.0.0.1:{}/", node.port)).await,
        Kind::Api | Kind::Ws => answers(&replica::ready_url(node)).await,
    }
}

async fn answers(url: &str) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(3)).build()?;
    let answer = client.get(url).send().await.with_context(|| format!("no answer from {url}"))?;
    let status = answer.status();
    ensure!(status.is_success(), "{url} answers {status}: {}", answer.text().await.unwrap_or_default());
    Ok(())
}

/// Waits until a process is ready; fails with the end of its log if it exits instead, or is not ready in time.
pub(crate) async fn wait(node: &Node, layout: &Layout, timeout: Duration) -> Result<Outcome> {
    let name = &node.name;
    let identity = node.identity.as_ref().with_context(|| format!("{name} was never started"))?;
    let deadline = Instant::now() + timeout;
    loop {
        if !identity.is_running() {
            let said = said_since_start(node, layout);
            if said.contains("Address already in use") {
                return Ok(Outcome::PortTaken);
            }
            bail!("{name} exited. {}", last_words(node, layout));
        }
        match ask(node, layout, identity.pid).await {
            Ok(()) => return Ok(Outcome::Ready),
            Err(why) if Instant::now() >= deadline => {
                bail!("{name} is not ready after {timeout:?}: {why:#}. {}", last_words(node, layout));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn last_words(node: &Node, layout: &Layout) -> String {
    let log = layout.log(&node.name);
    match logs::tail(&log, 20) {
        Ok(lines) if !lines.is_empty() => format!("The end of {}:\n{}", log.display(), lines.join("\n")),
        _ => format!("It wrote nothing into {}", log.display()),
    }
}

/// What it wrote since it was last started.
fn said_since_start(node: &Node, layout: &Layout) -> String {
    let read = || {
        let mut log = File::open(layout.log(&node.name))?;
        log.seek(SeekFrom::Start(node.log_start))?;
        let mut said = Vec::new();
        log.take(1 << 20).read_to_end(&mut said)?;
        std::io::Result::Ok(said)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
