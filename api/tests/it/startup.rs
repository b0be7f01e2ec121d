//! A replica that cannot work says why, all of it, and ends with exit code 64.

use std::{
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

/// The replica with the keys in `keys` and nothing of our environment.
fn replica(keys: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
    command.env_clear().env("HOST", "127.0.0.1").env("PORT", "0").env("METRICS_PORT", "0");
    command.env("PRIVATE_KEY_PATH", keys.join("private.pem")).env("PUBLIC_KEY_PATH", keys.join("public.pem"));
    command.env("REFRESH_KEY_PATH", keys.join("refresh.key"));
    command
}

fn keys() -> TempDir {
    let folder = TempDir::new().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../generate-keys.sh");
    let made = Command::new(script).arg("--dir").arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    folder
}

#[track_caller]
fn assert_unusable(output: &Output, complaints: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for complaint in complaints {
        assert!(said.contains(complaint), "{complaint:?} is not in {said}");
    }
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
}

#[test]
fn each_key_that_is_missing_is_named_with_the_command_that_makes_it() {
    let folder = TempDir::new().unwrap();
    let output = replica(folder.path()).output().unwrap();
    assert_unusable(&output, &["private.pem", "public.pem", "refresh.key", "./generate-keys.sh"]);
}

#[test]
fn a_key_that_protects_nothing_is_refused() {
    let keys = keys();
    let path = |name: &str| keys.path().join(name);
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(keys.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", "short.pem"]);
    openssl(&["pkey", "-in", "short.pem", "-pubout", "-out", "short-public.pem"]);
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "elliptic.pem"]);
    std::fs::write(path("short.key"), "c2hvcnQ=\n").unwrap();
    std::fs::write(path("text.key"), "not base64, though it is longer than thirty-two bytes\n").unwrap();
    for (variable, file, complaint) in [
        ("PUBLIC_KEY_PATH", "short-public.pem", "1024 bits are too few"),
        ("PUBLIC_KEY_PATH", "private.pem", "not a public key"),
        ("PRIVATE_KEY_PATH", "short.pem", "not a usable RSA private key"),
        ("PRIVATE_KEY_PATH", "elliptic.pem", "not a usable RSA private key"),
        ("PRIVATE_KEY_PATH", "public.pem", "holds a PUBLIC KEY"),
        ("REFRESH_KEY_PATH", "short.key", "32 random bytes"),
        ("REFRESH_KEY_PATH", "text.key", "32 random bytes"),
    ] {
        let output = replica(keys.path()).env(variable, path(file)).output().unwrap();
        assert_unusable(&output, &[file, complaint]);
    }
    let other = self::keys();
    let output = replica(keys.path()).env("PUBLIC_KEY_PATH", other.path().join("public.pem")).output().unwrap();
    assert_unusable(&output, &["the public half of PRIVATE_KEY_PATH is not among PUBLIC_KEY_PATH"]);
}

#[test]
fn no_part_of_a_key_is_in_a_complaint() {
    let keys = keys();
    let secret = std::fs::read_to_string(keys.path().join("private.pem")).unwrap();
    let output = replica(keys.path()).env("REFRESH_KEY_PATH", keys.path().join("private.pem")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(secret.lines().all(|line| !said.contains(line)), "{said}");
}

#[test]
fn several_bad_settings_are_reported_at_once() {
    let keys = keys();
    let mut command = replica(keys.path());
    command.env("PORT", "seventy").env("ACCESS_TOKEN_EXPIRY", "soon").env("TRUSTED_PROXIES", "10.0.0.0/99");
    command.env("REFRESH_REUSE_GRACE", "31s").env("COOKIE_NAME", "a;b").env("COOKIE_SECURE", "perhaps");
    command.env("COOKIE_PREVIOUS_NAMES", "a,b c");
    command.args(["--argon2-passes", "0"]).env("REDIS_PASSWORD_FILE", "/nowhere");
    let complaints = [
        "--port",
        "--access-token-expiry",
        "--trusted-proxies",
        "--refresh-reuse-grace",
        "--cookie-name",
        "--cookie-previous-names",
        "--cookie-secure",
        "--argon2-passes",
        "--redis-password-file",
    ];
    assert_unusable(&command.output().unwrap(), &complaints);
}

#[test]
fn settings_of_traces_that_are_none_are_refused_and_secrets_not_repeated() {
    let keys = keys();
    let mut command = replica(keys.path());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:a-secret@collector.example");
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "api-key:a-secret").env("OTEL_RESOURCE_ATTRIBUTES", "production");
    command.env("OTEL_TRACES_SAMPLER", "sometimes").env("OTEL_TRACES_SAMPLER_ARG", "2");
    let output = command.output().unwrap();
    let complaints = [
        "--otel-exporter-otlp-endpoint",
        "--otel-exporter-otlp-headers",
        "--otel-resource-attributes",
        "--otel-traces-sampler ",
        "--otel-traces-sampler-arg",
    ];
    assert_unusable(&output, &complaints);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("a-secret"), "{output:?}");
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let keys = keys();
    let mut command = replica(keys.path());
    command.env("COOKIE_NAME", "__Secure-refresh").env("COOKIE_SECURE", "false");
    command.env("ACCESS_TOKEN_EXPIRY", "8d").env("REFRESH_TOKEN_EXPIRY", "7d").env("SESSION_ABSOLUTE_EXPIRY", "7d");
    let too_long = "ACCESS_TOKEN_EXPIRY must not be longer than ";
    let complaints = [
        "__Secure-",
        "COOKIE_SECURE=true",
        &format!("{too_long}REFRESH_TOKEN_EXPIRY"),
        &format!("{too_long}SESSION_ABSOLUTE_EXPIRY"),
    ];
    assert_unusable(&command.output().unwrap(), &complaints);
    // Its path follows from the name, so that Secure is all that can be missing.
    let mut command = replica(keys.path());
    command.env("COOKIE_NAME", "__Host-refresh").env("COOKIE_SECURE", "false");
    assert_unusable(&command.output().unwrap(), &["COOKIE_NAME begins with __Host-", "COOKIE_SECURE=true"]);
}

/// Those that only what they are meant for can judge, beside those that are judged alone.
#[test]
fn settings_that_are_no_address_and_no_level_are_reported_with_all_others() {
    let no_keys = TempDir::new().unwrap();
    let mut command = replica(no_keys.path());
    command.env("LOG_LEVEL", "gatefold=loud").env("COOKIE_NAME", "__Secure-refresh").env("COOKIE_SECURE", "false");
    command.env("REDIS_URL", "a-secret").env("DATABASE_URL", "mysql:// a-secret");
    let output = command.output().unwrap();
    let complaints = ["LOG_LEVEL: ", "__Secure-", "private.pem", "refresh.key", "REDIS_URL: ", "DATABASE_URL: "];
    assert_unusable(&output, &complaints);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("a-secret"), "{output:?}");
    for arguments in [&["user", "list"][..], &["migrate"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
        command.args(arguments).env_clear().env("DATABASE_URL", "mysql:// a-secret");
        assert_unusable(&command.output().unwrap(), &["DATABASE_URL: "]);
    }
}

#[test]
fn times_and_queues_beyond_all_bounds_are_refused_by_both_replicas() {
    let refused = |program: &str, settings: &[(&str, &str)]| {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_gatefold-api")).with_file_name(program));
        let output = command.env_clear().envs(settings.iter().copied()).output().unwrap();
        assert_unusable(&output, &settings.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    };
    let longest = "18446744073709551615";
    refused(
        "gatefold-api",
        &[
            ("DRAIN_SECONDS", longest),
            ("BACKEND_TIMEOUT", "3654d"),
            ("ACCESS_TOKEN_EXPIRY", "11years"),
            ("ARGON2_QUEUE", longest),
            ("DB_POOL_SIZE", "4294967295"),
        ],
    );
    refused("gatefold-ws", &[("DRAIN_SECONDS", longest), ("PRESENCE_GRACE", longest), ("REAUTH_GRACE", "3654d")]);
}

#[test]
fn a_setting_that_does_not_exist_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_gatefold-api")).arg("--no-such-setting").output().unwrap();
    assert_unusable(&output, &["--no-such-setting"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let keys = keys();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for variable in ["PORT", "METRICS_PORT"] {
        let output = replica(keys.path()).env(variable, &port).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(variable) && said.contains(&port), "{said}");
    }
}

#[test]
fn help_names_every_setting_and_no_secret() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
    command.arg("--help").env_clear().env("DATABASE_URL", "postgres://u:hunter2@h/d").env("DB_PASSWORD", "hunter2");
    command.env("DATABASE_OWNER_URL", "postgres://u:hunter2@h/d");
    let output = command.env("REDIS_URL", "redis://:hunter2@h").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for name in [
        "PORT",
        "METRICS_PORT",
        "HOST",
        "MAX_CONNECTIONS",
        "DATABASE_URL",
        "DATABASE_OWNER_URL",
        "DB_HOST",
        "DB_PORT",
        "DB_USER",
        "DB_PASSWORD",
        "DB_NAME",
        "REDIS_URL",
        "REDIS_PASSWORD_FILE",
        "BACKEND_TIMEOUT",
        "PRIVATE_KEY_PATH",
        "PUBLIC_KEY_PATH",
        "REFRESH_KEY_PATH",
        "ACCESS_TOKEN_EXPIRY",
        "REFRESH_TOKEN_EXPIRY",
        "SESSION_ABSOLUTE_EXPIRY",
        "REFRESH_REUSE_GRACE",
        "COOKIE_NAME",
        "COOKIE_PREVIOUS_NAMES",
        "COOKIE_SECURE",
        "ALLOWED_ORIGINS",
        "TRUSTED_PROXIES",
        "ARGON2_MEMORY_KIB",
        "ARGON2_PASSES",
        "ARGON2_QUEUE",
        "LOG_LEVEL",
    ] {
        assert!(help.contains(&format!("[env: {name}")), "{name} is not in {help}");
    }
    assert!(!help.contains("hunter2"), "{help}");
}
