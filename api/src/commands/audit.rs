//! `gatefold-api audit`.

use anyhow::{Context, bail};
use gatefold_shared::clock;
use serde_json::{Value, json};
use sqlx::Connection;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    AuditArguments, AuditCommand,
    admin::{Admin, record},
    output::Output,
};
use crate::audit::{self, Erase, Event, Kind, Recorded};

/// Prints the newest events, of one user or of all, or erases some.
pub async fn audit(admin: &Admin, arguments: AuditArguments, output: Output) -> anyhow::Result<()> {
    if let Some(AuditCommand::Erase { older_than, user_id }) = arguments.command {
        let which = match (user_id, older_than) {
            (Some(id), _) => Erase::OfUser(id),
            (None, Some(age)) => Erase::Before(OffsetDateTime::UNIX_EPOCH + (clock::since_epoch().saturating_sub(age))),
            (None, None) => bail!("say which: --older-than or --user-id"),
        };
        return erase(admin, which, output).await;
    }
    let user_id = match &arguments.user {
        Some(name) => Some(admin.user(name).await?.id),
        None => None,
    };
    let events = audit::newest(&admin.postgres, user_id, arguments.limit, Admin::PATIENCE).await?;
    let rows = events.iter().map(row).collect::<Result<Vec<Value>, _>>()?;
    output.table(&["time", "kind", "userId", "sessionId", "ip", "details"], rows);
    Ok(())
}

/// An event as REST tells it, and its time as people read it.
fn row(event: &Recorded) -> anyhow::Result<Value> {
    let mut row = serde_json::to_value(event)?;
    row["time"] = event.at.truncate_to_millisecond().format(&Rfc3339)?.into();
    Ok(row)
}

async fn erase(admin: &Admin, which: Erase, output: Output) -> anyhow::Result<()> {
    let mut owner = admin.owner().await?;
    let mut transaction = owner.begin().await?;
    let erased = audit::erase(&mut transaction, which, Admin::PATIENCE).await.context(Admin::NEEDS_OWNER)?;
    let event = match which {
        Erase::OfUser(id) => Event::now(Kind::EventsErased).of_user(id),
        Erase::Before(_) => Event::now(Kind::EventsErased),
    };
    record(&mut transaction, event.with(json!({ "events": erased }))).await?;
    transaction.commit().await?;
    output.done(&format!("Erased {erased} events."), &json!({ "erased": erased }));
    Ok(())
}
