//! The page: one file that needs no other, with every table of the summary and plots over time.

use std::fmt::{Result as FmtResult, Write as _};

use anyhow::Result;

use super::plot::{Line, Plot};
use super::terminal::{OF_SUCCESSES, known, mebibytes, millis, number};
use super::{Ran, Report};
use crate::record::{Measured, Point};
use crate::sample::{ServerUse, UsePoint};

const STYLE: &str = include_str!("style.css");

/// The text of the page.
pub(super) fn render(report: &Report) -> Result<String> {
    let mut html = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n");
    let (target, started) = (escape(&report.target), escape(&report.started));
    writeln!(html, "<title>Load test of {target}</title>\n<style>\n{STYLE}</style></head><body>")?;
    writeln!(html, "<h1>Load test of {target}</h1>")?;
    let (users, seed, version) = (report.users, report.seed, report.version);
    writeln!(html, "<p>{started}, {users} users, seed {seed}, gatefold-loadtest {version}</p>")?;
    thresholds(&mut html, report)?;
    for run in &report.runs {
        scenario(&mut html, run)?;
    }
    html.push_str("</body></html>\n");
    Ok(html)
}

fn thresholds(html: &mut String, report: &Report) -> FmtResult {
    let rows = report.thresholds.iter().map(|verdict| {
        let held = if verdict.held { "held" } else { "MISSED" };
        let cells = [&verdict.scenario, &verdict.operation, &verdict.threshold, &verdict.found];
        [escape(held)].into_iter().chain(cells.map(|cell| escape(cell))).collect()
    });
    table(html, &["", "scenario", "operation", "threshold", "was"], rows)
}

fn scenario(html: &mut String, run: &Ran) -> FmtResult {
    let (name, load) = (escape(&run.scenario), escape(&run.load));
    writeln!(html, "<h2>{name}</h2>\n<p>{load}, measured for {:.1} s</p>", run.seconds)?;
    for warning in run.harness.iter().flat_map(|harness| &harness.warnings) {
        writeln!(html, "<p class=\"warning\">{}</p>", escape(warning))?;
    }
    let heads = ["", "count", "a second", "mean", "p50", "p90", "p99", "p99.9", "max", "errors"];
    table(html, &heads, run.operations.iter().map(operation))?;
    if run.operations.iter().any(|found| found.errors > 0) {
        writeln!(html, "<p>{}</p>", escape(OF_SUCCESSES))?;
    }
    let errors = run.operations.iter().flat_map(|found| {
        let name = escape(&found.name);
        found.error_kinds.iter().map(move |(kind, count)| vec![name.clone(), escape(kind), count.to_string()])
    });
    table(html, &["operation", "error", "count"], errors)?;
    let per = format!("µs CPU a {}", run.cpu_is_per);
    table(html, &["", "CPU s", &per, "MiB before", "MiB after"], run.servers.iter().map(server))?;
    if let Some(includes) = run.cpu_includes {
        writeln!(html, "<p>The CPU is that of the {}, with {}.</p>", escape(run.cpu_is_per), escape(includes))?;
    }
    let facts = run.facts.iter().map(|fact| vec![escape(&fact.name), format!("{} {}", number(fact.value), fact.unit)]);
    table(html, &["", ""], facts)?;
    html.push_str("<div class=\"plots\">\n");
    plots(html, run)?;
    html.push_str("</div>\n");
    Ok(())
}

fn operation(found: &Measured) -> Vec<String> {
    let latency = &found.latency_ms;
    let latencies = [latency.mean, latency.p50, latency.p90, latency.p99, latency.p999, latency.max].map(millis);
    let mut cells = vec![escape(&found.name), found.count.to_string(), format!("{:.1}", found.per_second)];
    cells.extend(latencies);
    cells.push(found.errors.to_string());
    cells
}

fn server(server: &ServerUse) -> Vec<String> {
    vec![
        escape(&server.name),
        known(server.cpu_seconds),
        server.cpu_micros_per_operation.map_or_else(|| "-".to_owned(), |micros| format!("{micros:.1}")),
        known(server.memory_bytes_before.map(mebibytes)),
        known(server.memory_bytes_after.map(mebibytes)),
    ]
}

fn plots(html: &mut String, run: &Ran) -> FmtResult {
    for found in &run.operations {
        // A second without operations has no latency.
        let line = |name: &str, of: fn(&Point) -> f64| Line {
            name: name.to_owned(),
            points: found.series.iter().filter(|point| point.max_ms > 0.0).map(|point| (point.at, of(point))).collect(),
        };
        let lines = vec![
            line("max", |point| point.max_ms),
            line("p99", |point| point.p99_ms),
            line("p50", |point| point.p50_ms),
        ];
        over_time(&format!("{}: latency", found.name), "ms", lines).render(html)?;
    }
    let per_operation = |of: fn(&Point) -> f64| -> Vec<Line> {
        let lines = run.operations.iter().map(|found| Line {
            name: found.name.clone(),
            points: found.series.iter().map(|point| (point.at, of(point))).collect(),
        });
        lines.collect()
    };
    over_time("Rate", "a second", per_operation(|point| point.per_second)).render(html)?;
    if run.operations.iter().any(|found| found.errors > 0) {
        over_time("Errors", "a second", per_operation(|point| point.errors_per_second)).render(html)?;
    }
    percentiles(html, run)?;
    let per_server = |of: fn(&UsePoint) -> f64| -> Vec<Line> {
        let lines = run.servers.iter().map(|server| Line {
            name: server.name.clone(),
            points: server.series.iter().map(|point| (point.at, of(point))).collect(),
        });
        lines.collect()
    };
    over_time("CPU of the servers", "cores", per_server(|point| point.cores)).render(html)?;
    over_time("Memory of the servers", "MiB", per_server(|point| mebibytes(point.memory_bytes))).render(html)
}

fn over_time<'a>(title: &'a str, y: &'a str, lines: Vec<Line>) -> Plot<'a> {
    Plot { title, x: "seconds", y, marks: None, lines }
}

/// On an axis where each 9 more takes as much room as the one before, as HdrHistogram's own plots.
fn percentiles(html: &mut String, run: &Ran) -> FmtResult {
    let nines = |percentile: f64| -(1.0 - percentile / 100.0).max(1e-6).log10();
    let lines = run.operations.iter().map(|found| Line {
        name: found.name.clone(),
        points: found.percentiles.iter().map(|(percentile, latency)| (nines(*percentile), *latency)).collect(),
    });
    let lines: Vec<Line> = lines.collect();
    let farthest = lines.iter().flat_map(|line| &line.points).map(|point| point.0).fold(0.0, f64::max);
    let marks = [0.0, 90.0, 99.0, 99.9, 99.99, 99.999].map(|percentile| (nines(percentile), format!("{percentile}%")));
    let marks = Some(marks.into_iter().filter(|(at, _)| *at <= farthest).collect());
    Plot { title: "Latency by percentile", x: "percentile", y: "ms", marks, lines }.render(html)
}

fn table(html: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> FmtResult {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    html.push_str("<table>");
    if heads.iter().any(|head| !head.is_empty()) {
        let heads: Vec<String> = heads.iter().map(|head| escape(head)).collect();
        writeln!(html, "<thead><tr><th>{}</th></tr></thead>", heads.join("</th><th>"))?;
    }
    html.push_str("<tbody>\n");
    for row in rows {
        writeln!(html, "<tr><td>{}</td></tr>", row.join("</td><td>"))?;
    }
    writeln!(html, "</tbody></table>")
}

/// As text, whatever it holds: error codes and URLs come from elsewhere.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_page_needs_nothing_else_and_runs_nothing() {
        let html = render(&example::report()).unwrap();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "an error's text became markup");
        for foreign in ["src=", "href=", "url(", "@import"] {
            assert!(!html.contains(foreign), "the page asks for something: {foreign}");
        }
    }

    #[test]
    fn the_page_has_every_plot() {
        let html = render(&example::report()).unwrap();
        let plots = [
            "refresh: latency",
            "Rate",
            "Errors",
            "Latency by percentile",
            "CPU of the servers",
            "Memory of the servers",
        ];
        for plot in plots {
            assert!(html.contains(&format!("<figcaption>{plot}</figcaption>")), "no plot {plot}");
        }
        assert_eq!(html.matches("<svg").count(), plots.len());
        assert!(html.contains("<td>600</td>") && html.contains("<td>MISSED</td>"));
        assert!(!html.contains("NaN") && !html.contains("inf"));
    }
}
