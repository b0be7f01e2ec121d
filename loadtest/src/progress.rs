//! What is seen while a run goes on: one line that is written over on a terminal, plain lines elsewhere.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::record::Recorder;

/// How often a plain line is written.
const PLAIN: Duration = Duration::from_secs(5);

/// Where progress is shown.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    scenario: Mutex<(String, Instant)>,
}

impl Progress {
    /// On standard error, since it is not the result. Indicatif knows whether that is a terminal.
    pub(crate) fn new(plain: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}");
        let bar = style.ok().filter(|_| !plain && !bar.is_hidden()).map(|style| bar.with_style(style));
        Self { bar, scenario: Mutex::new((String::new(), Instant::now())) }
    }

    /// What is done now that is not measured.
    pub(crate) fn say(&self, doing: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(doing.to_owned()),
            None => eprintln!("{doing}"),
        }
    }

    pub(crate) fn begin(&self, scenario: &str) {
        *self.scenario() = (scenario.to_owned(), Instant::now());
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_prefix(scenario.to_owned());
        }
        self.say(&format!("{scenario}: getting ready"));
    }

    pub(crate) fn warming_up(&self) {
        let scenario = self.scenario().0.clone();
        self.say(&format!("{scenario}: warming up"));
    }

    /// The last second of each operation.
    pub(crate) fn show(&self, recorder: &Recorder) {
        let mut scenario = self.scenario();
        if self.bar.is_none() && scenario.1.elapsed() < PLAIN {
            return;
        }
        let operations: Vec<String> = recorder.latest().iter().map(describe).collect();
        if operations.is_empty() {
            return; // what was said last still holds
        }
        scenario.1 = Instant::now();
        let line = operations.join(" | ");
        match &self.bar {
            Some(bar) => {
                bar.tick();
                bar.set_message(line);
            }
            None => eprintln!("{}: {line}", scenario.0),
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn scenario(&self) -> std::sync::MutexGuard<'_, (String, Instant)> {
        self.scenario.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe((name, errors, point): &(&'static str, u64, crate::record::Point)) -> String {
    let errors = if *errors == 0 { String::new() } else { format!(", {errors} errors") };
    format!("{name} {:.0}/s, p50 {:.2} ms, p99 {:.2} ms{errors}", point.per_second, point.p50_ms, point.p99_ms)
}
