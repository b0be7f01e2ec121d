//! The Nginx of the containers, as its image starts it: whom it believes about the client behind another proxy
//! (`EDGE=proxied`), and what it answers over plain http where it serves https (`EDGE=tls`).

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};

use crate::{
    container::{Container, PROXY},
    harness::{Manner, Stub},
};

const OK: Manner = Manner::Answer("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
/// Somebody else in the neighbourhood of the proxy.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// What the replica is told of the client's address and scheme. Browsers are told to come by https only if they did.
async fn told(from: Ipv4Addr, headers: &str) -> Result<(String, String)> {
    let replica = Stub::start(OK)?;
    let container = Container::start(replica.address, "proxied").await?;
    let answer = container.call(from, "/api/health", headers).await?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let strict = answer.to_lowercase().contains("strict-transport-security: max-age=63072000");
    ensure!(strict == (from == PROXY && headers.contains("https")), "{answer}");
    let headers = replica.only()?;
    let one = |name: &str| headers.get(name).and_then(|values| values.first()).cloned();
    Ok((one("x-forwarded-for").context("no address")?, one("x-forwarded-proto").context("no scheme")?))
}

#[tokio::test]
async fn a_forged_address_from_outside_of_the_proxys_network_is_ignored() -> Result<()> {
    let forged = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n";
    ensure!(told(PROXY, forged).await? == ("203.0.113.7".to_owned(), "https".to_owned()), "the proxy is believed");
    let of_neighbour = told(NEIGHBOUR, forged).await?;
    ensure!(of_neighbour == (NEIGHBOUR.to_string(), "http".to_owned()), "{of_neighbour:?}");
    Ok(())
}

/// A client whose own address is private, too: what stands left of it is its own claim.
#[tokio::test]
async fn a_client_of_a_private_network_cannot_claim_another_address_through_the_proxy() -> Result<()> {
    let (address, _) = told(PROXY, "X-Forwarded-For: 203.0.113.7, 10.1.2.3\r\n").await?;
    ensure!(address == "10.1.2.3", "{address}");
    Ok(())
}

#[tokio::test]
async fn behind_two_proxies_the_first_scheme_counts_and_ports_of_addresses_do_not() -> Result<()> {
    for proto in ["https,http", "https , http", "https"] {
        let headers = format!("X-Forwarded-For: 203.0.113.7:4711\r\nX-Forwarded-Proto: {proto}\r\n");
        let told = told(PROXY, &headers).await?;
        ensure!(told == ("203.0.113.7".to_owned(), "https".to_owned()), "{proto}: {told:?}");
    }
    for proto in ["http,https", "httpsx"] {
        let replica = Stub::start(OK)?;
        let container = Container::start(replica.address, "proxied").await?;
        container.call(PROXY, "/api/health", &format!("X-Forwarded-Proto: {proto}\r\n")).await?;
        ensure!(replica.only()?["x-forwarded-proto"] == ["http"], "{proto}");
    }
    Ok(())
}

#[tokio::test]
async fn over_plain_http_pages_are_sent_to_https_and_calls_are_refused() -> Result<()> {
    let replica = Stub::start(OK)?;
    let container = Container::start(replica.address, "tls").await?;
    let page = container.call(PROXY, "/page?a=b", "").await?;
    ensure!(
        page.starts_with("HTTP/1.1 308 ") && page.contains("Location: https://gatefold.test:8443/page?a=b"),
        "{page}"
    );
    for path in ["/api/health", "/ws", "/health", "/.well-known/jwks.json"] {
        let call = container.call(PROXY, path, "Authorization: Bearer token\r\n").await?;
        ensure!(
            call.starts_with("HTTP/1.1 403 ") && call.contains("https_required") && !call.contains("Location"),
            "{call}"
        );
    }
    ensure!(replica.heads().is_empty(), "{:?}", replica.heads());
    Ok(())
}

/// HTTP-01 of RFC 8555: the proof is looked for at port 80.
#[tokio::test]
async fn over_plain_http_the_proofs_of_acme_are_served_and_nothing_beside_them() -> Result<()> {
    let replica = Stub::start(OK)?;
    let container = Container::start(replica.address, "tls").await?;
    let proofs = container.folder.path().join(".well-known/acme-challenge");
    fs::create_dir_all(&proofs)?;
    fs::write(proofs.join("a-token"), "a-token.thumbprint")?;
    let proof = container.call(PROXY, "/.well-known/acme-challenge/a-token", "").await?;
    ensure!(proof.starts_with("HTTP/1.1 200 ") && proof.ends_with("a-token.thumbprint"), "{proof}");
    for path in ["/.well-known/acme-challenge/another", "/.well-known/acme-challenge/%2e%2e/%2e%2e/key.pem"] {
        let answer = container.call(PROXY, path, "").await?;
        ensure!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn the_container_is_reached_over_ipv4_and_where_there_is_ipv6_over_that_too() -> Result<()> {
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    for (if_inet6, expected) in [("/proc/net/if_inet6", has_ipv6), ("/nowhere", false)] {
        let replica = Stub::start(OK)?;
        let container = Container::start_with(replica.address, "plain", if_inet6).await?;
        let answer = container.call(Ipv4Addr::LOCALHOST, "/api/health", "").await?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        ensure!(TcpStream::connect((Ipv6Addr::LOCALHOST, container.port)).is_ok() == expected, "{if_inet6}");
        if expected {
            let replica = Stub::start(OK)?;
            let container = Container::start(replica.address, "plain").await?;
            container.call(Ipv6Addr::LOCALHOST, "/api/health", "").await?;
            let headers = replica.only()?;
            ensure!(headers["x-forwarded-for"] == ["::1"], "{headers:?}");
        }
    }
    Ok(())
}
