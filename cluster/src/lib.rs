//! Starts a whole Gatefold cluster from local programs: Postgres, Redis, Nginx and any number of replicas, in a private
//! directory, on free ports.
//!
//! `gatefold-cluster` runs one for people ([`Cluster::open`]); integration tests of every crate run theirs through
//! [`Cluster::builder`], break it, and leave it to be swept away when they end, however they end. Nothing is ever
//! restarted behind anybody's back, and nothing is touched that was not started here.

mod builder;
mod cluster;
pub mod faults;
pub mod guard;
mod inject;
mod layout;
mod lock;
pub mod logs;
mod nginx;
mod nodes;
mod poll;
mod ports;
mod postgres;
mod process;
mod programs;
pub mod proxy;
mod ready;
mod redis;
mod redis_client;
mod redis_set;
mod replica;
mod shifted;
mod state;
mod status;
pub mod tls;
mod up;

pub use builder::Builder;
pub use cluster::{Cluster, Report};
pub use inject::Fault;
pub use layout::default_dir;
pub use nix::sys::signal::Signal;
pub use poll::eventually;
pub use ports::{available, listen_addresses};
pub use redis_set::{Election, RedisSet, Topology};
pub use shifted::ShiftedReplica;
pub use state::Kind;
pub use status::{Process, ProcessState, Status};
pub use up::Plan;
