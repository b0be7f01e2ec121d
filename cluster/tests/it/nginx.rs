//! Nginx: what it refuses, how it says so, and what it adds to every response.

use anyhow::{Result, ensure};
use gatefold_cluster::{Cluster, Kind};

use crate::harness::{Answer, Manner, Stub, exchange, get, nobody, request};

const SECURITY: [&str; 5] =
    ["content-security-policy", "permissions-policy", "referrer-policy", "x-content-type-options", "x-frame-options"];

async fn nginx() -> Result<Cluster> {
    Cluster::builder().without_stores().start().await
}

/// Checks the whole shape of an error that Nginx itself made.
fn is_problem(answer: &Answer, status: u16, code: &str) -> Result<()> {
    let problem = answer.json()?;
    ensure!(answer.status == status && problem["status"] == status, "{status} expected: {answer:?}");
    ensure!(answer.header("content-type")? == "application/problem+json", "{answer:?}");
    ensure!(problem["type"] == "about:blank" && problem["code"] == code, "{problem}");
    ensure!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    ensure!(problem["error"] == problem["detail"] && problem["requireReauth"] == false, "{problem}");
    ensure!(problem["requestId"] == answer.header("x-request-id")?, "{answer:?}");
    ensure!(answer.all("retry-after").len() == usize::from(matches!(status, 429 | 502..=504)), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn what_nginx_refuses_is_a_problem_of_the_documented_shape() -> Result<()> {
    let cluster = Cluster::builder().without_stores().upstream(Kind::Ws, nobody()?).start().await?;
    let url = cluster.url();
    is_problem(&get(&url, "/nothing/here")?, 404, "not_found")?;
    for (method, path) in [("DELETE", "/"), ("TRACE", "/"), ("TRACE", "/api/health")] {
        is_problem(&request(&url, method, path, "")?, 405, "method_not_allowed")?;
    }
    ensure!(request(&url, "POST", "/", "")?.header("allow")? == "GET, HEAD");
    is_problem(&exchange(&url, b"NONSENSE\r\n\r\n")?, 400, "invalid_request")?;
    is_problem(&exchange(&url, b"GET / HTTP/1.1\r\n\r\n")?, 400, "invalid_request")?;
    is_problem(&get(&url, &format!("/{}", "a".repeat(20_000)))?, 414, "invalid_request")?;
    is_problem(&get(&url, "/api/health")?, 502, "unavailable")?;
    is_problem(&get(&url, "/ws?token=none")?, 502, "unavailable")?;
    is_problem(&request(&url, "POST", "/api/login", "Content-Length: 16385\r\n")?, 413, "payload_too_large")?;
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n5000\r\n{}\r\n0\r\n", "a".repeat(0x5000));
    is_problem(&request(&url, "POST", "/api/login", &chunked)?, 413, "payload_too_large")
}

#[tokio::test]
async fn a_megabyte_of_headers_is_refused_in_the_documented_shape() -> Result<()> {
    let cluster = nginx().await?;
    let one = format!("X-Large: {}\r\n", "a".repeat(1 << 20));
    is_problem(&request(&cluster.url(), "GET", "/api/health", &one)?, 431, "invalid_request")?;
    let many = "X-Small: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(16 << 10);
    is_problem(&request(&cluster.url(), "GET", "/api/health", &many)?, 431, "invalid_request")
}

#[tokio::test]
async fn hidden_files_and_metrics_are_not_there() -> Result<()> {
    let cluster = nginx().await?;
    for path in
        ["/.git/config", "/.env", "/%2egit/config", "/.well-known/other", "/metrics", "/../nginx.conf", "/problem"]
    {
        let answer = get(&cluster.url(), path)?;
        ensure!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
    }
    is_problem(&get(&cluster.url(), "/.git/config")?, 404, "not_found")
}

#[tokio::test]
async fn a_folder_is_not_listed() -> Result<()> {
    let cluster = nginx().await?;
    let folder = cluster.dir().join("nginx/client/folder");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("file.txt"), "")?;
    ensure!(get(&cluster.url(), "/folder/file.txt")?.status == 200, "it is served");
    for path in ["/folder", "/folder/"] {
        is_problem(&get(&cluster.url(), path)?, 404, "not_found")?;
    }
    Ok(())
}

#[tokio::test]
async fn too_many_sign_ins_are_429() -> Result<()> {
    let cluster = Cluster::builder().without_stores().rate_limits(true).start().await?;
    for path in ["/api/login", "/api/refresh", "/api/register", "/api/password"] {
        let mut answers = Vec::new();
        while answers.len() < 400 && answers.last() != Some(&429) {
            answers.push(request(&cluster.url(), "POST", path, "")?.status);
        }
        ensure!(answers.last() == Some(&429), "{path}: {answers:?}");
    }
    is_problem(&request(&cluster.url(), "POST", "/api/login", "")?, 429, "rate_limited")
}

#[tokio::test]
async fn ten_sign_ins_at_once_are_let_through_and_then_no_more() -> Result<()> {
    let cluster = Cluster::builder().without_stores().rate_limits(true).start().await?;
    let mut passed = 0;
    while passed < 40 && request(&cluster.url(), "POST", "/api/login", "")?.status != 429 {
        passed += 1;
    }
    // A burst of ten, and one every two seconds.
    ensure!((11..40).contains(&passed), "{passed} were let through");
    let others: Result<Vec<u16>> = (0..20).map(|_| Ok(get(&cluster.url(), "/api/health")?.status)).collect();
    ensure!(others?.iter().all(|status| *status == 502), "other calls have a limit of their own");
    ensure!(request(&cluster.url(), "POST", "/api/refresh", "")?.status == 502, "refreshes have a limit of their own");
    Ok(())
}

#[tokio::test]
async fn the_limits_are_what_the_settings_say() -> Result<()> {
    let limits =
        [("LOGIN", "1r/m:3"), ("REFRESH", "1r/m:5"), ("API", "1r/m:7"), ("REQUESTS_AT_ONCE", ""), ("SOCKETS", "9")];
    let mut builder = Cluster::builder().without_stores().rate_limits(true);
    for (name, value) in limits {
        builder = builder.env(&format!("NGINX_LIMIT_{name}"), value);
    }
    let cluster = builder.start().await?;
    // One more than the burst: the first comes out of the rate.
    for (path, burst) in [("/api/login", 3), ("/api/refresh", 5), ("/api/protected", 7)] {
        let statuses: Result<Vec<u16>> =
            (0..2 * burst).map(|_| Ok(request(&cluster.url(), "POST", path, "")?.status)).collect();
        let passed = statuses?.iter().filter(|status| **status != 429).count();
        ensure!(passed == burst + 1, "{path}: {passed} were let through");
    }
    let configuration = std::fs::read_to_string(cluster.dir().join("nginx/conf/nginx.conf"))?;
    ensure!(configuration.contains("limit_conn sockets_at_once 9;"), "{configuration}");
    ensure!(configuration.contains("limit_conn requests_at_once 64;"), "an empty setting is the default");
    Ok(())
}

#[tokio::test]
async fn a_limit_that_is_none_is_refused_before_nginx_starts() {
    let all =
        [("API", "10/1m"), ("API", "1r/s"), ("LOGIN", "1r/s:0"), ("REFRESH", "1r/s:9; return 200"), ("SOCKETS", "x")];
    for (name, value) in all {
        let name = format!("NGINX_LIMIT_{name}");
        let started = Cluster::builder().without_stores().rate_limits(true).env(&name, value).start().await;
        let said = started.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(said.contains(&format!("nginx: {name}: expected")), "{name}={value}: {said:?}");
    }
}

#[tokio::test]
async fn every_response_has_one_request_id_and_each_security_header_once() -> Result<()> {
    let replica = Stub::start(Manner::Answer(
        "HTTP/1.1 200 OK\r\nX-Request-Id: the-replicas-own\r\nX-Frame-Options: SAMEORIGIN\r\nReferrer-Policy: origin\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'\r\nContent-Length: 2\r\n\r\nok",
    ))?;
    let cluster = Cluster::builder().without_stores().upstream(Kind::Api, replica.address).start().await?;
    let url = cluster.url();
    for answer in [get(&url, "/")?, get(&url, "/api/health")?, get(&url, "/nothing")?, get(&url, "/ws")?] {
        ensure!(answer.header("x-request-id")?.len() == 16, "{answer:?}");
        for name in SECURITY {
            answer.header(name)?;
        }
        ensure!(answer.header("server")? == "nginx", "no version: {answer:?}");
    }
    let answer = get(&url, "/api/health")?;
    ensure!(
        answer.header("x-frame-options")? == "DENY"
            && answer.header("content-security-policy")? == "default-src 'none'"
    );
    Ok(())
}

#[tokio::test]
async fn the_page_needs_nothing_that_its_policy_forbids() -> Result<()> {
    let cluster = nginx().await?;
    let page = get(&cluster.url(), "/")?;
    ensure!(page.status == 200 && page.header("content-type")?.starts_with("text/html"));
    ensure!(!page.header("content-security-policy")?.contains("unsafe-inline"));
    ensure!(!page.body.contains("<style") && !page.body.contains(" style=") && !page.body.contains("<script>"));
    ensure!(get(&cluster.url(), "/style.css")?.header("content-type")?.starts_with("text/css"));
    Ok(())
}
