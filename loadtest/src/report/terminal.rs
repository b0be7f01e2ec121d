//! The summary: a table of operations, one of servers, and what was found out beside.

use std::fmt::{Result as FmtResult, Write as _};

use anyhow::Result;

use super::{Ran, Report};

/// Said where there are errors.
pub(super) const OF_SUCCESSES: &str = "the latencies are of those that succeeded; what failed is counted beside them";

/// The text of the summary.
pub(super) fn render(report: &Report) -> Result<String> {
    let mut text = String::new();
    for run in &report.runs {
        scenario(&mut text, run)?;
    }
    thresholds(&mut text, report)?;
    Ok(text)
}

fn scenario(text: &mut String, run: &Ran) -> FmtResult {
    writeln!(text, "\n{} ({}, measured for {:.1} s)", run.scenario, run.load, run.seconds)?;
    let mut table = vec![row(["", "count", "a second", "mean", "p50", "p90", "p99", "p99.9", "max", "errors"])];
    for found in &run.operations {
        let latency = &found.latency_ms;
        table.push(row([
            &found.name,
            &found.count.to_string(),
            &format!("{:.1}", found.per_second),
            &millis(latency.mean),
            &millis(latency.p50),
            &millis(latency.p90),
            &millis(latency.p99),
            &millis(latency.p999),
            &millis(latency.max),
            &found.errors.to_string(),
        ]));
    }
    write_table(text, &table)?;
    if run.operations.iter().any(|found| found.errors > 0) {
        writeln!(text, "  ({OF_SUCCESSES})")?;
    }
    for found in &run.operations {
        for (kind, count) in &found.error_kinds {
            writeln!(text, "  {}: {count} x {kind}", found.name)?;
        }
    }
    servers(text, run)?;
    for fact in &run.facts {
        writeln!(text, "  {}: {} {}", fact.name, number(fact.value), fact.unit)?;
    }
    if let Some(harness) = &run.harness {
        writeln!(
            text,
            "  harness: {:.2} of {} cores, its tasks up to {:.1} ms late (p99); the machine was {:.0}% busy",
            harness.cores, harness.cores_of_machine, harness.late_p99_ms, harness.machine_busy_percent
        )?;
        for warning in &harness.warnings {
            writeln!(text, "  WARNING: {warning}")?;
        }
    }
    Ok(())
}

fn servers(text: &mut String, run: &Ran) -> FmtResult {
    if run.servers.is_empty() {
        return Ok(());
    }
    writeln!(text)?;
    let per = format!("us CPU a {}", run.cpu_is_per);
    let mut table = vec![row(["", "CPU s", "cores", &per, "MiB before", "MiB after"])];
    for server in &run.servers {
        let cores = server.cpu_seconds.map(|seconds| seconds / run.seconds.max(f64::EPSILON));
        table.push(row([
            &server.name,
            &known(server.cpu_seconds),
            &known(cores),
            &server.cpu_micros_per_operation.map_or_else(unknown, |micros| format!("{micros:.1}")),
            &known(server.memory_bytes_before.map(mebibytes)),
            &known(server.memory_bytes_after.map(mebibytes)),
        ]));
    }
    write_table(text, &table)?;
    if let Some(includes) = run.cpu_includes {
        writeln!(text, "  (with {includes})")?;
    }
    Ok(())
}

fn thresholds(text: &mut String, report: &Report) -> FmtResult {
    if report.thresholds.is_empty() {
        return Ok(());
    }
    writeln!(text)?;
    for verdict in &report.thresholds {
        let held = if verdict.held { "held  " } else { "MISSED" };
        let (scenario, operation) = (&verdict.scenario, &verdict.operation);
        writeln!(text, "{held} {scenario}: {operation} {} (was {})", verdict.threshold, verdict.found)?;
    }
    Ok(())
}

pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// The first column to the left, all others to the right.
pub(crate) fn write_table(text: &mut String, table: &[Vec<String>]) -> FmtResult {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    for row in table {
        let mut line = String::from(" ");
        for column in 0..columns {
            let (cell, width) = (row.get(column).map_or("", String::as_str), width(column).unwrap_or(0));
            match column {
                0 => write!(line, " {cell:<width$}")?,
                _ => write!(line, "  {cell:>width$}")?,
            }
        }
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

pub(super) fn millis(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.3} ms"),
        value if value < 1_000.0 => format!("{value:.1} ms"),
        value => format!("{:.2} s", value / 1_000.0),
    }
}

pub(crate) fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

pub(super) fn known(value: Option<f64>) -> String {
    value.map_or_else(unknown, |value| format!("{value:.2}"))
}

fn unknown() -> String {
    "-".to_owned()
}

pub(super) fn mebibytes(bytes: u64) -> f64 {
    crate::record::ratio(bytes) / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_summary_has_every_operation_server_error_and_threshold() {
        let text = render(&example::report()).unwrap();
        let has = |words: &[&str]| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(has(&["refresh (200 a second, measured for 3.0 s)"]), "{text}");
        assert!(has(&["refresh", "600", "200.0", "1"]), "{text}");
        assert!(has(&["api-1", "0.18", "0.06", "300.0", "11.44"]), "{text}");
        assert!(has(&[OF_SUCCESSES]), "{text}");
        assert!(has(&["refresh: 1 x 500"]) && has(&["MISSED refresh: refresh errors <= 0 (was 1)"]), "{text}");
    }

    #[test]
    fn columns_are_aligned() {
        let mut text = String::new();
        write_table(&mut text, &[row(["", "count"]), row(["refresh", "7"]), row(["x", "1234567"])]).unwrap();
        assert_eq!(text, "             count\n  refresh        7\n  x        1234567\n");
    }
}
