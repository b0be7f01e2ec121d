//! Traces, as a collector gets them: one for each request, from Nginx to the stores, and from a publish to its delivery.

use std::time::{Duration, Instant};

use fred::{
    interfaces::{ClientLike, EventInterface, PubsubInterface},
    prelude::{Builder, Config},
};
use futures_util::{SinkExt, StreamExt};
use gatefold_cluster::{Cluster, Kind};
use gatefold_shared::redis::keys;
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::{
    Door, Requester, TestApp,
    collector::{CLIENT, CONSUMER, Collector, PRODUCER, SERVER, Span},
    eventually, send,
};

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// The trace that Nginx begins for a request of this id.
fn trace_of(request_id: &str) -> String {
    assert_eq!(request_id.len(), 16, "{request_id}");
    format!("0000000000000000{request_id}")
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

async fn cluster(collector: &Collector) -> TestApp {
    let builder = Cluster::builder().api(1).ws(2).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let builder = builder.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20key").env("OTEL_RESOURCE_ATTRIBUTES", "a=b");
    // With a line for each request, also for those that went well.
    TestApp::start(builder.env("LOG_LEVEL", "info,gatefold_shared=debug")).await
}

/// A socket in a room on one ws replica.
async fn joined(app: &TestApp, replica: &str, room: &str, user: &Requester) -> Socket {
    let url = app.cluster.process(replica).unwrap().url.replacen("http", "ws", 1);
    let url = format!("{url}/ws?token={}", user.access_token());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    say(&mut socket, json!({ "type": "join", "room": room })).await;
    hear(&mut socket, "joined").await;
    socket
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(message.to_string().into()).await.unwrap();
}

async fn hear(socket: &mut Socket, kind: &str) -> String {
    let heard = async {
        loop {
            let text = socket.next().await.unwrap().unwrap().into_text().unwrap().to_string();
            if text.contains(&format!(r#""type":"{kind}""#)) {
                return text;
            }
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, heard).await.unwrap()
}

#[tokio::test]
async fn a_log_in_is_one_trace_from_nginx_to_both_stores_and_found_from_its_log_line() {
    let collector = Collector::start().await;
    let app = cluster(&collector).await;
    app.add_user("traces.alice").await;
    let answer = app.anonymous().at(Door::Nginx).login("traces.alice", crate::harness::PASSWORD).await;
    assert_eq!(answer.status, 200);
    let id = answer.header("x-request-id").unwrap().to_owned();

    let spans = collector.trace(&trace_of(&id), |span| span.name == "POST /api/login").await;
    let server = named(&spans, "POST /api/login");
    assert_eq!((server.kind, &*server.parent, &*server.service), (SERVER, &*id, "gatefold-api"));
    assert_eq!(server.attribute("http.route"), "/api/login");
    assert_eq!(server.attribute("http.response.status_code"), "200");
    assert_eq!(server.attribute("request.id"), id);
    for (name, system) in [("user_by_name", "postgresql"), ("user_is_current", "postgresql"), ("issue", "redis")] {
        let span = named(&spans, name);
        assert_eq!((span.kind, &span.parent, span.attribute("db.system.name")), (CLIENT, &server.id, system), "{name}");
    }
    assert_eq!(named(&spans, "hash_password").parent, server.id);

    let log = app.cluster.process("api-1").unwrap().log;
    for message in ["logged in", "request served"] {
        let is_it = |line: &Value| line["message"] == message && line["trace.id"] == trace_of(&id);
        eventually(&format!("{message} is logged once"), async || {
            let log = std::fs::read_to_string(&log).unwrap();
            log.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(is_it).count() == 1
        })
        .await;
    }
    let (headers, _) = collector.raw().pop().unwrap();
    assert_eq!(headers["x-key"], "a key");
}

#[tokio::test]
async fn what_a_client_says_about_traces_is_not_believed() {
    let collector = Collector::start().await;
    let app = cluster(&collector).await;
    let theirs = "4bf92f3577b34da6a3ce929d0e0e4736";
    let spoofed = format!("00-{theirs}-00f067aa0ba902b7-01");
    let request = app.anonymous().at(Door::Nginx).request(Method::GET, "/.well-known/jwks.json");
    let answer =
        send(request.header("traceparent", spoofed).header("tracestate", "a=b").header("baggage", "a=b")).await;
    let ours = trace_of(answer.header("x-request-id").unwrap());
    let spans = collector.trace(&ours, |span| span.name == "GET /.well-known/jwks.json").await;
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert!(collector.spans().iter().all(|span| span.trace != theirs), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_trace_goes_from_whoever_publishes_to_the_replicas_that_deliver() {
    let collector = Collector::start().await;
    let app = cluster(&collector).await;
    let (alice, bob) = (app.signed_in("traces.publisher").await, app.signed_in("traces.listener").await);
    let mut publisher = joined(&app, "ws-1", "traces", &alice).await;
    let mut listener = joined(&app, "ws-2", "traces", &bob).await;
    hear(&mut publisher, "presence").await;

    say(&mut publisher, json!({ "type": "publish", "room": "traces", "data": "over a socket" })).await;
    let message = hear(&mut listener, "message").await;
    assert!(!message.contains("trace\""), "clients do not see traces: {message}");
    let is_published = |span: &Span| span.name == "publish" && span.kind == SERVER;
    eventually("the publish is exported", async || collector.spans().iter().any(is_published)).await;
    let trace = collector.spans().into_iter().find(is_published).unwrap().trace;
    is_delivered(&collector, &trace, &message).await;

    let request = alice.at(Door::Nginx).request(Method::POST, "/api/rooms/traces/messages");
    let answer = send(request.json(&json!({ "data": "over REST" }))).await;
    assert_eq!(answer.status, 202);
    let message = hear(&mut listener, "message").await;
    is_delivered(&collector, &trace_of(answer.header("x-request-id").unwrap()), &message).await;
}

/// That each of two ws replicas delivered a message once, in the trace of whoever published it.
async fn is_delivered(collector: &Collector, trace: &str, message: &str) {
    let of_trace = || collector.spans().into_iter().filter(|span| span.trace == trace).collect::<Vec<_>>();
    let deliveries = || of_trace().into_iter().filter(|span| span.kind == CONSUMER).collect::<Vec<_>>();
    let is_script = |span: &Span| span.kind == CLIENT && span.name == "publish";
    eventually("both replicas have delivered", async || deliveries().len() == 2).await;
    // By another replica perhaps, which tells the collector in its own time.
    eventually("the publish is exported", async || {
        of_trace().iter().any(|span| span.kind == PRODUCER) && of_trace().iter().any(is_script)
    })
    .await;
    let produced = of_trace().into_iter().filter(|span| span.kind == PRODUCER).collect::<Vec<_>>();
    assert_eq!(produced.len(), 1, "{produced:?}");
    let deliveries = deliveries();
    assert_ne!(deliveries[0].instance, deliveries[1].instance);
    for delivery in deliveries {
        assert_eq!((&*delivery.name, &delivery.parent), ("deliver", &produced[0].id));
        assert_eq!((&*delivery.service, delivery.attribute("members")), ("gatefold-ws", "1"));
        assert!(message.contains(delivery.attribute("messaging.message.id")), "{delivery:?} {message}");
    }
    let script = of_trace().into_iter().find(is_script).unwrap();
    assert_eq!(script.parent, produced[0].id);
}

#[tokio::test]
async fn what_is_not_recorded_leaves_no_trace_in_rooms() {
    let collector = Collector::start().await;
    let builder = Cluster::builder().api(1).ws(1).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let app = TestApp::start(builder.env("OTEL_TRACES_SAMPLER", "always_off")).await;
    let alice = app.signed_in("traces.unsampled").await;
    let mut socket = joined(&app, "ws-1", "unsampled", &alice).await;
    let config = Config::from_url(&app.cluster.redis_url()).unwrap();
    let redis = Builder::from_config(config).build().unwrap();
    redis.init().await.unwrap();
    let mut events = redis.message_rx();
    redis.ssubscribe(keys::room("unsampled")).await.unwrap();
    say(&mut socket, json!({ "type": "publish", "room": "unsampled", "data": 1 })).await;
    hear(&mut socket, "published").await;
    let event = tokio::time::timeout(crate::harness::PATIENCE, events.recv()).await;
    let event = event.unwrap().unwrap().value.as_string().unwrap();
    assert!(event.contains(r#""message""#) && !event.contains(r#""trace""#), "{event}");
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_collector_that_is_away_or_says_nothing_is_nobody_s_trouble() {
    // It accepts connections, as long as there is room for them, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in [silent.as_str(), "http://127.0.0.1:9"] {
        let builder = Cluster::builder().api(1).ws(1).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        let app = TestApp::start(builder).await;
        let mut alice = app.signed_in("traces.lonely").await;
        let mut socket = joined(&app, "ws-1", "lonely", &alice).await;
        for _ in 0..20 {
            assert_eq!(alice.refresh().await.status, 200);
            say(&mut socket, json!({ "type": "publish", "room": "lonely", "data": 1 })).await;
            hear(&mut socket, "published").await;
        }
        let metrics = app.cluster.replicas(Kind::Api)[0].metrics_url.clone().unwrap();
        eventually("lost spans are counted", async || {
            let metrics = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
            let dropped = r#"gatefold_trace_spans_dropped_total{why="not_sent"} "#;
            metrics.lines().any(|line| line.strip_prefix(dropped).is_some_and(|count| count != "0"))
        })
        .await;
        let log = app.cluster.process("api-1").unwrap().log;
        eventually("the loss is logged once", async || {
            std::fs::read_to_string(&log).unwrap().matches("the collector does not take traces").count() == 1
        })
        .await;

        drop(socket);
        for replica in ["api-1", "ws-1"] {
            let begun = Instant::now();
            app.cluster.stop(replica).await.unwrap();
            // Two seconds for the collector, and what a replica takes anyway; it may not be all that there is, twenty.
            assert!(begun.elapsed() < Duration::from_secs(15), "{replica}: {:?}", begun.elapsed());
        }
    }
}

#[tokio::test]
async fn what_was_traced_last_is_told_before_the_end() {
    let collector = Collector::start().await;
    let app = cluster(&collector).await;
    let answer = send(app.anonymous().at(Door::Nginx).request(Method::GET, "/.well-known/jwks.json")).await;
    app.cluster.stop("api-1").await.unwrap();
    let trace = trace_of(answer.header("x-request-id").unwrap());
    assert!(collector.spans().iter().any(|span| span.trace == trace), "{:?}", collector.spans());
}
