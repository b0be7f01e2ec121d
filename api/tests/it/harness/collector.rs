//! A collector of traces: a small HTTP server that takes OTLP and keeps everything it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message;
use tokio::net::TcpListener;

use super::{eventually, hex};

/// See the module.
pub struct Collector {
    address: SocketAddr,
    heard: Heard,
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(HeaderMap, Bytes)>>>);

/// A span, as far as tests look at it.
#[derive(Clone, Debug)]
pub struct Span {
    pub service: String,
    /// Of the replica.
    pub instance: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: i32,
    pub attributes: Vec<(String, String)>,
}

/// Kinds of spans, by their numbers in OTLP.
pub const SERVER: i32 = 2;
pub const CLIENT: i32 = 3;
pub const PRODUCER: i32 = 4;
pub const CONSUMER: i32 = 5;

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard = Heard::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(heard.clone());
        #[expect(clippy::disallowed_methods, reason = "it ends with its test")]
        drop(tokio::spawn(async move { axum::serve(listener, router).await }));
        Self { address, heard }
    }

    /// What replicas are to be told.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was ever sent here, headers and bodies, as it was.
    pub fn raw(&self) -> Vec<(HeaderMap, Bytes)> {
        self.heard.0.lock().expect("no test has failed").clone()
    }

    pub fn spans(&self) -> Vec<Span> {
        self.raw().iter().flat_map(|(_, body)| read(body)).collect()
    }

    /// The spans of a trace, when there is one for which `is_there` holds.
    pub async fn trace(&self, id: &str, is_there: impl Fn(&Span) -> bool) -> Vec<Span> {
        let spans = || self.spans().into_iter().filter(|span| span.trace == id).collect::<Vec<_>>();
        eventually("the trace is complete", async || spans().iter().any(&is_there)).await;
        spans()
    }
}

impl Span {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

async fn take(State(heard): State<Heard>, headers: HeaderMap, body: Bytes) -> StatusCode {
    heard.0.lock().expect("no test has failed").push((headers, body));
    StatusCode::OK
}

fn text(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let value = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{}: neither text nor a number: {other:?}", attribute.key),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}

fn read(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
    let of_process = |process: opentelemetry_proto::tonic::trace::v1::ResourceSpans| {
        let resource = text(&process.resource.unwrap_or_default().attributes);
        let named = |name: &str| resource.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value);
        let spans = process.scope_spans.into_iter().flat_map(|scope| scope.spans);
        let span = |span: opentelemetry_proto::tonic::trace::v1::Span| Span {
            service: named("service.name").to_owned(),
            instance: named("service.instance.id").to_owned(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            name: span.name,
            kind: span.kind,
            attributes: text(&span.attributes),
        };
        spans.map(span).collect::<Vec<_>>()
    };
    request.resource_spans.into_iter().flat_map(of_process).collect()
}
