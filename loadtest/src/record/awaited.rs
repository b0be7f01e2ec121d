//! An operation that counts however it ends, also by being given up.

use std::time::{Duration, Instant};

use super::Meter;
use crate::failure::Failure;

/// An operation that is under way. Dropped, it has taken too long.
pub(crate) struct Awaited<'a> {
    meter: &'a Meter,
    intended: Instant,
    has_ended: bool,
}

impl<'a> Awaited<'a> {
    pub(super) fn new(meter: &'a Meter, intended: Instant) -> Self {
        Self { meter, intended, has_ended: false }
    }
}

impl Awaited<'_> {
    pub(crate) fn succeeded(mut self, latency: Duration) {
        self.has_ended = true;
        self.meter.succeeded(self.intended, latency);
    }

    pub(crate) fn failed(mut self, failure: &Failure) {
        self.has_ended = true;
        self.meter.failed(self.intended, failure);
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.meter.failed(self.intended, &Failure::Timeout);
        }
    }
}
