//! What the handlers work with: one struct, made once, shared by all requests.

use std::sync::Arc;

use anyhow::Context;
use gatefold_shared::{
    config::PublicKeyConfig,
    jwt::{Signer, Verifier},
    lifecycle::Lifecycle,
    origin::Origin,
    redis::Redis,
    revocation::Revocations,
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::Audit,
    config::{Config, Registration, TokenConfig},
    cookies::RefreshCookies,
    families::{Families, Lifetimes, RefreshKeys},
    passwords::Passwords,
    postgres,
};

/// A handle to the replica's state; clones are the same state.
pub type App = Arc<AppState>;

/// See the module.
pub struct AppState {
    pub postgres: PgPool,
    pub redis: Redis,
    pub families: Families,
    pub revocations: Revocations,
    pub signer: Signer,
    pub verifier: Verifier,
    pub passwords: Passwords,
    pub audit: Audit,
    pub registration_is_open: bool,
    pub cookies: RefreshCookies,
    pub allowed_origins: Vec<Origin>,
    pub draining: CancellationToken,
}

/// The keys of the replica, read from files.
pub struct Keys {
    verifier: Verifier,
    signer: Signer,
    refresh: RefreshKeys,
}

impl Keys {
    /// Reads them, or says everything that is wrong with them.
    pub fn read(tokens: &TokenConfig, public_keys: &PublicKeyConfig) -> Result<Self, Vec<String>> {
        let verifier = Verifier::read(&public_keys.public_key_path);
        let signer = Signer::read(&tokens.private_key_path, tokens.access_token_expiry);
        let refresh = RefreshKeys::read(&tokens.refresh_key_path);
        match (verifier, signer, refresh) {
            (Ok(verifier), Ok(signer), Ok(refresh)) if verifier.knows(signer.kid()) => {
                Ok(Self { verifier, signer, refresh })
            }
            (Ok(_), Ok(_), Ok(_)) => {
                Err(vec!["the public half of PRIVATE_KEY_PATH is not among PUBLIC_KEY_PATH".to_owned()])
            }
            (verifier, signer, refresh) => {
                let errors = [
                    signer.err().map(|error| error.to_string()),
                    verifier.err().map(|error| error.to_string()),
                    refresh.err().map(|error| error.to_string()),
                ];
                Err(errors.into_iter().flatten().collect())
            }
        }
    }
}

impl AppState {
    pub fn new(config: Config, keys: Keys, life: &Lifecycle) -> anyhow::Result<App> {
        let tokens = &config.tokens;
        let lifetimes = Lifetimes {
            refresh: tokens.refresh_token_expiry,
            absolute: tokens.session_absolute_expiry,
            reuse_grace: tokens.refresh_reuse_grace,
        };
        let redis = Redis::connect(&config.store, life).context("REDIS_URL")?;
        let keep_for = tokens.access_token_expiry + Verifier::LEEWAY;
        let staleness_limit = config.store.revocation_staleness_limit;
        let revocations = Revocations::follow(redis.clone(), keep_for, staleness_limit, life).context("REDIS_URL")?;
        let families = Families::new(
            redis.clone(),
            keys.refresh,
            lifetimes,
            tokens.max_sessions_per_user,
            revocations.clone(),
            life,
        );
        let call_timeout = config.store.call_timeout();
        let postgres = postgres::connect(&config.database, call_timeout).context("DATABASE_URL")?;
        Ok(Arc::new(Self {
            families,
            revocations,
            redis,
            signer: keys.signer,
            verifier: keys.verifier,
            audit: Audit::start(postgres.clone(), call_timeout, life),
            postgres,
            registration_is_open: config.registration == Registration::Open,
            passwords: Passwords::new(&config.passwords).context("ARGON2_MEMORY_KIB, ARGON2_PASSES")?,
            cookies: RefreshCookies::new(config.cookie),
            allowed_origins: config.proxy.allowed_origins,
            draining: life.draining().clone(),
        }))
    }
}
