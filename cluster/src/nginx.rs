//! The reverse proxy: its private copy of the configuration and of the page, and the files that differ between
//! clusters.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, geteuid};

use crate::layout::Layout;
use crate::programs;
use crate::state::{Kind, Settings, State};

/// Connections that wait for the next request. They are closed before a replica would, which when it drains is after 1.5 s:
/// a request that crosses with the replica's closing is lost, and not every request may be sent twice.
const KEPT_OPEN: &str = "    keepalive 64;\n    keepalive_timeout 1s;\n";

/// How the names of the variables begin that set the limits of Nginx.
pub(crate) const LIMITS: &str = "NGINX_LIMIT_";

/// The access log, beside the log of the processes.
pub(crate) fn access_log(layout: &Layout) -> PathBuf {
    layout.log("nginx-access")
}

/// Copies what the repository has into the cluster's directory, where the workers of Nginx can read it, and adds what
/// is this cluster's own.
pub(crate) fn prepare(layout: &Layout, state: &State, port: u16) -> Result<()> {
    let home = layout.nginx();
    let settings = &state.settings;
    copy_folder(&settings.nginx, &home.join("conf")).context("cannot copy the configuration of Nginx (see --nginx)")?;
    copy_files(&settings.client, &home.join("client")).context("cannot copy the web page (see --client)")?;
    create_readable(&home.join("run"))?;
    let site = home.join("conf/site");
    create_readable(&site)?;
    fs::write(site.join("listen.conf"), listen(layout, settings, port))?;
    if settings.rate_limits {
        set_limits(&home.join("conf"), settings)?;
    } else {
        fs::copy(home.join("conf/container/limits.off.conf"), site.join("limits.conf"))?;
    }
    write_upstreams(layout, state)?;
    let check = command(layout)?.arg("-t").output()?;
    ensure!(
        check.status.success(),
        "Nginx refuses its configuration: {}",
        String::from_utf8_lossy(&check.stderr).trim()
    );
    Ok(())
}

/// As in a container: by the script that knows which variables there are.
fn set_limits(conf: &Path, settings: &Settings) -> Result<()> {
    let mut command = Command::new("sh");
    command.arg(conf.join("limits.sh")).arg(conf);
    command.envs(settings.env.iter().filter(|(name, _)| name.starts_with(LIMITS)));
    let output = command.output().context("cannot run nginx/limits.sh")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn listen(layout: &Layout, settings: &Settings, port: u16) -> String {
    let mut lines = String::new();
    for address in &settings.addresses {
        let _ = writeln!(lines, "listen {} default_server backlog=4096;", SocketAddr::new(*address, port));
    }
    let _ = writeln!(lines, "root client;\naccess_log \"{}\" access;", access_log(layout).display());
    lines
}

/// Writes the addresses of the replicas, those that have exited too: they may be back without a word to Nginx.
pub(crate) fn write_upstreams(layout: &Layout, state: &State) -> Result<()> {
    let upstreams = upstream(state, Kind::Api, KEPT_OPEN) + &upstream(state, Kind::Ws, "");
    fs::write(layout.nginx().join("conf/site/upstreams.conf"), upstreams)?;
    Ok(())
}

/// No replica is ever counted dead: for a second or two after it is back Nginx would leave it alone, and when the other
/// one restarts just then nobody is served. To find out anew with each request costs nothing on one machine, where the
/// port of a dead process refuses at once.
fn upstream(state: &State, kind: Kind, more: &str) -> String {
    let name = kind.as_str();
    let mut text = format!("upstream {name} {{\n    zone {name} 128k;\n    least_conn;\n");
    let replicas = state.of(kind).filter(|node| node.port != 0).map(|node| format!("127.0.0.1:{}", node.port));
    let others = state.settings.upstreams.iter().filter(|(of, _)| *of == kind).map(|(_, address)| address.to_string());
    let servers: Vec<String> = replicas.chain(others).collect();
    for server in &servers {
        let _ = writeln!(text, "    server {server} max_fails=0;");
    }
    if servers.is_empty() {
        text += "    server 127.0.0.1:9 down;\n";
    }
    text + more + "}\n"
}

/// Nginx, in the foreground; as root its workers are somebody else.
pub(crate) fn command(layout: &Layout) -> Result<Command> {
    let mut directives = String::from("daemon off;");
    if geteuid().is_root() {
        let worker =
            ["www-data", "nginx", "nobody"].into_iter().find(|name| matches!(User::from_name(name), Ok(Some(_))));
        let worker = worker.context("there is no user www-data, nginx or nobody for the workers of Nginx")?;
        let user = User::from_name(worker)?.context("unreachable: the user was just found")?;
        let group = nix::unistd::Group::from_gid(user.gid)?.context("the user of Nginx's workers has no group")?;
        let _ = write!(directives, " user {worker} {};", group.name);
    }
    let mut command = Command::new(programs::system("nginx", "nginx")?);
    command.args(["-e", "stderr", "-c", "conf/nginx.conf", "-g", &directives, "-p"]).arg(layout.nginx());
    command.current_dir(layout.dir());
    Ok(command)
}

fn create_readable(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    Ok(())
}

/// Copies a folder and makes it readable by everybody; hidden files are left out.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    create_readable(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("no folder {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() && !is_hidden(&entry) {
            copy_folder(&entry.path(), &target)?;
        }
    }
    copy_files(from, to)
}

/// As [`copy_folder`], without the folders in it: beside the web page there are its tests.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    create_readable(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("no folder {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_file() && !is_hidden(&entry) {
            fs::copy(entry.path(), &target)?;
            fs::set_permissions(&target, Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

fn is_hidden(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}
