use clap::Parser;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample};

use super::{Parent, TraceConfig, sampling::Roots};

const TRACE: &str = "00-00000000000000000af7651916cd43dd-0af7651916cd43dd";

#[derive(Parser, Debug)]
struct Example {
    #[command(flatten)]
    trace: TraceConfig,
}

fn config(arguments: &[&str]) -> Result<TraceConfig, String> {
    let parsed = Example::try_parse_from(std::iter::once("example").chain(arguments.iter().copied()));
    parsed.map(|example| example.trace).map_err(|error| error.to_string())
}

#[test]
fn a_trace_is_continued_as_it_was_written_and_nothing_else_is() {
    for flags in ["00", "01"] {
        let text = format!("{TRACE}-{flags}");
        assert_eq!(Parent::parse(&text).expect("a trace").to_string(), text);
    }
    let zero = "0".repeat(32);
    for bad in [
        "",
        TRACE,
        &format!("{TRACE}-0"),
        &format!("{TRACE}-01-more"),
        &format!("{TRACE}-0g"),
        &TRACE.to_uppercase(),
        &format!("01{}-01", &TRACE[2..]),
        &format!("00-{zero}-0af7651916cd43dd-01"),
        &format!("00-{}-0000000000000000-01", &TRACE[3..35]),
        "00-+0000000000000000af7651916cd43dd-0af7651916cd43dd-01",
    ] {
        assert_eq!(Parent::parse(bad), None, "{bad}");
    }
}

#[test]
fn two_headers_are_no_trace() {
    let header = |text: &str| (HeaderName::from_static("traceparent"), HeaderValue::from_str(text).expect("a header"));
    let mut headers = HeaderMap::from_iter([header(&format!("{TRACE}-00"))]);
    assert!(Parent::of_headers(&headers).is_some());
    headers.append("traceparent", header(&format!("{TRACE}-01")).1);
    assert!(Parent::of_headers(&headers).is_none());
}

#[test]
fn settings_are_refused_where_they_could_only_be_mistakes() {
    for (flag, bad) in [
        ("--otel-exporter-otlp-endpoint", "collector:4318"),
        ("--otel-exporter-otlp-endpoint", "grpc://collector:4317"),
        ("--otel-exporter-otlp-endpoint", "http://me:secret@collector:4318"),
        ("--otel-exporter-otlp-endpoint", "http://collector:4318/?key=secret"),
        ("--otel-exporter-otlp-headers", "no-value"),
        ("--otel-exporter-otlp-headers", "a b=c"),
        ("--otel-resource-attributes", "=value"),
        ("--otel-traces-sampler", "sometimes"),
        ("--otel-traces-sampler-arg", "1.5"),
        ("--otel-traces-sampler-arg", "NaN"),
    ] {
        assert!(config(&[flag, bad]).is_err(), "{flag} {bad}");
    }
}

#[test]
fn what_is_empty_is_not_set() {
    let config = config(&[
        "--otel-exporter-otlp-endpoint=",
        "--otel-exporter-otlp-headers=",
        "--otel-service-name=",
        "--otel-resource-attributes=",
        "--otel-traces-sampler-arg=",
    ]);
    assert!(config.expect("a configuration").endpoint.traces().is_none());
}

#[test]
fn a_collector_s_key_is_shown_to_nobody() {
    let config = config(&["--otel-exporter-otlp-headers", "api-key=c2VjcmV0"]).expect("a configuration");
    assert_eq!(config.headers.iter().count(), 1);
    assert!(!format!("{config:?}").contains("c2VjcmV0"));
}

#[test]
fn the_collector_is_asked_where_it_takes_traces() {
    for (given, asked) in [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("https://otlp.example.com/otlp/", "https://otlp.example.com/otlp/v1/traces"),
    ] {
        let config = config(&["--otel-exporter-otlp-endpoint", given]).expect("a configuration");
        assert_eq!(config.endpoint.traces().expect("an endpoint").to_string(), asked);
    }
}

#[test]
fn the_name_of_its_own_is_stronger_than_one_among_the_attributes() {
    let name = |arguments: &[&str]| {
        let resource = config(arguments).expect("a configuration").resource("gatefold-api");
        resource.get(&"service.name".into()).expect("a name").to_string()
    };
    let attributes = ["--otel-resource-attributes", "service.name=front%20door,deployment.environment.name=test"];
    assert_eq!(name(&[]), "gatefold-api");
    assert_eq!(name(&attributes), "front door");
    assert_eq!(name(&[&attributes[..], &["--otel-service-name", "gate"]].concat()), "gate");
}

/// How a trace is decided about: begun here, offered by a proxy, or recorded elsewhere.
fn decisions(sampler: &str, ratio: &str, trace: TraceId) -> [bool; 3] {
    let config = config(&["--otel-traces-sampler", sampler, "--otel-traces-sampler-arg", ratio]).expect("a sampler");
    let roots = Roots::new(&config);
    let parent = |flags| {
        use opentelemetry::trace::TraceContextExt;
        let parent = Parent::parse(&format!("00-{trace}-0af7651916cd43dd-{flags}")).expect("a trace");
        opentelemetry::Context::new().with_remote_span_context(parent.into())
    };
    [None, Some(parent("00")), Some(parent("01"))].map(|parent| {
        let result = roots.should_sample(parent.as_ref(), trace, "a", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    })
}

#[test]
fn a_proxy_leaves_open_what_is_recorded_and_others_may_have_decided() {
    let trace = TraceId::from_hex("00000000000000000af7651916cd43dd").expect("an id");
    assert_eq!(decisions("parentbased_always_on", "", trace), [true, true, true]);
    assert_eq!(decisions("parentbased_always_off", "", trace), [false, false, true]);
    assert_eq!(decisions("always_off", "", trace), [false, false, false]);
    assert_eq!(decisions("parentbased_traceidratio", "0", trace), [false, false, true]);
    assert_eq!(decisions("parentbased_traceidratio", "1", trace), [true, true, true]);
}

#[test]
fn a_ratio_is_kept_by_ids_of_which_only_one_half_is_random() {
    let traces = (1..=1000u64).map(|number| TraceId::from(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
    let sampled = traces.filter(|trace| decisions("traceidratio", "0.25", *trace)[1]).count();
    assert!((200..300).contains(&sampled), "{sampled} of 1000");
}
