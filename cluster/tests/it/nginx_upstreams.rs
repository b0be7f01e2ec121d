//! Nginx and the replicas: what it tells them, and what it does when one dies.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gatefold_cluster::{Cluster, Kind};
use tokio::net::{TcpListener, TcpSocket};

use crate::harness::{Manner, Stub, get, nobody, request};

const OK: Manner = Manner::Answer("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
const AWAY: Manner =
    Manner::Answer("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\naway");

#[tokio::test]
async fn a_client_cannot_forge_its_address() -> Result<()> {
    let replica = Stub::start(OK)?;
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, replica.address).start().await?;
    let forged = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 9.9.9.9\r\n\
                  Forwarded: for=9.9.9.9\r\nX-Request-Id: mine\r\nX_Forwarded_For: 9.9.9.9\r\n";
    ensure!(request(&cluster.url(), "GET", "/api/health", forged)?.status == 200);
    let headers = replica.only()?;
    ensure!(headers["x-forwarded-for"] == ["127.0.0.1"] && headers["x-forwarded-proto"] == ["http"], "{headers:?}");
    ensure!(headers["host"] == ["gatefold.test"] && headers["x-request-id"] != ["mine"], "{headers:?}");
    for gone in ["forwarded", "x-real-ip", "x-forwarded-host", "x_forwarded_for"] {
        ensure!(!headers.contains_key(gone), "{headers:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_trace_of_a_request_has_its_public_id_and_nothing_of_its_key() -> Result<()> {
    let replica = Stub::start(OK)?;
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, replica.address).start().await?;
    let theirs =
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\nbaggage: a=b\r\n";
    let answer = request(&cluster.url(), "POST", "/api/refresh", &format!("{theirs}Content-Length: 0\r\n"))?;
    let (id, headers) = (answer.header("x-request-id")?, replica.only()?);
    ensure!(headers["traceparent"] == [format!("00-0000000000000000{id}-{id}-00")], "{headers:?}");
    ensure!(!headers.contains_key("tracestate") && !headers.contains_key("baggage"), "{headers:?}");
    let secret = headers["idempotency-key"][0].strip_prefix(id).context("the key begins with the public half")?;
    ensure!(secret.len() == 16 && !headers["traceparent"][0].contains(secret), "{headers:?}");
    Ok(())
}

#[tokio::test]
async fn health_and_public_keys_come_from_the_api() -> Result<()> {
    let replica = Stub::start(OK)?;
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, replica.address).start().await?;
    get(&cluster.url(), "/health")?;
    get(&cluster.url(), "/.well-known/jwks.json")?;
    get(&cluster.url(), "/api/rooms/.hidden/presence")?;
    let heads = replica.heads();
    let lines: Vec<&str> = heads.iter().filter_map(|head| head.lines().next()).collect();
    let wanted = ["/api/health", "/.well-known/jwks.json", "/api/rooms/.hidden/presence"];
    ensure!(lines == wanted.map(|path| format!("GET {path} HTTP/1.1")), "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn a_socket_is_upgraded() -> Result<()> {
    let replica = Stub::start(Manner::Answer(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
    ))?;
    let cluster = Cluster::builder().without_stores().upstream(Kind::Ws, replica.address).start().await?;
    let upgrade =
        "GET /ws?token=t HTTP/1.1\r\nHost: gatefold.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = crate::harness::exchange(&cluster.url(), upgrade.as_bytes())?;
    ensure!(answer.status == 101 && answer.body == "hello" && answer.header("x-request-id")?.len() == 16, "{answer:?}");
    let headers = replica.only()?;
    ensure!(headers["upgrade"] == ["websocket"] && headers["connection"] == ["upgrade"], "{headers:?}");
    Ok(())
}

#[tokio::test]
async fn a_refresh_is_asked_again_of_the_next_replica_under_the_same_key() -> Result<()> {
    for (sent, expected) in [("", None), ("Idempotency-Key: mine\r\n", Some("mine"))] {
        let (dying, living) = (Stub::start(Manner::Die)?, Stub::start(OK)?);
        let cluster = Cluster::builder().without_stores().upstream(Kind::Api, dying.address);
        let cluster = cluster.upstream(Kind::Api, living.address).start().await?;
        let mut answer = request(&cluster.url(), "POST", "/api/refresh", sent)?;
        while dying.heads().is_empty() {
            answer = request(&cluster.url(), "POST", "/api/refresh", sent)?;
        }
        ensure!(answer.status == 200, "{answer:?}");
        let key =
            |head: &String| head.lines().find_map(|line| line.strip_prefix("Idempotency-Key: ").map(str::to_owned));
        let first = dying.heads().first().and_then(key).context("a key was added")?;
        let again = living.heads().last().and_then(key).context("a key was added")?;
        ensure!(first == again && expected.is_none_or(|expected| first == expected), "{first} and {again}");
        let public = answer.header("x-request-id")?;
        ensure!(
            first != public && (expected.is_some() || first.len() == 32),
            "what everybody sees must not be the key"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_could_happen_twice_is_not_asked_again() -> Result<()> {
    for path in ["/api/register", "/api/password", "/api/rooms/lobby/messages"] {
        let (one, other) = (Stub::start(Manner::Die)?, Stub::start(Manner::Die)?);
        let cluster = Cluster::builder().without_stores().upstream(Kind::Api, one.address);
        let cluster = cluster.upstream(Kind::Api, other.address).start().await?;
        ensure!(request(&cluster.url(), "POST", path, "")?.status == 502);
        ensure!(one.heads().len() + other.heads().len() == 1, "{path} was asked twice");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_of_503_is_passed_on_as_it_is() -> Result<()> {
    let (one, other) = (Stub::start(AWAY)?, Stub::start(AWAY)?);
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, one.address);
    let cluster = cluster.upstream(Kind::Api, other.address).start().await?;
    let answer = request(&cluster.url(), "POST", "/api/refresh", "")?;
    ensure!(answer.status == 503 && answer.body == "away" && answer.header("retry-after")? == "7", "{answer:?}");
    ensure!(one.heads().len() + other.heads().len() == 1, "it was asked twice");
    Ok(())
}

#[tokio::test]
async fn a_dead_replica_is_not_noticed() -> Result<()> {
    let living = Stub::start(OK)?;
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, nobody()?);
    let cluster = cluster.upstream(Kind::Api, living.address).start().await?;
    for number in 0..200 {
        let answer = request(&cluster.url(), "POST", "/api/password", "")?;
        ensure!(answer.status == 200, "number {number}: {answer:?}");
    }
    Ok(())
}

/// Somebody at whose address no connection is refused and none is made, as that of a container that has just gone: a listener
/// whose queue is full.
struct Silence {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Silence {
    fn start() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut waiting = Vec::new();
        while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            waiting.push(connection);
        }
        Ok(Self { address, _listener: listener, _waiting: waiting })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_even_refuse_a_connection_is_passed_over_by_every_call() -> Result<()> {
    let (silent, living) = (Silence::start()?, Stub::start(OK)?);
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, silent.address);
    let cluster = cluster.upstream(Kind::Api, living.address).start().await?;
    for path in
        ["login", "refresh", "logout", "logout-all", "ws-ticket", "register", "password", "rooms/lobby/messages"]
    {
        let mut met = false;
        while !met {
            let began = Instant::now();
            let answer = request(&cluster.url(), "POST", &format!("/api/{path}"), "")?;
            ensure!(answer.status == 200, "{path}: {answer:?}");
            met = began.elapsed() > Duration::from_millis(900);
        }
    }
    Ok(())
}
