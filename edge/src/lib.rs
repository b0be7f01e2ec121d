//! What stands beside Nginx in its container.
//!
//! Nginx asks DNS where the replicas are, and believes whatever a name resolves to: a replica that has died is noticed when it
//! refuses a connection, one that hangs only after [`proxy_read_timeout`][timeout], by each request anew. So Nginx asks this
//! program instead, which knows who is [ready](replicas) and [answers](dns) with those.
//!
//! ```text
//!              DNS (getaddrinfo)            GET /api/ready, /ready
//! resolver  <-------------------  edge  -------------------------->  replicas
//!                                  ^  ^                                  ^
//!              DNS, 127.0.0.1:5300 |  | requests (syslog), stub_status   |
//!                                  Nginx --------------------------------+
//! ```
//!
//! It also [counts](requests) what Nginx answered and who is connected, for Prometheus: of what Nginx refuses by itself no
//! replica knows.
//!
//! [timeout]: https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_read_timeout

pub mod config;
pub mod connections;
pub mod dns;
pub mod replicas;
pub mod requests;
