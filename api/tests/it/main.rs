//! The REST replica as its clients, its operators and its attackers meet it: real binaries behind a real Nginx, on a real
//! Postgres and a real Redis.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod account;
mod acknowledged;
mod audit;
mod backup;
mod clock;
mod commands;
mod cookies;
mod cors;
mod database_role;
mod disconnects;
mod erasure;
mod events;
mod garbage;
mod grants;
mod harness;
mod health;
mod identities;
mod issuer;
mod keys;
mod late_duplicates;
mod limits;
mod login;
mod logout;
mod long;
mod lost_answers;
mod lost_replays;
mod metrics;
mod older_stores;
mod openapi;
mod outages;
mod password_pool;
mod postgres_failover;
mod protected;
mod redis_password;
mod refresh;
mod replay;
mod replicas;
mod retries;
mod revocation;
mod rooms;
mod routing;
mod runbook;
mod same_origin;
mod secrets;
mod sessions;
mod settings;
mod shutdown;
mod slow_redis;
mod startup;
mod stored_hashes;
mod stores_over_tls;
mod storm;
mod traces;
