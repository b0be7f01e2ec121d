//! What every HTTP request goes through, on both replicas: it gets an id and a client, leaves its metrics
//! and, where it went wrong, a log line, and an error leaves in the shape of [`Problem`].
//!
//! It refuses what a foreign page makes a browser send, too. One middleware rather than a stack of them: each request clones
//! all layers, each with those inside of it. It logs the route, never the URL: a query
//! may hold a token.

use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use metrics::{counter, histogram};
use tracing::{Level, enabled, error, info};
use uuid::Uuid;

use crate::{
    client_ip::TrustedProxies,
    config::ProxyConfig,
    origin::{self, ForeignOrigin, Origin},
    problem::Problem,
    trace::Span,
};

const X_REQUEST_ID: &str = "x-request-id";

/// The address of the peer of a connection, as the accept loop saw it: the client's, or a proxy's.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The id of a request, the same in the proxy's log, in ours and in the answer.
#[derive(Debug)]
struct RequestId(Arc<str>);

impl RequestId {
    fn as_str(&self) -> &str {
        &self.0
    }

    /// Taken from a trusted proxy, if it is safe to write into logs, else made here.
    fn of(headers: &HeaderMap, through_proxy: bool) -> Self {
        let given =
            headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| through_proxy && is_plain(id));
        Self(given.map_or_else(|| Uuid::new_v4().simple().to_string().into(), Into::into))
    }
}

fn is_plain(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Whom a replica believes, and whom it serves.
#[derive(Debug)]
pub struct Front {
    proxies: TrustedProxies,
    allowed_origins: Vec<Origin>,
}

impl Front {
    /// As it is configured.
    pub fn new(config: ProxyConfig) -> Arc<Self> {
        let ProxyConfig { trusted_proxies, allowed_origins } = config;
        Arc::new(Self { proxies: TrustedProxies::new(trusted_proxies), allowed_origins })
    }
}

/// Middleware: see the module.
pub async fn context(State(front): State<Arc<Front>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let Some(&Peer(peer)) = request.extensions().get() else {
        error!("a request arrived without the address of its peer");
        return Problem::internal().into_response();
    };
    let client = front.proxies.client(peer.ip(), request.headers());
    let id = RequestId::of(request.headers(), client.through_proxy);
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let address = client.address;
    let may_act = check_origin(&request, client.scheme, &front.allowed_origins);
    let told = (request.headers(), client.through_proxy);
    let mut span = Span::request(method, route.as_ref().map(MatchedPath::as_str), id.as_str(), told);
    request.extensions_mut().insert(client);

    let mut response = match may_act {
        Ok(()) => span.around(answer(request, next)).await,
        Err(foreign) => forbidden_origin(&foreign).into_response(),
    };

    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = Body::from(problem.body(id.as_str()));
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

    let status = response.status().as_u16();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str).to_owned();
    let elapsed = started.elapsed();
    span.answered(status);
    // The proxy logs every request, under the same id: here only what went wrong, unless more is asked for.
    if status >= 500 || enabled!(Level::DEBUG) {
        info!(request.id = id.as_str(), client.address = %address, http.method = method, http.route = route,
            http.status = status, trace.id = span.trace_id().map(tracing::field::display),
            duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), "request served");
    }
    counter!("gatefold_http_requests_total", "method" => method, "route" => route.clone(), "status" => status.to_string())
        .increment(1);
    histogram!("gatefold_http_request_duration_seconds", "method" => method, "route" => route).record(elapsed);
    response
}

/// Whatever may change state must come from our own origin, a listed one, or no page at all: a foreign page can make a
/// browser send its cookies (cross-site request forgery, ASVS 5.0 3.5.1; the cookie is `SameSite` besides).
fn check_origin(request: &Request, scheme: &str, allowed_origins: &[Origin]) -> Result<(), ForeignOrigin> {
    if request.method().is_safe() { Ok(()) } else { origin::check(request.headers(), scheme, allowed_origins) }
}

/// 403 `forbidden_origin`: what was compared, and the setting that allows it.
pub fn forbidden_origin(foreign: &ForeignOrigin) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", foreign.to_string())
}

/// A panic in a handler is a 500 of the usual shape.
async fn answer(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_panic| {
        error!("a handler panicked");
        Problem::internal().into_response()
    })
}

/// The known methods by name: a client must not be able to make up labels of metrics.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_only_from_a_trusted_proxy_and_only_when_it_is_plain() {
        let of = |id: &'static str, trusted| {
            let headers =
                HeaderMap::from_iter([(header::HeaderName::from_static(X_REQUEST_ID), HeaderValue::from_static(id))]);
            RequestId::of(&headers, trusted).as_str().to_owned()
        };
        assert_eq!(of("0af7651916cd43dd", true), "0af7651916cd43dd");
        assert_ne!(of("0af7651916cd43dd", false), "0af7651916cd43dd");
        assert_ne!(of("spaced out\"", true), "spaced out\"");
        assert_ne!(of("", true), "");
    }
}
