//! Operations that need no server: what they cost a thread, in microseconds of its CPU.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use nix::time::{ClockId, clock_gettime};

/// How long each need be repeated at most, in CPU time.
pub(super) const LONG_ENOUGH: Duration = Duration::from_millis(1_500);
/// About what an access token's header and claims are.
const TOKEN: [u8; 420] = [b'x'; 420];
/// About what a short message is when it is delivered.
const MESSAGE: [u8; 200] = [b'x'; 200];
/// Sockets that are sent to in turn, as the members of a room are.
const SOCKETS: usize = 200;

/// What is computed.
pub(super) struct Computed {
    pub(super) sign: f64,
    pub(super) verify: f64,
    pub(super) argon2: f64,
}

/// An RSA-2048 signature with a parsed key, its verification, and a password hash with its memory used again.
pub(super) fn computed(long_enough: Duration) -> Result<Computed> {
    let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("cannot make a key"))?;
    let random = SystemRandom::new();
    let mut signature = vec![0; key.public_modulus_len()];
    let sign = cost(long_enough, || {
        key.sign(&RSA_PKCS1_SHA256, &random, &TOKEN, &mut signature).map_err(|_| anyhow!("cannot sign"))
    })?;
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref().to_vec());
    let public = public.parse().map_err(|_| anyhow!("cannot parse a public key"))?;
    let verify = cost(long_enough, || public.verify_sig(&TOKEN, &signature).map_err(|_| anyhow!("cannot verify")))?;
    Ok(Computed { sign, verify, argon2: argon2(long_enough)? })
}

fn argon2(long_enough: Duration) -> Result<f64> {
    let parameters = Params::new(19_456, 2, 1, Some(32)).map_err(|error| anyhow!("{error}"))?;
    let mut memory = vec![Block::new(); parameters.block_count()];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
    let mut output = [0; 32];
    cost(long_enough, || {
        let hashed =
            argon.hash_password_into_with_memory(b"load test password", &[7; 16], &mut output, &mut memory[..]);
        hashed.map_err(|error| anyhow!("{error}"))
    })
}

/// One write of a short message to one of many sockets on this machine. Whoever receives is another thread.
pub(super) fn send(long_enough: Duration) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sockets = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        let socket = TcpStream::connect(listener.local_addr()?)?;
        socket.set_nodelay(true)?;
        let (mut receiver, _) = listener.accept()?;
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while receiver.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        sockets.push(socket);
    }
    let mut turn = 0;
    cost(long_enough, || {
        turn = (turn + 1) % SOCKETS;
        Ok(sockets[turn].write_all(&MESSAGE)?)
    })
}

/// What `operation` costs this thread in the mean, in microseconds of CPU.
fn cost(long_enough: Duration, mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..10 {
        operation()?; // caches, and memory that is touched for the first time
    }
    let (begun, started, mut times) = (Instant::now(), spent()?, 0_u32);
    loop {
        operation()?;
        times += 1;
        let spent = spent()?.saturating_sub(started);
        if spent >= long_enough || begun.elapsed() >= 4 * long_enough {
            return Ok(spent.as_secs_f64() * 1e6 / f64::from(times));
        }
    }
}

/// The CPU time of this thread, user and system.
fn spent() -> Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("no clock for the CPU time of threads")?;
    Ok(Duration::from(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sleeps_costs_little_and_what_works_costs_its_time() {
        let sleeps = cost(LONG_ENOUGH / 10, || {
            thread::sleep(Duration::from_millis(50));
            Ok(())
        });
        let works = cost(LONG_ENOUGH / 10, || {
            let begun = spent()?;
            while spent()?.saturating_sub(begun) < Duration::from_millis(2) {}
            Ok(())
        });
        let (sleeps, works) = (sleeps.unwrap(), works.unwrap());
        assert!(sleeps < 1_000.0 && (2_000.0..2_500.0).contains(&works), "{sleeps} {works}");
    }
}
