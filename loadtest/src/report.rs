//! What a run says in the end: a table for people, JSON for programs, a page with plots for both of them to point at.

mod html;
mod plot;
pub(crate) mod terminal;

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::Fact;
use crate::record::Measured;
use crate::sample::{HarnessUse, ServerUse};
use crate::threshold::Verdict;

/// Everything that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    /// RFC 3339.
    pub(crate) started: String,
    pub(crate) target: String,
    pub(crate) users: usize,
    pub(crate) seed: u64,
    pub(crate) runs: Vec<Ran>,
    pub(crate) thresholds: Vec<Verdict>,
    /// Whether all thresholds were held.
    pub(crate) passed: bool,
}

/// One scenario.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ran {
    pub(crate) scenario: String,
    pub(crate) load: String,
    /// Of the measured part.
    pub(crate) seconds: f64,
    pub(crate) operations: Vec<Measured>,
    pub(crate) servers: Vec<ServerUse>,
    /// The operation that the servers' CPU is divided by.
    pub(crate) cpu_is_per: &'static str,
    /// What else is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_includes: Option<&'static str>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) harness: Option<HarnessUse>,
}

/// On standard output.
pub(crate) fn print(report: &Report) -> Result<()> {
    match std::io::stdout().lock().write_all(terminal::render(report)?.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()), // whoever reads has seen enough
        written => Ok(written?),
    }
}

/// Into files.
pub(crate) fn write(report: &Report, json: Option<&Path>, html: Option<&Path>) -> Result<()> {
    if let Some(path) = json {
        write_file(path, &(serde_json::to_string_pretty(report)? + "\n"))?;
    }
    if let Some(path) = html {
        write_file(path, &html::render(report)?)?;
    }
    Ok(())
}

pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
pub(crate) mod example {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::failure::Failure;
    use crate::record::Recorder;
    use crate::sample::UsePoint;

    /// Three seconds of refreshes, with an error whose text is a trap.
    pub(crate) fn report() -> Report {
        let start = Instant::now();
        let recorder = Recorder::starting(start);
        let meter = recorder.meter("refresh");
        for second in 1..=3_u64 {
            for number in 1..=200 {
                meter.succeeded(start, Duration::from_micros(1_000 * second + 10 * number));
            }
            recorder.tick(Duration::from_secs(1));
        }
        meter.failed(start, &Failure::Refused { status: 500, code: "<script>alert(1)</script>".into() });
        recorder.tick(Duration::ZERO);
        let series = [1.0, 2.0, 3.0].map(|at| UsePoint { at, cores: 0.06, memory_bytes: 12_000_000 });
        let api = ServerUse {
            name: "api-1".to_owned(),
            cpu_seconds: Some(0.18),
            cpu_micros_per_operation: Some(300.0),
            memory_bytes_before: Some(11_000_000),
            memory_bytes_after: Some(12_000_000),
            series: series.to_vec(),
        };
        let verdict = Verdict {
            scenario: "refresh".to_owned(),
            operation: "refresh".to_owned(),
            threshold: "errors <= 0".to_owned(),
            found: "1".to_owned(),
            held: false,
        };
        let run = Ran {
            scenario: "refresh".to_owned(),
            load: "200 a second".to_owned(),
            seconds: 3.0,
            operations: recorder.measured(Duration::from_secs(3)),
            servers: vec![api],
            cpu_is_per: "refresh",
            cpu_includes: None,
            facts: vec![Fact { name: "waves".to_owned(), value: 4.0, unit: "" }],
            harness: None,
        };
        Report {
            version: "0.1.0",
            started: "2026-01-01T12:00:00Z".to_owned(),
            target: "http://localhost".to_owned(),
            users: 50,
            seed: 1,
            runs: vec![run],
            thresholds: vec![verdict],
            passed: false,
        }
    }

    #[test]
    fn json_has_what_programs_need() {
        let json = serde_json::to_value(report()).unwrap();
        let run = &json["runs"][0];
        assert_eq!(run["operations"][0]["count"], 600);
        assert_eq!(run["operations"][0]["errorKinds"]["500 <script>alert(1)</script>"], 1);
        assert_eq!(run["servers"][0]["cpuMicrosPerOperation"], 300.0);
        assert_eq!(run["operations"][0]["series"].as_array().unwrap().len(), 3);
        assert_eq!(json["passed"], false);
    }
}
