//! Configuration: the settings that both replicas have, and how settings are read.
//!
//! Each setting is a field with a flag and an environment variable; clap makes `--help` from the same lines. Nothing
//! outside `main` reads the environment.

mod empty;
mod issuer;
mod listen;

use std::{ffi::OsString, net::IpAddr, path::PathBuf, process, time::Duration};

use clap::{
    Args, Parser,
    builder::ValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use ipnet::IpNet;
use secrecy::SecretString;

pub use self::{
    issuer::{IssuerConfig, MAX_LENGTH as MAX_ISSUER},
    listen::{ListenConfig, listen_everywhere},
};
use crate::{budgets::Budget, limit::Limit, origin::Origin};

/// Exit code for a configuration that cannot be used (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: i32 = 64;

/// The longest time that can be set, 10 years: a moment so far ahead can be told on every clock, and nobody means more.
const LONGEST: Duration = Duration::from_hours(3653 * 24);

/// Redis, and how long a replica waits for any store.
#[derive(Args, Clone, Debug)]
pub struct StoreConfig {
    /// Redis: redis://, rediss://, redis-sentinel:// or redis-cluster://
    #[arg(long, env = "REDIS_URL", default_value = "redis://127.0.0.1:6379", hide_env_values = true)]
    pub redis_url: SecretString,
    /// A file that holds the password of Redis, for a `REDIS_URL` without one
    #[arg(long = "redis-password-file", env = "REDIS_PASSWORD_FILE", value_name = "FILE", value_parser = secret_in_file)]
    pub redis_password: Option<SecretString>,
    /// How many of Redis's own replicas must have a change to a session before it counts as made
    #[arg(long, env = "REDIS_ACK_REPLICAS", default_value_t = 0)]
    pub redis_ack_replicas: u16,
    /// After this long without reading the revocation log, tokens are answered 503 rather than trusted; 0 never
    #[arg(long, env = "REVOCATION_STALENESS_LIMIT", default_value = "60s", value_parser = duration)]
    pub revocation_staleness_limit: Duration,
    /// Longest wait for Postgres or Redis before the answer is 503
    #[arg(long, env = "BACKEND_TIMEOUT", default_value = "2s", value_parser = positive_duration)]
    pub backend_timeout: Duration,
}

impl StoreConfig {
    /// How long one call to a store may take: a little less than the client was promised, so that the 503 itself
    /// arrives in time.
    pub fn call_timeout(&self) -> Duration {
        self.backend_timeout.mul_f32(0.85)
    }

    /// How long a request waits for a rate limit before it goes on without: 100 ms by default, when Redis takes less than
    /// one. It comes before the calls above, so it is the part of the promise that those leave, but for what the 503
    /// itself takes.
    pub fn limit_wait(&self) -> Duration {
        self.backend_timeout.mul_f32(0.05)
    }
}

/// Who may speak for a client, and from where browsers may call.
#[derive(Args, Clone, Debug)]
pub struct ProxyConfig {
    /// Networks (CIDR) and addresses, separated by commas, of proxies whose X-Forwarded-For, X-Forwarded-Proto, X-Request-Id and traceparent are believed
    #[arg(long, env = "TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,
    /// Origins besides our own from which browsers may change state, open sockets and read answers (CORS), e.g. https://app.example.com
    #[arg(long, env = "ALLOWED_ORIGINS", value_delimiter = ',')]
    pub allowed_origins: Vec<Origin>,
}

/// How much may be published in rooms. Each is shared by all replicas.
#[derive(Args, Clone, Copy, Debug)]
pub struct PublishConfig {
    /// Messages that a user may publish, over all sockets and replicas, as count/period:burst: 60/1s:120 is 60 a second, of which 120 may come at once
    #[arg(long, env = "LIMIT_USER_PUBLISHES", default_value = "60/1s:120")]
    pub limit_user_publishes: Limit,
    /// Bytes that a user may publish, and have read from the histories of rooms, over all sockets and replicas
    #[arg(long, env = "LIMIT_USER_BYTES", default_value = "262144/1s:4194304")]
    pub limit_user_bytes: Limit,
    /// Messages that may be published in one room, by all its members together
    #[arg(long, env = "LIMIT_ROOM_PUBLISHES", default_value = "100/1s:200")]
    pub limit_room_publishes: Limit,
}

impl PublishConfig {
    /// The messages of a user.
    pub fn publishes(&self) -> Budget {
        Budget { name: "room-publish", limit: self.limit_user_publishes }
    }

    /// The bytes of a user.
    pub fn bytes(&self) -> Budget {
        Budget { name: "room-bytes", limit: self.limit_user_bytes }
    }
}

/// What verifies access tokens.
#[derive(Args, Clone, Debug)]
pub struct PublicKeyConfig {
    /// RSA public keys (PEM) that verify access tokens; several in a file, or files separated by commas, while keys are rotated
    #[arg(long, env = "PUBLIC_KEY_PATH", value_delimiter = ',', default_value = "keys/public.pem")]
    pub public_key_path: Vec<PathBuf>,
    /// Who must have issued them.
    #[command(flatten)]
    pub issuer: IssuerConfig,
}

/// Logging.
#[derive(Args, Clone, Debug)]
pub struct LogConfig {
    /// What to log: error, warn, info, debug, trace, or directives such as `info,gatefold_api=debug`
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Value parser of a network, or of a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    address.or_else(|_| text.parse()).map_err(|_| "expected a network such as 10.1.0.0/16, or an address".to_owned())
}

/// Value parser of a file whose first line is a secret.
fn secret_in_file(path: &str) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let secret = text.lines().next().unwrap_or_default();
    if secret.is_empty() { Err(format!("{path} is empty")) } else { Ok(secret.into()) }
}

/// Reads the configuration of a program from its arguments and environment, or ends the process: with the help that was
/// asked for, or with every problem at once and exit code 64. A variable that is empty counts as one that is not set.
pub fn parse<C: Parser>() -> C {
    match try_parse(std::env::args_os()) {
        Ok(config) => config,
        Err(problems) => {
            if let [Problem { error: Some(error), .. }] = problems.as_slice() {
                if error.use_stderr() && wants_json() {
                    exit_with([error.to_string().trim_end()]);
                }
                let _ = error.print();
                process::exit(if error.use_stderr() { EXIT_USAGE } else { 0 });
            }
            exit_with(problems.iter().map(|problem| problem.text.as_str()))
        }
    }
}

/// Whether the process was called with `--json`, which also holds for what is wrong with its arguments.
fn wants_json() -> bool {
    std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// Ends the process with exit code 64 and a line for each problem of the configuration; with `--json`, with an object.
pub fn exit_with<'a>(problems: impl IntoIterator<Item = &'a str>) -> ! {
    if wants_json() {
        let problems: Vec<&str> = problems.into_iter().collect();
        eprintln!("{}", serde_json::json!({ "error": "the configuration cannot be used", "problems": problems }));
        process::exit(EXIT_USAGE)
    }
    eprintln!("The configuration cannot be used:");
    for problem in problems {
        eprintln!("  - {problem}");
    }
    eprintln!("Run with --help to see every setting.");
    process::exit(EXIT_USAGE)
}

struct Problem {
    text: String,
    /// What clap itself would print, where it knows better than a list (`--help`, an unknown argument).
    error: Option<clap::Error>,
}

/// Clap stops at the first value that does not parse; an operator wants all of them, so each bad one is noted, taken out
/// of the way and the rest is parsed again.
fn try_parse<C: Parser>(arguments: impl Iterator<Item = OsString>) -> Result<C, Vec<Problem>> {
    let arguments: Vec<_> = arguments.collect();
    let mut command = C::command();
    if let Some(help) = command.clone().try_get_matches_from(&arguments).err().filter(|error| !error.use_stderr()) {
        return Err(vec![Problem { text: String::new(), error: Some(help) }]);
    }
    command = empty::without(command, &|variable| std::env::var_os(variable).is_some_and(|value| value.is_empty()));
    let mut problems = Vec::new();
    loop {
        let error = match command.clone().try_get_matches_from(&arguments) {
            Ok(matches) if problems.is_empty() => match C::from_arg_matches(&matches) {
                Ok(config) => return Ok(config),
                Err(error) => error,
            },
            Ok(_) => return Err(problems),
            Err(error) => error,
        };
        let bad_argument = has_bad_value(&error).then(|| argument_of(&error, &command)).flatten();
        let text = error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let text = bad_argument.as_ref().map_or_else(|| text.clone(), |id| without_secret(&text, &error, &command, id));
        let Some(id) = bad_argument else {
            problems.push(Problem { text, error: Some(error) });
            return Err(problems);
        };
        problems.push(Problem { text, error: None });
        command = without_check(command, &id);
    }
}

/// Whether `error` complains of a value that is there, and not of one that is missing.
fn has_bad_value(error: &clap::Error) -> bool {
    let value = error.get(ContextKind::InvalidValue);
    matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue)
        && matches!(value, Some(ContextValue::String(value)) if !value.is_empty())
}

/// The id of the argument that `error` complains of, if it is one of the top-level command's.
fn argument_of(error: &clap::Error, command: &clap::Command) -> Option<clap::Id> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let mut command = command.clone();
    command.build(); // Only a command that is built can show its arguments.
    command.get_arguments().find(|argument| argument.to_string() == *shown).map(|argument| argument.get_id().clone())
}

/// What may be a secret is not repeated.
fn without_secret(text: &str, error: &clap::Error, command: &clap::Command, id: &clap::Id) -> String {
    let is_secret = |argument: &clap::Arg| argument.get_id() == id && argument.is_hide_env_values_set();
    match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) if command.get_arguments().any(is_secret) => {
            text.replace(value.as_str(), "…")
        }
        _ => text.to_owned(),
    }
}

fn without_check(command: clap::Command, id: &clap::Id) -> clap::Command {
    command.mut_arg(id, |argument| argument.value_parser(ValueParser::os_string()))
}

/// A duration such as `900` (seconds), `90s`, `15m`, `12h` or `7d`, of 10 years at most.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let duration = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "expected a duration such as 900, 90s, 15m, 12h or 7d".to_owned())?,
    };
    if duration <= LONGEST { Ok(duration) } else { Err("must be 10 years at most".to_owned()) }
}

/// A [`duration`] that is not zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser, Debug)]
    struct Example {
        #[command(flatten)]
        store: StoreConfig,
        #[command(flatten)]
        proxy: ProxyConfig,
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
        secure: bool,
    }

    fn problems(arguments: &[&str]) -> Vec<String> {
        let arguments = std::iter::once("example").chain(arguments.iter().copied()).map(Into::into);
        try_parse::<Example>(arguments).map_or_else(|p| p.into_iter().map(|p| p.text).collect(), |_| Vec::new())
    }

    #[test]
    fn a_bare_number_is_seconds_and_units_are_understood() {
        assert_eq!(duration("900"), Ok(Duration::from_mins(15)));
        assert_eq!(duration("15m"), Ok(Duration::from_mins(15)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(7 * 24)));
        assert!(duration("soon").is_err());
        assert!(positive_duration("0").is_err());
    }

    #[test]
    fn no_duration_reaches_beyond_what_clocks_can_tell() {
        assert!(duration("10years").is_ok());
        for text in ["11years", "18446744073709551615", "18446744073709551615s", "500000000years"] {
            assert_eq!(duration(text), Err("must be 10 years at most".to_owned()), "{text}");
        }
    }

    #[test]
    fn every_bad_value_is_reported_at_once() {
        let problems =
            problems(&["--backend-timeout", "soon", "--secure", "perhaps", "--trusted-proxies", "10.0.0.0/99"]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("--backend-timeout"), "{problems:?}");
        assert!(problems[1].contains("--secure"), "{problems:?}");
        assert!(problems[2].contains("--trusted-proxies"), "{problems:?}");
    }

    #[test]
    fn a_value_that_is_missing_ends_the_list() {
        for arguments in [&["--secure", "perhaps", "--backend-timeout"][..], &["--backend-timeout="], &["--secure="]] {
            assert!(!problems(arguments).is_empty(), "{arguments:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_is_a_network_or_an_address() {
        let networks = |text: &str| {
            let arguments = ["example", "--trusted-proxies", text].map(Into::into);
            let example = try_parse::<Example>(arguments.into_iter()).map_err(|problems| problems[0].text.clone());
            let networks = example?.proxy.trusted_proxies;
            Ok(networks.iter().map(IpNet::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(networks("10.1.2.3, fd00::1,10.2.0.0/16"), Ok("10.1.2.3/32 fd00::1/128 10.2.0.0/16".to_owned()));
        assert_eq!(networks("::ffff:10.1.2.3"), Ok("10.1.2.3/32".to_owned()));
        for bad in ["10.1.2", "proxy", "10.1.2.3:80", "10.0.0.0/33"] {
            let problem: Result<String, String> = networks(bad);
            assert!(problem.as_ref().is_err_and(|text| text.contains("or an address")), "{problem:?}");
        }
    }

    #[test]
    fn a_good_configuration_has_no_problems() {
        assert!(
            problems(&["--backend-timeout", "500ms", "--allowed-origins", "https://a.example,http://b.example:8080"])
                .is_empty()
        );
    }
}
