//! The REST replica as its clients, its operators and its attackers meet it: real binaries behind a real Nginx, on a real
//! Postgres and a real Redis.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod commands;
mod garbage;
mod harness;
mod health;
mod login;
mod logout;
mod lost_answers;
mod outages;
mod protected;
mod refresh;
mod replay;
mod replicas;
mod routing;
mod same_origin;
mod secrets;
mod shutdown;
mod startup;
