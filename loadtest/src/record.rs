//! What was measured: latencies in HdrHistograms, counts and errors, each second of them and all together.
//!
//! What was intended to start before the measured part of a run (the warm-up) is left out; everything else counts, also
//! when it ends late.

mod awaited;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use self::awaited::Awaited;
use crate::failure::Failure;

/// The longest latency that is told from longer ones, in microseconds.
const LONGEST: u64 = 600_000_000;
/// A tick shorter than this tells nothing about rates, and is no point of a plot.
const SHORTEST: Duration = Duration::from_millis(200);
/// Significant decimal digits of a latency.
const DIGITS: u8 = 3;

/// All operations of one run.
pub(crate) struct Recorder {
    measured_from: Arc<OnceLock<Instant>>,
    meters: Mutex<BTreeMap<&'static str, Arc<Meter>>>,
}

/// One kind of operation.
pub(crate) struct Meter {
    measured_from: Arc<OnceLock<Instant>>,
    tally: Mutex<Tally>,
}

struct Tally {
    /// Since the last tick.
    now: Histogram<u64>,
    now_failed: u64,
    /// Until the last tick.
    whole: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    points: Vec<Point>,
}

/// One tick of one operation.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    /// Seconds since the measured part began.
    pub(crate) at: f64,
    pub(crate) per_second: f64,
    pub(crate) errors_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// All that is known of one operation.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    pub(crate) name: String,
    /// Those that succeeded.
    pub(crate) count: u64,
    pub(crate) errors: u64,
    pub(crate) per_second: f64,
    pub(crate) latency_ms: Latency,
    /// The 99th percentile of all of them, as if those that failed had never ended; none if it is one of those.
    pub(crate) p99_of_all_ms: Option<f64>,
    /// How often each error occurred.
    pub(crate) error_kinds: BTreeMap<String, u64>,
    /// For plots: percentile and latency.
    pub(crate) percentiles: Vec<(f64, f64)>,
    pub(crate) series: Vec<Point>,
}

/// Of those that succeeded, in milliseconds. Those that failed have none: most of them were given up.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Recorder {
    /// Measures nothing until [`Self::measure_from`] says from when on.
    pub(crate) fn new() -> Self {
        Self { measured_from: Arc::default(), meters: Mutex::default() }
    }

    #[cfg(test)]
    pub(crate) fn starting(measured_from: Instant) -> Self {
        let recorder = Self::new();
        recorder.measure_from(measured_from);
        recorder
    }

    /// Counts what is intended to start then or later. Only the first word counts.
    pub(crate) fn measure_from(&self, start: Instant) {
        self.measured_from.get_or_init(|| start);
    }

    /// Since when it counts; now, if it does not.
    pub(crate) fn start(&self) -> Instant {
        self.measured_from.get().copied().unwrap_or_else(Instant::now)
    }

    /// The meter of an operation, which is listed from now on.
    pub(crate) fn meter(&self, name: &'static str) -> Arc<Meter> {
        Arc::clone(
            lock(&self.meters).entry(name).or_insert_with(|| Arc::new(Meter::new(Arc::clone(&self.measured_from)))),
        )
    }

    /// Ends a second of every operation; `length` is how long it was.
    pub(crate) fn tick(&self, length: Duration) {
        let at = self.start().elapsed().as_secs_f64();
        for meter in lock(&self.meters).values() {
            lock(&meter.tally).tick(at, length);
        }
    }

    /// The last tick of each operation that was done then or has failed, with all of its errors so far.
    pub(crate) fn latest(&self) -> Vec<(&'static str, u64, Point)> {
        let meters = lock(&self.meters);
        let latest = meters.iter().filter_map(|(name, meter)| {
            let tally = lock(&meter.tally);
            Some((*name, tally.errors.values().sum(), tally.points.last()?.clone()))
        });
        let latest = latest.filter(|(_, errors, point)| *errors > 0 || point.per_second > 0.0);
        latest.collect()
    }

    /// What each operation that was done at all has done until the last tick.
    pub(crate) fn measured(&self, length: Duration) -> Vec<Measured> {
        let meters = lock(&self.meters);
        let measured = meters.iter().map(|(name, meter)| lock(&meter.tally).measured(name, length));
        measured.filter(|measured| measured.count + measured.errors > 0).collect()
    }
}

impl Meter {
    fn new(measured_from: Arc<OnceLock<Instant>>) -> Self {
        Self { measured_from, tally: Mutex::new(Tally::new()) }
    }

    fn counts(&self, intended: Instant) -> bool {
        self.measured_from.get().is_some_and(|start| intended >= *start)
    }

    /// An operation that was intended to start then has ended now.
    pub(crate) fn record(&self, intended: Instant, outcome: &Result<(), Failure>) {
        match outcome {
            Ok(()) => self.succeeded(intended, intended.elapsed()),
            Err(failure) => self.failed(intended, failure),
        }
    }

    /// For those that know when it ended.
    pub(crate) fn succeeded(&self, intended: Instant, latency: Duration) {
        if self.counts(intended) {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST);
            lock(&self.tally).now.saturating_record(micros);
        }
    }

    /// An operation that others wait for is under way: it counts as soon as it has ended, and also if it is given up.
    pub(crate) fn awaiting(&self, intended: Instant) -> Awaited<'_> {
        Awaited::new(self, intended)
    }

    pub(crate) fn failed(&self, intended: Instant, failure: &Failure) {
        self.failed_times(intended, failure, 1);
    }

    pub(crate) fn failed_times(&self, intended: Instant, failure: &Failure, times: u64) {
        if self.counts(intended) && times > 0 {
            let mut tally = lock(&self.tally);
            tally.now_failed += times;
            *tally.errors.entry(failure.to_string()).or_default() += times;
        }
    }
}

impl Tally {
    fn new() -> Self {
        Self { now: histogram(), now_failed: 0, whole: histogram(), errors: BTreeMap::new(), points: Vec::new() }
    }

    fn tick(&mut self, at: f64, length: Duration) {
        let per_second = |count: u64| ratio(count) / length.as_secs_f64().max(f64::EPSILON);
        if length >= SHORTEST {
            self.points.push(Point {
                at,
                per_second: per_second(self.now.len()),
                errors_per_second: per_second(self.now_failed),
                p50_ms: quantile(&self.now, 0.5),
                p99_ms: quantile(&self.now, 0.99),
                max_ms: millis(self.now.max()),
            });
        }
        let Self { now, whole, .. } = self;
        // Both have the same bounds, so that nothing can be out of range.
        whole.add(&*now).unwrap_or_default();
        now.reset();
        self.now_failed = 0;
    }

    fn measured(&self, name: &str, length: Duration) -> Measured {
        let whole = &self.whole;
        let errors = self.errors.values().sum();
        Measured {
            name: name.to_owned(),
            count: whole.len(),
            errors,
            per_second: ratio(whole.len()) / length.as_secs_f64().max(f64::EPSILON),
            latency_ms: Latency {
                mean: whole.mean() / 1_000.0,
                p50: quantile(whole, 0.5),
                p90: quantile(whole, 0.9),
                p99: quantile(whole, 0.99),
                p999: quantile(whole, 0.999),
                max: millis(whole.max()),
            },
            p99_of_all_ms: p99_of_all(whole, errors),
            error_kinds: self.errors.clone(),
            percentiles: percentiles(whole),
            series: self.points.clone(),
        }
    }
}

fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "these bounds are constants that hdrhistogram takes")]
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("good bounds")
}

/// Percentiles that come closer and closer to 100, as far as there are enough operations to tell.
fn percentiles(whole: &Histogram<u64>) -> Vec<(f64, f64)> {
    if whole.is_empty() {
        return Vec::new();
    }
    whole
        .iter_quantiles(5)
        .map(|step| (step.quantile_iterated_to() * 100.0, millis(step.value_iterated_to())))
        .collect()
}

/// The 99th percentile where so many more took for ever.
fn p99_of_all(whole: &Histogram<u64>, endless: u64) -> Option<f64> {
    let rank = ((whole.len() + endless) * 99).div_ceil(100);
    // Between two ranks, so that no rounding makes it the next one.
    (rank <= whole.len()).then(|| quantile(whole, (ratio(rank) - 0.5) / ratio(whole.len().max(1))))
}

fn quantile(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    millis(histogram.value_at_quantile(quantile))
}

fn millis(micros: u64) -> f64 {
    ratio(micros) / 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "2^52 are enough")]
pub(crate) fn ratio(count: u64) -> f64 {
    count as f64
}

/// Nothing is left half done by a panic while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
