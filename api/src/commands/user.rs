//! `gatefold-api user`.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, anyhow, bail, ensure};
use gatefold_shared::{grants::Grants, revocation::Why};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::Connection;

use super::{
    UserCommand,
    admin::{Admin, record},
    export,
    output::{Output, confirm},
};
use crate::{
    audit::{self, Erase, Event, Kind},
    password_rules,
    passwords::{HashFormat, Passwords},
    users::{self, User},
};

/// Runs one of the commands.
pub async fn user(admin: &Admin, command: UserCommand, output: Output) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { name, allow_reserved } => add(admin, &name, allow_reserved, output).await,
        UserCommand::List => list(admin, output).await,
        UserCommand::Show { name } => show(admin, &name, output).await,
        UserCommand::Disable { name } => set_disabled(admin, &name, true, output).await,
        UserCommand::Enable { name } => set_disabled(admin, &name, false, output).await,
        UserCommand::Passwd { name } => passwd(admin, &name, output).await,
        UserCommand::Export { name } => export::export(admin, &name).await,
        UserCommand::Delete { name, erase_events, yes } => {
            let user = admin.user(&name).await?;
            if !yes && !confirm(&format!("Delete {} (user {}) for ever?", user.username, user.id))? {
                bail!("nothing was deleted (--yes does not ask)");
            }
            delete(admin, &user, erase_events, output).await
        }
    }
}

async fn add(admin: &Admin, name: &str, allow_reserved: bool, output: Output) -> anyhow::Result<()> {
    let name = users::trimmed(name);
    users::check_new_name(name)?;
    if !allow_reserved {
        users::check_not_reserved(name).map_err(|error| anyhow!("{error}; --allow-reserved adds it all the same"))?;
    }
    let hash = hash_of_new_password(admin).await?;
    let mut transaction = admin.postgres.begin().await?;
    let owner = users::add(&mut transaction, name, &hash, Admin::PATIENCE)
        .await
        .with_context(|| format!("could not add {name} (was `gatefold-api migrate` run?)"))?
        .with_context(|| format!("the username {name} is taken"))?;
    record(&mut transaction, Event::now(Kind::UserAdded).of_owner(&owner)).await?;
    transaction.commit().await?;
    let id = owner.id;
    if admin.claim(&owner).await.is_err() {
        eprintln!(
            "warning: Redis did not answer. If Postgres was restored, sessions of an earlier user {id} end when {name} logs in."
        );
    }
    output.done(&format!("Added {name} (user {id})."), &json!({ "id": id, "username": name }));
    Ok(())
}

async fn list(admin: &Admin, output: Output) -> anyhow::Result<()> {
    let users = users::all(&admin.postgres, Admin::PATIENCE).await?;
    output.table(
        &["id", "username", "state", "passwordFormat"],
        users.iter().map(|user| {
            json!({
                "id": user.id, "username": user.username, "state": state(user), "passwordFormat": password_format(user),
            })
        }),
    );
    Ok(())
}

async fn show(admin: &Admin, name: &str, output: Output) -> anyhow::Result<()> {
    let user = admin.user(name).await?;
    let sessions = admin.sessions(user.id).await?;
    let about = json!({
        "id": user.id, "username": user.username, "state": state(&user), "passwordFormat": password_format(&user),
        "sessions": sessions.len(),
    });
    output.table(&["id", "username", "state", "passwordFormat", "sessions"], [about]);
    Ok(())
}

pub(super) fn state(user: &User) -> &'static str {
    if user.disabled_at.is_some() { "disabled" } else { "active" }
}

/// How the user's password is kept.
fn password_format(user: &User) -> &'static str {
    HashFormat::of(&user.password_hash).as_str()
}

/// Both or neither, as in a change of the password: the sessions end while Postgres holds the change back. The record of it
/// is part of the change.
async fn set_disabled(admin: &Admin, name: &str, disabled: bool, output: Output) -> anyhow::Result<()> {
    let user = admin.user(name).await?;
    let mut transaction = admin.postgres.begin().await?;
    users::set_disabled(&mut transaction, user.id, disabled, Admin::PATIENCE).await?;
    let ended = if disabled { admin.revoke_all(user.id, Why::Disabled).await? } else { 0 };
    let kind = if disabled { Kind::UserDisabled } else { Kind::UserEnabled };
    let event = Event::now(kind).of_user(user.id).with(json!({ "sessionsEnded": ended }));
    record(&mut transaction, event).await?;
    transaction.commit().await?;
    let words = if disabled { "is disabled" } else { "may log in again" };
    output.done(
        &format!("{} {words}; sessions ended: {ended}.", user.username),
        &json!({ "id": user.id, "state": if disabled { "disabled" } else { "active" }, "sessionsEnded": ended }),
    );
    Ok(())
}

async fn passwd(admin: &Admin, name: &str, output: Output) -> anyhow::Result<()> {
    let user = admin.user(name).await?;
    let hash = hash_of_new_password(admin).await?;
    let mut transaction = admin.postgres.begin().await?;
    ensure!(
        users::change_password(&mut transaction, &user, &hash, Admin::PATIENCE).await?,
        "somebody else changed {name} meanwhile; nothing was done"
    );
    let ended = admin.revoke_all(user.id, Why::PasswordChanged).await?;
    let by = json!({ "by": "administrator", "sessionsEnded": ended });
    record(&mut transaction, Event::now(Kind::PasswordChanged).of_user(user.id).with(by)).await?;
    transaction.commit().await?;
    let words = format!("{} has a new password; sessions ended: {ended}.", user.username);
    output.done(&words, &json!({ "id": user.id, "sessionsEnded": ended }));
    Ok(())
}

/// As [`set_disabled`]. The event that tells of it comes last, so that it is not erased with the others.
async fn delete(admin: &Admin, user: &User, erase_events: bool, output: Output) -> anyhow::Result<()> {
    let mut owner = admin.owner().await?;
    let mut transaction = owner.begin().await?;
    users::delete(&mut transaction, user.id, Admin::PATIENCE).await.context(Admin::NEEDS_OWNER)?;
    let erased =
        if erase_events { audit::erase(&mut transaction, Erase::OfUser(user.id), Admin::PATIENCE).await? } else { 0 };
    let ended = admin.revoke_all(user.id, Why::Disabled).await?;
    let done = json!({ "sessionsEnded": ended, "eventsErased": erased });
    record(&mut transaction, Event::now(Kind::UserDeleted).of_owner(&user.into()).with(done)).await?;
    transaction.commit().await?;
    if user.grants_version > 0 {
        // An empty copy goes by itself.
        let none = Grants { uid: Some(user.uid), version: user.grants_version + 1, ..Grants::default() };
        let left = "deleted, but the copy of the user's grants stays in Redis, which did not answer";
        admin.write_grants(user.id, &none).await.context(left)?;
    }
    let words = format!("{} is deleted; sessions ended: {ended}; events erased: {erased}.", user.username);
    output.done(&words, &json!({ "id": user.id, "sessionsEnded": ended, "eventsErased": erased }));
    Ok(())
}

/// Administrators may set any password of a fitting length: what they set is often meant to be changed at once.
async fn hash_of_new_password(admin: &Admin) -> anyhow::Result<String> {
    let password = read_password()?;
    let length = password_rules::length(&password);
    let (min, max) = (password_rules::MIN, password_rules::MAX);
    ensure!((min..=max).contains(&length), "a password has {min} to {max} characters");
    Ok(Passwords::new(&admin.config.passwords)?.hash(password).await?)
}

/// From a prompt without echo, twice, or the first line of standard input.
fn read_password() -> anyhow::Result<SecretString> {
    if io::stdin().is_terminal() {
        let password: SecretString = rpassword::prompt_password("Password: ")?.into();
        let again: SecretString = rpassword::prompt_password("Again: ")?.into();
        ensure!(password.expose_secret() == again.expose_secret(), "the passwords differ");
        return Ok(password);
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("reading the password from standard input")?;
    Ok(line.trim_end_matches(['\n', '\r']).into())
}
