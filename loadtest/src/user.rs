//! A virtual user: an account, a session with its chain of cookies, and a connection of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::failure::Failure;
use crate::net::Endpoint;
use crate::rest::{Answer, Rest};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// For how long an access token is taken to live where the server does not say.
const UNSAID_LIFETIME: u64 = 900;

/// When an access token is renewed, unless that is before half of its life: before sockets are warned, so that all
/// sockets of a user share one refresh.
const BEFORE_EXPIRY: Duration = Duration::from_secs(150);

/// A virtual user, whom several sockets may belong to.
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) client: Mutex<Client>,
}

/// What a virtual user calls the REST API with.
pub(crate) struct Client {
    rest: Rest,
    credentials: Arc<Credentials>,
    session: Option<Session>,
    /// Of a refresh whose answer did not come: it must be asked for again with the same key.
    unanswered: Option<String>,
}

/// Who it is, and what the target understands.
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    /// Whether refreshes carry an `Idempotency-Key`, which the original system does not know.
    pub(crate) idempotent: bool,
}

/// What a log-in or a refresh gives.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) access: Arc<str>,
    cookie: String,
    /// When to refresh, at the latest.
    renew_at: Instant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    access_token: Arc<str>,
    expires_in: Option<u64>,
    user: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: i64,
}

impl Client {
    pub(crate) fn new(endpoint: Arc<Endpoint>, credentials: Arc<Credentials>) -> Self {
        Self { rest: Rest::new(endpoint), credentials, session: None, unanswered: None }
    }

    /// Opens an account and its first session; gives the user's id.
    pub(crate) async fn register(&mut self) -> Result<i64, Failure> {
        self.enter("/api/register", StatusCode::CREATED).await
    }

    /// Opens a session, and forgets the one before without ending it; gives the user's id.
    pub(crate) async fn log_in(&mut self) -> Result<i64, Failure> {
        self.enter("/api/login", StatusCode::OK).await
    }

    async fn enter(&mut self, path: &str, status: StatusCode) -> Result<i64, Failure> {
        let Credentials { username, password, .. } = &*self.credentials;
        let body = json!({"username": username, "password": password}).to_string();
        let answer = self.rest.call(Method::POST, path, &[], Some(body)).await?;
        let user = self.take(&answer, status)?.user.ok_or(Failure::Unexpected("a body without a user"))?;
        Ok(user.id)
    }

    /// Trades the cookie for the next one.
    pub(crate) async fn refresh(&mut self) -> Result<(), Failure> {
        let cookie = self.cookie()?;
        let key = self.unanswered.take().unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let mut headers = vec![(COOKIE, cookie.as_str())];
        if self.credentials.idempotent {
            headers.push((IDEMPOTENCY_KEY, key.as_str()));
        }
        self.unanswered = Some(key.clone()); // also if this future is dropped
        let answer = self.rest.call(Method::POST, "/api/refresh", &headers, None).await?;
        let taken = self.take(&answer, StatusCode::OK).map(drop);
        match &taken {
            Err(Failure::Refused { status: 503, .. }) => {}
            Err(failure) if failure.is_unauthorized() => {
                self.session = None;
                self.unanswered = None;
            }
            _ => self.unanswered = None,
        }
        taken
    }

    /// Ends the session; gives it, since its access token may be asked about.
    pub(crate) async fn log_out(&mut self) -> Result<Session, Failure> {
        let cookie = self.cookie()?;
        log_out(&mut self.rest, &cookie).await?;
        self.end_session()
    }

    /// As [`Self::log_out`], at a replica that is chosen for it.
    pub(crate) async fn log_out_at(&mut self, replica: &mut Rest) -> Result<Session, Failure> {
        log_out(replica, &self.cookie()?).await?;
        self.end_session()
    }

    fn end_session(&mut self) -> Result<Session, Failure> {
        self.unanswered = None;
        self.session.take().ok_or(Failure::Unexpected("a log-out without a session"))
    }

    /// Asks for what only users may see.
    pub(crate) async fn protected(&mut self) -> Result<(), Failure> {
        let access = self.access().await?;
        protected(&mut self.rest, &access).await
    }

    /// An access token that lives for a while; opens or refreshes the session where needed.
    pub(crate) async fn access(&mut self) -> Result<Arc<str>, Failure> {
        match &self.session {
            None => drop(self.log_in().await?),
            Some(session) if session.renew_at <= Instant::now() => match self.refresh().await {
                Err(failure) if failure.is_unauthorized() => drop(self.log_in().await?),
                refreshed => refreshed?,
            },
            Some(_) => {}
        }
        self.session.as_ref().map(|session| Arc::clone(&session.access)).ok_or(Failure::Unexpected("no session"))
    }

    fn cookie(&self) -> Result<String, Failure> {
        let session = self.session.as_ref().ok_or(Failure::Unexpected("no session"))?;
        Ok(session.cookie.clone())
    }

    fn take(&mut self, answer: &Answer, status: StatusCode) -> Result<Tokens, Failure> {
        let tokens: Tokens = answer.expect(status)?;
        let cookie = answer.cookie().ok_or(Failure::Unexpected("no refresh cookie"))?;
        let lifetime = Duration::from_secs(tokens.expires_in.unwrap_or(UNSAID_LIFETIME));
        let renew_at = Instant::now() + lifetime.saturating_sub(BEFORE_EXPIRY).max(lifetime / 2);
        self.session = Some(Session { access: Arc::clone(&tokens.access_token), cookie, renew_at });
        Ok(tokens)
    }
}

async fn log_out(rest: &mut Rest, cookie: &str) -> Result<(), Failure> {
    let answer = rest.call(Method::POST, "/api/logout", &[(COOKIE, cookie)], None).await?;
    answer.expect_status(StatusCode::OK)
}

/// Whether an access token is taken.
pub(crate) async fn protected(rest: &mut Rest, access: &str) -> Result<(), Failure> {
    let bearer = format!("Bearer {access}");
    let answer = rest.call(Method::GET, "/api/protected", &[(AUTHORIZATION, bearer.as_str())], None).await?;
    answer.expect_status(StatusCode::OK)
}
