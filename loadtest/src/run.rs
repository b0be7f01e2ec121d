//! A run from beginning to end: who, what, when; then what it says.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, Plan};
use crate::pace::{Load, Schedule, Swing};
use crate::progress::Progress;
use crate::report::{self, Ran, Report};
use crate::sample::{self, Servers};
use crate::scenario::Scenario;
use crate::target::Target;
use crate::{cli, crowd, threshold};

/// How much the rate of a day rises and falls.
const DAY_SHARE: f64 = 0.8;
/// Descriptors for everything that is not a connection.
const OTHER_FILES: u64 = 100;

/// Runs the scenarios and tells what was measured; whether all thresholds were held.
pub(crate) async fn run(options: &cli::Run) -> Result<bool> {
    let report = measure(options).await?;
    report::print(&report)?;
    report::write(&report, options.verdict.json.as_deref(), options.verdict.html.as_deref())?;
    Ok(report.passed)
}

/// Runs the scenarios.
pub(crate) async fn measure(options: &cli::Run) -> Result<Report> {
    let mut target = Target::of(&options.target).await?;
    let scenarios = possible(options, &target)?;
    raise_file_limit(options)?;
    let stop = stop_on_interrupt()?;
    let progress = Progress::new(options.verdict.plain);
    let started = OffsetDateTime::now_utc().format(&Rfc3339)?;
    let mut servers = Servers::of(&mut target, &options.target.metrics).await?;
    progress.say(&format!("signing {} users in", options.users.count));
    let users = crowd::gather(&target, &options.users, options.load.timeout, &stop).await?;
    let mut runs = Vec::new();
    for scenario in scenarios {
        progress.begin(&scenario.name());
        let plan = plan(scenario, options);
        let bench = Bench::new(&target, &users, &options.sizes, plan, &mut servers, &progress, stop.clone());
        match scenario.run(&bench).await {
            Err(_) if stop.is_cancelled() && !runs.is_empty() => break, // what was measured before is told
            outcome => outcome.with_context(|| format!("{} failed", scenario.name()))?,
        }
        runs.push(ran(scenario, &plan, bench));
        if stop.is_cancelled() {
            break;
        }
    }
    progress.end();
    let judged: Vec<_> = runs.iter().map(|run| (run.scenario.as_str(), run.operations.as_slice())).collect();
    let thresholds = threshold::judge(&options.verdict.max_p99, &options.verdict.max_errors, &judged);
    let passed = thresholds.iter().all(|verdict| verdict.held);
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        started,
        target: target.url.clone(),
        users: users.len(),
        seed: options.load.seed,
        runs,
        thresholds,
        passed,
    })
}

/// What can be run of what was asked for.
fn possible(options: &cli::Run, target: &Target) -> Result<Vec<Scenario>> {
    let (possible, left_out): (Vec<Scenario>, Vec<Scenario>) =
        options.scenarios.iter().copied().partition(|scenario| !target.original || scenario.is_original());
    for scenario in left_out {
        eprintln!("{} is left out: a system with the original's API has nothing of the kind", scenario.name());
    }
    if possible.is_empty() {
        bail!("nothing is left to be run");
    }
    let paced = options.load.rate.is_some() || options.load.concurrency.is_some();
    for scenario in &possible {
        ensure!(
            scenario.is_paced() || !paced,
            "{} takes neither --rate nor --concurrency: wave follows wave, of all sockets at once",
            scenario.name()
        );
        scenario.check(options.users.count, &options.sizes, target)?;
    }
    Ok(possible)
}

fn plan(scenario: Scenario, options: &cli::Run) -> Plan {
    let cli::Load { duration, warm_up, rate, concurrency, seed, timeout } = options.load;
    let load = match (rate, concurrency) {
        (Some(rate), _) => Load::Open(Schedule::even(rate)),
        (None, Some(concurrency)) => Load::Closed { concurrency: concurrency as usize },
        (None, None) => scenario.usual_load(),
    };
    let day = options.sizes.day;
    let load = match load {
        Load::Open(schedule) if scenario == Scenario::Mixed && day > Duration::ZERO => {
            Load::Open(Schedule::swinging(schedule.rate(), Swing { day, share: DAY_SHARE }))
        }
        load => load,
    };
    Plan { load, warm_up, duration, timeout, seed }
}

fn ran(scenario: Scenario, plan: &Plan, bench: Bench<'_>) -> Ran {
    let (recorder, outcome) = bench.into_outcome();
    let operations = recorder.measured(outcome.length);
    // Of `mixed`, every operation counts; what others hear of it does not.
    let counts = |name: &str| match scenario {
        Scenario::Mixed => !matches!(name, "delivery" | "closed"),
        _ => name == scenario.operation(),
    };
    let count = operations.iter().filter(|measured| counts(&measured.name)).map(|measured| measured.count).sum();
    Ran {
        scenario: scenario.name(),
        load: if scenario.is_paced() { plan.load.to_string() } else { "wave after wave".to_owned() },
        seconds: outcome.length.as_secs_f64(),
        servers: sample::used(&outcome.samples, count, recorder.start()),
        cpu_is_per: scenario.operation(),
        cpu_includes: scenario.includes(),
        operations,
        facts: outcome.facts,
        harness: outcome.harness,
    }
}

/// As many descriptors as the system allows, and no start with fewer than are needed.
fn raise_file_limit(options: &cli::Run) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let rooms = u64::from(options.sizes.rooms) * u64::from(options.sizes.members);
    let users = options.users.count as u64;
    let needed = users + (options.sizes.sockets.unwrap_or(0) as u64).max(rooms).max(users) + OTHER_FILES;
    if needed > hard {
        bail!("this needs {needed} open files, and {hard} are allowed here (ulimit -Hn)");
    }
    Ok(())
}

/// An interrupted run tells what it has measured; interrupted twice, it ends.
fn stop_on_interrupt() -> Result<CancellationToken> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        runtime.block_on(async {
            interrupts.recv().await;
            eprintln!("interrupted: ending what is under way; once more to end at once");
            cancel.cancel();
            interrupts.recv().await;
            std::process::exit(130);
        });
    });
    Ok(stop)
}
