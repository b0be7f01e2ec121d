//! A Redis with a password, which the replicas take from a file.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::harness::{TestApp, eventually, two_replicas};

const SECRET: &str = "not-in-any-command-line";

/// Ends with the test.
struct Server {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl Server {
    /// Configured as in docker-compose.yml.
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let configuration = folder.path().join("redis.conf");
        std::fs::write(&configuration, format!("requirepass {SECRET}\n")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new("redis-server");
        server.arg(&configuration).args(["--port", &port.to_string(), "--save", ""]).stdout(Stdio::null());
        let process = server.current_dir(folder.path()).spawn().unwrap();
        let server = Self { process, url: format!("redis://127.0.0.1:{port}"), _folder: folder };
        eventually("redis asks for its password", async || server.ping("").contains("NOAUTH")).await;
        assert!(server.ping(SECRET).contains("PONG"));
        server
    }

    fn ping(&self, password: &str) -> String {
        let mut redis_cli = Command::new("redis-cli");
        redis_cli.args(["-u", &self.url, "ping"]);
        if !password.is_empty() {
            redis_cli.env("REDISCLI_AUTH", password);
        }
        let output = redis_cli.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn replicas_of_both_kinds_log_in_to_redis_with_a_password_from_a_file() {
    let redis = Server::start().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let cluster = two_replicas().api(1).ws(1).env("REDIS_URL", &redis.url);
    let app = TestApp::start(cluster.env("REDIS_PASSWORD_FILE", file.display().to_string())).await;
    let mut client = app.signed_in("redis.password").await;
    assert_eq!(client.refresh().await.status, 200);
    assert!(!app.log_of(0).contains(SECRET));
}
