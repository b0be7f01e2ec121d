//! The virtual users: registered where that is allowed and they are new, signed in, ready before anything is measured.

use std::sync::Arc;

use anyhow::{Context, Result};
use http::StatusCode;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::cli;
use crate::failure::Failure;
use crate::target::Target;
use crate::user::{Client, Credentials, User};

/// How many are signed in at once: passwords are hashed, and a server has few cores for that.
const AT_ONCE: usize = 8;
/// As many as a user may have; one more would end the first.
const SESSIONS_PER_ACCOUNT: usize = 50;

/// Signs everybody in.
pub(crate) async fn gather(target: &Target, options: &cli::Users) -> Result<Vec<Arc<User>>> {
    let may_register = !target.original && registration_is_open(target, options).await?;
    if !may_register && options.count > SESSIONS_PER_ACCOUNT {
        eprintln!(
            "Nobody can be registered, so all users share the account {}. A server that allows {SESSIONS_PER_ACCOUNT} \
             sessions an account will end those of the first.",
            options.account.0
        );
    }
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut signing_in = JoinSet::new();
    for number in 0..options.count {
        let credentials = credentials(target, options, may_register.then_some(number));
        let client = Client::new(target.rest_for(number), Arc::new(credentials));
        let places = Arc::clone(&places);
        signing_in.spawn(async move {
            let _place = places.acquire_owned().await;
            (number, sign_in(client, may_register).await)
        });
    }
    let mut users = Vec::with_capacity(options.count);
    while let Some(signed_in) = signing_in.join_next().await {
        let (number, user) = signed_in?;
        let user = user.map_err(|failure| match failure {
            Failure::Refused { status: 429, .. } => anyhow::anyhow!(
                "{failure}: lift the rate limits of the deployment for a load test (gatefold-cluster up --no-rate-limits)"
            ),
            failure => failure.into(),
        });
        users.push((number, Arc::new(user.context("cannot sign a virtual user in")?)));
    }
    users.sort_by_key(|(number, _)| *number);
    Ok(users.into_iter().map(|(_, user)| user).collect())
}

/// Asks with a name that is taken or will be used anyway.
async fn registration_is_open(target: &Target, options: &cli::Users) -> Result<bool> {
    let credentials = credentials(target, options, Some(0));
    match Client::new(target.rest_for(0), Arc::new(credentials)).register().await {
        Ok(_) | Err(Failure::Refused { status: 409, .. }) => Ok(true),
        Err(Failure::Refused { status: 403..=405, .. }) => Ok(false),
        Err(failure) => Err(failure).context(format!("{} cannot be used", target.url)),
    }
}

fn credentials(target: &Target, options: &cli::Users, number: Option<usize>) -> Credentials {
    let (username, password) = match number {
        Some(number) => (format!("{}-{number}", options.prefix), options.password.clone()),
        None => options.account.clone(),
    };
    Credentials { username, password, idempotent: !target.original }
}

/// Most have been here before: a log-in costs one hash whether or not it is let in, and so does a registration.
async fn sign_in(mut client: Client, may_register: bool) -> Result<User, Failure> {
    let id = match client.log_in().await {
        Err(failure) if failure.is_unauthorized() && may_register => match client.register().await {
            Err(Failure::Refused { status, .. }) if status == StatusCode::CONFLICT => return Err(failure),
            registered => registered?,
        },
        logged_in => logged_in?,
    };
    Ok(User { id, client: Mutex::new(client) })
}
