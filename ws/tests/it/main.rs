//! The WebSocket replica in real clusters: with Postgres, Redis, Nginx, and the REST replica that signs its tokens.
#![expect(clippy::expect_used, reason = "a test that cannot go on says why and ends")]

mod amplification;
mod budgets;
mod clock;
mod end_to_end;
mod failover;
mod frames;
mod fuzz;
mod harness;
mod limits;
mod long;
mod messages;
mod outages;
mod realtime;
mod refusals;
mod revocation;
mod revocation_outages;
mod revocation_races;
mod rfc6455;
mod shutdown;
mod tickets;
mod token_attacks;
mod token_life;
mod ways_in;
