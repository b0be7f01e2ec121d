//! `gatefold-api session`.

use anyhow::bail;
use gatefold_shared::revocation::{Ended, Why};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{
    SessionCommand,
    admin::{Admin, record},
    output::Output,
};
use crate::{
    audit::{Event, Kind},
    families::Listed,
};

/// Runs one of the commands.
pub async fn session(admin: &Admin, command: SessionCommand, output: Output) -> anyhow::Result<()> {
    match command {
        SessionCommand::List { user } => list(admin, &user, output).await,
        SessionCommand::Revoke { user: Some(user), id: Some(id), .. } => revoke(admin, &user, id, output).await,
        SessionCommand::Revoke { user: Some(user), id: None, .. } => {
            let user = admin.user(&user).await?;
            revoke_all(admin, user.id, &user.username, output).await
        }
        SessionCommand::Revoke { user: None, user_id: Some(id), .. } => {
            revoke_all(admin, id, &format!("user {id}"), output).await
        }
        SessionCommand::Revoke { user: None, user_id: None, .. } => bail!("say whose: a username, or --user-id"),
    }
}

async fn list(admin: &Admin, name: &str, output: Output) -> anyhow::Result<()> {
    let user = admin.user(name).await?;
    let sessions = admin.sessions(user.id).await?;
    let columns = ["id", "createdAt", "lastUsedAt", "expiresAt", "ip", "userAgent"];
    output.table(&columns, sessions.iter().map(about));
    Ok(())
}

/// A session as administrators see it.
pub fn about(session: &Listed) -> Value {
    json!({
        "id": session.family,
        "createdAt": timestamp(session.created_at),
        "lastUsedAt": timestamp(session.last_used_at),
        "expiresAt": timestamp(session.expires_at),
        "ip": session.address,
        "userAgent": session.user_agent,
    })
}

fn timestamp(milliseconds: i64) -> Option<String> {
    let seconds = OffsetDateTime::from_unix_timestamp(milliseconds / 1000).ok()?;
    seconds.format(&Rfc3339).ok()
}

/// A session that has ended before is recorded, too: whoever was not told that it worked says it again, and it may be that
/// nothing was recorded the first time.
async fn revoke(admin: &Admin, name: &str, id: Uuid, output: Output) -> anyhow::Result<()> {
    let user = admin.user(name).await?;
    let (revoked, words) = match admin.revoke(user.id, id, Why::EndedByAdmin).await? {
        Ended::Now => (1, "Ended session"),
        Ended::Before => (0, "It has ended before: session"),
        Ended::Unknown => bail!("{name} has no session {id}"),
    };
    let event = Event::now(Kind::SessionEnded).of_user(user.id).of_session(id);
    record(&mut *admin.postgres.acquire().await?, event.with(by_administrator(revoked))).await?;
    output.done(&format!("{words} {id} of {}.", user.username), &json!({ "revoked": revoked }));
    Ok(())
}

fn by_administrator(ended: u64) -> Value {
    json!({ "why": Why::EndedByAdmin.as_str(), "by": "administrator", "sessionsEnded": ended })
}

/// Also of a user whom Postgres does not know any more.
async fn revoke_all(admin: &Admin, user_id: i64, name: &str, output: Output) -> anyhow::Result<()> {
    let ended = admin.revoke_all(user_id, Why::EndedByAdmin).await?;
    let event = Event::now(Kind::SessionEnded).of_user(user_id);
    record(&mut *admin.postgres.acquire().await?, event.with(by_administrator(ended))).await?;
    output.done(&format!("Ended {ended} sessions of {name}."), &json!({ "revoked": ended }));
    Ok(())
}
