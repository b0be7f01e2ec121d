//! No token and no ticket ever reaches a log, whatever happens to the request that carries it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, Kind, eventually};
use serde_json::Value;

use crate::harness::{Manner, PATIENCE, Stub, exchange, get, nobody, request};

/// Stands for anything that must not be seen; no part of it may be, decoded or not.
const SECRET: &str = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.tOpSeCrEt";

fn every_file(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { every_file(&entry.path(), found) } else { found.push(entry.path()) }
    }
}

fn access_log(cluster: &Cluster) -> Result<Vec<Value>> {
    let log = cluster.process("nginx")?.access_log.context("Nginx has one")?;
    fs::read_to_string(log)?.lines().map(|line| serde_json::from_str(line).context("a line of JSON")).collect()
}

async fn holds_no_secret(cluster: &Cluster, requests: usize) -> Result<()> {
    // The request of the readiness check is logged too.
    eventually(PATIENCE, || async {
        let logged = access_log(cluster)?.len();
        ensure!(logged > requests, "{logged} requests of {requests} are logged");
        Ok(())
    })
    .await?;
    let mut files = Vec::new();
    every_file(cluster.dir(), &mut files);
    ensure!(
        files.iter().any(|file| file.ends_with("nginx-access.log"))
            && files.iter().any(|file| file.ends_with("nginx.log"))
    );
    for file in files {
        let text = String::from_utf8_lossy(&fs::read(&file)?).to_lowercase();
        for part in SECRET.to_lowercase().split('.') {
            ensure!(!text.contains(part), "{} holds {part}", file.display());
        }
    }
    Ok(())
}

/// Every way that a secret could travel in a request line or a header.
fn send_secrets(url: &str) -> Result<usize> {
    let targets = [
        format!("/ws?token={SECRET}"),
        format!("/ws?ticket={SECRET}"),
        format!("/ws?token={SECRET}&token={SECRET}&a=b&token={SECRET}"),
        format!("/ws?%74oken={SECRET}&to%6ben={SECRET}"),
        format!("/ws%3Ftoken={SECRET}"),
        format!("/ws/{SECRET}"),
        format!("/ws/token/{SECRET}?token={SECRET}"),
        format!("/{SECRET}"),
        format!("/api/health?token={SECRET}"),
        format!("/api/refresh?refreshToken={SECRET}"),
        format!("/.git/{SECRET}"),
        format!("http://{SECRET}@gatefold.test/ws?token={SECRET}"),
        format!("/ws?token={SECRET}\u{1}"),
        format!("/ws?token={}{SECRET}", "a".repeat(20_000)),
    ];
    for target in &targets {
        get(url, target)?;
    }
    let headers =
        format!("Authorization: Bearer {SECRET}\r\nReferer: http://h/?token={SECRET}\r\nUser-Agent: {SECRET}\r\n");
    request(url, "POST", &format!("/api/login?token={SECRET}"), &format!("{headers}Content-Length: 99999\r\n"))?;
    request(
        url,
        "POST",
        "/api/login",
        &format!("{headers}Idempotency-Key: {SECRET}\r\nCookie: refreshToken={SECRET}\r\n"),
    )?;
    request(url, "GET", "/ws", &format!("{headers}X-Large: {}\r\n", "a".repeat(100_000)))?;
    request(url, &SECRET.to_uppercase().replace('.', "_"), "/", "")?;
    exchange(url, format!("GET /ws?token={SECRET} HTTP/9.9\r\n\r\n").as_bytes())?;
    exchange(url, format!("GET /ws?token={SECRET}\r\nnonsense {SECRET}\r\n\r\n").as_bytes()).ok(); // HTTP/0.9 has no head
    Ok(targets.len() + 5)
}

#[tokio::test]
async fn no_secret_is_logged_when_replicas_answer() -> Result<()> {
    let replica = Stub::start(Manner::Answer("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"))?;
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, replica.address);
    let cluster = cluster.upstream(Kind::Ws, replica.address).start().await?;
    let sent = send_secrets(&cluster.url())?;
    holds_no_secret(&cluster, sent).await
}

#[tokio::test]
async fn no_secret_is_logged_when_replicas_are_dead() -> Result<()> {
    let dying = Stub::start(Manner::Die)?;
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, nobody()?).upstream(Kind::Ws, nobody()?);
    let cluster = cluster.upstream(Kind::Ws, dying.address).start().await?;
    let sent = send_secrets(&cluster.url())?;
    holds_no_secret(&cluster, sent).await
}

#[tokio::test]
async fn no_secret_is_logged_when_limits_reject() -> Result<()> {
    let cluster = Cluster::builder().without_stores().rate_limits(true).start().await?;
    let (url, mut sent, mut rejected) = (cluster.url(), 0, 0);
    while rejected < 5 && sent < 500 {
        sent += 1;
        rejected += u32::from(get(&url, &format!("/ws?token={SECRET}"))?.status == 429);
    }
    ensure!(rejected == 5, "the limit was never reached");
    sent += send_secrets(&url)?;
    holds_no_secret(&cluster, sent).await?;
    ensure!(access_log(&cluster)?.iter().any(|line| line["limit.requests"] == "REJECTED" && line["status"] == 429));
    Ok(())
}

#[tokio::test]
async fn the_access_log_says_what_an_operator_needs() -> Result<()> {
    let (dead, replica) = (nobody()?, Stub::start(Manner::Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))?);
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, dead);
    let cluster = cluster.upstream(Kind::Api, replica.address).start().await?;
    let mut answer = request(&cluster.url(), "POST", "/api/login?x=y", "")?;
    let entry = loop {
        let id = answer.header("x-request-id")?.to_owned();
        let entry = eventually(PATIENCE, || async {
            access_log(&cluster)?.into_iter().find(|line| line["request.id"] == id.as_str()).context("not logged yet")
        })
        .await?;
        if entry["upstream.status"] == "502, 200" {
            break entry;
        }
        answer = request(&cluster.url(), "POST", "/api/login?x=y", "")?; // it happened to ask the living one first
    };
    ensure!(entry["method"] == "POST" && entry["path"] == "/api/login" && entry["status"] == 200, "{entry}");
    ensure!(entry["upstream.address"] == format!("{dead}, {}", replica.address), "{entry}");
    ensure!(entry["client.ip"] == "127.0.0.1" && entry["seconds"].is_number(), "{entry}");
    Ok(())
}
