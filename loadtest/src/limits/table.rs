//! Ours over the limit, and whether that is near enough.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::redis::Trip;
use crate::report::terminal::{number, row, write_table};

/// uWebSockets, the fastest of the peers, was measured beside one bare `send`: it takes as much for a ping and its pong,
/// and a fifth more for the delivery of one message to one member of a room of 1,000.
const UWS_PING_IN_SENDS: f64 = 1.0;
const UWS_DELIVERY_IN_SENDS: f64 = 1.2;

/// What the machine can do, in microseconds of CPU.
pub(super) struct Bare {
    pub(super) sign: f64,
    pub(super) verify: f64,
    pub(super) argon2: f64,
    pub(super) hello: f64,
    pub(super) sign_server: f64,
    pub(super) send: f64,
    pub(super) redis_ping: Trip,
    pub(super) redis_script: Trip,
}

/// What a cluster's operations cost its replicas, in microseconds of CPU where nothing else is said.
#[derive(Debug, Clone)]
pub(super) struct Costs {
    pub(super) refresh: f64,
    pub(super) protected: f64,
    pub(super) login: f64,
    pub(super) ping: f64,
    pub(super) delivery: f64,
    pub(super) socket_bytes: f64,
    /// Milliseconds.
    pub(super) refused_p99: f64,
    /// Milliseconds.
    pub(super) closed_p99: f64,
    pub(super) redis_of_refresh: f64,
}

/// Medians of all runs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Table {
    runs: usize,
    /// Name, and microseconds.
    bare: Vec<(&'static str, f64)>,
    lines: Vec<Line>,
}

/// One of our operations.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    unit: &'static str,
    ours: f64,
    limit_is: &'static str,
    limit: f64,
    ratio: f64,
    /// The most that the ratio may be.
    bound: f64,
}

impl Table {
    pub(super) fn of(runs: &[(Bare, Costs)]) -> Self {
        let bare = |name, of: fn(&Bare) -> f64| (name, median(runs.iter().map(|(bare, _)| of(bare)).collect()));
        Self {
            runs: runs.len(),
            bare: vec![
                bare("RSA-2048 signature, parsed key", |bare| bare.sign),
                bare("its verification", |bare| bare.verify),
                bare("Argon2id 19 MiB, 2 passes, memory used again", |bare| bare.argon2),
                bare("axum that says hello", |bare| bare.hello),
                bare("axum that signs once", |bare| bare.sign_server),
                bare("one send to a socket", |bare| bare.send),
                bare("PING, in Redis", |bare| bare.redis_ping.cpu),
                bare("PING, round trip (not CPU)", |bare| bare.redis_ping.wall),
                bare("a short script, in Redis", |bare| bare.redis_script.cpu),
                bare("a short script, round trip (not CPU)", |bare| bare.redis_script.wall),
            ],
            lines: LINES.iter().map(|(line, ours, limit)| line.of(runs, *ours, *limit)).collect(),
        }
    }

    pub(super) fn is_within_bounds(&self) -> bool {
        self.lines.iter().all(Line::is_within_bound)
    }

    pub(super) fn render(&self) -> Result<String> {
        let mut text = format!("Microseconds of CPU here and now, medians of {} runs:\n", self.runs);
        let bare: Vec<Vec<String>> =
            self.bare.iter().map(|(name, micros)| row([name, &format!("{micros:.2}")])).collect();
        write_table(&mut text, &bare)?;
        let mut table = vec![row(["", "ours", "the limit", "", "ratio", "bound", ""])];
        for line in &self.lines {
            let Line { unit, limit_is, .. } = line;
            table.push(row([
                line.name,
                &format!("{} {unit}", number(line.ours)),
                &format!("{} {unit}", number(line.limit)),
                limit_is,
                &format!("{:.2}", line.ratio),
                &format!("{:.2}", line.bound),
                if line.is_within_bound() { "" } else { "BEYOND" },
            ]));
        }
        writeln!(text)?;
        write_table(&mut text, &table)?;
        Ok(text)
    }
}

/// A line before it is measured.
struct Outline {
    name: &'static str,
    unit: &'static str,
    limit_is: &'static str,
    bound: f64,
}

type Measure<T> = fn(&T) -> f64;

/// Every line, ours, and the limit.
const LINES: [(Outline, Measure<Costs>, Measure<Bare>); 9] = [
    (outline("refresh", "us", "axum that signs once", 1.25), |ours| ours.refresh, |bare| bare.sign_server),
    (outline("protected", "us", "axum that says hello", 1.25), |ours| ours.protected, |bare| bare.hello),
    (outline("login", "us", "Argon2id", 1.05), |ours| ours.login, |bare| bare.argon2),
    (outline("ping", "us", "a send", 1.3 * UWS_PING_IN_SENDS), |ours| ours.ping, |bare| bare.send),
    (outline("delivery", "us", "a send", 1.1 * UWS_DELIVERY_IN_SENDS), |ours| ours.delivery, |bare| bare.send),
    (outline("idle socket", "bytes", "2 KiB", 1.0), |ours| ours.socket_bytes, |_| 2_048.0),
    (outline("log-out to refusal elsewhere, p99", "ms", "20 ms", 1.0), |ours| ours.refused_p99, |_| 20.0),
    (outline("log-out to close elsewhere, p99", "ms", "20 ms", 1.0), |ours| ours.closed_p99, |_| 20.0),
    // Not a matter of speed but of what a Redis can carry.
    (
        outline("refresh, in Redis", "us", "a short script", 2.0),
        |ours| ours.redis_of_refresh,
        |bare| bare.redis_script.cpu,
    ),
];

const fn outline(name: &'static str, unit: &'static str, limit_is: &'static str, bound: f64) -> Outline {
    Outline { name, unit, limit_is, bound }
}

impl Outline {
    /// The ratio is the median of the runs' ratios: each compares what was measured in the same minute.
    fn of(&self, runs: &[(Bare, Costs)], ours: Measure<Costs>, limit: Measure<Bare>) -> Line {
        let ratios = runs.iter().map(|(bare, costs)| ours(costs) / limit(bare).max(f64::EPSILON)).collect();
        Line {
            name: self.name,
            unit: self.unit,
            ours: median(runs.iter().map(|(_, costs)| ours(costs)).collect()),
            limit_is: self.limit_is,
            limit: median(runs.iter().map(|(bare, _)| limit(bare)).collect()),
            ratio: median(ratios),
            bound: self.bound,
        }
    }
}

impl Line {
    fn is_within_bound(&self) -> bool {
        self.ratio <= self.bound
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(refresh: f64, sign_server: f64) -> (Bare, Costs) {
        let trip = Trip { cpu: 10.0, wall: 50.0 };
        let bare = Bare {
            sign: 250.0,
            verify: 10.0,
            argon2: 16_000.0,
            hello: 12.0,
            sign_server,
            send: 7.0,
            redis_ping: trip,
            redis_script: trip,
        };
        let ours = Costs {
            refresh,
            protected: 14.0,
            login: 16_400.0,
            ping: 9.0,
            delivery: 8.0,
            socket_bytes: 1_900.0,
            refused_p99: 5.0,
            closed_p99: 5.0,
            redis_of_refresh: 12.0,
        };
        (bare, ours)
    }

    #[test]
    fn what_counts_is_the_median_of_the_ratios_of_each_run() {
        // The machine slowed down in the second run, and something disturbed ours in the third.
        let table = Table::of(&[run(300.0, 260.0), run(600.0, 520.0), run(900.0, 260.0)]);
        let refresh = &table.lines[0];
        assert!((refresh.ratio - 300.0 / 260.0).abs() < 1e-9 && table.is_within_bounds());
        assert!((refresh.ours - 600.0).abs() < 1e-9);
    }

    #[test]
    fn one_line_beyond_its_bound_is_too_much_and_is_named() {
        let table = Table::of(&[run(330.0, 260.0)]);
        assert!(!table.is_within_bounds());
        let text = table.render().unwrap();
        let beyond: Vec<&str> = text.lines().filter(|line| line.contains("BEYOND")).collect();
        assert!(beyond.len() == 1 && beyond[0].contains("refresh") && beyond[0].contains("1.27"), "{text}");
    }
}
