//! The keys of a replica, which are replaced while they are used: at SIGHUP, and when one of their files has changed.
//!
//! All of them are read together and are put in place together, or not at all: of what cannot be used the old ones stay,
//! with an error in the log. Whoever needs keys loads them for one decision, which takes no lock, and never keeps them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use metrics::counter;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};

use crate::{config::PublicKeyConfig, jwt::Verifier, lifecycle::Lifecycle};

/// How often the files are looked at. What has changed is read when it looks the same twice, for somebody may still be
/// writing.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The keys that a kind of replica needs.
pub trait KeySet: Send + Sync + 'static {
    /// Those that verify access tokens.
    fn verifier(&self) -> &Verifier;

    /// The name of the one that signs them.
    fn signing_kid(&self) -> Option<&str> {
        None
    }
}

/// All that a replica needs which only verifies.
impl KeySet for Verifier {
    fn verifier(&self) -> &Verifier {
        self
    }
}

/// See the module.
pub struct LiveKeys<K> {
    now: ArcSwap<K>,
    files: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<K, Vec<String>> + Send + Sync>,
    /// How the files looked before they were read for the first time.
    at_first: Looks,
    reloaded: watch::Sender<()>,
}

impl LiveKeys<Verifier> {
    /// Reads the public keys in the files at `paths`.
    pub fn verifying(config: &PublicKeyConfig) -> Result<Arc<Self>, Vec<String>> {
        let PublicKeyConfig { public_key_path: files, issuer } = config.clone();
        Self::read(files.clone(), move || match Verifier::read(&files) {
            Ok(verifier) => Ok(verifier.accepting(&issuer)),
            Err(error) => Err(vec![error.to_string()]),
        })
    }
}

impl<K: KeySet> LiveKeys<K> {
    /// Keys that `read` makes from `files`, or everything that is wrong with them.
    pub fn read(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<K, Vec<String>> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Vec<String>> {
        let at_first = look(&files);
        let now = ArcSwap::from_pointee(read()?);
        Ok(Arc::new(Self { now, files, read: Box::new(read), at_first, reloaded: watch::Sender::new(()) }))
    }

    /// The keys of this moment.
    pub fn load(&self) -> Guard<Arc<K>> {
        self.now.load()
    }

    /// Tells whenever other keys have come into use.
    pub fn reloaded(&self) -> watch::Receiver<()> {
        self.reloaded.subscribe()
    }

    /// Keeps them up to date for as long as the replica lives.
    pub fn follow(self: &Arc<Self>, life: &Lifecycle) -> io::Result<()> {
        self.tell("these keys are in use");
        life.spawn_forever("keys", Arc::clone(self).watch(signal(SignalKind::hangup())?));
        Ok(())
    }

    async fn watch(self: Arc<Self>, mut hangup: Signal) {
        let mut clock = interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut known, mut last) = (self.at_first.clone(), self.at_first.clone());
        loop {
            let asked = tokio::select! { _ = clock.tick() => false, _ = hangup.recv() => true };
            let keys = Arc::clone(&self);
            let before = (known, last);
            // Files, and arithmetic with large numbers: not for a thread that serves.
            let Ok(after) = spawn_blocking(move || keys.look_again(before, asked)).await else { return };
            (known, last) = after;
        }
    }

    /// Reloads if asked to or if the files have changed. Of the two looks the first is that of what was read last.
    fn look_again(&self, (known, last): (Looks, Looks), asked: bool) -> (Looks, Looks) {
        let seen = look(&self.files);
        if asked || (seen != known && seen == last) {
            let read = self.reload();
            return (if read { seen.clone() } else { known }, seen);
        }
        (known, seen)
    }

    /// Tells whether the files could be used; if not, they are tried again.
    fn reload(&self) -> bool {
        let outcome = match (self.read)() {
            Ok(keys) => {
                self.now.store(Arc::new(keys));
                self.tell("the keys were reloaded");
                self.reloaded.send_replace(());
                "reloaded"
            }
            Err(problems) => {
                error!(problems = problems.join("; "), "the new keys cannot be used; the old ones stay");
                "refused"
            }
        };
        counter!("gatefold_key_reloads_total", "outcome" => outcome).increment(1);
        outcome == "reloaded"
    }

    /// Which keys there are is no secret: everybody is told at `/.well-known/jwks.json`.
    fn tell(&self, what: &str) {
        let keys = self.load();
        let live: Vec<_> = keys.verifier().keys().iter().map(crate::jwt::PublicKey::kid).collect();
        info!(keys.live = live.join(" "), keys.signs = keys.signing_kid(), "{what}");
    }
}

/// How a file looks from outside: different after every change, also if it was replaced by another of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also when only its mode or its owner has changed.
    changed: (i64, i64),
}

/// How all the files look; nothing where there is none.
type Looks = Vec<Option<Look>>;

fn look(files: &[PathBuf]) -> Looks {
    files.iter().map(|file| look_at(file)).collect()
}

fn look_at(file: &Path) -> Option<Look> {
    let found = fs::metadata(file).ok()?;
    Some(Look {
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests;
