//! The virtual users: registered where that is allowed and they are new, signed in, ready before anything is measured.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::StatusCode;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::target::Target;
use crate::user::{Client, Credentials, User};
use crate::{cli, setup};

/// How many are signed in at once: passwords are hashed, and a server has few cores for that.
const AT_ONCE: usize = 8;
/// As many as a user may have; one more would end the first.
const SESSIONS_PER_ACCOUNT: usize = 50;

/// Signs everybody in, each within `patience`, unless told to `stop`.
pub(crate) async fn gather(
    target: &Target,
    options: &cli::Users,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<Vec<Arc<User>>> {
    let may_register = !target.original && may_register(target, options, patience, stop).await?;
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
            Ok((number, Arc::new(setup::within(patience, sign_in(client, may_register)).await?)))
        });
    }
    setup::all(signing_in, stop).await.map_err(|error| match error.downcast_ref() {
        Some(Failure::Refused { status: 429, .. }) => error
            .context("lift the rate limits of the deployment for a load test (gatefold-cluster up --no-rate-limits)"),
        Some(_) => error.context("cannot sign a virtual user in"),
        None => error,
    })
}

/// Asks with a name that is taken or will be used anyway.
async fn may_register(
    target: &Target,
    options: &cli::Users,
    patience: Duration,
    stop: &CancellationToken,
) -> Result<bool> {
    let credentials = credentials(target, options, Some(0));
    let mut client = Client::new(target.rest_for(0), Arc::new(credentials));
    let asked = tokio::select! {
        asked = setup::within(patience, client.register()) => asked,
        () = stop.cancelled() => bail!("interrupted before anything was measured"),
    };
    match asked {
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
