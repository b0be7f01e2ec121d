//! `gatefold-api room`: who may enter private rooms.

use anyhow::{Context, bail};
use gatefold_shared::{
    grants::{MOST, is_grantable},
    rooms::RoomName,
};
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use super::{
    RoomCommand,
    admin::{Admin, record},
    output::Output,
};
use crate::{
    audit::{Event, Kind},
    grants::{self, Change},
};

/// Postgres is first, so that what was changed there and not yet in Redis is mended by the same command again.
const NOT_YET: &str = "noted in Postgres, but Redis did not answer, so it is not in effect yet: repeat the command";

/// Runs one of the commands.
pub async fn room(admin: &Admin, command: RoomCommand, output: Output) -> anyhow::Result<()> {
    match command {
        RoomCommand::Grant { user, room } => change(admin, &user, &room, true, output).await,
        RoomCommand::Revoke { user, room } => change(admin, &user, &room, false, output).await,
        RoomCommand::List { user } => list(admin, &user, output).await,
    }
}

async fn change(admin: &Admin, name: &str, room: &str, grants: bool, output: Output) -> anyhow::Result<()> {
    let named = RoomName::parse(room).filter(|_| is_grantable(room));
    let named = named.context("a room to grant is `private:` and 1 to 120 letters, digits, `_`, `.`, `:` or `-`")?;
    let user = admin.user(name).await?;
    let mut transaction = admin.postgres.begin().await?;
    let (change, kind) = if grants {
        (grants::add(&mut transaction, user.id, room, Admin::PATIENCE).await?, Kind::RoomGranted)
    } else {
        (grants::remove(&mut transaction, user.id, room, Admin::PATIENCE).await?, Kind::RoomRevoked)
    };
    let (now, changed) = match change {
        Change::Made(now) => (now, true),
        Change::NotNeeded(now) => (now, false),
        Change::TooMany => bail!("{} has {MOST} grants already, and a token carries no more", user.username),
    };
    if changed {
        let event = Event::now(kind).of_user(user.id).with(json!({ "room": room }));
        record(&mut transaction, event).await?;
    }
    transaction.commit().await?;
    admin.claim(&(&user).into()).await.context(NOT_YET)?;
    admin.write_grants(user.id, &now).await.context(NOT_YET)?;
    if !grants {
        // Those who are in the room; who comes now is refused already.
        admin.expel(&named, user.id).await.context(NOT_YET)?;
    }
    let words = if grants { "may enter" } else { "may not enter" };
    let since = match (changed, grants) {
        (true, true) => "from the next refresh or log-in on",
        (true, false) => "from now on",
        (false, _) => "as before",
    };
    output.done(
        &format!("{} {words} {room}, {since}.", user.username),
        &json!({ "id": user.id, "room": room, "granted": grants, "changed": changed }),
    );
    Ok(())
}

async fn list(admin: &Admin, name: &str, output: Output) -> anyhow::Result<()> {
    let user = admin.user(name).await?;
    let granted = grants::of_user(&admin.postgres, user.id, Admin::PATIENCE).await?;
    let rows =
        granted.iter().map(|grant| json!({ "room": grant.room, "grantedAt": grant.created_at.format(&Rfc3339).ok() }));
    output.table(&["room", "grantedAt"], rows);
    Ok(())
}
