//! What the servers use: CPU and memory of each process, as long as a run lasts.

mod harness;
pub(crate) mod proc;
mod prometheus;

use std::collections::BTreeMap;
use std::time::Instant;

use gatefold_cluster::{Cluster, ProcessState};
use serde::Serialize;

pub(crate) use self::harness::{Harness, HarnessUse};
use self::prometheus::Source;
use crate::net::Endpoint;
use crate::target::Target;

/// What one process has used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Since some moment that does not change, user and system.
    pub(crate) cpu_seconds: Option<f64>,
    /// Resident, now.
    pub(crate) memory_bytes: Option<u64>,
    /// Files and sockets, now.
    pub(crate) open_files: Option<u64>,
}

/// Where usage is read.
pub(crate) enum Servers {
    /// Processes on this machine.
    Local(Box<Cluster>),
    /// Metrics of replicas.
    Remote(Vec<Source>),
}

/// One moment of all processes.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) usages: BTreeMap<String, Usage>,
}

/// What one process has used during the measured part of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerUse {
    pub(crate) name: String,
    /// User and system.
    pub(crate) cpu_seconds: Option<f64>,
    /// For each operation that succeeded.
    pub(crate) cpu_micros_per_operation: Option<f64>,
    pub(crate) memory_bytes_before: Option<u64>,
    pub(crate) memory_bytes_after: Option<u64>,
    pub(crate) series: Vec<UsePoint>,
}

/// One second of one process.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsePoint {
    pub(crate) at: f64,
    /// 1 is a core that does nothing else.
    pub(crate) cores: f64,
    pub(crate) memory_bytes: u64,
}

impl Servers {
    /// What can be read of a target; nothing of one that is elsewhere and whose metrics are not named.
    pub(crate) async fn of(target: &mut Target, metrics: &[(String, String)]) -> anyhow::Result<Self> {
        if let Some(cluster) = target.cluster.take() {
            return Ok(Self::Local(Box::new(cluster)));
        }
        let mut sources = Vec::new();
        for (name, url) in metrics {
            sources.push(Source::new(name, Endpoint::resolve(url, None, &[]).await?));
        }
        Ok(Self::Remote(sources))
    }

    /// What all of them have used until now. A process that does not say so now is left out.
    pub(crate) async fn sample(&mut self) -> Sample {
        let usages = match self {
            Self::Local(cluster) => local(cluster),
            Self::Remote(sources) => {
                let mut usages = BTreeMap::new();
                for source in sources {
                    if let Some(usage) = source.read().await {
                        usages.insert(source.name().to_owned(), usage);
                    }
                }
                usages
            }
        };
        Sample { at: Instant::now(), usages }
    }
}

fn local(cluster: &Cluster) -> BTreeMap<String, Usage> {
    let Ok(status) = cluster.status() else { return BTreeMap::new() };
    let groups = proc::groups();
    let running = status.processes.into_iter().filter(|process| process.state == ProcessState::Running);
    running.filter_map(|process| Some((process.name, *groups.get(&process.pid?)?))).collect()
}

/// What each process has used between the first sample and the last, for so many operations.
pub(crate) fn used(samples: &[Sample], operations: u64, start: Instant) -> Vec<ServerUse> {
    let mut names: Vec<&String> = samples.iter().flat_map(|sample| sample.usages.keys()).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| used_by(name, samples, operations, start)).collect()
}

fn used_by(name: &str, samples: &[Sample], operations: u64, start: Instant) -> ServerUse {
    let known: Vec<(Instant, Usage)> =
        samples.iter().filter_map(|sample| Some((sample.at, *sample.usages.get(name)?))).collect();
    let mut cpu_seconds = None;
    let mut series = Vec::new();
    for pair in known.windows(2) {
        let ((before, was), (now, is)) = (pair[0], pair[1]);
        // One that was started anew meanwhile begins at nothing.
        let spent = was.cpu_seconds.zip(is.cpu_seconds).map(|(was, is)| if is < was { is } else { is - was });
        cpu_seconds = spent.map_or(cpu_seconds, |spent| Some(cpu_seconds.unwrap_or(0.0) + spent));
        let length = (now - before).as_secs_f64();
        if length > 0.05 {
            series.push(UsePoint {
                at: now.saturating_duration_since(start).as_secs_f64(),
                cores: spent.unwrap_or(0.0) / length,
                memory_bytes: is.memory_bytes.unwrap_or(0),
            });
        }
    }
    let per_operation = |seconds: f64| seconds * 1e6 / crate::record::ratio(operations);
    ServerUse {
        name: name.to_owned(),
        cpu_seconds,
        cpu_micros_per_operation: cpu_seconds.filter(|_| operations > 0).map(per_operation),
        memory_bytes_before: known.first().and_then(|(_, usage)| usage.memory_bytes),
        memory_bytes_after: known.last().and_then(|(_, usage)| usage.memory_bytes),
        series,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_that_was_started_anew_is_charged_for_both_lives() {
        let start = Instant::now();
        let samples: Vec<Sample> = [1.0, 3.0, 0.5]
            .into_iter()
            .zip(0..)
            .map(|(cpu, second)| Sample {
                at: start + Duration::from_secs(second),
                usages: BTreeMap::from([(
                    "api-1".to_owned(),
                    Usage { cpu_seconds: Some(cpu), memory_bytes: Some(second), open_files: None },
                )]),
            })
            .collect();
        let used = &used(&samples, 1_000, start)[0];
        assert!((used.cpu_seconds.unwrap() - 2.5).abs() < 1e-9);
        assert!((used.cpu_micros_per_operation.unwrap() - 2_500.0).abs() < 1e-6);
        assert_eq!((used.memory_bytes_before, used.memory_bytes_after), (Some(0), Some(2)));
        assert_eq!(used.series.len(), 2);
    }
}
