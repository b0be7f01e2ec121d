//! The commands of `gatefold-api`, as an operator runs them, each test on a database of its own.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{io::AsyncWriteExt, process::Command, task::JoinSet};

use crate::harness::shared;

/// An empty database.
#[derive(Clone)]
struct Database {
    url: String,
}

impl Database {
    async fn empty(name: &'static str) -> Self {
        Self::create(name, "").await
    }

    async fn create(name: &'static str, how: &str) -> Self {
        let app = shared().await;
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} {how}"));
        sqlx::raw_sql(statement).execute(&mut app.postgres().await).await.unwrap();
        let (server, _) =
            app.cluster.database_url().rsplit_once('/').map(|(s, d)| (s.to_owned(), d.to_owned())).unwrap();
        Self { url: format!("{server}/{name}") }
    }

    async fn migrated(name: &'static str) -> Self {
        let database = Self::empty(name).await;
        succeeded(&database.run(&["migrate"], "").await);
        database
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
        command.args(arguments).env_clear().env("DATABASE_URL", &self.url).env("ARGON2_MEMORY_KIB", "64");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.ok(); // One that refuses before it reads closes it.
        drop(stdin);
        process.wait_with_output().await.unwrap()
    }

    async fn users(&self) -> Vec<(String, String)> {
        let mut postgres = PgConnection::connect(&self.url).await.unwrap();
        let all = sqlx::query_as("SELECT username, password_hash FROM users ORDER BY id");
        all.fetch_all(&mut postgres).await.unwrap()
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// It failed with a message for a person; what it said.
#[track_caller]
fn failed(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.starts_with("error: ") && !said.contains("panicked"), "{said}");
    said
}

#[tokio::test]
async fn the_schema_goes_up_and_down_and_up_again() {
    let database = Database::empty("migrate_up_and_down").await;
    let up = succeeded(&database.run(&["migrate"], "").await);
    assert!(up.contains("The schema is at 2"), "{up}");
    assert_eq!(succeeded(&database.run(&["migrate"], "").await), up, "again it changes nothing");
    assert!(database.users().await.is_empty(), "nobody has an account unasked");
    let unasked = failed(&database.run(&["migrate", "--revert"], "y\n").await);
    assert!(unasked.contains("--yes does not ask"), "nobody is at a terminal: {unasked}");
    assert_eq!(succeeded(&database.run(&["migrate"], "").await), up, "nothing was taken back");
    loop {
        let down = succeeded(&database.run(&["migrate", "--revert", "--yes"], "").await);
        if down.contains("empty") {
            break;
        }
    }
    let nothing_left = failed(&database.run(&["migrate", "--revert", "--yes"], "").await);
    assert!(nothing_left.contains("no migration to take back"), "{nothing_left}");
    assert_eq!(succeeded(&database.run(&["migrate"], "").await), up);
    assert!(database.users().await.is_empty());
}

/// Going back to an older version begins with its `migrate`.
#[tokio::test]
async fn an_older_program_leaves_a_newer_schema_as_it_is_and_says_so() {
    let database = Database::migrated("migrate_newer").await;
    let mut postgres = PgConnection::connect(&database.url).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (99990101000001, 'from the future', true, '', 0)";
    sqlx::query(newer).execute(&mut postgres).await.unwrap();
    let said = succeeded(&database.run(&["migrate"], "").await);
    assert!(said.contains("The schema is at 99990101000001") && said.contains("newer than this program"), "{said}");
    let said = failed(&database.run(&["migrate", "--revert", "--yes"], "").await);
    assert!(said.contains("99990101000001"), "it does not know how: {said}");
}

#[tokio::test]
async fn several_machines_may_migrate_at_once() {
    let database = Database::empty("migrate_at_once").await;
    let mut machines = JoinSet::new();
    for _ in 0..6 {
        let database = database.clone();
        machines.spawn(async move { succeeded(&database.run(&["migrate"], "").await) });
    }
    let mut said = machines.join_all().await;
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn without_a_database_a_command_says_so() {
    let nowhere = Database { url: "postgres://nobody@127.0.0.1:9/nowhere".to_owned() };
    for command in [["migrate"].as_slice(), &["user", "list"], &["audit"]] {
        let said = failed(&nowhere.run(command, "").await);
        let what = "cannot reach Postgres at 127.0.0.1:9 (is DATABASE_URL right?)";
        assert!(said.contains(what) && said.matches("Connection refused").count() == 1, "{said}");
        assert!(!said.contains("pool"), "{said}");
    }
}

#[tokio::test]
async fn what_goes_wrong_is_json_for_those_who_ask_for_it() {
    let nowhere = Database { url: "postgres://nobody@127.0.0.1:9/nowhere".to_owned() };
    let calls: [(&[&str], _); 4] = [
        (&["--json", "user", "list"], 1),
        (&["user", "list", "--json"], 1),
        (&["--json", "user", "lst"], 64),
        (&["--json", "--db-pool-size", "many", "user", "list"], 64),
    ];
    for (arguments, code) in calls {
        let output = nowhere.run(arguments, "").await;
        assert_eq!((output.status.code(), &*output.stdout), (Some(code), [].as_slice()), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stderr).expect("JSON");
        assert!(said["error"].as_str().is_some_and(|error| !error.is_empty()), "{said}");
    }
}

#[tokio::test]
async fn events_are_listed_with_times_that_people_read() {
    let database = Database::migrated("audit_times").await;
    succeeded(&database.run(&["user", "add", "alice"], "a good password\n").await);
    let listed = succeeded(&database.run(&["audit"], "").await);
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines[0][0], lines[1][1]), ("TIME", "user_added"), "{listed}");
    let time = OffsetDateTime::parse(lines[1][0], &Rfc3339).expect("a time");
    let events: Value = serde_json::from_str(&succeeded(&database.run(&["audit", "--json"], "").await)).expect("JSON");
    assert_eq!(events[0]["at"], json!(time.unix_timestamp_nanos() / 1_000_000));
}

#[tokio::test]
async fn without_a_schema_adding_a_user_says_what_to_do() {
    let database = Database::empty("user_without_schema").await;
    let said = failed(&database.run(&["user", "add", "alice"], "a good password\n").await);
    assert!(said.contains("gatefold-api migrate"), "{said}");
}

#[tokio::test]
async fn a_user_is_added_with_the_first_line_as_password() {
    let database = Database::migrated("user_add").await;
    let said = succeeded(&database.run(&["user", "add", "Alice"], "a good password\nnot this\n").await);
    assert!(said.starts_with("Added Alice"), "{said}");
    succeeded(&database.run(&["user", "add", "bob"], "no line break").await);
    succeeded(&database.run(&["user", "add", "carol"], "from windows\r\n").await);
    let users = database.users().await;
    assert_eq!(users.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["Alice", "bob", "carol"]);
    assert!(users.iter().all(|(_, hash)| hash.starts_with("$argon2id$v=19$m=64,t=2,p=1$")), "{users:?}");
}

#[tokio::test]
async fn an_email_address_and_by_request_a_reserved_name_are_added_without_whitespace_around() {
    let database = Database::migrated("user_names").await;
    succeeded(&database.run(&["user", "add", "--", " alice+news@example.com\n"], "a good password").await);
    succeeded(&database.run(&["user", "add", "--allow-reserved", "--", "support"], "a good password").await);
    let users = database.users().await;
    assert_eq!(users.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["alice+news@example.com", "support"]);
    succeeded(&database.run(&["room", "list", "--", " ALICE+news@example.com "], "").await);
}

/// Those of before are kept, whatever is changed about them; nobody gets such a name any more, not from a replica of the
/// version before either.
#[tokio::test]
async fn the_schema_refuses_new_names_that_begin_with_punctuation_and_keeps_old_ones() {
    let database = Database::migrated("user_names_of_before").await;
    let mut postgres = PgConnection::connect(&database.url).await.unwrap();
    // As a table that was filled before the migration.
    sqlx::raw_sql("SET session_replication_role = replica; INSERT INTO users (username, password_hash) VALUES ('--help', ''); RESET session_replication_role")
        .execute(&mut postgres).await.unwrap();
    sqlx::raw_sql("UPDATE users SET disabled_at = now(), security_version = 1").execute(&mut postgres).await.unwrap();
    for statement in [
        "INSERT INTO users (username, password_hash) VALUES ('-rf', '')",
        "INSERT INTO users (username, password_hash) VALUES ('_bob', '')",
        "INSERT INTO users (username, password_hash) VALUES ('two words', '')",
        "UPDATE users SET username = '--version'",
    ] {
        let error = sqlx::raw_sql(statement).execute(&mut postgres).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("23514"), "{statement}: {error}");
    }
    sqlx::raw_sql("INSERT INTO users (username, password_hash) VALUES ('bob@example.com', '')")
        .execute(&mut postgres)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_name_is_taken_in_any_case_of_letters() {
    let database = Database::migrated("user_taken").await;
    succeeded(&database.run(&["user", "add", "Alice"], "a good password").await);
    for name in ["Alice", "alice", "ALICE"] {
        let said = failed(&database.run(&["user", "add", name], "a good password").await);
        assert!(said.contains("is taken"), "{said}");
    }
    assert_eq!(database.users().await.len(), 1);
}

/// Where lower('I') is not i.
#[tokio::test]
async fn a_name_is_taken_in_any_case_of_letters_in_turkish_too() {
    let turkish = "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'tr' LOCALE 'C.UTF-8'";
    let database = Database::create("user_turkish", turkish).await;
    succeeded(&database.run(&["migrate"], "").await);
    let add = ["user", "add", "--allow-reserved", "--"];
    succeeded(&database.run(&[&add[..], &["INFO"]].concat(), "a good password").await);
    let said = failed(&database.run(&[&add[..], &["info"]].concat(), "a good password").await);
    assert!(said.contains("is taken"), "{said}");
    succeeded(&database.run(&["room", "list", "info"], "").await);
    assert_eq!(database.users().await.len(), 1);
}

#[tokio::test]
async fn a_bad_name_or_password_is_refused() {
    let database = Database::migrated("user_refused").await;
    for name in
        ["", "al", &"a".repeat(65), "two words", "al\u{ed}ce", "a'; DROP TABLE users; --", "--help", "-x-", "_bob"]
    {
        let said = failed(&database.run(&["user", "add", "--", name], "a good password").await);
        assert!(said.contains("3 to 64"), "{name}: {said}");
    }
    for name in ["admin", "Root", "sup.port", "system@example.com"] {
        let said = failed(&database.run(&["user", "add", "--", name], "a good password").await);
        assert!(said.contains("reserved") && said.contains("--allow-reserved"), "{name}: {said}");
    }
    for password in ["", "\n", "seven77", &"x".repeat(257)] {
        let said = failed(&database.run(&["user", "add", "alice"], password).await);
        assert!(said.contains("8 to 256"), "{said}");
    }
    let said = database.run(&["user", "add"], "").await;
    assert_eq!(said.status.code(), Some(64), "{said:?}");
    assert!(database.users().await.is_empty());
}
