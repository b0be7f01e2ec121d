//! The misbehaving proxy misbehaves as it says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gatefold_cluster::faults::Faults;

/// Gives back every byte, and remembers them.
fn echo() -> Result<(SocketAddr, Arc<Mutex<Vec<u8>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let ear = Arc::clone(&ear);
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    ear.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                    stream.write_all(bytes).ok();
                }
            });
        }
    });
    Ok((address, heard))
}

fn connect(faults: &Faults) -> Result<TcpStream> {
    let stream = TcpStream::connect(faults.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn say(stream: &mut TcpStream, word: &str) -> Result<String> {
    stream.write_all(word.as_bytes())?;
    let mut reply = vec![0; word.len()];
    stream.read_exact(&mut reply)?;
    Ok(String::from_utf8(reply)?)
}

#[test]
fn it_passes_and_delays() -> Result<()> {
    let faults = Faults::start(echo()?.0)?;
    let mut stream = connect(&faults)?;
    ensure!(say(&mut stream, "hello")? == "hello" && faults.connections() == 1);
    faults.delay(Duration::from_millis(150));
    let asked = Instant::now();
    ensure!(say(&mut stream, "slowly")? == "slowly" && asked.elapsed() >= Duration::from_millis(150));
    Ok(())
}

#[test]
fn a_black_hole_gives_nothing_back_and_cuts_what_it_has_garbled() -> Result<()> {
    let (target, heard) = echo()?;
    let faults = Faults::start(target)?;
    let mut stream = connect(&faults)?;
    say(&mut stream, "before")?;
    faults.black_hole();
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    ensure!(say(&mut stream, "lost").is_err());
    ensure!(*heard.lock().unwrap_or_else(PoisonError::into_inner) == b"before");
    faults.pass();
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    ensure!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "the connection is over");
    ensure!(say(&mut connect(&faults)?, "again")? == "again");
    Ok(())
}

#[test]
fn a_stall_delivers_late() -> Result<()> {
    let faults = Faults::start(echo()?.0)?;
    let mut stream = connect(&faults)?;
    faults.stall();
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    ensure!(say(&mut stream, "late").is_err());
    faults.pass();
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply)?;
    ensure!(&reply == b"late");
    Ok(())
}

#[test]
fn refusing_ends_old_connections_and_new_ones() -> Result<()> {
    let faults = Faults::start(echo()?.0)?;
    let mut stream = connect(&faults)?;
    say(&mut stream, "before")?;
    faults.refuse();
    ensure!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "the old connection is over");
    ensure!(connect(&faults).and_then(|mut stream| say(&mut stream, "new")).is_err());
    faults.pass();
    ensure!(say(&mut connect(&faults)?, "again")? == "again");
    Ok(())
}

#[test]
fn a_lost_reply_was_to_a_request_that_arrived() -> Result<()> {
    let (target, heard) = echo()?;
    let faults = Faults::start(target)?;
    faults.drop_next_reply_matching("needle");
    let mut stream = connect(&faults)?;
    ensure!(say(&mut stream, "hay")? == "hay");
    stream.write_all(b"a nee")?; // in two parts, and found all the same
    let mut part = [0; 5];
    stream.read_exact(&mut part)?;
    ensure!(say(&mut stream, "dle").is_err());
    ensure!(heard.lock().unwrap_or_else(PoisonError::into_inner).ends_with(b"a needle"));
    ensure!(faults.lost_replies() == 1);
    ensure!(say(&mut connect(&faults)?, "needle")? == "needle", "only once");
    Ok(())
}
