//! Settings as templates and habits leave them: empty, of another world, or without effect.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::harness::{PATIENCE, free_port};

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_gatefold-api")).with_file_name(name)
}

/// What a program says, without anything of our environment.
fn output(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(program(name)).args(arguments).env_clear().envs(environment.iter().copied()).output().unwrap()
}

/// All variables that a command knows, as its help names them.
fn variables(name: &str, arguments: &[&str]) -> Vec<String> {
    let help = output(name, &[arguments, &["--help"]].concat(), &[]).stdout;
    let help = String::from_utf8(help).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let named = help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap().to_owned());
    named.collect()
}

/// A replica that was started, and what it logs.
struct Running {
    process: Child,
    log: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// Without stores, since none listens there.
    fn start(name: &str, keys: &Path, environment: &[(String, &str)]) -> Self {
        let mut command = Command::new(program(name));
        command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        command.args(["--port", "0", "--metrics-port", "0", "--redis-url", "redis://127.0.0.1:1"]);
        command.arg("--public-key-path").arg(keys.join("public.pem"));
        if name == "gatefold-api" {
            command.args(["--database-url", &format!("postgres://nobody@127.0.0.1:{}/nothing", free_port())]);
            command.arg("--private-key-path").arg(keys.join("private.pem"));
            command.arg("--refresh-key-path").arg(keys.join("refresh.key"));
        }
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let log = BufReader::new(process.stdout.take().unwrap());
        Self { process, log }
    }

    /// The next line of the log with this text; fails when the process ends before.
    fn logged(&mut self, text: &str) -> serde_json::Value {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "it ended before it logged {text:?}");
        }
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn keys() -> TempDir {
    let folder = TempDir::new().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../generate-keys.sh");
    let made = Command::new(script).arg("--dir").arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    folder
}

/// That `output` is of a program that refuses its configuration, and says this about it.
#[track_caller]
fn assert_refused(output: &Output, complaints: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(complaints.iter().all(|complaint| said.contains(complaint)), "{complaints:?} are not all in {said}");
}

#[test]
fn variables_that_are_empty_count_as_not_set_in_both_replicas_which_listen_on_ipv4_and_ipv6() {
    let keys = keys();
    for (name, least) in [("gatefold-api", 45), ("gatefold-ws", 25)] {
        let variables = variables(name, &[]);
        assert!(variables.len() >= least, "{name}: {variables:?}");
        let empty: Vec<_> = variables.into_iter().map(|variable| (variable, "")).collect();
        let mut replica = Running::start(name, keys.path(), &empty);
        let address = replica.logged("\"serving")["address"].as_str().unwrap().to_owned();
        let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(), "{name} is not at {address}");
        let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        assert_eq!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok(), has_ipv6, "{name} is at {address}");
    }
}

/// As where the kernel was started with `ipv6.disable=1`: there are no sockets of IPv6 at all.
#[test]
fn where_the_kernel_has_no_ipv6_a_replica_listens_on_ipv4() {
    let keys = keys();
    let (source, library) = (keys.path().join("no_ipv6.c"), keys.path().join("no_ipv6.so"));
    let code = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <errno.h>\n#include <sys/socket.h>\n\
        int socket(int domain, int type, int protocol) {\n\
            int (*of_libc)(int, int, int) = dlsym(RTLD_NEXT, \"socket\");\n\
            if (domain == AF_INET6) { errno = EAFNOSUPPORT; return -1; }\n\
            return of_libc(domain, type, protocol);\n\
        }\n";
    std::fs::write(&source, code).unwrap();
    let mut compiler = Command::new("cc");
    let made = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let preload = ("LD_PRELOAD".to_owned(), library.to_str().unwrap());
    let mut replica = Running::start("gatefold-api", keys.path(), &[preload]);
    let address = replica.logged("\"serving\"")["address"].as_str().unwrap().to_owned();
    let port: u16 = address.strip_prefix("0.0.0.0:").unwrap_or_else(|| panic!("{address}")).parse().unwrap();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
}

#[test]
fn variables_that_are_empty_count_as_not_set_for_commands_too() {
    let nobody = format!("postgres://nobody@127.0.0.1:{}/nothing", free_port());
    for arguments in [&["user", "list"][..], &["migrate", "--check"], &["keys", "check"]] {
        let variables = variables("gatefold-api", &arguments[..1]);
        let mut environment: Vec<_> = variables.iter().map(|variable| (variable.as_str(), "")).collect();
        environment.extend([("ALLOWED_ORIGINS", ""), ("DB_PORT", ""), ("DATABASE_OWNER_URL", "")]);
        let arguments = [arguments, &["--database-url", &nobody]].concat();
        let said = output("gatefold-api", &arguments, &environment);
        let said = String::from_utf8_lossy(&said.stderr);
        assert!(!said.contains("invalid value") && !said.contains("value is required"), "{arguments:?}: {said}");
    }
}

#[test]
fn the_list_of_previous_cookie_names_may_be_empty() {
    let keys = keys();
    let refused = [("COOKIE_PREVIOUS_NAMES", "a b")];
    assert_refused(&output("gatefold-api", &[], &refused), &["--cookie-previous-names"]);
    let mut replica = Running::start("gatefold-api", keys.path(), &[("COOKIE_PREVIOUS_NAMES".to_owned(), "")]);
    replica.logged("\"serving\"");
}

#[test]
fn origins_and_urls_that_have_no_effect_are_refused_at_the_start() {
    for name in ["gatefold-api", "gatefold-ws"] {
        for (origin, complaint) in [
            ("https://*.example.com", "wildcards are not supported"),
            ("*", "wildcards are not supported"),
            ("https://app.example.com,https://other.example.com:*", "wildcards are not supported"),
            ("app.example.com", "expected an origin such as"),
            ("https://app.example.com/app", "expected an origin such as"),
        ] {
            assert_refused(&output(name, &[], &[("ALLOWED_ORIGINS", origin)]), &["--allowed-origins", complaint]);
        }
        let issuer = output(name, &[], &[("ISSUER", "https://auth.example.com/"), ("AUDIENCE", "two words")]);
        assert_refused(&issuer, &["--issuer", "write it as https://auth.example.com:", "--audience"]);
        assert_refused(&output(name, &[], &[("TRUSTED_PROXIES", "10.1.2")]), &["--trusted-proxies", "or an address"]);
    }
    for arguments in [&[][..], &["user", "list"], &["migrate"]] {
        let jdbc = [("DATABASE_URL", "jdbc:postgresql://a-secret@db.example:5432/authdb")];
        let refused = output("gatefold-api", arguments, &jdbc);
        assert_refused(&refused, &["DATABASE_URL", "jdbc: is for Java"]);
        assert!(!String::from_utf8_lossy(&refused.stderr).contains("a-secret"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_connection_to_postgres_that_is_refused_is_logged_as_that() {
    let keys = keys();
    let mut replica = Running::start("gatefold-api", keys.path(), &[]);
    let address = replica.logged("\"serving\"")["address"].as_str().unwrap().to_owned();
    let port = address.rsplit_once(':').unwrap().1;
    let url = format!("http://127.0.0.1:{port}/api/ready");
    let asked = tokio::time::timeout(PATIENCE, reqwest::get(url)).await.unwrap();
    assert_eq!(asked.unwrap().status(), 503);
    let line = replica.logged("\"not ready\",\"server\"");
    let cause = line["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("Connection refused"), "{line}");
    assert!(line["server"].as_str().is_some_and(|server| server.starts_with("127.0.0.1:")), "{line}");
}
