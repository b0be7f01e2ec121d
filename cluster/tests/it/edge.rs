//! gatefold-edge beside the Nginx of the containers: replicas that hang are left out, and what Nginx answers is counted.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, Signal, eventually};
use gatefold_edge::{config::Address, dns, replicas::Replicas};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use crate::{
    container::{Container, Options},
    harness::{PATIENCE, address as address_of, nobody},
};

/// Replicas of one name have one port, and addresses of their own.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 21), Ipv4Addr::new(127, 0, 0, 22)];

/// Lends a replica another address.
async fn forward(listener: TcpListener, replica: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        connections.spawn(async move {
            let mut replica = TcpStream::connect(replica).await?;
            copy_bidirectional(&mut client, &mut replica).await
        });
    }
}

/// The replicas that the last requests were sent to, one after the other for each request.
fn asked(container: &Container, last: usize) -> Vec<String> {
    let log = container.log();
    let last = log.iter().rev().take(last);
    last.map(|line| line["upstream.address"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_replica_that_hangs_is_sent_nothing_until_it_answers_again() -> Result<()> {
    let cluster = Cluster::builder().api(2).start().await?;
    let port = nobody()?.port();
    let mut tasks = JoinSet::new();
    for (address, name) in ADDRESSES.into_iter().zip(["api-1", "api-2"]) {
        let replica: SocketAddr = address_of(&cluster.process(name)?.url)?;
        tasks.spawn(forward(TcpListener::bind((address, port)).await?, replica));
    }
    let address = Address { host: "replicas.test".to_owned(), port };
    let services: Arc<[Replicas]> = [Replicas::new("api", address, "/api/ready")].into();
    let client =
        reqwest::Client::builder().timeout(Duration::from_secs(2)).pool_max_idle_per_host(0).no_proxy().build()?;
    let watched = Arc::clone(&services);
    tasks.spawn(async move {
        let resolve = async |at: Address| Ok(ADDRESSES.iter().map(|address| (*address, at.port).into()).collect());
        watched[0].watch(client, Duration::from_millis(200), resolve).await;
    });
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let dns = socket.local_addr()?;
    tasks.spawn(dns::serve(socket, Arc::clone(&services)));
    let api = format!("replicas.test:{port}");
    let variables = vec![("LIMITS", "off".to_owned())];
    let container = Container::with(Options { edge: "plain", api: &api, dns, variables }).await?;

    // Whom Nginx asks, over some requests.
    let used = async || {
        for _ in 0..10 {
            let answer = container.call(Ipv4Addr::LOCALHOST, "/health", "").await?;
            ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        Ok(asked(&container, 10))
    };
    let addresses = ADDRESSES.map(|address| format!("{address}:{port}"));
    let only = |used: &[String], addresses: &[String]| {
        ensure!(used.iter().all(|at| addresses.contains(at)), "{used:?}");
        addresses.iter().try_for_each(|at| {
            ensure!(used.contains(at), "{used:?}");
            Ok(())
        })
    };
    let both = async || only(&used().await?, &addresses);
    eventually(PATIENCE, both).await.context("both are used")?;
    cluster.signal("api-1", Signal::SIGSTOP)?;
    let left_out = async || {
        ensure!(services[0].to_use() == [ADDRESSES[1]], "{:?}", services[0].to_use());
        Ok(())
    };
    eventually(PATIENCE, left_out).await.context("the other one is named alone")?;
    // What Nginx has heard before, it may believe for a second: a request costs ten then, and is answered by the other one.
    let other = async || only(&used().await?, &addresses[1..]);
    eventually(PATIENCE * 2, other).await.context("the other one is used alone")?;
    cluster.signal("api-1", Signal::SIGCONT)?;
    eventually(PATIENCE, both).await.context("both are used again")?;
    // One that is not ready and says so is left out as well.
    cluster.kill("api-2").await?;
    let first = async || only(&used().await?, &addresses[..1]);
    eventually(PATIENCE, first).await.context("the first one is used alone")
}

#[tokio::test]
async fn what_nginx_answers_and_holds_is_counted_also_by_a_program_that_was_started_anew() -> Result<()> {
    let cluster = Cluster::builder().api(1).start().await?;
    let port = address_of(&cluster.process("api-1")?.url)?.port();
    let (dns, metrics, api) = (nobody()?, nobody()?.port(), format!("localhost:{port}"));
    let program = Path::new(env!("CARGO_BIN_EXE_gatefold-cluster")).with_file_name("gatefold-edge");
    let variables = vec![
        ("GATEFOLD_EDGE", program.display().to_string()),
        ("DNS_ADDRESS", dns.to_string()),
        ("METRICS_PORT", metrics.to_string()),
        ("NGINX_LIMIT_LOGIN", "1r/m:1".to_owned()),
    ];
    let container = Container::with(Options { edge: "plain", api: &api, dns, variables }).await?;
    let told = async |line: &str| {
        let text = reqwest::get(format!("http://127.0.0.1:{metrics}/metrics")).await?.text().await?;
        ensure!(text.lines().any(|told| told.starts_with(line)), "no {line} in {text}");
        Ok(())
    };
    let tells = async |line: &str| eventually(PATIENCE, || told(line)).await;
    tells(r#"gatefold_edge_replicas{service="api",state="ready"} 1"#).await?;
    tells(r#"gatefold_edge_replicas{service="ws",state="ready"} 0"#).await?;
    tells("gatefold_edge_connections 1").await?;
    tells("gatefold_edge_connections_limit ").await?;
    for _ in 0..3 {
        container.call(Ipv4Addr::LOCALHOST, "/api/login?secret=1", "").await?;
    }
    container.call(Ipv4Addr::LOCALHOST, "/api/protected", "").await?;
    tells(r#"gatefold_edge_requests_total{route="login",status="405",by="replica"} 2"#).await?;
    tells(r#"gatefold_edge_requests_total{route="login",status="429",by="edge"} 1"#).await?;
    tells(r#"gatefold_edge_requests_total{route="api",status="401",by="replica"} 1"#).await?;
    // Its counts begin anew with it, and Nginx finds it again.
    let pid = process_with(&format!("DNS_ADDRESS={dns}"))?;
    ensure!(Command::new("kill").args(["-KILL", &pid]).status()?.success(), "it cannot be killed");
    let counts_again = async || {
        container.call(Ipv4Addr::LOCALHOST, "/health", "").await?;
        told(r#"gatefold_edge_requests_total{route="api",status="200",by="replica"}"#).await
    };
    eventually(PATIENCE, counts_again).await?;
    ensure!(process_with(&format!("DNS_ADDRESS={dns}"))? != pid, "it is another process");
    drop(container);
    // Nor does it stay behind.
    eventually(PATIENCE, async || match process_with(&format!("DNS_ADDRESS={dns}")) {
        Ok(pid) => anyhow::bail!("{pid} is still there"),
        Err(_) => Ok(()),
    })
    .await
}

/// The gatefold-edge that was started with this in its environment.
fn process_with(variable: &str) -> Result<String> {
    let processes = fs::read_dir("/proc")?.flatten();
    let mut ours = processes.filter(|process| {
        let has = |file: &str, what: &str| {
            let text = fs::read(process.path().join(file)).unwrap_or_default();
            text.split(|byte| *byte == 0).any(|part| part.ends_with(what.as_bytes()))
        };
        has("cmdline", "/gatefold-edge") && has("environ", variable)
    });
    Ok(ours.next().context("no process")?.file_name().to_string_lossy().into_owned())
}
