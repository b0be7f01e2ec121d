//! What a run must hold to be a success.

use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::record::{Measured, ratio};

/// `--max-p99 [OPERATION=]DURATION`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MaxP99 {
    operation: Option<String>,
    at_most: Duration,
}

/// `--max-errors [OPERATION=]COUNT` or `PERCENT%`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MaxErrors {
    operation: Option<String>,
    at_most: Errors,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Errors {
    Count(u64),
    Percent(f64),
}

/// Whether one operation of one scenario has held one threshold.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    pub(crate) scenario: String,
    pub(crate) operation: String,
    pub(crate) threshold: String,
    pub(crate) found: String,
    pub(crate) held: bool,
}

fn split(text: &str) -> (Option<String>, &str) {
    match text.split_once('=') {
        Some((operation, value)) => (Some(operation.to_owned()), value),
        None => (None, text),
    }
}

impl FromStr for MaxP99 {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (operation, value) = split(text);
        Ok(Self { operation, at_most: humantime::parse_duration(value)? })
    }
}

impl FromStr for MaxErrors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (operation, value) = split(text);
        let at_most = match value.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| (0.0..=100.0).contains(percent)).map(Errors::Percent)
            }
            None => value.parse().ok().map(Errors::Count),
        };
        Ok(Self { operation, at_most: at_most.ok_or("expected a count, or a percentage such as 0.1%")? })
    }
}

impl MaxP99 {
    /// Of all that was begun: a server that is out of order is not fast.
    fn judge(&self, found: &Measured) -> (String, String, bool) {
        let limit = self.at_most.as_secs_f64() * 1_000.0;
        let was = match found.p99_of_all_ms {
            Some(p99) => format!("{p99:.3} ms"),
            None => format!("never: {} of {} failed", found.errors, found.errors + found.count),
        };
        (format!("p99 <= {limit} ms"), was, found.p99_of_all_ms.is_some_and(|p99| p99 <= limit))
    }
}

impl MaxErrors {
    fn judge(&self, found: &Measured) -> (String, String, bool) {
        let Measured { errors, count, .. } = found;
        match self.at_most {
            Errors::Count(limit) => (format!("errors <= {limit}"), errors.to_string(), *errors <= limit),
            Errors::Percent(limit) => {
                let percent = 100.0 * ratio(*errors) / ratio((errors + count).max(1));
                (format!("errors <= {limit}%"), format!("{percent:.3}%"), percent <= limit)
            }
        }
    }
}

/// Every threshold over every operation that it is about. One that is about none is missed: it was meant to be held.
pub(crate) fn judge(p99: &[MaxP99], errors: &[MaxErrors], runs: &[(&str, &[Measured])]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for threshold in p99 {
        judge_one(threshold.operation.as_deref(), &|found| threshold.judge(found), runs, &mut verdicts);
    }
    for threshold in errors {
        judge_one(threshold.operation.as_deref(), &|found| threshold.judge(found), runs, &mut verdicts);
    }
    verdicts
}

fn judge_one(
    operation: Option<&str>,
    judge: &dyn Fn(&Measured) -> (String, String, bool),
    runs: &[(&str, &[Measured])],
    verdicts: &mut Vec<Verdict>,
) {
    let before = verdicts.len();
    for (scenario, operations) in runs {
        for found in operations.iter().filter(|found| operation.is_none_or(|name| name == found.name)) {
            let (threshold, value, held) = judge(found);
            let (scenario, operation) = ((*scenario).to_owned(), found.name.clone());
            verdicts.push(Verdict { scenario, operation, threshold, found: value, held });
        }
    }
    if verdicts.len() == before {
        verdicts.push(Verdict {
            scenario: "all".to_owned(),
            operation: operation.unwrap_or("any").to_owned(),
            threshold: "measured at all".to_owned(),
            found: "nothing".to_owned(),
            held: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::failure::Failure;
    use crate::record::Recorder;

    /// 1,000 refreshes of 10 ms, but for 20 of 60 ms, and some errors.
    fn refreshes(errors: u64) -> Vec<Measured> {
        let start = Instant::now();
        let recorder = Recorder::starting(start);
        let meter = recorder.meter("refresh");
        for number in 0..1_000 {
            meter.succeeded(start, Duration::from_millis(if number < 20 { 60 } else { 10 }));
        }
        meter.failed_times(start, &Failure::Timeout, errors);
        recorder.tick(Duration::from_secs(1));
        recorder.measured(Duration::from_secs(1))
    }

    fn held(p99: &[&str], errors: &[&str]) -> Vec<bool> {
        let p99: Vec<MaxP99> = p99.iter().map(|text| text.parse().unwrap()).collect();
        let errors: Vec<MaxErrors> = errors.iter().map(|text| text.parse().unwrap()).collect();
        judge(&p99, &errors, &[("refresh", &refreshes(2))]).into_iter().map(|verdict| verdict.held).collect()
    }

    #[test]
    fn thresholds_are_held_or_missed() {
        assert_eq!(held(&["refresh=61ms", "refresh=59ms", "70ms"], &[]), [true, false, true]);
        assert_eq!(held(&[], &["2", "refresh=1", "0.2%", "0.1%"]), [true, false, true, false]);
    }

    #[test]
    fn what_failed_was_not_fast() {
        let judged = |errors, limit: &str| {
            let verdicts = judge(&[limit.parse().unwrap()], &[], &[("refresh", &refreshes(errors))]);
            (verdicts[0].found.clone(), verdicts[0].held)
        };
        assert!(judged(10, "61ms").1, "1% may fail");
        assert_eq!(judged(11, "1h"), ("never: 11 of 1011 failed".to_owned(), false));
        assert!(!judged(100_000, "1h").1, "an outage");
    }

    #[test]
    fn a_threshold_of_what_was_not_measured_is_missed() {
        assert_eq!(held(&["login=1s"], &["login=5"]), [false, false]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!("refresh=fast".parse::<MaxP99>().is_err() && "refresh=".parse::<MaxErrors>().is_err());
        assert!("101%".parse::<MaxErrors>().is_err() && "-1".parse::<MaxErrors>().is_err());
    }
}
