//! Clusters with replicas of both kinds.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, Kind, ProcessState, eventually};

use crate::harness::{Answer, PATIENCE, address, exchange, get, request};

fn ready(cluster: &Cluster) -> Result<()> {
    let answer = get(&cluster.url(), "/api/ready")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn replicas_come_and_go_behind_the_same_address() -> Result<()> {
    let cluster = Cluster::builder().api(1).ws(1).env("ACCESS_TOKEN_EXPIRY", "3s").start().await?;
    cluster.create_user("alice", "correct horse battery staple").await?;
    ready(&cluster)?;

    let second = cluster.add(Kind::Api).await?;
    ensure!(second == "api-2" && cluster.replicas(Kind::Api).len() == 2);
    cluster.kill("api-1").await?;
    ensure!(cluster.process("api-1")?.state == ProcessState::Exited);
    eventually(PATIENCE, || async { ready(&cluster) }).await?; // the second has taken over

    let before = cluster.process("api-1")?;
    cluster.restart("api-1").await?;
    let after = cluster.process("api-1")?;
    ensure!(before.url == after.url && before.pid != after.pid, "the ports are kept");
    cluster.stop("api-2").await?;
    eventually(PATIENCE, || async { ready(&cluster) }).await
}

#[tokio::test]
async fn every_replica_has_metrics_of_its_own() -> Result<()> {
    let cluster = Cluster::builder().api(1).ws(1).start().await?;
    for kind in [Kind::Api, Kind::Ws] {
        for replica in cluster.replicas(kind) {
            let url = replica.metrics_url.unwrap_or_default();
            let answer = get(url.trim_end_matches("/metrics"), "/metrics")?;
            ensure!(answer.status == 200, "{}: {answer:?}", replica.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn replicas_reach_the_stores_through_the_proxies() -> Result<()> {
    let cluster = Cluster::builder().api(1).redis_through_proxy().postgres_through_proxy().start().await?;
    ready(&cluster)?;
    ensure!(cluster.redis_faults()?.connections() > 0 && cluster.postgres_faults()?.connections() > 0);
    for faults in [cluster.redis_faults()?, cluster.postgres_faults()?] {
        faults.refuse();
        eventually(PATIENCE, || async {
            ensure!(get(&cluster.url(), "/api/ready")?.status == 503, "still ready");
            Ok(())
        })
        .await?;
        faults.pass();
        eventually(PATIENCE, || async { ready(&cluster) }).await?;
    }
    Ok(())
}

#[test]
fn nobody_notices_that_one_of_two_replicas_restarts() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let cluster = runtime.block_on(Cluster::builder().api(2).start())?;
    let (url, restarting) = (cluster.url(), AtomicBool::new(true));
    let use_it = || -> Result<u32> {
        let mut requests = 0;
        while restarting.load(Ordering::SeqCst) {
            let answers = [
                get(&url, "/api/health")?,
                request(&url, "POST", "/api/refresh", "")?,
                request(&url, "POST", "/api/logout", "")?,
                request(&url, "POST", "/api/ws-ticket", "")?,
            ];
            for answer in answers {
                ensure!(answer.status < 500, "after {requests} requests: {answer:?}");
                requests += 1;
            }
        }
        Ok(requests)
    };
    thread::scope(|scope| {
        let clients = [scope.spawn(use_it), scope.spawn(use_it)];
        let restarted = runtime.block_on(async {
            for name in ["api-1", "api-2", "api-1", "api-2"] {
                cluster.restart(name).await?;
            }
            Ok(())
        });
        restarting.store(false, Ordering::SeqCst);
        for client in clients {
            let requests = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            ensure!(requests > 10, "only {requests} requests were made");
        }
        restarted
    })
}

#[tokio::test]
async fn no_log_of_any_process_holds_a_token() -> Result<()> {
    let cluster = Cluster::builder().api(1).ws(1).env("RUST_LOG", "debug").start().await?;
    cluster.create_user("alice", "correct horse battery staple").await?;
    let url = cluster.url();
    let login = r#"{"username":"alice","password":"correct horse battery staple"}"#;
    let login = post(&url, "/api/login", "Content-Type: application/json\r\n", login)?;
    ensure!(login.status == 200, "{login:?}");
    let access = login.json()?["accessToken"].as_str().context("a token")?.to_owned();
    let value = |name: &str| {
        let cookies = login.all("set-cookie");
        let cookie = cookies.into_iter().find_map(|cookie| cookie.strip_prefix(name)?.strip_prefix('='));
        cookie.and_then(|cookie| cookie.split(';').next()).context("a cookie").map(ToOwned::to_owned)
    };
    let (refresh, device) = (value("refreshToken")?, value("refreshToken-device")?);

    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: Z2F0ZWZvbGQtZXhhbXBsZQ==\r\n";
    ensure!(status_of_upgrade(&url, &format!("/ws?token={access}"), upgrade)? == "HTTP/1.1 101");
    for target in [format!("/ws?token={access}x"), format!("/ws?%74oken={access}&token={access}x&token=y")] {
        ensure!(request(&url, "GET", &target, upgrade)?.status >= 400);
    }
    let bearer = format!("Authorization: Bearer {access}\r\n");
    ensure!(request(&url, "GET", "/api/protected", &bearer)?.status == 200);
    request(&url, "GET", &format!("/api/protected?token={access}"), "Authorization: Bearer nonsense\r\n")?;
    let cookie = format!("Cookie: refreshToken={refresh}\r\n");
    ensure!(post(&url, "/api/refresh", &cookie, "")?.status == 200);
    ensure!(post(&url, "/api/refresh", &cookie, "")?.status == 401, "it was used twice");

    let signature = access.rsplit('.').next().context("a signature")?.to_owned();
    for log in fs::read_dir(cluster.dir().join("logs"))?.flatten() {
        let text = String::from_utf8_lossy(&fs::read(log.path())?).into_owned();
        for secret in [signature.as_str(), refresh.as_str(), device.as_str(), "correct horse"] {
            ensure!(!text.contains(secret), "{} holds {secret}", log.path().display());
        }
    }
    Ok(())
}

fn post(url: &str, target: &str, headers: &str, body: &str) -> Result<Answer> {
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\nHost: gatefold.test\r\nConnection: close\r\n{headers}");
    exchange(url, format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())
}

/// Opens a socket only to see whether it could be.
fn status_of_upgrade(url: &str, target: &str, headers: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address(url)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: gatefold.test\r\n{headers}\r\n").as_bytes())?;
    let mut status = [0; "HTTP/1.1 101".len()];
    stream.read_exact(&mut status)?;
    Ok(String::from_utf8_lossy(&status).into_owned())
}
