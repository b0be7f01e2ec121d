//! One more replica beside those of a cluster, with settings of its own.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{PASSWORD, TestApp};

/// A port that nobody uses.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A REST replica that is like the cluster's but for some settings.
pub struct Replica {
    pub url: String,
    process: Child,
    log: NamedTempFile,
}

impl Replica {
    pub fn start(app: &TestApp, settings: &[(&str, &str)]) -> Self {
        let like = app.cluster.process("api-1").unwrap().pid.unwrap();
        let environment = fs::read_to_string(format!("/proc/{like}/environ")).unwrap();
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
        command.env_clear().envs(environment.split_terminator('\0').filter_map(|variable| variable.split_once('=')));
        command.env("PORT", port.to_string()).env("METRICS_PORT", free_port().to_string());
        command.envs(settings.iter().copied());
        let log = NamedTempFile::new().unwrap();
        let process = command.stdout(log.reopen().unwrap()).stderr(Stdio::null()).spawn().unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), process, log }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }

    /// Sends a name with [`PASSWORD`]; the status, or 0 without an answer.
    pub async fn post(&self, path: &str, name: &str) -> u16 {
        let body = json!({ "username": name, "password": PASSWORD }).to_string();
        let request = reqwest::Client::new().post(format!("{}{path}", self.url)).body(body);
        let answer = request.header("content-type", "application/json").send().await;
        answer.map_or(0, |answer| answer.status().as_u16())
    }

    /// Whether it is ready, and what it says of Postgres.
    pub async fn ready(&self) -> Option<(u16, Value)> {
        let answer = reqwest::get(format!("{}/api/ready", self.url)).await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json::<Value>().await.ok()?["checks"]["postgres"].take()))
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
