//! Processes elsewhere, from the metrics that they tell Prometheus. The names are those that every client library uses.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use super::Usage;
use crate::net::Endpoint;
use crate::rest::Rest;

const PATIENCE: Duration = Duration::from_secs(2);

/// A process that tells its metrics.
pub(crate) struct Source {
    name: String,
    rest: Rest,
}

impl Source {
    pub(super) fn new(name: &str, endpoint: Arc<Endpoint>) -> Self {
        Self { name: name.to_owned(), rest: Rest::new(endpoint) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn read(&mut self) -> Option<Usage> {
        // The URL is that of the metrics themselves, so that nothing is put behind it.
        let answer = tokio::time::timeout(PATIENCE, self.rest.call(Method::GET, "", &[], None)).await.ok()?.ok()?;
        answer.expect_status(StatusCode::OK).ok()?;
        Some(parse(&answer.text()))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes and files")]
fn parse(text: &str) -> Usage {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    Usage {
        cpu_seconds: value("process_cpu_seconds_total "),
        memory_bytes: value("process_resident_memory_bytes ").map(|bytes| bytes as u64),
        open_files: value("process_open_fds ").map(|files| files as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_found_among_other_metrics() {
        let text = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 12.5\nws_connections 3\n\
                    process_resident_memory_bytes 1.5e7\nprocess_open_fds 17\n";
        let usage = Usage { cpu_seconds: Some(12.5), memory_bytes: Some(15_000_000), open_files: Some(17) };
        assert_eq!(parse(text), usage);
        assert_eq!(parse("gatefold_ws_connections 3\n"), Usage::default());
    }
}
