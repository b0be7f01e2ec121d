//! Traces: what a request, a message of a socket, or a publish took, from the proxy to the stores and to the other
//! replicas, for a collector that speaks OTLP.
//!
//! Without a collector all of this is one branch: a [`Span`] is then nothing, and so is one of a trace that is not sampled.
//! Spans hold names of ours, numbers and ids; never a URL, an argument of a query, a token, a name of a user or of a room.

pub mod config;
mod export;
mod in_span;
pub mod log;
mod parent;
mod sampling;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, sync::OnceLock, time::Duration};

use http::HeaderMap;
use opentelemetry::{
    KeyValue, Value,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, TraceId, Tracer, TracerProvider},
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanLimits};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use uuid::Uuid;

pub use self::{config::TraceConfig, in_span::InSpan, parent::Parent};
use self::{export::Exporter, sampling::Roots};
use crate::lifecycle::Lifecycle;

/// How long the end of a replica may wait for the collector.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

static TRACING: OnceLock<Tracing> = OnceLock::new();

struct Tracing {
    tracer: SdkTracer,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
}

/// Begins to record traces, if there is a collector to tell. Once a process; `service` is what it calls itself unless the
/// configuration knows better.
pub fn start(config: &TraceConfig, service: &'static str, life: &Lifecycle) -> anyhow::Result<()> {
    let Some(endpoint) = config.endpoint.traces() else { return Ok(()) };
    let resource = config.resource(service);
    let (exporter, queue, flushes) = Exporter::new(endpoint, &config.headers, &resource)?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Roots::new(config))
        // Said here, since the SDK would otherwise ask the environment.
        .with_span_limits(SpanLimits::default())
        .with_span_processor(queue)
        .build();
    let _ = TRACING.set(Tracing { tracer: provider.tracer("gatefold"), flushes });
    life.spawn_forever("export traces", exporter.run());
    Ok(())
}

/// Tells the collector what is left, at the end of the process; gives up soon.
pub async fn flush() {
    let Some(tracing) = TRACING.get() else { return };
    let (done, flushed) = oneshot::channel();
    let all = async {
        if tracing.flushes.send(done).await.is_ok() {
            let _ = flushed.await;
        }
    };
    let _ = timeout(FLUSH_WITHIN, all).await;
}

/// A part of a trace, from when it is made until it is dropped; nothing while nothing is traced.
#[derive(Default)]
pub struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Span {
    fn begin(tracer: &SdkTracer, builder: SpanBuilder, parent: Option<Parent>) -> Self {
        let parent = parent.map_or_else(opentelemetry::Context::new, |parent| {
            opentelemetry::Context::new().with_remote_span_context(parent.into())
        });
        let span = tracer.build_with_context(builder, &parent);
        Self(span.is_recording().then(|| Box::new(span)))
    }

    /// A child of what goes on right now, if that is traced.
    fn child(name: impl Into<Cow<'static, str>>, kind: SpanKind, system: Option<&'static str>) -> Self {
        let Some((tracing, parent)) = TRACING.get().zip(Parent::current()) else { return Self(None) };
        let mut builder = SpanBuilder::from_name(name).with_kind(kind);
        if let Some(system) = system {
            builder = builder.with_attributes([KeyValue::new("db.system.name", system)]);
        }
        Self::begin(&tracing.tracer, builder, Some(parent))
    }

    /// One call to Redis: a script's or a command's name.
    #[inline]
    pub fn redis(name: &'static str) -> Self {
        if TRACING.get().is_none() { Self(None) } else { Self::child(name, SpanKind::Client, Some("redis")) }
    }

    /// One query to Postgres, by our name for it.
    #[inline]
    pub fn postgres(name: &'static str) -> Self {
        if TRACING.get().is_none() { Self(None) } else { Self::child(name, SpanKind::Client, Some("postgresql")) }
    }

    /// Something that this process does itself and that takes its time.
    #[inline]
    pub fn internal(name: &'static str) -> Self {
        if TRACING.get().is_none() { Self(None) } else { Self::child(name, SpanKind::Internal, None) }
    }

    /// A message that is published, to be delivered by other replicas in spans of the same trace.
    #[inline]
    pub fn publish() -> Self {
        if TRACING.get().is_none() { Self(None) } else { Self::child("publish", SpanKind::Producer, None) }
    }

    /// A request, in the trace that a trusted proxy began; a client's own wishes are not asked for.
    #[inline]
    pub fn request(
        method: &'static str,
        route: Option<&str>,
        id: &str,
        (headers, through_proxy): (&HeaderMap, bool),
    ) -> Self {
        let Some(tracing) = TRACING.get() else { return Self(None) };
        // Probes come every few seconds, and nobody looks for them.
        if matches!(route, Some("/api/health" | "/api/ready" | "/health" | "/ready")) {
            return Self(None);
        }
        let route = route.unwrap_or("unmatched");
        let attributes = [
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("request.id", id.to_owned()),
        ];
        let builder = SpanBuilder::from_name(format!("{method} {route}"));
        let builder = builder.with_kind(SpanKind::Server).with_attributes(attributes);
        let parent = if through_proxy { Parent::of_headers(headers) } else { None };
        Self::begin(&tracing.tracer, builder, parent)
    }

    /// A message of a client on a socket, which begins a trace of its own: sockets live for hours.
    #[inline]
    pub fn message(name: &'static str, connection: Uuid) -> Self {
        let Some(tracing) = TRACING.get() else { return Self(None) };
        let attributes = [KeyValue::new("conn.id", connection.to_string())];
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes);
        Self::begin(&tracing.tracer, builder, None)
    }

    /// The delivery of a published message to those who are here; `trace` came with it from whoever published it.
    #[inline]
    pub fn delivery(trace: Option<&str>, message: impl fmt::Display) -> Self {
        let Some((trace, tracing)) = trace.zip(TRACING.get()) else { return Self(None) };
        let Some(parent) = Parent::parse(trace) else { return Self(None) };
        let attributes = [KeyValue::new("messaging.message.id", message.to_string())];
        let builder = SpanBuilder::from_name("deliver").with_kind(SpanKind::Consumer).with_attributes(attributes);
        Self::begin(&tracing.tracer, builder, Some(parent))
    }

    /// What its children have to know of it.
    pub fn as_parent(&self) -> Option<Parent> {
        self.0.as_ref().map(|span| Parent::from(span.span_context()))
    }

    /// The trace that it is a part of.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.0.as_ref().map(|span| span.span_context().trace_id())
    }

    /// Does `work` within this span: whatever it asks of stores becomes its children.
    pub fn around<F: Future>(&self, work: F) -> InSpan<F> {
        InSpan::new(self.as_parent(), work)
    }

    /// Adds a number.
    pub fn count(&mut self, name: &'static str, number: impl TryInto<i64>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(name, number.try_into().unwrap_or(i64::MAX)));
        }
    }

    /// Adds a word, one of few.
    pub fn note(&mut self, name: &'static str, word: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(name, word));
        }
    }

    /// A request was answered.
    pub fn answered(&mut self, status: u16) {
        self.count("http.response.status_code", status);
        if status >= 500 {
            self.fail();
        }
    }

    /// It came to nothing.
    pub fn fail(&mut self) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(""));
        }
    }

    /// Ends it: as failed, if the result is an error.
    pub fn end<T, E>(mut self, result: &Result<T, E>) {
        if result.is_err() {
            self.fail();
        }
    }
}
