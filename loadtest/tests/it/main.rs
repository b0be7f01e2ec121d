//! The harness against a real cluster, run as people run it.

mod harness;
mod limits;
mod scenarios;
mod slow;
mod truth;
