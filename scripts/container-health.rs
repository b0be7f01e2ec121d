//! The health check of the images, which hold no shell and no curl: asks this container over HTTP and succeeds if the answer
//! is 200. Compiled by itself in the Dockerfile.
//!
//!     container-health PORT PATH

use std::{
    env,
    io::{Error, Read, Result, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [port, path] = arguments.as_slice() else {
        eprintln!("Usage: container-health PORT PATH");
        return ExitCode::from(64);
    };
    match ask(port, path) {
        Ok(status) if status == "200" => ExitCode::SUCCESS,
        Ok(status) => failed(&format!("answered {status}")),
        Err(error) => failed(&error.to_string()),
    }
}

/// The status of the answer, in digits.
fn ask(port: &str, path: &str) -> Result<String> {
    let port = port.parse().map_err(Error::other)?;
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    // "HTTP/1.1 200"
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    Ok(String::from_utf8_lossy(&start[9..]).into_owned())
}

fn failed(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
