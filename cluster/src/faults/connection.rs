//! One connection through the proxy: two directions, each of which obeys the mode of the moment.

use std::net::SocketAddr;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Control, Mode};

/// How long a target may go on with a request whose answer nobody will get.
const LINGER: Duration = Duration::from_secs(10);

/// Why a connection is at its end.
enum End {
    /// One of the two closed it.
    Closed,
    /// It is to be cut off, and the target must not notice before it has done what it was asked.
    ReplyLost,
    /// It is to be cut off, at both ends.
    Reset,
}

/// Serves until every handle of the proxy is gone.
pub(super) async fn accept(listener: std::net::TcpListener, target: SocketAddr, control: Weak<Control>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let Some(mut mode) = control.upgrade().map(|control| control.mode.subscribe()) else { return };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(serve(client, target, control.clone(), mode.clone()));
            }
            Some(_) = connections.join_next() => {}
            gone = wait_for(&mut mode, |_| false) => match gone { Ok(()) => {}, Err(_) => return },
        }
    }
}

/// Waits for a mode; fails when every handle of the proxy is gone.
async fn wait_for(
    mode: &mut watch::Receiver<Mode>,
    wanted: impl Fn(Mode) -> bool,
) -> Result<(), watch::error::RecvError> {
    mode.wait_for(|mode| wanted(*mode)).await.map(drop)
}

/// Counts a connection for as long as it lives.
struct Counted(Weak<Control>);

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(control) = self.0.upgrade() {
            control.connections.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

pub(crate) async fn serve(
    client: TcpStream,
    target: SocketAddr,
    control: Weak<Control>,
    mut mode: watch::Receiver<Mode>,
) {
    let mut current = *mode.borrow();
    if current == Mode::BlackHole {
        // What the client says meanwhile gets nowhere, and the target hears of nothing, also if it is not there.
        if wait_for(&mut mode, |mode| mode != Mode::BlackHole).await.is_err() {
            return;
        }
        current = Mode::Refuse;
    }
    if current == Mode::Refuse {
        reset(&client);
        return;
    }
    if let Some(control) = control.upgrade() {
        control.connections.fetch_add(1, Ordering::SeqCst);
    }
    let _counted = Counted(control.clone());
    let Ok(server) = TcpStream::connect(target).await else {
        reset(&client);
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let loses = AtomicBool::new(false);
    let swallowed = AtomicBool::new(false);
    let link = Link { control, mode: mode.clone(), loses: &loses, swallowed: &swallowed };
    let mut to_server = to_server;
    let mut to_client = to_client;
    let end = tokio::select! {
        end = link.requests(from_client, &mut to_server) => end,
        end = link.replies(&mut from_server, &mut to_client) => end,
        end = link.faults(&mut mode) => end,
    };
    match end {
        End::Closed => {}
        End::ReplyLost => {
            reset(to_client.as_ref());
            drop(to_client);
            finish(from_server, to_server).await;
        }
        End::Reset => {
            reset(to_client.as_ref());
            reset(to_server.as_ref());
        }
    }
}

/// When this connection is closed, its peer is told that it was lost.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().ok();
}

/// Lets the target read everything and answer, though nobody listens: closing at once could cost it the request.
async fn finish(mut from_server: OwnedReadHalf, mut to_server: OwnedWriteHalf) {
    to_server.shutdown().await.ok();
    let mut sink = tokio::io::sink();
    timeout(LINGER, tokio::io::copy(&mut from_server, &mut sink)).await.ok();
}

struct Link<'a> {
    control: Weak<Control>,
    mode: watch::Receiver<Mode>,
    /// The answer to a request on its way is to be lost.
    loses: &'a AtomicBool,
    /// A black hole has had some of it.
    swallowed: &'a AtomicBool,
}

impl Link<'_> {
    /// Whether these bytes are to be passed on; returns when that is decided.
    async fn passes(&self) -> bool {
        let mut mode = self.mode.clone();
        if wait_for(&mut mode, |mode| mode != Mode::Stall).await.is_err() {
            return false;
        }
        let swallowed = *mode.borrow() == Mode::BlackHole;
        if swallowed {
            self.swallowed.store(true, Ordering::SeqCst);
        }
        !swallowed
    }

    async fn requests(&self, mut from: OwnedReadHalf, to: &mut OwnedWriteHalf) -> End {
        let mut buffer = vec![0; 16 << 10];
        let mut seen = Vec::new();
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer).await else { return End::Closed };
            let request = buffer.get(..length).unwrap_or_default();
            if !self.passes().await {
                continue;
            }
            seen.extend_from_slice(request);
            let Some(control) = self.control.upgrade() else { return End::Closed };
            let loses = control.loses(&seen);
            let keep = if loses { 0 } else { control.overlap() };
            drop(control);
            seen.drain(..seen.len().saturating_sub(keep));
            if to.write_all(request).await.is_err() {
                return End::Closed;
            }
            if loses {
                self.loses.store(true, Ordering::SeqCst);
            }
        }
    }

    async fn replies(&self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> End {
        // What is delayed waits here, so that a delay costs time but not throughput.
        let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(256);
        let receive = async move {
            let mut buffer = vec![0; 16 << 10];
            loop {
                let Ok(length @ 1..) = from.read(&mut buffer).await else { return End::Closed };
                if self.loses.load(Ordering::SeqCst) {
                    if let Some(control) = self.control.upgrade() {
                        control.lost.fetch_add(1, Ordering::SeqCst);
                    }
                    return End::ReplyLost;
                }
                if !self.passes().await {
                    continue;
                }
                let due = match *self.mode.borrow() {
                    Mode::Delay(by) => Instant::now() + by,
                    _ => Instant::now(),
                };
                if queue.send((due, buffer.get(..length).unwrap_or_default().to_vec())).await.is_err() {
                    return End::Closed;
                }
            }
        };
        let deliver = async {
            while let Some((due, reply)) = queued.recv().await {
                sleep_until(due).await;
                if to.write_all(&reply).await.is_err() {
                    break;
                }
            }
            End::Closed
        };
        tokio::pin!(deliver);
        tokio::select! {
            end = receive => match end {
                End::Closed => deliver.await, // what is on its way arrives before the end
                end => end,
            },
            end = &mut deliver => end,
        }
    }

    /// Ends the connection when it must be refused, when it can no longer be understood, or when the proxy is gone.
    async fn faults(&self, mode: &mut watch::Receiver<Mode>) -> End {
        loop {
            let current = *mode.borrow_and_update();
            let garbled = current != Mode::BlackHole && self.swallowed.load(Ordering::SeqCst);
            if current == Mode::Refuse || garbled || mode.changed().await.is_err() {
                return End::Reset;
            }
        }
    }
}
