//! A TCP proxy that stands between a replica and a store and misbehaves on demand.
//!
//! It runs in a thread of its own, with a runtime of its own, so that it outlives the runtime of the test that started
//! it. Everything switches at once, for the connections that there are and for those to come.

pub(crate) mod connection;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;

/// How the proxy treats what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    Delay(Duration),
    BlackHole,
    Stall,
    Refuse,
}

/// Which answer is to be lost.
#[derive(Debug, Clone)]
struct Loss {
    /// What the request must contain.
    request: Vec<u8>,
    once: bool,
}

#[derive(Debug)]
pub(crate) struct Control {
    mode: watch::Sender<Mode>,
    loss: Mutex<Option<Loss>>,
    lost: AtomicUsize,
    connections: AtomicUsize,
}

impl Control {
    /// Of a proxy that passes everything on.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            mode: watch::Sender::new(Mode::Pass),
            loss: Mutex::default(),
            lost: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        })
    }

    /// Whether the answer to this request is to be lost.
    fn loses(&self, request: &[u8]) -> bool {
        let mut loss = self.loss.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = loss.as_ref() else { return false };
        let found =
            wanted.request.is_empty() || request.windows(wanted.request.len()).any(|part| part == wanted.request);
        if found && wanted.once {
            *loss = None;
        }
        found
    }

    /// How much of what was seen before may be the beginning of a wanted request.
    fn overlap(&self) -> usize {
        let loss = self.loss.lock().unwrap_or_else(PoisonError::into_inner);
        loss.as_ref().map_or(0, |wanted| wanted.request.len().saturating_sub(1))
    }
}

/// A proxy in front of one address. Its clones are handles of the same proxy; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Faults {
    address: SocketAddr,
    control: Arc<Control>,
}

impl Faults {
    /// Starts a proxy on a free port of 127.0.0.1, which passes everything on to `target`.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let control = Control::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let alive = Arc::downgrade(&control);
        thread::Builder::new().name("faults".into()).spawn(move || {
            runtime.block_on(connection::accept(listener, target, alive));
        })?;
        Ok(Self { address, control })
    }

    /// Where to connect instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes everything on. Connections from which a black hole swallowed something are reset, as they could never
    /// be understood again.
    pub fn pass(&self) {
        self.set_loss(None);
        self.control.mode.send_replace(Mode::Pass);
    }

    /// Delivers what the target says this much later.
    pub fn delay(&self, by: Duration) {
        self.control.mode.send_replace(Mode::Delay(by));
    }

    /// Accepts connections and bytes; nothing gets through, nothing comes back.
    pub fn black_hole(&self) {
        self.control.mode.send_replace(Mode::BlackHole);
    }

    /// Holds everything back, and delivers it late, when this ends: as a network does that was cut for a while.
    pub fn stall(&self) {
        self.control.mode.send_replace(Mode::Stall);
    }

    /// Resets every connection, and new ones as soon as they are made.
    pub fn refuse(&self) {
        self.control.mode.send_replace(Mode::Refuse);
    }

    /// Delivers the next request that contains these bytes, a key of Redis, say, and then cuts its connection instead of
    /// delivering the answer.
    pub fn drop_next_reply_matching(&self, request: impl Into<Vec<u8>>) {
        self.set_loss(Some(Loss { request: request.into(), once: true }));
    }

    /// As [`Self::drop_next_reply_matching`], for every such request until [`Self::pass`].
    pub fn drop_replies_matching(&self, request: impl Into<Vec<u8>>) {
        self.set_loss(Some(Loss { request: request.into(), once: false }));
    }

    /// How many answers have been lost.
    pub fn lost_replies(&self) -> usize {
        self.control.lost.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.control.connections.load(Ordering::SeqCst)
    }

    fn set_loss(&self, loss: Option<Loss>) {
        *self.control.loss.lock().unwrap_or_else(PoisonError::into_inner) = loss;
    }
}
