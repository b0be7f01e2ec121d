//! `gatefold-api user`.

use std::{
    io::{self, BufRead, IsTerminal},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

use super::UserCommand;
use crate::{
    config::Config,
    passwords::Passwords,
    postgres,
    users::{self, UserError},
};

/// A person waits for it, so it may take longer than a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs one of the commands.
pub async fn user(config: &Config, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { name } => add(config, &name).await,
    }
}

async fn add(config: &Config, name: &str) -> anyhow::Result<()> {
    ensure!(users::is_username(name), "a username has 3 to 64 letters, digits, `_`, `.` or `-`");
    let password = read_password()?;
    let length = password.expose_secret().nfkc().count();
    ensure!((8..=256).contains(&length), "a password has 8 to 256 characters");
    let hash = Passwords::new(&config.passwords)?.hash(password).await?;
    let postgres = postgres::connect(&config.database, PATIENCE)?;
    match users::add(&postgres, name, &hash, PATIENCE).await {
        Ok(id) => println!("Added {name} (user {id})."),
        Err(UserError::Taken) => bail!("the username {name} is taken"),
        Err(error) => {
            return Err(error)
                .context("could not add the user: is DATABASE_URL right, and was `gatefold-api migrate` run?");
        }
    }
    Ok(())
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
