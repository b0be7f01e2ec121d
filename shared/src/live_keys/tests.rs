//! Keys that change in their files while they are used.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{config::IssuerConfig, jwt::Signer};

/// The public half of an RSA key of 1024 bits.
const SHORT: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQClMnn6lVWOht/bIKSCpeXrkmSx
ZmhXCJFtpcANb8YVW6mNyxkQrHtiQPZqax0slRZX4DbbyeeyYCB17Dg1pzTpbF4/
lIQA2T5V/Mdsj9fWBWcxu9OSIkg60J4Anu76UjEXJ3PPdEMJBdgVfy+2ns/0ctU9
40EylkVJ+jlnPwh2hwIDAQAB
-----END PUBLIC KEY-----
";

fn verifying(paths: &[&Path]) -> Arc<LiveKeys<Verifier>> {
    let public_key_path = paths.iter().map(PathBuf::from).collect();
    LiveKeys::verifying(&PublicKeyConfig { public_key_path, issuer: IssuerConfig::default() }).unwrap()
}

/// A pair of keys: its public half in PEM, and a token that it has signed.
struct Pair {
    public: String,
    token: String,
}

impl Pair {
    fn make() -> Self {
        let folder = TempDir::new().unwrap();
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let path = folder.path().join("private.pem");
        fs::write(&path, pem::encode(&pem::Pem::new("PRIVATE KEY", private.as_ref()))).unwrap();
        let signer = Signer::read(&path, Duration::from_mins(15)).unwrap();
        let public = pem::encode(&pem::Pem::new("PUBLIC KEY", public.as_ref()));
        Self { public, token: signer.sign(1, "alice".into(), Uuid::new_v4(), [].into(), signer.lifetime()).unwrap() }
    }

    fn is_accepted(&self, keys: &LiveKeys<Verifier>) -> bool {
        keys.load().verify(&self.token).is_ok()
    }
}

struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    fn with(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = Self { path: folder.path().join("public.pem"), _folder: folder };
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        let staged = self.path.with_extension("new");
        fs::write(&staged, text).unwrap();
        fs::rename(&staged, &self.path).unwrap();
    }

    fn read(&self) -> Arc<LiveKeys<Verifier>> {
        verifying(&[&self.path])
    }
}

/// As many looks as it takes to notice a change.
fn look_twice(keys: &LiveKeys<Verifier>) {
    let at_first = (keys.at_first.clone(), keys.at_first.clone());
    let then = keys.look_again(at_first, false);
    keys.look_again(then, false);
}

#[test]
fn a_key_that_comes_is_accepted_and_one_that_goes_is_not() {
    let (old, new) = (Pair::make(), Pair::make());
    let file = File::with(&old.public);
    let keys = file.read();
    assert!(old.is_accepted(&keys) && !new.is_accepted(&keys));

    file.write(&format!("{}{}", old.public, new.public));
    look_twice(&keys);
    assert!(old.is_accepted(&keys) && new.is_accepted(&keys));
    assert_eq!(keys.load().keys().len(), 2);

    file.write(&new.public);
    look_twice(&keys);
    assert!(!old.is_accepted(&keys) && new.is_accepted(&keys));
}

#[test]
fn a_change_counts_when_it_looks_the_same_twice_or_at_once_when_asked() {
    let (old, new) = (Pair::make(), Pair::make());
    let file = File::with(&old.public);
    let keys = file.read();
    file.write(&new.public);
    let (known, last) = keys.look_again((keys.at_first.clone(), keys.at_first.clone()), false);
    assert!(old.is_accepted(&keys), "somebody may still be writing");
    keys.look_again((known, last), true);
    assert!(new.is_accepted(&keys), "whoever asks has finished");
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let (old, new) = (Pair::make(), Pair::make());
    let (first, second) = (File::with(&old.public), File::with(&old.public));
    let keys = verifying(&[&first.path, &second.path]);
    first.write(&new.public);
    let both = format!("{}{}", new.public, old.public);
    for bad in ["", "not a key", SHORT, &both[..both.len() - 40], &format!("{}{SHORT}", old.public)] {
        second.write(bad);
        look_twice(&keys);
        assert!(old.is_accepted(&keys) && !new.is_accepted(&keys), "{bad:?}");
    }
    fs::remove_file(&second.path).unwrap();
    look_twice(&keys);
    assert!(old.is_accepted(&keys) && !new.is_accepted(&keys));

    second.write(&old.public);
    look_twice(&keys);
    assert!(old.is_accepted(&keys) && new.is_accepted(&keys), "the next good ones count");
}

#[test]
fn nobody_who_verifies_notices_a_change() {
    let (old, new) = (Pair::make(), Pair::make());
    let file = File::with(&format!("{}{}", old.public, new.public));
    let keys = file.read();
    let (verified, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let verifying = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert!(old.is_accepted(&keys));
                verified.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..50 {
            keys.reload();
        }
        file.write("not a key");
        keys.reload();
        // Of the next two, one has begun since.
        let enough = verified.load(Ordering::Relaxed) + 2;
        while verified.load(Ordering::Relaxed) < enough && !verifying.is_finished() {
            thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[tokio::test]
async fn the_files_are_watched() {
    let (old, new) = (Pair::make(), Pair::make());
    let file = File::with(&old.public);
    let keys = file.read();
    keys.follow(&Lifecycle::begin().unwrap()).unwrap();
    file.write(&new.public);
    let seen = async {
        while !new.is_accepted(&keys) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LOOK_EVERY * 5, seen).await.expect("it is noticed");
    assert!(!old.is_accepted(&keys));
}
