//! The Postgres role of the replicas: what it may not do. That it may do what it must, the other tests show: their replicas
//! and commands have it.

use std::process::Stdio;

use gatefold_cluster::Kind;
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::harness::shared;

/// A database, as its owner and the replicas find it.
struct Database {
    owner: String,
    replica: String,
}

impl Database {
    /// An empty one on the server of all tests.
    async fn create(name: &str, owner: &str, replica: &str) -> Self {
        let app = shared().await;
        execute(&mut app.postgres().await, &format!("CREATE DATABASE {name} OWNER {owner}")).await;
        let server = app.cluster.database_url();
        let (_, server) = server.split_once('@').unwrap();
        let (server, _) = server.split_once('/').unwrap();
        let url = |role: &str| format!("postgres://{role}@{server}/{name}");
        Self { owner: url(owner), replica: url(replica) }
    }

    /// Runs a command with the URLs of both, or of one; whether it succeeded, and what it said.
    async fn run(&self, arguments: &[&str], urls: &[(&str, &str)]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
        command.args(arguments).env_clear().envs(urls.iter().copied()).env("ARGON2_MEMORY_KIB", "64");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(b"a good password\n").await.ok(); // One that reads nothing closes it.
        drop(stdin);
        let output = process.wait_with_output().await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    async fn succeeds(&self, arguments: &[&str], urls: &[(&str, &str)]) -> String {
        let (succeeded, said) = self.run(arguments, urls).await;
        assert!(succeeded, "{arguments:?}: {said}");
        said
    }

    fn both(&self) -> [(&str, &str); 2] {
        [("DATABASE_OWNER_URL", &self.owner), ("DATABASE_URL", &self.replica)]
    }
}

async fn execute(postgres: &mut PgConnection, statement: &str) {
    raw_sql(AssertSqlSafe(statement)).execute(postgres).await.unwrap();
}

/// Each is refused, and for want of a right.
async fn are_refused(postgres: &mut PgConnection, statements: &[&str]) {
    for statement in statements {
        let error = raw_sql(AssertSqlSafe(*statement)).execute(&mut *postgres).await.expect_err(statement);
        let code =
            error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "{statement}: {error}");
        raw_sql("ROLLBACK").execute(&mut *postgres).await.unwrap();
    }
}

const BEYOND_A_REPLICA: [&str; 18] = [
    "UPDATE events SET kind = 'x'",
    "DELETE FROM events",
    "TRUNCATE events",
    "BEGIN; SET LOCAL gatefold.erasing = 'on'; DELETE FROM events",
    "BEGIN; SET LOCAL gatefold.erasing = 'on'; UPDATE events SET kind = 'x'",
    "BEGIN; SET LOCAL session_replication_role = replica",
    "DROP TRIGGER events_append_only ON events",
    "ALTER TABLE events DISABLE TRIGGER events_append_only",
    "CREATE OR REPLACE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
    "DROP TABLE events",
    "DELETE FROM users",
    "TRUNCATE users CASCADE",
    "ALTER TABLE users DROP COLUMN disabled_at",
    "CREATE TABLE mine (id bigint)",
    "CREATE TEMPORARY TABLE mine (id bigint)",
    "CREATE SCHEMA mine",
    "UPDATE _sqlx_migrations SET checksum = ''",
    "COPY users TO PROGRAM 'cat'",
];

#[tokio::test]
async fn the_replicas_have_a_role_that_changes_neither_the_schema_nor_the_audit() {
    let app = shared().await;
    app.signed_in("role.alice").await;
    let url = app.cluster.replica_database_url();
    for replica in app.cluster.replicas(Kind::Api) {
        let environment = std::fs::read_to_string(format!("/proc/{}/environ", replica.pid.unwrap())).unwrap();
        assert!(environment.split('\0').any(|variable| variable == format!("DATABASE_URL={url}")), "{environment}");
        assert!(!environment.contains("DATABASE_OWNER_URL"), "{environment}");
    }
    let mut postgres = PgConnection::connect(&url).await.unwrap();
    are_refused(&mut postgres, &BEYOND_A_REPLICA).await;
    are_refused(&mut postgres, &["SET ROLE authuser", "CREATE ROLE mine", "CREATE DATABASE mine"]).await;
}

#[tokio::test]
async fn any_role_gets_its_rights_from_an_owner_who_is_no_superuser_for_later_tables_too() {
    let mut superuser = shared().await.postgres().await;
    execute(&mut superuser, "CREATE ROLE plain_owner LOGIN").await;
    let database = Database::create("role_of_any_name", "plain_owner", "A%20%22replica%22").await;
    let (succeeded, said) = database.run(&["migrate"], &database.both()).await;
    assert!(!succeeded && said.contains("CREATE ROLE"), "{said}");

    execute(&mut superuser, r#"CREATE ROLE "A ""replica""" LOGIN"#).await;
    let said = database.succeeds(&["migrate"], &database.both()).await;
    assert!(said.contains("has the rights of a replica") && !said.contains("It has more"), "{said}");
    let replica_only = [("DATABASE_URL", database.replica.as_str())];
    database.succeeds(&["user", "add", "alice"], &replica_only).await;
    let (succeeded, said) = database.run(&["user", "delete", "--yes", "alice"], &replica_only).await;
    assert!(!succeeded && said.contains("DATABASE_OWNER_URL"), "{said}");
    let (succeeded, said) = database.run(&["audit", "erase", "--older-than", "1d"], &replica_only).await;
    assert!(!succeeded && said.contains("DATABASE_OWNER_URL"), "{said}");
    database.succeeds(&["audit", "erase", "--older-than", "1d"], &database.both()).await;

    let mut replica = PgConnection::connect(&database.replica).await.unwrap();
    are_refused(&mut replica, &BEYOND_A_REPLICA).await;
    let mut owner = PgConnection::connect(&database.owner).await.unwrap();
    execute(&mut owner, "CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY, word text)").await;
    are_refused(&mut replica, &["SELECT FROM later"]).await;
    database.succeeds(&["migrate"], &database.both()).await;
    execute(&mut replica, "INSERT INTO later (word) VALUES ('a'); UPDATE later SET word = 'b'; SELECT FROM later")
        .await;
    are_refused(&mut replica, &["DELETE FROM later", "DROP TABLE later"]).await;
}

/// As of 0.1.0, whose replicas own everything; with the step that docker-compose.yml has before `migrate`.
#[tokio::test]
async fn a_database_whose_replicas_were_its_superuser_is_upgraded_in_place() {
    let database = Database::create("role_upgrade", "authuser", "gatefold_api").await;
    let as_before = [("DATABASE_URL", database.owner.as_str())];
    let said = database.succeeds(&["migrate"], &as_before).await;
    assert!(said.contains("DATABASE_OWNER_URL"), "{said}");
    database.succeeds(&["user", "add", "alice"], &as_before).await;

    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "it's \"secret\"\n").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/database-role.sql");
    for _ in 0..2 {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-f", script, &database.owner]).env("ROLE_PASSWORD_FILE", &password);
        let output = psql.output().await.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    let mut owner = PgConnection::connect(&database.owner).await.unwrap();
    let query =
        "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'gatefold_api' AND NOT rolsuper";
    assert!(sqlx::query_scalar::<_, bool>(query).fetch_one(&mut owner).await.unwrap(), "it has a password");

    let said = database.succeeds(&["migrate"], &database.both()).await;
    assert!(said.contains("The role gatefold_api has the rights of a replica."), "{said}");
    let replica_only = [("DATABASE_URL", database.replica.as_str())];
    assert!(database.succeeds(&["user", "list"], &replica_only).await.contains("alice"));
    database.succeeds(&["user", "add", "bob"], &replica_only).await;
    are_refused(&mut PgConnection::connect(&database.replica).await.unwrap(), &BEYOND_A_REPLICA).await;
    // Replicas of the version before go on beside the new ones.
    database.succeeds(&["user", "add", "carol"], &as_before).await;
}
