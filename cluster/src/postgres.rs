//! A private Postgres: its data directory, its command line, its database.

mod lock_file;
pub(crate) mod standby;
mod template;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, geteuid};

use crate::layout::{Layout, create_private};
use crate::poll::eventually;
use crate::programs;
use crate::state::{Node, Settings, State};
use crate::tls;

/// Owns the schema, and is a superuser.
pub(crate) const OWNER: &str = "authuser";
/// Whom the replicas log in as. What it may do, `gatefold-api migrate` says.
pub(crate) const REPLICA: &str = "gatefold_api";
pub(crate) const DATABASE: &str = "authdb";
/// The name of the server that begins as the standby.
pub(crate) const SECOND: &str = "postgres-2";

/// Each server has a data directory of its own; that of the first one serves with and without a standby.
fn data(layout: &Layout, node: &Node) -> PathBuf {
    layout.postgres().join(if node.name == SECOND { "data-2" } else { "data" })
}

pub(crate) fn is_new(layout: &Layout, node: &Node) -> bool {
    !data(layout, node).join("PG_VERSION").exists()
}

/// Whom Postgres runs as: it refuses to run as root, so then it is the user that its package made.
fn account() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = User::from_name("postgres")?;
    Ok(Some(user.context("there is no user postgres; as root: apt-get install --no-install-recommends postgresql")?))
}

/// One of Postgres's programs, run as it must be and undisturbed by settings meant for clients.
fn program(name: &str, layout: &Layout) -> Result<Command> {
    let mut command = Command::new(programs::postgres(name)?);
    command.current_dir(layout.postgres());
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(variable);
        }
    }
    if let Some(user) = account()? {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    Ok(command)
}

/// That the user may enter each folder above one of its own; or an error that names the one where it stops.
fn may_enter(user: &User, home: &Path) -> Result<()> {
    let home = home.canonicalize()?;
    for folder in home.ancestors().skip(1) {
        let folder_is = fs::metadata(folder)?;
        let needed = if folder_is.uid() == user.uid.as_raw() {
            0o100
        } else if folder_is.gid() == user.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        ensure!(
            folder_is.mode() & needed != 0,
            "Postgres does not run as root but as {}, who may not enter {}: choose another --dir, such as one in /var/tmp",
            user.name,
            folder.display()
        );
    }
    Ok(())
}

/// Makes the data directory, the first time, and waits until nothing is left of a server that was killed.
pub(crate) async fn prepare(layout: &Layout, state: &State, node: &Node) -> Result<()> {
    let (home, data, settings) = (layout.postgres(), data(layout, node), &state.settings);
    create_private(&home)?;
    if let Some(user) = account()? {
        chown(&home, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        may_enter(&user, &home)?;
    }
    if !is_new(layout, node) {
        eventually(Duration::from_secs(10), || async { lock_file::take_from_the_dead(&data) }).await?;
    }
    let unfinished = home.join("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let primary = state.postgres_primary().context("there is a primary")?;
    if primary.name != node.name {
        if standby::follows(&data) {
            return Ok(());
        }
        standby::copy(layout, primary, &unfinished).await?;
        if data.exists() {
            fs::remove_dir_all(&data)?; // what it wrote since it was the primary itself
        }
    } else if !is_new(layout, node) {
        return Ok(());
    } else if settings.ephemeral {
        let template = template::path(&settings.binaries)?;
        if !template::copy_to(&template, &unfinished).await {
            initdb(layout, &unfinished).await?;
            template::keep(&unfinished, &template).await.ok(); // the next one takes longer, that is all
        }
    } else {
        initdb(layout, &unfinished).await?;
    }
    fs::rename(unfinished, data)?; // one that was interrupted is not taken for a database
    Ok(())
}

async fn initdb(layout: &Layout, data: &Path) -> Result<()> {
    let mut initdb = program("initdb", layout)?;
    // Not synchronised file by file: a machine that fails now fails before there is anything to lose.
    initdb.args(["-N", "-A", "trust", "-U", OWNER, "-E", "UTF8", "--locale", "C.UTF-8", "-D"]).arg(data);
    run(initdb).await
}

pub(crate) fn command(layout: &Layout, settings: &Settings, node: &Node) -> Result<Command> {
    let mut command = program("postgres", layout)?;
    command.arg("-D").arg(data(layout, node)).args(["-p", &node.port.to_string()]);
    for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"] {
        command.args(["-c", setting]);
    }
    if settings.ephemeral {
        for setting in ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB"] {
            command.args(["-c", setting]);
        }
    }
    if settings.redis_tls_port.is_some() {
        // It insists on a key that nobody else may read, and may run as another user.
        let key = layout.postgres().join("server.key");
        fs::copy(tls::key(layout), &key)?;
        if let Some(user) = account()? {
            chown(&key, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let file = |name: &str, path: &Path| format!("{name}={}", path.display());
        let settings =
            ["ssl=on".to_owned(), file("ssl_cert_file", &tls::certificate(layout)), file("ssl_key_file", &key)];
        command.args(settings.iter().flat_map(|setting| ["-c", setting]));
    }
    Ok(command)
}

/// Whether that very process takes connections on the port.
pub(crate) fn ready(layout: &Layout, pid: i32, node: &Node) -> Result<()> {
    lock_file::says_ready(&data(layout, node), pid, node.port)
}

/// Makes the database and the role of the replicas, unless they are there.
pub(crate) async fn create_database(layout: &Layout, port: u16) -> Result<()> {
    let port = port.to_string();
    for (name, created) in [("createuser", REPLICA), ("createdb", DATABASE)] {
        let mut command = program(name, layout)?;
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", OWNER, created]);
        match run(command).await {
            Err(error) if error.to_string().contains("already exists") => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Forgets the database with all that is in it, and makes it again.
pub(crate) async fn empty(layout: &Layout, port: u16) -> Result<()> {
    sql(layout, port, "postgres", &format!("DROP DATABASE {DATABASE} WITH (FORCE)")).await?;
    create_database(layout, port).await
}

/// Makes new transactions of all sessions refuse writes, those of sessions that are open too, or take them again.
pub(crate) async fn set_read_only(layout: &Layout, port: u16, read_only: bool) -> Result<()> {
    let change =
        if read_only { "SET default_transaction_read_only = on" } else { "RESET default_transaction_read_only" };
    sql(layout, port, "postgres", &format!("ALTER SYSTEM {change}")).await?;
    sql(layout, port, "postgres", "SELECT pg_reload_conf()").await
}

async fn sql(layout: &Layout, port: u16, database: &str, statement: &str) -> Result<()> {
    let mut command = program("psql", layout)?;
    command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", OWNER]);
    command.args(["-d", database, "-c", statement]);
    run(command).await
}

/// Runs a program to its end.
async fn run(command: Command) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let output =
        tokio::process::Command::from(command).output().await.with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
