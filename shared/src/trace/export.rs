//! How spans get to the collector: through a queue that drops what does not fit, in batches, each sent once. Nobody ever
//! waits for the collector, and nothing but a metric and a line in the log says that it is away.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use metrics::counter;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use prost::Message;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use super::config::ExportHeaders;

/// Spans that may wait; each takes some 600 bytes.
const QUEUE: usize = 8192;
/// Spans sent at once.
const BATCH: usize = 512;
/// How long a span waits at most, when there are few.
const EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer says next to nothing.
const MAX_ANSWER: usize = 64 * 1024;

/// Takes spans that have ended.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    is_full: Arc<Notify>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _parent: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            dropped("queue_full", 1);
        } else if self.spans.max_capacity() - self.spans.capacity() >= BATCH {
            self.is_full.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn dropped(why: &'static str, spans: usize) {
    counter!("gatefold_trace_spans_dropped_total", "why" => why).increment(spans as u64);
}

/// Sends them.
pub(super) struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    is_full: Arc<Notify>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    headers: ExportHeaders,
    resource: ResourceAttributesWithSchema,
    is_away: bool,
}

impl Exporter {
    pub(super) fn new(
        endpoint: Uri,
        headers: &ExportHeaders,
        resource: &Resource,
    ) -> anyhow::Result<(Self, Queue, mpsc::Sender<oneshot::Sender<()>>)> {
        let (sender, spans) = mpsc::channel(QUEUE);
        let (flush, flushes) = mpsc::channel(1);
        let is_full = Arc::<Notify>::default();
        let queue = Queue { spans: sender, is_full: Arc::clone(&is_full) };
        let exporter = Self {
            spans,
            is_full,
            flushes,
            client: client(&endpoint)?,
            endpoint,
            headers: headers.clone(),
            resource: resource.into(),
            is_away: false,
        };
        for why in ["queue_full", "not_sent", "rejected"] {
            dropped(why, 0);
        }
        counter!("gatefold_trace_spans_exported_total").increment(0);
        Ok((exporter, queue, flush))
    }

    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                _ = tick.tick() => None,
                () = self.is_full.notified() => None,
                done = self.flushes.recv() => done,
            };
            while !self.spans.is_empty() {
                self.spans.recv_many(&mut batch, BATCH).await;
                self.export(std::mem::take(&mut batch)).await;
            }
            if let Some(done) = done {
                let _ = done.send(()); // Whoever asked may have given up.
            }
        }
    }

    async fn export(&mut self, spans: Vec<SpanData>) {
        let count = spans.len();
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let sent = timeout(PATIENCE, self.send(body)).await.unwrap_or_else(|_| Err(anyhow!("no answer in time")));
        match sent {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                counter!("gatefold_trace_spans_exported_total").increment((count - rejected) as u64);
                dropped("rejected", rejected);
                if std::mem::take(&mut self.is_away) {
                    info!("the collector takes traces again");
                }
            }
            Err(error) => {
                dropped("not_sent", count);
                if !std::mem::replace(&mut self.is_away, true) {
                    warn!(error = format!("{error:#}"), "the collector does not take traces: they are lost");
                }
            }
        }
    }

    /// Sends a batch, and returns how many of it the collector did not want.
    async fn send(&self, body: Vec<u8>) -> anyhow::Result<usize> {
        let mut request = Request::post(self.endpoint.clone());
        for (name, value) in self.headers.iter() {
            request = request.header(name, value);
        }
        let request = request.header(header::CONTENT_TYPE, "application/x-protobuf").body(Full::from(body))?;
        let response = self.client.request(request).await?;
        let status = response.status();
        if !status.is_success() {
            bail!("it answers {status}");
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
        // Some collectors answer with nothing, or in JSON, and have taken everything all the same.
        let answer = ExportTraceServiceResponse::decode(body.to_bytes()).unwrap_or_default();
        let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(usize::try_from(rejected).unwrap_or_default())
    }
}

fn client(endpoint: &Uri) -> anyhow::Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>> {
    let mut roots = RootCertStore::empty();
    if endpoint.scheme_str() == Some("https") {
        let found = rustls_native_certs::load_native_certs();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            bail!("the system has no certificates of authorities; SSL_CERT_FILE may name a file of them");
        }
    }
    let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let tls = tls.with_safe_default_protocol_versions().context("TLS")?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(PATIENCE));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    Ok(Client::builder(TokioExecutor::new()).build(connector.wrap_connector(tcp)))
}
