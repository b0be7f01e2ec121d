//! PgBouncer between the replicas and Postgres, with the settings that docs/operations.md names.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::harness::{Replica, TestApp, eventually, free_port, two_replicas, unhurried, unique};

const DOCUMENT: &str = include_str!("../../../../docs/operations.md");

/// The lines for pgbouncer.ini in the document.
fn documented() -> Vec<&'static str> {
    let (_, after) = DOCUMENT.split_once("    [pgbouncer]\n").expect("the document has them");
    after.lines().map_while(|line| line.strip_prefix("    ")).collect()
}

struct PgBouncer {
    port: u16,
    process: Child,
    _folder: TempDir,
}

impl PgBouncer {
    fn start(app: &TestApp, settings: &[&str]) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let database = app.cluster.database_url();
        let postgres = database.rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
        let (ini, users) = (folder.path().join("pgbouncer.ini"), folder.path().join("users.txt"));
        let text = format!(
            "[databases]\nauthdb = host=127.0.0.1 port={postgres} dbname=authdb\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n{}\n",
            users.display(),
            settings.join("\n")
        );
        fs::write(&ini, text).unwrap();
        fs::write(&users, "\"gatefold_api\" \"\"\n").unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        // It refuses to run as root.
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "pgbouncer"]);
            command
        } else {
            Command::new("pgbouncer")
        };
        let process = command.arg(ini).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { port, process, _folder: folder }
    }

    fn url(&self) -> String {
        format!("postgres://gatefold_api@127.0.0.1:{}/authdb", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn replicas_work_behind_pgbouncer_with_the_documented_settings() {
    let app = TestApp::start(unhurried(two_replicas())).await;
    let settings = documented();
    assert!(settings.iter().any(|line| line.starts_with("ignore_startup_parameters")), "{settings:?}");
    let pgbouncer = PgBouncer::start(&app, &settings);
    let replica = Replica::start(&app, &[("DATABASE_URL", &pgbouncer.url())]);
    eventually("the replica is ready", async || replica.ready().await == Some((200, "ok".into()))).await;
    // More at once than there are connections, and each twice: statements are prepared once and used again.
    let names: Vec<_> = (0..20).map(|_| unique("pgbouncer")).collect();
    let all = futures_util::future::join_all(
        names
            .iter()
            .map(async |name| (replica.post("/api/register", name).await, replica.post("/api/login", name).await)),
    );
    assert!(all.await.iter().all(|statuses| *statuses == (201, 200)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn without_the_documented_parameters_pgbouncer_refuses_and_the_log_says_which() {
    let app = TestApp::start(unhurried(two_replicas())).await;
    let settings: Vec<_> =
        documented().into_iter().filter(|line| !line.starts_with("ignore_startup_parameters")).collect();
    let pgbouncer = PgBouncer::start(&app, &settings);
    let replica = Replica::start(&app, &[("DATABASE_URL", &pgbouncer.url())]);
    eventually("the replica is not ready", async || replica.ready().await == Some((503, "unavailable".into()))).await;
    assert_eq!(replica.post("/api/login", "nobody").await, 503);
    let log = replica.log();
    assert!(log.contains("unsupported startup parameter: extra_float_digits"), "{log}");
}
