//! The `api` and `ws` replicas: their environment, which is the same whoever starts them, and their commands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;

use crate::layout::Layout;
use crate::state::{Kind, Node, Settings, State};
use crate::{nginx, programs};

/// What is inherited: nothing that configures a replica.
const INHERITED: [&str; 7] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE"];

/// Beginnings of the names of variables that configure replicas, or Nginx. `up` takes those from its own environment and
/// remembers them, so that a replica added later from another shell is no different.
const CONFIGURING: [&str; 22] = [
    "ACCESS_TOKEN_",
    "ALLOWED_",
    "ARGON2_",
    "BACKEND_",
    "COOKIE_",
    "DB_POOL_",
    "DRAIN_",
    "LIMIT_",
    "LOG_",
    "MAX_",
    nginx::LIMITS,
    "OTEL_",
    "PRESENCE_",
    "REAUTH_",
    "REDIS_ACK_",
    "REFRESH_REUSE_",
    "REFRESH_TOKEN_",
    "REGISTRATION",
    "REVOCATION_",
    "SESSION_",
    "TOKEN_",
    "TYPING_",
];

/// The limits of the replicas, which without rate limits are all [`NO_LIMIT`].
const LIMITS: [&str; 9] = [
    "LIMIT_API_ADDRESS",
    "LIMIT_LOGIN_ACCOUNT",
    "LIMIT_LOGIN_ADDRESS",
    "LIMIT_REFRESH_ADDRESS",
    "LIMIT_REGISTER_ADDRESS",
    "LIMIT_ROOM_PUBLISHES",
    "LIMIT_USER_BYTES",
    "LIMIT_USER_JOINS",
    "LIMIT_USER_PUBLISHES",
];
/// More than any machine can do.
const NO_LIMIT: &str = "1000000/1s";

/// What of this process's environment configures replicas.
pub fn configuration_from_environment() -> BTreeMap<String, String> {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    variables.filter(|(name, _)| CONFIGURING.iter().any(|beginning| name.starts_with(beginning))).collect()
}

/// Says so if a key is missing, before anything is started.
pub(crate) fn check(settings: &Settings) -> Result<()> {
    for key in ["private.pem", "public.pem", "refresh.key"] {
        let path = settings.keys.join(key);
        ensure!(path.is_file(), "{} does not exist; run: ./generate-keys.sh", path.display());
    }
    check_programs(&settings.binaries)
}

/// Says so if a program is missing.
pub(crate) fn check_programs(folder: &Path) -> Result<()> {
    program(folder, Kind::Api)?;
    program(folder, Kind::Ws)?;
    Ok(())
}

fn program(folder: &Path, kind: Kind) -> Result<PathBuf> {
    programs::ours(folder, &format!("gatefold-{}", kind.as_str()))
}

/// A command of `gatefold-api` or `gatefold-ws`, from a folder, with the environment of a replica.
fn any_command(layout: &Layout, state: &State, kind: Kind, folder: &Path) -> Result<Command> {
    let settings = &state.settings;
    let mut command = Command::new(program(folder, kind)?);
    command.current_dir(layout.dir()).env_clear();
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("HOST", "127.0.0.1").env("COOKIE_SECURE", "false").env("TRUSTED_PROXIES", "127.0.0.0/8");
    command.env("PUBLIC_KEY_PATH", settings.keys.join("public.pem"));
    let mut stores = state.store_environment(state.role_of(folder));
    if kind != Kind::Api {
        stores.remove("DATABASE_URL");
    }
    command.envs(stores);
    if kind == Kind::Api {
        command.env("PRIVATE_KEY_PATH", settings.keys.join("private.pem"));
        command.env("REFRESH_KEY_PATH", settings.keys.join("refresh.key"));
    }
    if !settings.rate_limits {
        command.envs(LIMITS.map(|name| (name, NO_LIMIT))).env("MAX_SOCKETS_PER_USER", "1000000");
    }
    command.envs(&settings.env);
    Ok(command)
}

pub(crate) fn command(layout: &Layout, state: &State, node: &Node) -> Result<Command> {
    let folder = node.binaries.as_deref().unwrap_or(&state.settings.binaries);
    let mut command = any_command(layout, state, node.kind, folder)?;
    command.env("PORT", node.port.to_string());
    command.env("METRICS_PORT", node.metrics_port.unwrap_or_default().to_string());
    Ok(command)
}

pub(crate) async fn migrate(layout: &Layout, state: &State) -> Result<()> {
    run(layout, state, &["migrate"], "").await
}

pub(crate) async fn create_user(layout: &Layout, state: &State, name: &str, password: &str) -> Result<()> {
    run(layout, state, &["user", "add", "--", name], &format!("{password}\n")).await
}

pub(crate) async fn run(layout: &Layout, state: &State, arguments: &[&str], input: &str) -> Result<()> {
    let mut command = any_command(layout, state, Kind::Api, &state.settings.binaries)?;
    // Its commands need the database only as it is, and not through a proxy that may be out of order.
    let role = state.role_of(&state.settings.binaries);
    command.envs(state.direct_database_url(role).map(|url| ("DATABASE_URL", url)));
    command.envs(state.database_url().map(|url| ("DATABASE_OWNER_URL", url)));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command).spawn().context("cannot run gatefold-api")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.ok(); // one that does not read says why it failed
    }
    let output = child.wait_with_output().await?;
    ensure!(
        output.status.success(),
        "gatefold-api {} failed ({}): {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Where a replica says whether it is ready.
pub(crate) fn ready_url(node: &Node) -> String {
    let path = if node.kind == Kind::Api { "/api/ready" } else { "/ready" };
    format!("http://127.0.0.1:{}{path}", node.port)
}
