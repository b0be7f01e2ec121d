//! What the harness itself uses, and whether that spoils what it measures.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use super::proc;
use crate::record::ratio;

/// How often the harness looks whether its tasks run in time.
const PROBE: Duration = Duration::from_millis(20);
/// More of the machine than this and the harness is as slow as what it measures.
const MOST_CORES: f64 = 0.8;
/// Later than this and what is measured is the harness.
const LATEST_MS: f64 = 10.0;

/// Watches the harness.
pub(crate) struct Harness {
    started: Instant,
    cpu: f64,
    machine: Option<(u64, u64)>,
    late: Arc<Mutex<Histogram<u64>>>,
    _probe: JoinSet<()>,
}

/// What the harness has used during the measured part of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HarnessUse {
    /// 1 is a core that does nothing else.
    pub(crate) cores: f64,
    pub(crate) cores_of_machine: usize,
    /// All cores, whoever keeps them busy.
    pub(crate) machine_busy_percent: f64,
    /// How late its own tasks run, 99th percentile.
    pub(crate) late_p99_ms: f64,
    pub(crate) memory_bytes: u64,
    /// Why the figures are not to be trusted, if so.
    pub(crate) warnings: Vec<String>,
}

impl Harness {
    pub(crate) fn watch() -> Self {
        #[expect(clippy::expect_used, reason = "this bound is a constant that hdrhistogram takes")]
        let late = Arc::new(Mutex::new(Histogram::new(2).expect("a good bound")));
        let mut probe = JoinSet::new();
        let seen = Arc::clone(&late);
        probe.spawn(async move {
            loop {
                let asked = Instant::now();
                tokio::time::sleep(PROBE).await;
                let late = asked.elapsed().saturating_sub(PROBE);
                let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
                seen.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
            }
        });
        Self { started: Instant::now(), cpu: own().0, machine: proc::machine(), late, _probe: probe }
    }

    pub(crate) fn used(&self) -> HarnessUse {
        let (cpu, memory_bytes) = own();
        let cores = (cpu - self.cpu) / self.started.elapsed().as_secs_f64().max(f64::EPSILON);
        let cores_of_machine = std::thread::available_parallelism().map_or(1, NonZero::get);
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let late_p99_ms = ratio(late.value_at_quantile(0.99)) / 1_000.0;
        let machine_busy_percent =
            self.machine.zip(proc::machine()).map_or(0.0, |((busy, idle), (busy_now, idle_now))| {
                let (busy, idle) = (busy_now.saturating_sub(busy), idle_now.saturating_sub(idle));
                100.0 * ratio(busy) / ratio((busy + idle).max(1))
            });
        let warnings = warnings(cores, cores_of_machine, late_p99_ms);
        HarnessUse { cores, cores_of_machine, machine_busy_percent, late_p99_ms, memory_bytes, warnings }
    }
}

fn warnings(cores: f64, of: usize, late_p99_ms: f64) -> Vec<String> {
    let mut warnings = Vec::new();
    if cores > MOST_CORES * f64::from(u32::try_from(of).unwrap_or(u32::MAX)) {
        warnings.push(format!(
            "The harness kept {cores:.2} of {of} cores busy: it is the bottleneck, and the servers may do more than this."
        ));
    }
    if late_p99_ms > LATEST_MS {
        warnings.push(format!(
            "The harness waited for a core, up to {late_p99_ms:.0} ms (p99): that is part of every latency here. Give it a \
             machine of its own, or load this one less."
        ));
    }
    warnings
}

fn own() -> (f64, u64) {
    let usage = i32::try_from(std::process::id()).map_or_else(|_| super::Usage::default(), proc::of);
    (usage.cpu_seconds.unwrap_or(0.0), usage.memory_bytes.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_that_is_the_bottleneck_says_so() {
        assert!(warnings(1.5, 2, 2.0).is_empty());
        assert!(warnings(1.7, 2, 2.0)[0].contains("1.70 of 2 cores"));
        assert!(warnings(0.1, 2, 25.0)[0].contains("25 ms"));
    }
}
