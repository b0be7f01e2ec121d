//! What tokens cost by themselves, without a network: `cargo bench -p gatefold-api`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up should stop")]

use std::{process::Command, sync::Arc};

use clap::Parser;
use divan::{Bencher, black_box};
use gatefold_api::{Keys, commands::Cli};
use gatefold_shared::grants::Rooms;
use tempfile::TempDir;
use uuid::Uuid;

fn main() {
    divan::main();
}

fn keys() -> Keys {
    let folder = TempDir::new().unwrap();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../generate-keys.sh");
    assert!(Command::new(program).arg("--dir").arg(folder.path()).output().unwrap().status.success());
    let path = |name| folder.path().join(name).display().to_string();
    let (private, public, refresh) = (path("private.pem"), path("public.pem"), path("refresh.key"));
    let arguments = ["gatefold-api", "--private-key-path", &private, "--public-key-path", &public];
    let config = Cli::parse_from(arguments.into_iter().chain(["--refresh-key-path", &refresh])).config;
    Keys::read(&config.tokens, &config.public_keys).unwrap()
}

fn sign(keys: &Keys) -> String {
    keys.signer.sign(7, Arc::from("grace"), Uuid::from_u128(7), Rooms::default(), keys.signer.lifetime()).unwrap()
}

/// Once for each log-in and each refresh.
#[divan::bench]
fn sign_an_access_token(bencher: Bencher) {
    let keys = keys();
    bencher.bench_local(|| sign(&keys));
}

/// Once for each access token on each replica.
#[divan::bench]
fn verify_an_access_token(bencher: Bencher) {
    let keys = keys();
    let token = sign(&keys);
    bencher.bench_local(|| keys.verifier.verify(black_box(&token)));
}

/// With each other request.
#[divan::bench]
fn verify_an_access_token_again(bencher: Bencher) {
    let keys = keys();
    let token = sign(&keys);
    bencher.bench_local(|| keys.verify(black_box(&token)));
}

/// Before anything else is asked for it.
#[divan::bench]
fn refuse_a_forged_refresh_token(bencher: Bencher) {
    let keys = keys();
    let forged = "AQ".repeat(52);
    bencher.bench_local(|| keys.refresh.open(black_box(&forged)).is_none());
}
