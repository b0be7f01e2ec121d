//! The metrics, as Prometheus gets them from both kinds of replica: what is told is what docs/operations.md describes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use futures_util::{SinkExt, StreamExt, future::join_all};
use gatefold_cluster::{Cluster, Kind};
use serde_json::json;

use crate::harness::{Door, PASSWORD, Requester, TestApp, collector::Collector, eventually, unhurried, unique};

/// What a cluster without trouble never tells.
const TROUBLE: [&str; 16] = [
    "gatefold_events_lost_total",
    "gatefold_family_reopenings_total",
    "gatefold_key_reloads_total",
    "gatefold_password_hashes_refused_total",
    "gatefold_postgres_connections_closed_total",
    "gatefold_postgres_query_errors_total",
    "gatefold_redis_command_errors_total",
    "gatefold_redis_script_errors_total",
    "gatefold_revocations_reasserted_total",
    "gatefold_room_budget_refusals_total",
    "gatefold_sessions_ended_again_total",
    "gatefold_sessions_revoked_total",
    "gatefold_ws_presence_evictions_total",
    "gatefold_ws_room_overflows_total",
    "gatefold_ws_unsent_bytes",
    "gatefold_ws_user_seat_refusals_total",
];

/// The names of metrics, with their types and labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The table.
fn documented() -> Metrics {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| metric | type | labels | meaning |\n").unwrap();
    let rows = table.split("\n\n").next().unwrap().lines().skip(1);
    let row = |row: &str| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    };
    rows.map(row).collect()
}

/// What a replica tells, in Prometheus's own format.
async fn told(url: &str, metrics: &mut Metrics) {
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let mut kind = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, declared) = declared.split_once(' ').unwrap();
            declared.clone_into(&mut kind);
            declared.clone_into(&mut metrics.entry(name.to_owned()).or_default().0);
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let end = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
            let name = if kind == "histogram" { end.unwrap_or(name) } else { name };
            let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once('='));
            let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
            metrics.get_mut(name).unwrap().1.extend(labels);
        }
    }
}

async fn use_a_little(app: &TestApp) {
    let name = unique("metrics");
    let mut user: Requester = app.signed_in(&name).await;
    assert_eq!(user.refresh().await.status, 200);
    assert_eq!(app.anonymous().at(Door::Nginx).login(&name, "wrong").await.status, 401);
    let url = format!("{}?token={}", app.cluster.ws_url(), user.access_token());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for (message, answer) in [
        (json!({ "type": "join", "room": "metrics" }), "joined"),
        (json!({ "type": "publish", "room": "metrics", "data": 1 }), "published"),
        (json!({ "type": "ping" }), "pong"),
    ] {
        socket.send(message.to_string().into()).await.unwrap();
        let answer = format!(r#""type":"{answer}""#);
        while !socket.next().await.unwrap().unwrap().to_string().contains(&answer) {}
    }
    socket.close(None).await.unwrap();
    while socket.next().await.is_some_and(|heard| heard.is_ok()) {}
    assert_eq!(user.logout().await.status, 200);
}

#[tokio::test]
async fn what_is_measured_is_what_is_documented() {
    let collector = Collector::start().await;
    let builder = unhurried(Cluster::builder()).api(1).ws(1).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let app = TestApp::start(builder).await;
    use_a_little(&app).await;

    let documented = documented();
    let urls: Vec<_> = [Kind::Api, Kind::Ws].into_iter().flat_map(|kind| app.cluster.replicas(kind)).collect();
    let usual: BTreeSet<_> = documented.keys().filter(|name| !TROUBLE.contains(&name.as_str())).collect();
    let mut metrics = Metrics::new();
    eventually("everything usual is told", async || {
        for replica in &urls {
            told(replica.metrics_url.as_ref().unwrap(), &mut metrics).await;
        }
        let missing: Vec<_> = usual.iter().filter(|name| !metrics.contains_key(name.as_str())).collect();
        if !missing.is_empty() {
            println!("not told yet: {missing:?}");
        }
        missing.is_empty()
    })
    .await;
    for (name, described) in &metrics {
        assert_eq!(Some(described), documented.get(name), "{name}");
    }
}

/// Alerts look at these: after a crowd they must not keep what was left at its worst moment.
#[tokio::test]
async fn places_that_are_free_again_are_told() {
    let app = TestApp::start(unhurried(Cluster::builder()).api(1)).await;
    let name = unique("places");
    app.add_user(&name).await;
    let logins = (0..8).map(|_| async {
        assert_eq!(app.anonymous().login(&name, PASSWORD).await.status, 200);
    });
    join_all(logins).await;
    let hashes = std::thread::available_parallelism().unwrap().get() + 64;
    eventually("all places are free", async || {
        let metrics = app.metrics_of(0).await;
        let is_told = |line: String| metrics.lines().any(|told| told == line);
        is_told("gatefold_events_free_places 20000".to_owned())
            && is_told(format!("gatefold_password_hashes_free_places {hashes}"))
    })
    .await;
}
