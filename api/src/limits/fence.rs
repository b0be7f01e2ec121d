//! The fence in each replica's own memory, before anything is asked of Redis.
//!
//! It stands at four times the shared limits, so that it never refuses what those let through (a client may have all its
//! requests on one replica), and stops a flood where it is cheapest. It needs nobody, so it stands when Redis is away.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use gatefold_shared::client_ip::Client;
use governor::middleware::NoOpMiddleware;
use http::Request;
use tower_governor::{
    GovernorError, GovernorLayer,
    governor::{GovernorConfig, GovernorConfigBuilder},
    key_extractor::KeyExtractor,
};

use super::{Network, Refused, Rule, Standing, counter::count, standing::tell};
use crate::error::ApiError;

/// How much further out than the shared limit.
const FACTOR: u32 = 4;

/// The fence of one policy.
pub struct Fence {
    rule: Rule,
    config: Arc<GovernorConfig<ByNetwork, NoOpMiddleware>>,
}

impl Fence {
    /// Only a limit of no time or no burst has none, and there is no such [`super::Limit`].
    pub fn new(rule: Rule) -> Option<Self> {
        let config = GovernorConfigBuilder::default()
            .period(rule.limit.interval() / FACTOR)
            .burst_size(rule.limit.burst().saturating_mul(FACTOR))
            .key_extractor(ByNetwork)
            .finish()?;
        Some(Self { rule, config: Arc::new(config) })
    }

    /// To be put around routes.
    pub fn layer(&self) -> GovernorLayer<ByNetwork, NoOpMiddleware, Body> {
        let rule = self.rule;
        GovernorLayer::new(Arc::clone(&self.config)).error_handler(move |error| refusal(rule, &error))
    }

    /// Forgets addresses of which nothing was heard.
    pub fn evict(&self) {
        self.config.limiter().retain_recent();
        self.config.limiter().shrink_to_fit();
    }
}

fn refusal(rule: Rule, error: &GovernorError) -> Response {
    let GovernorError::TooManyRequests { wait_time, .. } = error else {
        return ApiError::NoClient.into_response();
    };
    count(rule, "fenced");
    // The library rounds down.
    let standing = Standing::nothing_for(rule, Duration::from_secs(wait_time + 1));
    let mut response = ApiError::from(Refused(standing)).into_response();
    tell(response.headers_mut(), &[standing]);
    response
}

/// Requests count by the address of their client.
#[derive(Clone, Debug)]
pub struct ByNetwork;

impl KeyExtractor for ByNetwork {
    type Key = Network;

    fn extract<T>(&self, request: &Request<T>) -> Result<Network, GovernorError> {
        let client = request.extensions().get::<Client>().ok_or(GovernorError::UnableToExtractKey)?;
        Ok(Network::of(client.address))
    }
}
