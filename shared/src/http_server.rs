//! The accept loop of both replicas: HTTP/1.1 with upgrades, bounded in connections, headers and patience.
//!
//! Not `axum::serve`, which has neither a limit on the time that a client may take for its headers nor a deadline when it
//! drains.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use http::{HeaderValue, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::warn;

use crate::{lifecycle::Lifecycle, request::Peer};

/// A client has this long for the headers of a request (a slow one could otherwise hold a connection for ever).
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest request head that is read; hyper answers 431 to more.
const MAX_HEAD: usize = 32 * 1024;
/// How long a draining server still accepts. Every answer says `Connection: close` meanwhile, so that the proxy's pool of
/// connections runs dry: a request that it sends on a connection at the moment when we close that would be lost.
const LAME_DUCK: Duration = Duration::from_millis(1500);

/// Serves `router` until the replica drains, and returns when the last request in flight has been answered.
pub async fn serve(listener: TcpListener, router: Router, max_connections: usize, life: Lifecycle) {
    raise_descriptor_limit();
    let permits = Arc::new(Semaphore::new(max_connections));
    let closing = CancellationToken::new();
    let open = TaskTracker::new();
    let take = |stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit| {
        let connection = connection(stream, Peer(peer), router.clone(), life.clone(), closing.clone());
        life.spawn(open.track_future(async move {
            connection.await;
            drop(permit);
        }));
    };
    let accepting = async {
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => take(stream, peer, permit),
                Err(error) => {
                    // Out of descriptors, or a connection that was gone already: neither is a reason to end.
                    warn!(error = %error, "could not accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    };
    let lame_duck = async {
        life.draining().cancelled().await;
        sleep(LAME_DUCK).await;
    };
    tokio::select! { () = accepting => (), () = lame_duck => () }
    // Who has connected and was not accepted yet may have sent a request already, which nobody else must be asked.
    for (stream, peer) in last_ones(listener) {
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => take(stream, peer, permit),
            Err(_) => break,
        }
    }
    closing.cancel();
    open.close();
    open.wait().await;
}

/// Every connection is a descriptor, and shells and containers give a process 1,024 of them unless it asks for more.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, at_most = limit.current, "could not raise the limit of descriptors");
    }
}

/// Closes the listener; those who were waiting to be accepted.
fn last_ones(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let mut last = Vec::new();
    match listener.into_std() {
        Ok(listener) => {
            // It does not block: the first error is that there is nobody more.
            while let Ok((stream, peer)) = listener.accept() {
                match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                    Ok(stream) => last.push((stream, peer)),
                    Err(error) => warn!(error = %error, "could not accept a connection"),
                }
            }
        }
        Err(error) => warn!(error = %error, "could not accept the last connections"),
    }
    last
}

/// Serves one connection until its client leaves, or, once `closing`, until the request in flight is answered.
async fn connection(stream: TcpStream, peer: Peer, router: Router, life: Lifecycle, closing: CancellationToken) {
    if stream.set_nodelay(true).is_err() {
        return; // The client is gone already.
    }
    // Each clone of a token takes its lock, which all connections share.
    let draining = Arc::new(life.draining().clone());
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (router, draining) = (router.clone(), Arc::clone(&draining));
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        async move {
            let mut response = router.oneshot(request).await?;
            if draining.is_cancelled() {
                response.headers_mut().entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    // An error is a client that went away or spoke no HTTP; hyper has answered what can be answered.
    tokio::select! {
        _ = connection.as_mut() => (),
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
