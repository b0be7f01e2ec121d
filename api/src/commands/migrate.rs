//! `gatefold-api migrate`.

use anyhow::Context;
use gatefold_shared::config::exit_with;
use sqlx::{ConnectOptions, migrate::Migrate};

use super::MigrateArguments;
use crate::{
    config::DatabaseConfig,
    postgres::{migrator, options},
};

/// Applies what is missing, or takes the newest migration back. Safe from several machines at once: Postgres holds a lock.
/// What a newer program has applied stays: migrations add, so this one works with it.
pub async fn migrate(config: &DatabaseConfig, arguments: &MigrateArguments) -> anyhow::Result<()> {
    let options = options(config).unwrap_or_else(|error| exit_with([format!("DATABASE_URL: {error}").as_str()]));
    let mut connection = options.connect().await.context("cannot reach Postgres: is DATABASE_URL right?")?;
    let mut migrator = migrator();
    if arguments.revert {
        connection.ensure_migrations_table(&migrator.table_name).await?;
        let mut applied = connection.list_applied_migrations(&migrator.table_name).await?;
        applied.pop().context("there is no migration to take back")?;
        let target = applied.last().map_or(0, |migration| migration.version);
        migrator.undo(&mut connection, target).await.context("could not take the migration back")?;
    } else {
        migrator.set_ignore_missing(true);
        migrator.run(&mut connection).await.context("could not migrate")?;
    }
    connection.ensure_migrations_table(&migrator.table_name).await?;
    let applied = connection.list_applied_migrations(&migrator.table_name).await?;
    let version = applied.last().map_or_else(|| "empty".to_owned(), |migration| migration.version.to_string());
    println!("The schema is at {version}.");
    let known = migrator.iter().map(|migration| migration.version).max();
    if applied.last().map(|migration| migration.version) > known {
        println!("It is newer than this program, which works with it: only the newer program can take it back.");
    }
    Ok(())
}
