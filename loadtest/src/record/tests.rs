use super::*;

fn after(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn seconds_are_merged_into_the_whole() {
    let start = Instant::now();
    let recorder = Recorder::starting(start);
    let meter = recorder.meter("refresh");
    for second in 0..3_u64 {
        for latency in 1..=100 {
            meter.succeeded(start, after(latency + 100 * second));
        }
        recorder.tick(Duration::from_secs(1));
    }
    let measured = &recorder.measured(Duration::from_secs(3))[0];
    assert_eq!((measured.count, measured.errors), (300, 0));
    assert!((measured.per_second - 100.0).abs() < 1e-9);
    let near = |value: f64, expected: f64| (value - expected).abs() <= expected / 500.0;
    assert!(near(measured.latency_ms.p50, 150.0) && near(measured.latency_ms.max, 300.0), "{measured:?}");
    let seconds: Vec<f64> = measured.series.iter().map(|point| point.p50_ms).collect();
    assert!(near(seconds[0], 50.0) && near(seconds[1], 150.0) && near(seconds[2], 250.0), "{seconds:?}");
    assert!(near(measured.percentiles.last().unwrap().1, 300.0));
}

#[test]
fn what_was_meant_for_the_warm_up_does_not_count() {
    let now = Instant::now();
    let recorder = Recorder::starting(now + after(10));
    let meter = recorder.meter("login");
    meter.succeeded(now, after(500)); // started within the warm-up, ended after it
    meter.failed(now, &Failure::Timeout);
    meter.succeeded(now + after(10), after(5));
    meter.failed(now + after(11), &Failure::Timeout);
    recorder.tick(Duration::from_secs(1));
    let measured = &recorder.measured(Duration::from_secs(1))[0];
    assert_eq!((measured.count, measured.errors), (1, 1));
    assert!(measured.latency_ms.max < 6.0);
}

#[test]
fn what_is_given_up_is_an_error_and_never_ended() {
    let now = Instant::now();
    let recorder = Recorder::starting(now);
    let meter = recorder.meter("refused");
    for number in 1..=198 {
        meter.awaiting(now).succeeded(after(number));
    }
    drop(meter.awaiting(now));
    meter.awaiting(now).failed(&Failure::NotDelivered);
    recorder.tick(Duration::from_secs(1));
    let measured = &recorder.measured(Duration::from_secs(1))[0];
    assert_eq!((measured.count, measured.errors, measured.error_kinds["timeout"]), (198, 2, 1));
    assert!(measured.p99_of_all_ms.is_some_and(|p99| (197.5..198.5).contains(&p99)), "{measured:?}");

    meter.failed(now, &Failure::NeverStarted);
    recorder.tick(Duration::from_secs(1));
    assert_eq!(recorder.measured(Duration::from_secs(1))[0].p99_of_all_ms, None);
}

#[test]
fn errors_are_counted_by_what_they_say() {
    let now = Instant::now();
    let recorder = Recorder::starting(now);
    let meter = recorder.meter("refresh");
    meter.failed_times(now, &Failure::NotDelivered, 3);
    meter.failed(now, &Failure::Refused { status: 429, code: "rate_limited".into() });
    meter.failed_times(now, &Failure::Timeout, 0);
    recorder.tick(Duration::from_secs(1));
    let measured = &recorder.measured(Duration::from_secs(1))[0];
    let kinds: Vec<(&str, u64)> = measured.error_kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(kinds, [("429 rate_limited", 1), ("not delivered", 3)]);
    assert!((measured.series[0].errors_per_second - 4.0).abs() < 1e-9);
}
