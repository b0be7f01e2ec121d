//! What the replicas of Gatefold must agree on, and nothing else: configuration, keys and access tokens, the
//! connection to Redis and the names of its keys, the shape of errors, the life of a process.
//!
//! A thing that only one of the two replicas needs belongs into that replica's crate.

#![warn(missing_docs)]

pub mod budgets;
pub mod client_ip;
pub mod clock;
pub mod config;
pub mod grants;
pub mod http_server;
pub mod jwt;
pub mod lifecycle;
pub mod limit;
pub mod live_keys;
pub mod origin;
pub mod portable_json;
pub mod problem;
pub mod redis;
pub mod request;
pub mod revocation;
pub mod rooms;
pub mod telemetry;
pub mod tickets;
pub mod trace;
