//! Somebody who has registered, and the session that they have.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Deployment;
use crate::harness::{PATIENCE, User};

pub const PASSWORD: &str = "correct horse battery";
pub const NEXT_PASSWORD: &str = "battery horse correct";

/// A user and one session.
pub struct Account {
    client: reqwest::Client,
    url: String,
    pub name: String,
    pub access: String,
    cookie: String,
    id: i64,
}

impl Account {
    /// A user whom no other test has.
    pub async fn register(deployment: &Deployment) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let name = format!("e2e-{}", Uuid::new_v4());
        let (access, cookie) = (String::new(), String::new());
        let mut account = Self { client, url: deployment.url(""), name, access, cookie, id: 0 };
        account.begin("/api/register", PASSWORD, 201).await.expect("a new account");
        account
    }

    /// The same user with one more session.
    pub async fn log_in_again(&self) -> Self {
        self.log_in_with(PASSWORD).await
    }

    pub async fn log_in_with(&self, password: &str) -> Self {
        let mut other = self.without_session();
        other.begin("/api/login", password, 200).await.expect("a log-in");
        other
    }

    /// Opens a session in place of the one that there was; the error is what was answered instead.
    pub async fn begin(&mut self, path: &str, password: &str, status: u16) -> Result<(), String> {
        let credentials = json!({"username": self.name, "password": password});
        let answer = self.take_session(Method::POST, path, credentials, status).await?;
        self.id = answer["user"]["id"].as_i64().expect("an id");
        Ok(())
    }

    /// Trades the cookie for the next one; the error is what was answered instead.
    pub async fn refresh(&mut self) -> Result<(), String> {
        self.take_session(Method::POST, "/api/refresh", Value::Null, 200).await.map(drop)
    }

    /// As [`Self::refresh`], with an `Idempotency-Key`.
    pub async fn refresh_with_key(&mut self, key: Uuid) -> Result<(), String> {
        let request =
            self.request(Method::POST, "/api/refresh", &Value::Null).header("idempotency-key", key.to_string());
        self.take_session_of(request, 200).await.map(drop)
    }

    /// Ends the session; the status that was answered. What there was of it can still be presented.
    pub async fn try_log_out(&self) -> Result<u16, String> {
        let response = self.request(Method::POST, "/api/logout", &Value::Null).send().await;
        Ok(response.map_err(|error| format!("{error:?}"))?.status().as_u16())
    }

    /// The same user, who has yet to log in.
    pub fn without_session(&self) -> Self {
        Self { access: String::new(), cookie: String::new(), ..self.at(&self.url) }
    }

    /// The same session, presented at another address.
    pub fn at(&self, url: &str) -> Self {
        Self {
            client: self.client.clone(),
            url: url.to_owned(),
            name: self.name.clone(),
            access: self.access.clone(),
            cookie: self.cookie.clone(),
            id: self.id,
        }
    }

    pub async fn log_out(&mut self) {
        let response = self.request(Method::POST, "/api/logout", &Value::Null).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        self.cookie.clear();
        self.access.clear();
    }

    async fn take_session(&mut self, method: Method, path: &str, body: Value, status: u16) -> Result<Value, String> {
        self.take_session_of(self.request(method, path, &body), status).await
    }

    async fn take_session_of(&mut self, request: reqwest::RequestBuilder, status: u16) -> Result<Value, String> {
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let answered = response.status().as_u16();
        // One that is cleared, as that of a former name may be, has no value.
        let cookies = response.headers().get_all("set-cookie").iter();
        let mut pairs = cookies.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
        let cookie = pairs.find(|pair| !pair.ends_with('=')).map(str::to_owned);
        let answer: Value = response.json().await.map_err(|error| format!("{answered} {error:?}"))?;
        if answered != status {
            return Err(format!("{answered} {}", answer["code"].as_str().unwrap_or("without a code")));
        }
        self.cookie = cookie.expect("a cookie");
        answer["accessToken"].as_str().expect("a token").clone_into(&mut self.access);
        Ok(answer)
    }

    /// Calls as the bearer of the session: status and body, which is null where it is no JSON.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> reqwest::Result<(u16, Value)> {
        let response = self.request(method, path, &body).bearer_auth(&self.access).send().await?;
        let status = response.status().as_u16();
        let body = response.bytes().await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    fn request(&self, method: Method, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = if self.cookie.is_empty() { request } else { request.header("cookie", &self.cookie) };
        if body.is_null() { request } else { request.json(body) }
    }

    fn claims(&self) -> Value {
        let claims = self.access.split('.').nth(1).expect("a JWT");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON")
    }

    /// The session's id.
    pub fn session(&self) -> Uuid {
        self.claims()["sid"].as_str().expect("a session").parse().expect("a UUID")
    }

    /// As others see them.
    pub fn user(&self) -> User {
        User { id: self.id, name: self.name.clone(), family: self.session() }
    }
}
