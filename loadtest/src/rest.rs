//! REST calls over one kept connection, as a browser would make them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, SET_COOKIE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::failure::{Failure, problem_code};
use crate::net::Endpoint;

/// A connection that was idle for longer is not used again: servers and proxies close them after a minute or so, and one
/// that is closed just as it is used looks like a failure.
const LONGEST_IDLE: Duration = Duration::from_secs(30);

/// A client of one server.
pub(crate) struct Rest {
    endpoint: Arc<Endpoint>,
    /// With the time of its last use.
    sender: Option<(SendRequest<Full<Bytes>>, Instant)>,
    /// What drives the connection; ends with this.
    driver: JoinSet<()>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Rest {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, sender: None, driver: JoinSet::new() }
    }

    /// Makes a call and reads the whole answer.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Option<String>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint.prefix))
            .header(HOST, &self.endpoint.authority);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(body.map_or_else(Bytes::new, Bytes::from));
        let request = request.body(body).map_err(|_| Failure::Unexpected("a value that no header can hold"))?;
        self.send(request).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let mut sender = self.sender().await?;
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            // The server has closed a connection that was idle, just as we wanted to use it: nothing was sent.
            Err(mut error) => match error.take_message() {
                Some(request) => {
                    sender = self.sender().await?;
                    sender.send_request(request).await?
                }
                None => return Err(error.into_error().into()),
            },
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        self.sender = Some((sender, Instant::now()));
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// The kept connection, if it is still there, or a new one. It is kept again once a whole answer was read: after
    /// anything else, what comes over it cannot be told apart.
    async fn sender(&mut self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        if let Some((mut sender, used)) = self.sender.take()
            && used.elapsed() < LONGEST_IDLE
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let wire = self.endpoint.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(wire)).await?;
        self.driver = JoinSet::new();
        self.driver.spawn(async move {
            let _ = connection.await; // whoever waits for an answer hears of it
        });
        Ok(sender)
    }
}

impl Answer {
    /// The body of an answer with this status; any other is a failure.
    pub(crate) fn expect<T: DeserializeOwned>(&self, status: StatusCode) -> Result<T, Failure> {
        self.expect_status(status)?;
        serde_json::from_slice(&self.body).map_err(|_| Failure::Unexpected("a body of another shape"))
    }

    pub(crate) fn expect_status(&self, status: StatusCode) -> Result<(), Failure> {
        if self.status == status { Ok(()) } else { Err(Failure::refused(self.status, problem_code(&self.body))) }
    }

    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The cookie that it sets, as a client sends it back.
    pub(crate) fn cookie(&self) -> Option<String> {
        let cookies = self.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.filter_map(|cookie| cookie.split(';').next());
        pairs.find(|pair| pair.split_once('=').is_some_and(|(_, value)| !value.is_empty())).map(str::to_owned)
    }
}
