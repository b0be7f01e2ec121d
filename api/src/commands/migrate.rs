//! `gatefold-api migrate`.

use anyhow::{Context, bail};
use gatefold_shared::config::exit_with;
use sqlx::migrate::Migrate;

use super::{MigrateArguments, admin::reach, output::confirm, privileges};
use crate::{
    config::DatabaseConfig,
    postgres::{migrator, options, owner_options},
};

/// Applies what is missing, or takes the newest migration back. Safe from several machines at once: Postgres holds a lock.
/// What a newer program has applied stays: migrations add, so this one works with it. Where the replicas have a role of their
/// own, it is given the rights that they need.
pub async fn migrate(config: &DatabaseConfig, arguments: &MigrateArguments) -> anyhow::Result<()> {
    let (owner, replica) = match (owner_options(config), options(config)) {
        (Ok(owner), Ok(replica)) => (owner, replica),
        (Err(error), _) => exit_with([format!("{}: {error}", owner_variable(config)).as_str()]),
        (_, Err(error)) => exit_with([format!("DATABASE_URL: {error}").as_str()]),
    };
    let mut connection = reach(&owner, owner_variable(config)).await?;
    let mut migrator = migrator();
    if arguments.revert {
        connection.ensure_migrations_table(&migrator.table_name).await?;
        let mut applied = connection.list_applied_migrations(&migrator.table_name).await?;
        let newest = applied.pop().context("there is no migration to take back")?.version;
        let question = format!("Take migration {newest} back, with all that is kept in what it has added?");
        if !arguments.yes && !confirm(&question)? {
            bail!("migration {newest} was not taken back (--yes does not ask)");
        }
        let target = applied.last().map_or(0, |migration| migration.version);
        migrator.undo(&mut connection, target).await.context("could not take the migration back")?;
    } else {
        migrator.set_ignore_missing(true);
        migrator.run(&mut connection).await.context("could not migrate")?;
        if config.database_owner_url.is_some() && owner.get_username() != replica.get_username() {
            privileges::grant(&mut connection, replica.get_username()).await?;
        } else {
            println!(
                "The replicas own the schema: DATABASE_OWNER_URL allows for a role that could not change the audit."
            );
        }
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

/// The variable that says who the owner is.
fn owner_variable(config: &DatabaseConfig) -> &'static str {
    if config.database_owner_url.is_some() { "DATABASE_OWNER_URL" } else { "DATABASE_URL" }
}
