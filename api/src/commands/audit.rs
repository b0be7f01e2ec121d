//! `gatefold-api audit`.

use serde_json::Value;

use super::{AuditArguments, admin::Admin, output::Output};
use crate::audit;

/// Prints the newest events, of one user or of all.
pub async fn audit(admin: &Admin, arguments: AuditArguments, output: Output) -> anyhow::Result<()> {
    let user_id = match &arguments.user {
        Some(name) => Some(admin.user(name).await?.id),
        None => None,
    };
    let events = audit::newest(&admin.postgres, user_id, arguments.limit, Admin::PATIENCE).await?;
    let rows = events.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>()?;
    output.table(&["at", "kind", "userId", "sessionId", "ip", "details"], rows);
    Ok(())
}
