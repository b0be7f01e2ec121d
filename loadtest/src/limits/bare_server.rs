//! The least that a server in our place would be: axum that answers `hello`, and axum that signs once for each request.
//! It is a process of its own, so that its CPU can be told from the harness's.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::scenarios::CONCURRENCY;
use crate::net::Endpoint;
use crate::record::ratio;
use crate::rest::Rest;
use crate::sample::proc;

/// Before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// Serves until standard input ends, which it does when the harness does, however that ends.
pub(crate) async fn serve() -> Result<()> {
    let key = Arc::new(KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("cannot make a key"))?);
    let sign = move || {
        let key = Arc::clone(&key);
        async move {
            let mut signature = vec![0; key.public_modulus_len()];
            let signed = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &[b'x'; 420], &mut signature);
            signed.map(|()| URL_SAFE_NO_PAD.encode(signature)).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    let router = Router::new().route("/hello", get(async || "hello")).route("/sign", get(sign));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let nobody_is_there = async { tokio::io::stdin().read_to_end(&mut Vec::new()).await.map(drop).unwrap_or_default() };
    Ok(axum::serve(listener, router).with_graceful_shutdown(nobody_is_there).await?)
}

/// What one `hello` and one signature cost the server, in microseconds of CPU.
pub(super) async fn measure(duration: Duration) -> Result<(f64, f64)> {
    let mut server: Child = Command::new(std::env::current_exe()?)
        .arg("bare-server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the bare server")?;
    let pid = i32::try_from(server.id().context("the bare server has exited")?)?;
    let stdout = server.stdout.take().context("the bare server has no output")?;
    let address = BufReader::new(stdout).lines().next_line().await?.context("the bare server said nothing")?;
    let endpoint = Endpoint::resolve(&format!("http://{address}"), None, &[]).await?;
    let hello = cost(&endpoint, pid, "/hello", duration).await?;
    let sign = cost(&endpoint, pid, "/sign", duration).await?;
    drop(server.stdin.take());
    server.wait().await?;
    Ok((hello, sign))
}

async fn cost(endpoint: &Arc<Endpoint>, pid: i32, path: &'static str, duration: Duration) -> Result<f64> {
    load(endpoint, path, WARM_UP).await?;
    let spent = || proc::of(pid).cpu_seconds.context("the bare server has exited");
    let before = spent()?;
    let answered = load(endpoint, path, duration).await?;
    Ok((spent()? - before) * 1e6 / ratio(answered.max(1)))
}

/// How many requests were answered.
async fn load(endpoint: &Arc<Endpoint>, path: &'static str, duration: Duration) -> Result<u64> {
    let end = Instant::now() + duration;
    let mut asking = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let mut rest = Rest::new(Arc::clone(endpoint));
        asking.spawn(async move {
            let mut answered = 0;
            while Instant::now() < end {
                rest.call(Method::GET, path, &[], None).await?.expect_status(StatusCode::OK)?;
                answered += 1;
            }
            anyhow::Ok(answered)
        });
    }
    let mut answered = 0;
    while let Some(done) = asking.join_next().await {
        answered += done??;
    }
    Ok(answered)
}
