//! A client as a browser is one: it keeps the cookie and the access token that it is given.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gatefold_shared::redis::keys;
use http::{Method, header};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Answer;

/// Where a request goes in.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    Nginx,
    /// One replica, past Nginx; counted from 0.
    Replica(usize),
}

/// Clones are other tabs of the same browser at this moment: each keeps its own cookie from then on.
#[derive(Clone)]
pub struct Requester {
    http: reqwest::Client,
    /// Nginx first, then the replicas.
    urls: Arc<[String]>,
    door: Door,
    pub cookie: Option<String>,
    pub access_token: Option<String>,
}

impl Requester {
    pub(super) fn new(urls: Arc<[String]>) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build();
        let http = http.expect("a client can be made");
        Self { http, urls, door: Door::Nginx, cookie: None, access_token: None }
    }

    /// The same client at another door.
    #[must_use]
    pub fn at(&self, door: Door) -> Self {
        Self { door, ..self.clone() }
    }

    /// The same client at a replica that is not of its cluster.
    #[must_use]
    pub fn at_url(&self, url: &str) -> Self {
        Self { urls: [url.to_owned()].into(), door: Door::Nginx, ..self.clone() }
    }

    /// The same client with another refresh token.
    #[must_use]
    pub fn with_cookie(&self, cookie: impl Into<String>) -> Self {
        Self { cookie: Some(cookie.into()), ..self.clone() }
    }

    pub fn cookie(&self) -> &str {
        self.cookie.as_deref().expect("logged in")
    }

    pub fn access_token(&self) -> &str {
        self.access_token.as_deref().expect("logged in")
    }

    /// The user and the session, as the access token says.
    pub fn session(&self) -> (i64, Uuid) {
        let claims = claims(self.access_token());
        let user = claims["sub"].as_str().and_then(|sub| sub.parse().ok()).expect("a user id");
        (user, claims["sid"].as_str().and_then(|sid| sid.parse().ok()).expect("a session id"))
    }

    /// The key of the session in Redis.
    pub fn family_key(&self) -> String {
        let (user, family) = self.session();
        keys::family(user, family)
    }

    pub fn url(&self) -> &str {
        match self.door {
            Door::Nginx => &self.urls[0],
            Door::Replica(index) => &self.urls[index + 1],
        }
    }

    /// A request with the cookie and the access token that there are.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.url()));
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, format!("refreshToken={cookie}"));
        }
        if let Some(token) = &self.access_token {
            request = request.bearer_auth(token);
        }
        request
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        try_send(self.request(Method::GET, path)).await
    }

    /// Logs in, and is the user from then on.
    pub async fn login(&mut self, name: &str, password: &str) -> Answer {
        self.try_login(name, password).await.expect("an answer")
    }

    pub async fn try_login(&mut self, name: &str, password: &str) -> reqwest::Result<Answer> {
        let request = self.request(Method::POST, "/api/login").json(&json!({ "username": name, "password": password }));
        self.learn(try_send(request).await)
    }

    /// Trades the refresh token, and keeps the next one.
    pub async fn refresh(&mut self) -> Answer {
        self.try_refresh(None).await.expect("an answer")
    }

    /// As [`Self::refresh`], with an `Idempotency-Key`.
    pub async fn refresh_with_key(&mut self, key: &str) -> Answer {
        self.try_refresh(Some(key)).await.expect("an answer")
    }

    pub async fn try_refresh(&mut self, key: Option<&str>) -> reqwest::Result<Answer> {
        let mut request = self.request(Method::POST, "/api/refresh");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.learn(try_send(request).await)
    }

    pub async fn logout(&mut self) -> Answer {
        let answer = try_send(self.request(Method::POST, "/api/logout")).await;
        self.learn(answer).expect("an answer")
    }

    fn learn(&mut self, answer: reqwest::Result<Answer>) -> reqwest::Result<Answer> {
        if let Ok(answer) = &answer {
            if let Some(cookie) = answer.cookie() {
                self.cookie = Some(cookie).filter(|cookie| !cookie.is_empty());
            }
            if let Some(token) = answer.access_token() {
                self.access_token = Some(token);
            }
        }
        answer
    }
}

/// What an access token says, unverified.
pub fn claims(access_token: &str) -> Value {
    let payload = access_token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    serde_json::from_slice(&payload.expect("a JWT")).expect("claims")
}

/// Sends a request that is answered, whatever the answer is.
pub async fn send(request: RequestBuilder) -> Answer {
    try_send(request).await.expect("an answer")
}

/// Sends a request on a connection that may fail.
async fn try_send(request: RequestBuilder) -> reqwest::Result<Answer> {
    let started = Instant::now();
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await?.to_vec();
    Ok(Answer { status, headers, body, took: started.elapsed() })
}
