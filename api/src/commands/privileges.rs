//! What the Postgres role of the replicas may do: what their queries need, and no more. It owns nothing, changes no schema and
//! rewrites no audit.

use anyhow::{Context, bail};
use sqlx::{Connection, PgConnection, query, query_scalar, raw_sql};

const GRANT: &str = include_str!("privileges.sql");
const EXCESS: &str = include_str!("privileges_in_excess.sql");

/// Gives `role` its rights to the schema of this connection, whose owner asks, and takes away all others. It is repeated with
/// every migration, so that it holds for new tables.
pub async fn grant(owner: &mut PgConnection, role: &str) -> anyhow::Result<()> {
    let exists = query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)").bind(role);
    if !exists.fetch_one(&mut *owner).await.context("asking for the roles")? {
        bail!(
            "the schema is up to date, but there is no role {role}, which is in DATABASE_URL. As somebody who may create \
             roles: CREATE ROLE \"{role}\" LOGIN PASSWORD '…'; and repeat the command"
        );
    }
    let mut transaction = owner.begin().await?;
    query("SELECT set_config('gatefold.replica_role', $1, true)").bind(role).execute(&mut *transaction).await?;
    raw_sql(GRANT).execute(&mut *transaction).await.with_context(|| format!("could not grant {role} its rights"))?;
    transaction.commit().await?;
    println!("The role {role} has the rights of a replica.");
    let excess: Vec<String> = query_scalar(EXCESS).bind(role).fetch_all(owner).await.context("asking for rights")?;
    if !excess.is_empty() {
        println!("It has more, which only somebody else can take away: {}.", excess.join(", "));
    }
    Ok(())
}
