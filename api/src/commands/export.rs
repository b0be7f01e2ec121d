//! `gatefold-api user export`: what is kept of a person, for the person.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    admin::{Admin, record},
    session,
    user::state,
};
use crate::{
    audit::{self, Event, Kind},
    grants, users,
};

/// Prints one JSON object. It holds no secret: the password is kept as a hash only, and of a session's token there is a
/// digest. But it holds all else, so that it was printed is recorded first, and is in it.
pub async fn export(admin: &Admin, name: &str) -> anyhow::Result<()> {
    let user = admin.user(name).await?;
    record(&mut *admin.postgres.acquire().await?, Event::now(Kind::UserExported).of_user(user.id)).await?;
    let created_at = users::created_at(&admin.postgres, user.id, Admin::PATIENCE).await?;
    let rooms = grants::of_user(&admin.postgres, user.id, Admin::PATIENCE).await?;
    let sessions = admin.sessions(user.id).await?;
    let events = audit::newest(&admin.postgres, Some(user.id), i64::MAX, Admin::PATIENCE).await?;
    let all = json!({
        "account": {
            "id": user.id,
            "username": user.username,
            "createdAt": timestamp(created_at),
            "state": state(&user),
            "disabledAt": user.disabled_at.and_then(timestamp),
        },
        "rooms": rooms.iter().map(|granted| {
            json!({ "room": granted.room, "grantedAt": timestamp(granted.created_at) })
        }).collect::<Vec<Value>>(),
        "sessions": sessions.iter().map(session::about).collect::<Vec<Value>>(),
        "events": events,
    });
    println!("{all:#}");
    Ok(())
}

fn timestamp(time: OffsetDateTime) -> Option<String> {
    time.format(&Rfc3339).ok()
}
