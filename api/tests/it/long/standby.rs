//! A standby of Postgres behind the address that replicas know: it is read while it is one, and written once it is promoted.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::harness::{Replica, TestApp, eventually, free_port, unique};

/// One of Postgres's programs, which refuse to run as root.
fn program(name: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").unwrap().map(|version| version.unwrap().path());
    let path = versions.map(|version| version.join("bin").join(name)).filter(|path| path.exists()).max().unwrap();
    if !rustix::process::geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(path);
    command
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A copy that follows the cluster's Postgres.
struct Standby {
    data: PathBuf,
    port: u16,
    server: Child,
    _home: TempDir,
}

impl Standby {
    fn start(primary: u16) -> Self {
        let home = TempDir::new().unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o777)).unwrap();
        let (data, port) = (home.path().join("data"), free_port());
        let mut copy = program("pg_basebackup");
        copy.args(["-R", "-X", "stream", "-c", "fast", "-N", "-h", "127.0.0.1", "-U", "authuser"]);
        run(copy.args(["-p", &primary.to_string(), "-D"]).arg(&data));
        let mut server = program("postgres");
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        server.args(["-c", "unix_socket_directories=", "-c", "max_connections=200"]);
        let server = server.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { data, port, server, _home: home }
    }

    async fn has_user(&self, name: &str) -> bool {
        let url = format!("postgres://authuser@127.0.0.1:{}/authdb", self.port);
        let Ok(mut postgres) = PgConnection::connect(&url).await else { return false };
        let found = sqlx::query_scalar("SELECT EXISTS (SELECT FROM users WHERE username = $1)").bind(name);
        found.fetch_one(&mut postgres).await.unwrap_or(false)
    }

    fn promote(&self) {
        run(program("pg_ctl").args(["promote", "-w", "-D"]).arg(&self.data));
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = program("pg_ctl").args(["stop", "-m", "immediate", "-D"]).arg(&self.data).current_dir("/").output();
        let _ = self.server.wait();
    }
}

/// One address that leads to whichever server is the primary, as a virtual IP does, for as long as the tasks live.
async fn virtual_address(target: Arc<AtomicU16>) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let port = target.load(Ordering::SeqCst);
            connections.spawn(async move {
                if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    (port, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn a_standby_serves_log_ins_and_once_it_is_promoted_everything() {
    let app = TestApp::start(gatefold_cluster::Cluster::builder().api(1)).await;
    let name = unique("standby");
    app.add_user(&name).await;
    let primary = app.cluster.database_url();
    let primary = primary.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
    let standby = Standby::start(primary);
    eventually("the standby has the user", async || standby.has_user(&name).await).await;
    let target = Arc::new(AtomicU16::new(primary));
    let (address, _tasks) = virtual_address(Arc::clone(&target)).await;
    let database = format!("postgres://gatefold_api@127.0.0.1:{address}/authdb");
    let replica = Replica::start(&app, &[("DATABASE_URL", &database)]);
    eventually("the replica is ready", async || replica.ready().await == Some((200, "ok".into()))).await;
    assert_eq!(replica.post("/api/login", &name).await, 200);

    app.cluster.kill("postgres").await.unwrap();
    target.store(standby.port, Ordering::SeqCst);
    eventually("the standby serves a log-in", async || replica.post("/api/login", &name).await == 200).await;
    eventually("it takes no writes", async || replica.ready().await == Some((503, "read_only".into()))).await;
    assert_eq!(replica.post("/api/register", &unique("standby.new")).await, 503);

    standby.promote();
    eventually("a user is added", async || replica.post("/api/register", &unique("standby.new")).await == 201).await;
    eventually("the replica is ready", async || replica.ready().await == Some((200, "ok".into()))).await;
    assert_eq!(replica.post("/api/login", &name).await, 200);
}
